"""Whose tracers look at what a plan changes for all instances: on directories of plain files."""

import json
from pathlib import Path

import pytest

from trace_recipe.kernel import kernel_from_json
from trace_recipe.occupancy import affected
from trace_recipe.plan import Plan, Scope, SetFile
from trace_recipe.planner import make_plan
from trace_recipe.recipe.load import load_recipe
from trace_recipe.resolver import resolve
from trace_recipe.tracefs import Tracefs

CATALOGUE = Path(__file__).parents[1] / "golden" / "kernels" / "rich-6.12.json"
RICH = kernel_from_json(json.loads(CATALOGUE.read_text()), origin="rich")
DEPTH = "tracer: {name: function_graph, graph_functions: [vfs_read], max_graph_depth: 3}\n"
STACKS = "tracer: {name: function, options: {func_stack_trace: true}}\n"
THRESHOLD = "tracer: {name: irqsoff, threshold: 10us}\n"
PLAIN = "tracer: function\n"


def found(tmp_path, body, **tracers):
    """Return the answer when these instances, `top` and others, run these tracers."""
    (tmp_path / "instances").mkdir()
    for name, tracer in {"top": "nop", **tracers}.items():
        directory = tmp_path if name == "top" else tmp_path / "instances" / name
        directory.mkdir(exist_ok=True)
        (directory / "current_tracer").write_text(f"{tracer}\n")
    plan = make_plan(
        resolve(load_recipe("o.yaml", f"recipe: v1\nname: o\n{body}"), RICH),
        run_id="RUN", current=lambda file: None, instance_exists=lambda name: name in tracers,
    )  # fmt: skip
    return affected(plan, Tracefs(tmp_path))


@pytest.mark.parametrize(
    ("body", "tracers", "words"),
    [
        (DEPTH, {"top": "function_graph"},
         "tracer 'function_graph' of the top level looks at set_graph_function, max_graph_depth"),
        (DEPTH, {"theirs": "function_graph"},
         "tracer 'function_graph' of instance 'theirs' looks at set_graph_function, max_graph_depth"),
        (STACKS, {"top": "function"},
         "tracer 'function' of the top level looks at options/func_stack_trace"),
        (THRESHOLD, {"top": "hwlat"}, "tracer 'hwlat' of the top level looks at tracing_thresh"),
    ],
)  # fmt: skip
def test_a_tracer_that_looks_at_a_changed_file_is_named(tmp_path, body, tracers, words):
    assert found(tmp_path, body, **tracers) == (words,)


def test_who_may_not_list_the_instances_still_sees_the_top_level(tmp_path):
    (tmp_path / "current_tracer").write_text("function\n")
    plan = Plan("o", "o.yaml", "named", "mine", (
        SetFile("instances/mine/options/func_stack_trace", "options/func_stack_trace", None, "1",
                "1", Scope.SHARED, None, "", also=("options/func_stack_trace",)),
    ))  # fmt: skip

    [words] = affected(plan, Tracefs(tmp_path))

    assert words == "tracer 'function' of the top level looks at options/func_stack_trace"


@pytest.mark.parametrize(
    ("body", "tracers"),
    [
        (DEPTH, {"top": "function"}),
        (STACKS, {"top": "function_graph", "theirs": "nop"}),
        (PLAIN, {"top": "function"}),
        (THRESHOLD, {"trace-recipe-other-0123456789ab": "irqsoff"}),
        (f"instance: mine\n{STACKS}", {"mine": "function"}),
        (f"instance: top\n{STACKS}", {"top": "function"}),
    ],
)
def test_what_no_other_tracer_looks_at_concerns_nobody(tmp_path, body, tracers):
    assert found(tmp_path, body, **tracers) == ()
