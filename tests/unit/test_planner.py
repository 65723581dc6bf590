"""Plans of recipes on saved kernels: which file, in which order, from what to what, seen by whom."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from trace_recipe.buffer_sizes import default_buffer_bytes
from trace_recipe.errors import KernelLacksError
from trace_recipe.kernel import kernel_from_json
from trace_recipe.plan import COMMAND, RUNNER, MakeInstance, Scope, SetFile
from trace_recipe.planner import make_plan
from trace_recipe.recipe.load import load_recipe
from trace_recipe.resolver import resolve

KERNELS = Path(__file__).parents[1] / "golden" / "kernels"


def _kernel(name):
    return kernel_from_json(json.loads((KERNELS / f"{name}.json").read_text()), origin=name)


LOCKED, RICH = _kernel("locked-6.18"), _kernel("rich-6.12")
EVENT = "events: [sched:sched_switch]\n"
PRIVATE = "instances/trace-recipe-test-RUN/"


def plan(body, kernel=RICH, *, current=None, exists=False):
    loaded = load_recipe("test.yaml", f"recipe: v1\nname: test\n{body}")
    return make_plan(
        resolve(loaded, kernel),
        run_id="RUN",
        current=(current or {}).get,
        instance_exists=lambda name: exists,
    )


def files(made):
    return [step.name for step in made.steps if isinstance(step, SetFile)]


def step(made, name):
    [found] = [one for one in made.steps if isinstance(one, SetFile) and one.name == name]
    return found


def test_a_private_instance_is_made_first_and_everything_lies_in_it():
    made = plan(EVENT)

    assert made.steps[0] == MakeInstance("trace-recipe-test-RUN", None)
    assert made.makes_instance
    assert all(one.file.startswith(PRIVATE) for one in made.steps if isinstance(one, SetFile))
    assert {one.scope for one in made.steps if isinstance(one, SetFile)} == {Scope.PRIVATE}


def test_nothing_is_recorded_before_everything_is_set():
    made = plan(EVENT)

    assert files(made)[0] == "tracing_on"
    assert [one.name for one in made.steps if isinstance(one, SetFile) and one.starts] == [
        "tracing_on"
    ]
    assert files(made)[-2:] == ["events/sched/sched_switch/enable", "tracing_on"]
    assert (made.steps[1].after, made.steps[-1].after) == ("0", "1")


def test_files_are_set_in_the_order_in_which_one_does_not_undo_the_other():
    made = plan(
        "events:\n  - {event: sched:sched_switch, filter: prev_pid > 1, triggers: ['stacktrace:2']}\n"
        "tracer: {name: function_graph, threshold: 10us, options: {funcgraph-proc: true}}\n"
        "functions: {only: [vfs_*]}\nclock: mono\nbuffer: {size: 1M, subbuf: 8K}\n"
        "scope: {pids: [1], follow: true, cpus: '0-1'}\noptions: {sym-offset: true}\n"
    )  # fmt: skip
    order = files(made)
    wanted = [
        "buffer_subbuf_size_kb",
        "buffer_size_kb",
        "trace_clock",
        "options/sym-offset",
        "options/event-fork",
        "set_event_pid",
        "events/sched/sched_switch/filter",
        "set_ftrace_filter",
        "current_tracer",
        "tracing_thresh",
        "options/funcgraph-proc",
        "events/sched/sched_switch/enable",
        "events/sched/sched_switch/trigger",
    ]

    assert [name for name in order if name in wanted] == wanted


def test_the_runner_is_left_out_unless_pids_are_chosen():
    assert step(plan(EVENT), "set_event_notrace_pid").text == f"{RUNNER}\n"
    assert "set_event_notrace_pid" not in files(plan(f"{EVENT}scope: {{pids: [7]}}\n"))


def test_excluded_pids_stand_beside_the_runner():
    made = step(plan(f"{EVENT}scope: {{exclude_pids: [7, 8]}}\n"), "set_event_notrace_pid")

    assert (made.text, made.after) == (f"7\n8\n{RUNNER}\n", f"7 8 {RUNNER}")


def test_the_pid_of_the_command_is_a_placeholder():
    made = plan(f"{EVENT}scope: {{pids: [command, 9]}}\nrun: {{command: [true_]}}\n")

    assert step(made, "set_event_pid").text == f"{COMMAND}\n9\n"


def test_a_function_tracer_follows_the_same_pids():
    made = plan("tracer: function\nscope: {pids: [5], follow: true}\n")

    assert step(made, "set_ftrace_pid").text == "5\n"
    assert step(made, "options/function-fork").after == "1"
    assert step(made, "options/event-fork").after == "1"


@pytest.mark.parametrize(
    ("cpus", "mask"), [("[0]", "1"), ("'1-3'", "e"), ("[0, 3]", "9"), ("[0, 0]", "1")]
)
def test_cpus_become_a_mask(cpus, mask):
    assert step(plan(f"{EVENT}scope: {{cpus: {cpus}}}\n"), "tracing_cpumask").after == mask


def test_a_mask_of_many_cpus_is_in_groups_of_32_bits():
    many = replace(RICH, possible_cpus=tuple(range(80)), online_cpus=tuple(range(80)))

    made = plan(f"{EVENT}scope: {{cpus: [0, 31, 33, 79]}}\n", many)

    assert step(made, "tracing_cpumask").after == "8000,00000002,80000001"


def test_sizes_are_shown_as_the_kernel_rounds_them():
    made = plan(f"{EVENT}buffer: {{size: 1000001, subbuf: 5K, watermark: 0, mode: discard}}\n")

    assert (step(made, "buffer_size_kb").text, step(made, "buffer_size_kb").after) == ("977", "982")
    assert step(made, "buffer_subbuf_size_kb").after == "8"
    assert step(made, "buffer_percent").after == "0"
    assert step(made, "options/overwrite").after == "0"


def test_a_machine_with_many_cpus_gets_smaller_buffers():
    many = replace(RICH, possible_cpus=tuple(range(17)))

    assert default_buffer_bytes(16) == 8 << 20
    assert step(plan(EVENT), "buffer_size_kb").text == "8192"
    assert step(plan(EVENT, many), "buffer_size_kb").text == "2048"


def test_an_instance_that_is_there_keeps_its_size_and_its_values_are_the_ones_before():
    current = {
        "instances/mine/trace_clock": "local global [mono] boot\n",
        "instances/mine/tracing_on": "1\n",
        "instances/mine/events/sched/sched_switch/enable": "0*\n",
    }
    made = plan(f"{EVENT}instance: mine\nclock: boot\n", current=current, exists=True)

    assert not made.makes_instance
    assert "buffer_size_kb" not in files(made)
    assert "buffer_percent" not in files(made)
    assert step(made, "trace_clock").before == "mono"
    assert step(made, "events/sched/sched_switch/enable").before == "0*"
    assert {one.scope for one in made.steps} == {Scope.SHARED}


def test_what_an_instance_takes_over_from_the_top_level_stands_before():
    current = {
        "options/sym-offset": "1\n",
        "options/event-fork": "1\n",
        "options/overwrite": "1\n",
    }
    body = f"{EVENT}options: {{sym-offset: false}}\nscope: {{pids: [7], follow: true}}\n"
    made = plan(body, current=current)

    assert step(made, "options/sym-offset").before == "1"
    assert step(made, "options/overwrite").before == "1"
    assert step(made, "options/event-fork").before == "0"


def test_brackets_in_a_filter_of_somebody_else_are_text():
    theirs = 'comm == "[kworker/0:1] x"'
    current = {"instances/mine/events/sched/sched_switch/filter": f"{theirs}\n"}
    body = "instance: mine\nevents: [{event: sched:sched_switch, filter: prev_pid > 1}]\n"
    made = plan(body, current=current, exists=True)

    assert step(made, "events/sched/sched_switch/filter").before == theirs


def test_a_named_instance_that_is_not_there_is_made():
    made = plan(f"{EVENT}instance: mine\n")

    assert made.steps[0].file == "instances/mine"
    assert (made.instance_kind, made.prefix) == ("named", "instances/mine/")


def test_the_top_level_is_shared_and_said_so():
    made = plan(f"{EVENT}instance: top\n", current={"tracing_on": "1\n"})

    assert made.prefix == ""
    assert not made.makes_instance
    assert step(made, "events/sched/sched_switch/enable").file == "events/sched/sched_switch/enable"
    assert {one.scope for one in made.steps} == {Scope.SHARED}
    assert "the top level is used" in made.notes[0]


def test_what_is_global_is_set_at_the_top_and_named_as_shared():
    made = plan(
        "tracer: {name: function_graph, graph_functions: [vfs_read], max_graph_depth: 3,"
        " threshold: 5us}\n"
    )

    for name in ("set_graph_function", "max_graph_depth", "tracing_thresh"):
        assert step(made, name).file == name
        assert step(made, name).scope is Scope.SHARED
    assert "shared with everyone while it runs: set_graph_function" in made.notes[0]


def test_an_option_of_a_tracer_is_put_back_at_the_top_too():
    made = plan("tracer: {name: function, options: {func_stack_trace: true}}\n")
    option = step(made, "options/func_stack_trace")

    assert option.file == f"{PRIVATE}options/func_stack_trace"
    assert "options/func_stack_trace" in option.also
    assert option.scope is Scope.SHARED


@pytest.mark.parametrize(
    ("wanted", "word"), [("true", "printk-msg-only"), ("false", "noprintk-msg-only")]
)
def test_options_without_a_file_in_an_instance_go_through_trace_options(wanted, word):
    made = plan(f"{EVENT}options: {{printk-msg-only: {wanted}}}\n")

    assert step(made, "trace_options").text == word
    assert "options/printk-msg-only" not in files(made)


def test_markers_are_switched_on_for_a_recipe_that_writes_some():
    made = plan(f"{EVENT}markers: {{start: begins}}\n", current={"options/markers": "0\n"})

    assert (step(made, "options/markers").before, step(made, "options/markers").after) == ("0", "1")
    assert "options/markers" not in files(plan(EVENT))


def test_a_trigger_names_the_events_that_it_switches():
    made = plan(
        "events:\n  - event: sched:sched_switch\n"
        "    triggers: ['enable_event:sched:sched_waking:2 if prev_pid == 1']\n"
    )
    trigger = step(made, "events/sched/sched_switch/trigger")

    assert trigger.text == "enable_event:sched:sched_waking:2 if prev_pid == 1"
    assert trigger.after == "enable_event:sched:sched_waking:count=2 if prev_pid == 1"
    assert trigger.also == (f"{PRIVATE}events/sched/sched_switch/enable",)
    assert trigger.later == (f"{PRIVATE}events/sched/sched_waking/enable",)
    assert trigger.starts


def test_function_names_end_with_a_line_end_each():
    made = step(
        plan("tracer: function\nfunctions: {only: [vfs_read, vfs_write]}\n"), "set_ftrace_filter"
    )

    assert made.text == "vfs_read\nvfs_write\n"


def test_every_step_that_the_recipe_asks_for_has_its_place():
    made = plan(f"{EVENT}clock: mono\nscope: {{cpus: [0]}}\nbuffer: {{watermark: 7}}\n")

    assert str(step(made, "trace_clock").place) == "test.yaml:4:8"
    assert step(made, "tracing_cpumask").key == "scope.cpus"
    assert step(made, "buffer_percent").place.line == 6
    assert step(made, "events/sched/sched_switch/enable").key == "events[0]"
    assert step(made, "buffer_size_kb").place is None


def test_a_file_that_the_kernel_does_not_have_fails_with_the_reason():
    old = replace(RICH, control_files=RICH.control_files - {"tracing_on"})

    with pytest.raises(KernelLacksError, match="no file 'tracing_on', which every run needs"):
        plan(EVENT, old)


def test_a_file_that_the_kernel_refuses_fails_with_the_reason():
    locked = replace(RICH, refused={"trace_clock": "EPERM"})

    with pytest.raises(KernelLacksError, match="opening 'trace_clock' fails with EPERM, for root"):
        plan(f"{EVENT}clock: mono\n", locked)


def test_a_kernel_without_a_list_of_excluded_pids_is_planned_without_it():
    old = replace(LOCKED, control_files=LOCKED.control_files - {"set_event_notrace_pid"})

    made = plan(EVENT, old)

    assert "set_event_notrace_pid" not in files(made)
    assert "trace-recipe itself does is recorded too" in made.notes[0]
    assert "set_event_notrace_pid" in made.notes[0]
    assert plan(f"{EVENT}scope: {{pids: [7]}}\n", old).notes == ()
    assert plan(EVENT).notes == ()


def test_a_kernel_without_a_list_of_excluded_pids_for_functions_says_so():
    old = replace(RICH, control_files=RICH.control_files - {"set_ftrace_notrace_pid"})

    assert "no set_ftrace_notrace_pid" in plan("tracer: function\n", old).notes[0]
    assert plan("tracer: irqsoff\n", old).notes == ()


def test_a_tracer_that_looks_at_no_pids_is_noted_beside_events_of_some():
    body = f"tracer: irqsoff\n{EVENT}scope: {{pids: [7]}}\n"

    assert "'irqsoff' measures every task" in plan(body).notes[0]


def test_options_that_only_the_kernel_prints_by_are_noted():
    made = plan(f"{EVENT}options: {{raw: true, hex: false, sym-offset: true}}\n")

    assert "not the outputs: hex, raw" in made.notes[0]
    assert plan("tracer: irqsoff\noptions: {raw: true}\n").notes == ()


def test_a_size_in_an_instance_counts_its_own_sub_buffers():
    current = {"instances/mine/buffer_subbuf_size_kb": "16\n"}
    made = plan(f"{EVENT}instance: mine\nbuffer: {{size: 100K}}\n", current=current, exists=True)

    assert step(made, "buffer_size_kb").after == "111"


@pytest.mark.parametrize("key", ["size", "subbuf"])
def test_a_size_and_other_sub_buffers_change_the_sizes_of_every_cpu(key):
    two = replace(RICH, possible_cpus=(0, 1))
    body = f"{EVENT}instance: mine\nbuffer: {{{key}: 16K}}\n"
    made = plan(body, two, exists=True)

    [sizes] = [
        one.also for one in made.steps if isinstance(one, SetFile) and one.name[:6] == "buffer"
    ]
    assert {file.removeprefix("instances/mine/") for file in sizes} == {
        "buffer_size_kb",
        "per_cpu/cpu0/buffer_size_kb",
        "per_cpu/cpu1/buffer_size_kb",
    }


def test_an_option_of_every_instance_is_not_taken_for_a_tracers_own():
    made = plan("tracer: function\nscope: {pids: [5], follow: true}\n")

    assert step(made, "options/function-fork").scope is Scope.PRIVATE
    assert step(made, "options/function-fork").also == ()


def test_a_latency_tracer_that_is_to_record_no_functions_never_begins_with_all():
    made = plan("tracer: {name: irqsoff, options: {function-trace: false}}\n")

    order = files(made)

    assert step(made, "options/function-trace").after == "0"
    assert order.index("options/function-trace") < order.index("current_tracer")


def test_discard_is_not_planned_under_a_latency_tracer():
    made = plan("tracer: {any_of: [irqsoff, function]}\nbuffer: {mode: discard}\n")

    assert step(made, "options/overwrite").after == "1"


def test_an_instance_that_lists_fewer_tracers_is_believed():
    current = {"instances/boot/available_tracers": "function nop\n"}
    body = "tracer: irqsoff\ninstance: boot\n"

    with pytest.raises(KernelLacksError, match="'irqsoff' cannot run in an instance"):
        plan(body, current=current, exists=True)
    assert plan(body).tracer == "irqsoff"


def test_the_same_recipe_gives_the_same_plan():
    assert plan(EVENT) == plan(EVENT)
