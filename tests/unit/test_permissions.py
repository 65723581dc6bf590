"""Dangerous things: what counts as one, and the two places where it has to be allowed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from trace_recipe.kernel import kernel_from_json
from trace_recipe.permission import Permission
from trace_recipe.permission_checks import find_needs, find_needs_without_kernel, refusals
from trace_recipe.planner import make_plan
from trace_recipe.recipe.load import load_recipe
from trace_recipe.resolver import resolve

CATALOGUE = Path(__file__).parents[1] / "golden" / "kernels" / "rich-6.12.json"
RICH = kernel_from_json(json.loads(CATALOGUE.read_text()), origin="rich")
HEAD = "recipe: v1\nname: p\n"
EVENTS = "events: [sched:sched_switch]\n"
GIB = 1 << 30


def loaded(body):
    return load_recipe("p.yaml", HEAD + body)


def needs_of(body, *, available_bytes=64 * GIB, leaves=lambda path: False, kernel=RICH):
    resolved = resolve(loaded(body), kernel)
    plan = make_plan(
        resolved, run_id="RUN", current=lambda file: None, instance_exists=lambda name: False
    )
    return find_needs(resolved, plan, available_bytes=available_bytes, leaves=leaves)


def names(needs):
    return [one.permission for one in needs]


DANGEROUS = [
    ("tracer: function\n", ["function-all"]),
    ("tracer: function_graph\n", ["function-all"]),
    ("tracer: function\nfunctions: {not: [vfs_*]}\n", ["function-all"]),
    ("tracer: function\nscope: {pids: [1]}\n", ["function-all"]),
    ("tracer: {any_of: [function, {events: [sched:sched_switch]}]}\n", ["function-all"]),
    (
        "tracer: {name: function, options: {func_stack_trace: true}}\n",
        ["function-all", "stack-all"],
    ),
    ("tracer: function\noptions: {func_stack_trace: true}\n", ["function-all", "stack-all"]),
    (EVENTS + "run: {command: [id], as_user: root}\n", ["command-as-root"]),
    (EVENTS + "outputs: [{text: ../o.txt}]\n", ["outputs-elsewhere"]),
    (EVENTS + "outputs: [{text: a/../../o.txt}]\n", ["outputs-elsewhere"]),
    (EVENTS + "outputs: [{text: .bashrc}]\n", ["outputs-elsewhere"]),
    (EVENTS + "outputs: [{csv: .config/autostart/o.csv}]\n", ["outputs-elsewhere"]),
]
HARMLESS = [
    EVENTS,
    "tracer: function\nfunctions: {only: [vfs_read]}\n",
    "tracer: {name: function_graph, graph_functions: [vfs_read]}\n",
    "tracer: function\nfunctions: {only: [vfs_read]}\noptions: {func_stack_trace: true}\n",
    "tracer: {name: function, options: {func_stack_trace: false}}\nfunctions: {only: [vfs_*]}\n",
    EVENTS + "options: {stacktrace: true}\n",
    EVENTS + "run: {command: [id]}\n",
    EVENTS + "outputs: [{text: o.txt}, {jsonl: a/b.jsonl}, {csv: a..b}, {trace-dat: a/../b}]\n",
    EVENTS + 'outputs: [{text: "-"}]\n',
    EVENTS + "outputs: [{text: ./o.txt}]\n",
]


@pytest.mark.parametrize(("body", "wanted"), DANGEROUS)
def test_what_is_dangerous_is_known_without_a_kernel(body, wanted):
    assert names(find_needs_without_kernel(loaded(body))) == wanted


@pytest.mark.parametrize("body", HARMLESS)
def test_what_is_harmless_needs_nothing(body):
    assert find_needs_without_kernel(loaded(body)) == []
    assert needs_of(body) == []


@pytest.mark.parametrize("patterns", ["'[a-z]*'", "'*_*', 'a*'"])
def test_patterns_that_match_half_of_all_functions_are_all_functions(patterns):
    functions = tuple(f"{letter}_{number}" for letter in "abcd" for number in range(25))
    kernel = replace(RICH, functions=functions)
    body = f"tracer: function\nfunctions: {{only: [{patterns}]}}\n"
    narrow = "tracer: function\nfunctions: {only: ['a_*']}\n"

    graph = f"tracer: {{name: function_graph, graph_functions: [{patterns}]}}\n"
    narrow_graph = "tracer: {name: function_graph, graph_functions: ['a_*']}\n"

    for text, key in ((body, "functions"), (graph, "tracer.graph_functions")):
        [need] = needs_of(text, kernel=kernel)
        assert need.permission is Permission.FUNCTION_ALL
        assert "100% of the kernel's functions" in need.problem.what
        assert need.problem.key == key
    for text in (narrow, narrow_graph):
        assert needs_of(text, kernel=kernel) == []


LATENCY = ["irqsoff", "preemptoff", "preemptirqsoff", "wakeup", "wakeup_rt", "wakeup_dl"]


@pytest.mark.parametrize("tracer", LATENCY)
def test_a_latency_tracer_records_all_functions_where_the_kernel_can(tracer):
    body = f"tracer: {tracer}\n"
    without = replace(RICH, options=tuple(one for one in RICH.options if one != "function-trace"))
    [need] = needs_of(body)

    assert need.permission is Permission.FUNCTION_ALL
    assert need.problem.what == "every function of the kernel would be traced"
    assert f"the tracer '{tracer}' records every function" in need.problem.why
    assert "options: {function-trace: false}" in need.problem.fix
    assert str(need.problem.place) == "p.yaml:3:9"
    assert needs_of(body, kernel=without) == []
    assert find_needs_without_kernel(loaded(body)) == []


@pytest.mark.parametrize(
    ("own", "recipe", "is_needed"),
    [
        ("{}", "{function-trace: false}", False),
        ("{function-trace: false}", "{}", False),
        ("{function-trace: true}", "{function-trace: false}", True),
        ("{function-trace: false}", "{function-trace: true}", True),
        ("{}", "{function-trace: true}", True),
        ("{}", "{sym-offset: false}", True),
    ],
)
def test_a_latency_tracer_that_is_to_record_no_functions_needs_nothing(own, recipe, is_needed):
    body = f"tracer: {{name: wakeup, options: {own}}}\noptions: {recipe}\n"

    assert bool(needs_of(body)) is is_needed


@pytest.mark.parametrize(
    ("functions", "found"),
    [
        ("{only: [vfs_read]}", []),
        ("{module: nf_conntrack}", []),
        ("{not: [vfs_*]}", ["function-all"]),
    ],
)
def test_a_latency_tracer_looks_at_the_chosen_functions(functions, found):
    body = f"instance: top\ntracer: irqsoff\nfunctions: {functions}\n"

    assert names(needs_of(body)) == found
    # Nested, it looks at all of them.
    [need] = needs_of(body + "options: {display-graph: true}\n")
    assert need.permission is Permission.FUNCTION_ALL
    assert need.problem.what == "every function of the kernel would be traced"
    off = "options: {display-graph: true, function-trace: false}\n"
    assert needs_of(body + off) == []


def test_only_the_alternative_that_is_taken_counts_on_a_kernel():
    body = "tracer: {any_of: [{events: [sched:sched_switch]}, function]}\n"

    assert names(find_needs_without_kernel(loaded(body))) == ["function-all"]
    assert needs_of(body) == []


@pytest.mark.parametrize(
    ("body", "available_mib", "what"),
    [
        (EVENTS + "buffer: {size: 1G}\n", 4095, "2048 MiB: 1024 MiB for each of 2 CPUs"),
        (
            "events: [{event: sched:sched_switch, triggers: ['snapshot:1']}]\nbuffer: {size: 1G}\n",
            8191,
            "4096 MiB: 1024 MiB for each of 2 CPUs, twice for the snapshot",
        ),
        (EVENTS, 31, "16 MiB: 8 MiB for each of 2 CPUs"),
    ],
)
def test_a_buffer_may_take_half_of_the_memory(body, available_mib, what):
    kernel = replace(RICH, possible_cpus=(0, 1))
    [need] = needs_of(body, kernel=kernel, available_bytes=available_mib << 20)

    assert need.permission is Permission.BIG_BUFFER
    assert need.problem.what == f"the ring buffer would take {what}"
    assert f"{available_mib} MiB of memory are available" in need.problem.why
    assert needs_of(body, kernel=kernel, available_bytes=available_mib + 9 << 20) == []
    assert needs_of(body, kernel=kernel, available_bytes=None) == []


def test_a_run_knows_whether_a_path_leaves_the_directory():
    body = EVENTS + "outputs: [{text: link/o.txt}, {jsonl: o.jsonl}]\n"

    [need] = needs_of(body, leaves=lambda path: path.startswith("link"))
    assert need.permission is Permission.OUTPUTS_ELSEWHERE
    assert need.problem.key == "outputs[0].text"


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("said", [False, True])
def test_it_takes_the_recipe_and_the_command_line(written, said):
    allow = "allow: [big-buffer, function-all]\n" if written else "allow: [big-buffer]\n"
    recipe = loaded(f"{allow}tracer: function\n")
    needs = find_needs_without_kernel(recipe)
    problems = refusals(needs, recipe, [Permission.FUNCTION_ALL] if said else [])

    assert bool(problems) is not (written and said)
    for problem in problems:
        assert str(problem.place) == "p.yaml:4:9"
        assert "permission 'function-all' in the recipe and on the command line" in problem.why
        assert ("allow: [big-buffer, function-all]" in problem.fix) is not written
        assert ("say --allow function-all" in problem.fix) is not said


def test_what_can_be_said_only_later_is_not_asked_for():
    recipe = loaded("allow: [function-all]\ntracer: function\n")

    assert refusals(find_needs_without_kernel(recipe), recipe, None) == []
