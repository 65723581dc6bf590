"""Recipes against kernels: what they come to, and every problem with its place, why and fix."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from trace_recipe.errors import KernelLacksError, RecipeError
from trace_recipe.kernel import kernel_from_json
from trace_recipe.recipe.load import load_recipe
from trace_recipe.resolver import check_without_kernel, resolve

KERNELS = Path(__file__).parents[1] / "golden" / "kernels"


def load_kernel(name):
    return kernel_from_json(json.loads((KERNELS / f"{name}.json").read_text()), origin=name)


LOCKED, RICH = load_kernel("locked-6.18"), load_kernel("rich-6.12")
HEAD = "recipe: v1\nname: test\n"


def recipe(body):
    return load_recipe("test.yaml", HEAD + body)


def resolved(body, kernel=RICH):
    return resolve(recipe(body), kernel)


def failed(body, kernel=RICH):
    with pytest.raises((RecipeError, KernelLacksError)) as caught:
        resolve(recipe(body), kernel)
    return caught.value


def only_problem(body, kernel=RICH):
    error = failed(body, kernel)
    assert len(error.problems) == 1, str(error)
    return error, error.problems[0]


def at_caret(problem):
    return problem.place.source_line[problem.place.column - 1 :]


def names(body, kernel=RICH):
    return [event.name for event in resolved(body, kernel).events]


# events


def test_a_plain_event_is_resolved_with_its_place():
    [event] = resolved("events: [sched:sched_switch]\n").events

    assert (event.name, event.system, event.filter, event.triggers) == (
        "sched:sched_switch", "sched", None, (),
    )  # fmt: skip
    assert event.path == ("events", 0)


def test_globs_and_braces_come_to_events_in_the_kernels_order():
    assert names("events: ['syscalls:sys_{exit,enter}_{mount,umount}']\n") == [
        "syscalls:sys_enter_mount",
        "syscalls:sys_enter_umount",
        "syscalls:sys_exit_mount",
        "syscalls:sys_exit_umount",
    ]
    assert names("events: ['irq:irq_*']\n") == ["irq:irq_handler_entry", "irq:irq_handler_exit"]
    assert len(names("events: ['*:*']\n")) == len(RICH.events)


def test_an_event_named_twice_is_resolved_once_and_the_later_filter_wins():
    body = """
events:
  - {event: "sched:sched_*", filter: common_pid > 1}
  - {event: sched:sched_switch, filter: prev_pid > 5, triggers: ["stacktrace:5"]}
  - {event: sched:sched_switch, triggers: ["stacktrace:9", "traceoff:1 if prev_prio < 9"]}
"""
    by_name = {event.name: event for event in resolved(body).events}
    switch = by_name["sched:sched_switch"]

    assert by_name["sched:sched_wakeup"].filter == "common_pid > 1"
    assert switch.filter == "prev_pid > 5"
    assert switch.filter_path == ("events", 1, "filter")
    assert switch.triggers == ("stacktrace:9", "traceoff:1 if prev_prio < 9")
    assert switch.trigger_paths == (("events", 2, "triggers", 0), ("events", 2, "triggers", 1))


def test_an_exclamation_mark_takes_out_what_earlier_entries_put_in():
    assert names("events: ['irq:*', '!irq:softirq_*']\n") == [
        "irq:irq_handler_entry",
        "irq:irq_handler_exit",
    ]
    assert "irq:softirq_exit" in names("events: ['irq:*', '!irq:*', irq:softirq_exit]\n")


def test_taking_out_what_nobody_put_in_is_a_mistake():
    error, problem = only_problem("events: [sched:sched_switch, '!irq:*']\n")

    assert isinstance(error, RecipeError)
    assert "takes out nothing" in problem.what


def test_an_optional_event_that_is_absent_is_skipped_with_a_reason():
    result = resolved(
        "events: [sched:sched_switch, {event: 'syscalls:sys_enter_{mount,nosuch}', optional: true}]\n"
    )

    assert [event.name for event in result.events] == [
        "sched:sched_switch",
        "syscalls:sys_enter_mount",
    ]
    [(name, reason)] = result.skipped
    assert name == "syscalls:sys_enter_nosuch"
    assert "no event" in reason


def test_the_first_alternative_that_the_kernel_has_is_taken():
    body = "events: [{any_of: [sched:nosuch, tcp:tcp_retransmit_skb, skb:kfree_skb]}]\n"
    [event] = resolved(body).events

    assert event.name == "tcp:tcp_retransmit_skb"
    assert event.path == ("events", 0, "any_of", 1)


def test_alternatives_that_are_all_absent_are_lacking_or_skipped():
    error, problem = only_problem("events: [{any_of: [sched:nosuch, tcp:nosuch]}]\n")
    assert isinstance(error, KernelLacksError)
    assert "none of 'sched:nosuch', 'tcp:nosuch'" in problem.what

    body = "events: [sched:sched_switch, {any_of: [sched:nosuch], optional: true}]\n"
    assert resolved(body).skipped[0][0] == "sched:nosuch"


def test_the_caret_of_a_missing_event_points_to_its_alternative():
    _, problem = only_problem("events:\n  - syscalls:sys_enter_{mount,umont}\n")

    assert at_caret(problem) == "umont}"
    assert problem.place.line == 4
    assert problem.key == "events[0]"


# common mistakes: body, exception, where the caret points, what (or why), fix

MISTAKES = [
    ("events: ['shed:sched_switch']", KernelLacksError, "shed:", "no system 'shed'", "'sched:sched_switch'"),
    ("events: [sched:sched_swich]", KernelLacksError, "sched:", "system 'sched' has", "'sched:sched_switch'"),
    ("events: [irq:timer_start]", KernelLacksError, "irq:", "no event", "'timer:timer_start'"),
    ("events: [shced:nosuchthing]", KernelLacksError, "shced", "no event", "'sched'"),
    ("events: [syscall:sys_enter_mount]", RecipeError, "syscall:", "called 'syscalls'", "'syscalls:sys_enter_mount'"),
    ("events: [syscall:mount]", RecipeError, "syscall:", "called 'syscalls'", "'syscalls:sys_enter_mount'"),
    ("events: ['syscall:*']", RecipeError, "syscall:", "called 'syscalls'", "'syscalls:*'"),
    ("events: [syscalls:mount]", RecipeError, "syscalls:", "enter and exit", "'syscalls:sys_enter_mount'"),
    ("events: [syscalls:sys_mount]", RecipeError, "syscalls:", "enter and exit", "sys_{enter,exit}_mount"),
    ("events: [raw_syscalls:sys_enter_mount]", RecipeError, "raw_", "all system calls", "'syscalls:sys_enter_mount'"),
    ("events: [sched_switch]", RecipeError, "sched_switch", "has no system", "'sched:sched_switch'"),
    ("events: [sys_enter_mount]", RecipeError, "sys_enter", "has no system", "'syscalls:sys_enter_mount'"),
    ("events: [sys_mount]", RecipeError, "sys_mount", "has no system", "'syscalls:sys_enter_mount'"),
    ("events: [sched]", RecipeError, "sched", "has no system", "'sched:*'"),
    ("events: [sched_swich]", RecipeError, "sched_swich", "has no system", "'sched:sched_switch'"),
    ("events: [sched/sched_switch]", RecipeError, "/", "'/'", "'sched:sched_switch'"),
    ("events: [kprobes:my_probe]", KernelLacksError, "kprobes", "after somebody defined", "define the probe"),
    ("events: [ftrace:function]", RecipeError, "ftrace", "cannot be switched on", "tracer:"),
    ("events: ['sched:nosuch_*']", KernelLacksError, "sched:no", "matches no event", "optional"),
    ("events: ['shed:*']", KernelLacksError, "shed:", "matches no event", "'sched'"),
    ("tracer: irq", RecipeError, "irq", "irqsoff measures", "tracer: irqsoff"),
    ("tracer: sched", RecipeError, "sched", "system of events", "sched:*"),
    ("tracer: fib6", RecipeError, "fib6", "system of events", "fib6:*"),
    ("tracer: sched_switch", RecipeError, "sched_switch", "is an event", "sched:sched_switch"),
    ("tracer: sched:sched_switch", RecipeError, "sched:", "is an event", "events:"),
    ("tracer: graph", RecipeError, "graph", "not a tracer", "'function_graph'"),
    ("tracer: kprobe", RecipeError, "kprobe", "not a tracer", "define the probe"),
    ("tracer: funtion", KernelLacksError, "funtion", "no tracer 'funtion'", "'function'"),
    ("tracer: blk", RecipeError, "blk", "sysfs", "block:*"),
    ("tracer: {name: function, threshold: 5us}", RecipeError, "5us", "does not look at it", "function_graph"),
    ("tracer: {name: irqsoff, graph_functions: [vfs_read]}", RecipeError, "[vfs_read", "only function_graph", ""),
    ("tracer: {name: function, max_graph_depth: 3}", RecipeError, "3", "only function_graph", ""),
    ("tracer: {name: function, options: {funcgraph-proc: true}}", RecipeError, "funcgraph-proc", "belongs to the tracer 'function_graph'", ""),
    ("tracer: {name: irqsoff, options: {func_stack_trace: true}}", RecipeError, "func_stack", "belongs to the tracer 'function'", ""),
    ("tracer: {name: function_graph, graph_functions: [vfs_reed]}", KernelLacksError, "vfs_reed", "no function 'vfs_reed'", "'vfs_read'"),
    ("tracer: irqsoff\nfunctions: {only: ['123']}", RecipeError, "'123'", "line number", "name of the function"),
    ("tracer: function\nfunctions: {only: ['*']}", RecipeError, "'*'", "every function", "tcp_*"),
    ("tracer: function\nfunctions: {only: ['**']}", RecipeError, "'**'", "every function", ""),
    ("tracer: function\nfunctions: {only: ['!vfs_*']}", RecipeError, "'!vfs_*'", "takes functions out", "'vfs_*' under 'not'"),
    ("tracer: function\nfunctions: {only: ['vfs_*:traceoff']}", RecipeError, "'vfs", "command", "'vfs_*'"),
    ("tracer: function\nfunctions: {only: ['*:mod:ext4']}", RecipeError, "'*:mod", "command", "module: ext4"),
    ("tracer: function\nfunctions: {not: ['vfs;x']}", RecipeError, "'vfs;x", "not a function", ""),
    ("tracer: function\nfunctions: {only: [vfs_reed]}", KernelLacksError, "vfs_reed", "no function", "'vfs_read'"),
    ("tracer: function\nfunctions: {only: ['nosuch_*']}", KernelLacksError, "nosuch", "matches no function", ""),
    ("tracer: function\nfunctions: {module: nf_contrack}", KernelLacksError, "nf_contrack", "no functions of a module", "'nf_conntrack'"),
    ("tracer: function\nfunctions: {module: 'a.b'}", RecipeError, "a.b", "not the name of a module", ""),
    ("tracer: hwlat\nfunctions: {only: [vfs_read]}", RecipeError, "{only", "traces no functions", "'tracer: function'"),
    ("events: [sched:sched_switch]\nclock: glob", KernelLacksError, "glob", "no clock 'glob'", "'global'"),
    ("events: [sched:sched_switch]\noptions: {stacktraces: true}", KernelLacksError, "stacktraces", "no option", "'stacktrace'"),
    ("events: [sched:sched_switch]\noptions: {nomarkers: true}", RecipeError, "nomarkers", "no option", "'markers: false'"),
    ("events: [sched:sched_switch]\noptions: {overwrite: false}", RecipeError, "overwrite", "buffer's mode", "mode: discard"),
    ("events: [sched:sched_switch]\noptions: {trace_printk_dest: true}", RecipeError, "trace_printk_dest", "takes it from", ""),
    ("events: [sched:sched_switch]\noptions: {trace_printk: false}", RecipeError, "trace_printk", "whole machine", ""),
    ("events: [sched:sched_switch]\noptions: {test_nop_refuse: true}", RecipeError, "test_nop", "tests itself", "remove it"),
    ("events: [sched:sched_switch]\noptions: {test_nop_accept: true}", RecipeError, "test_nop", "tests itself", "remove it"),
    ("events: [sched:sched_switch]\noptions: {func_stack_trace: true}", RecipeError, "func_stack", "no tracer is set", "the tracer 'function'"),
    ("events: [sched:sched_switch]\noptions: {blk_classic: true}", RecipeError, "blk_classic", "belongs to the tracer 'blk'", "remove it"),
    ("tracer: irqsoff\noptions: {funcgraph-tail: true}", RecipeError, "funcgraph-tail", "not to 'irqsoff'", "the tracer 'function_graph'"),
    ("tracer: function\noptions: {display-graph: true}", RecipeError, "display-graph", "belongs to the tracers 'irqsoff'", "remove it"),
    ("tracer: irqsoff\noptions: {display-graph: true}", RecipeError, "display-graph", "in an instance", "instance: top"),
    ("tracer: {name: irqsoff, options: {display-graph: true}}", RecipeError, "display-graph", "in an instance", "instance: top"),
    ("tracer: wakeup\noptions: {latency-format: false}", RecipeError, "latency-format", "switches the option", "remove it"),
    ("events: [sched:sched_switch]\noptions: {event-fork: true}", RecipeError, "event-fork", "names none", "follow: true"),
    ("tracer: {name: function_graph, options: {funcgraph-prok: true}}", KernelLacksError, "funcgraph-prok", "no option", "'funcgraph-proc'"),
    ("tracer: {name: function, options: {sym-ofset: true}}", KernelLacksError, "sym-ofset", "no option", "'sym-offset'"),
    ("tracer: {any_of: [{name: function, options: {funcgraph-proc: true}}, irqsoff]}", RecipeError, "funcgraph-proc", "not to 'function'", ""),
    ("events: [sched:sched_switch]\noptions: {markers: false}\nmarkers: {start: x}", RecipeError, "markers: false", "has texts to write", "'markers: true'"),
    ("tracer: {name: function, options: {markers: false}}\nmarkers: {start: x}", RecipeError, "markers: false", "has texts to write", "'markers: true'"),
    ("tracer: irqsoff\nscope: {pids: [1]}", RecipeError, "pids", "measures whole CPUs", "'cpus'"),
    ("tracer: timerlat\nscope: {exclude_pids: [1]}", RecipeError, "exclude_pids", "measures whole CPUs", "'cpus'"),
    ("tracer: {any_of: [irqsoff, wakeup]}\nscope: {pids: [1]}", RecipeError, "pids", "with the tracer 'irqsoff'", ""),
    ("tracer: wakeup_rt\nbuffer: {mode: discard}", RecipeError, "discard", "options/overwrite on", "remove 'mode'"),
    ("events: [sched:sched_switch]\nscope: {cpus: '0,7'}", KernelLacksError, "'0,7'", "no CPU 7", ""),
    ("events: [sched:sched_switch]\nbuffer: {subbuf: 1G}", RecipeError, "1G", "1 to 128 pages, 4K to 512K", ""),
    ("events: [{event: sched:sched_switch, filter: prev_pio > 1}]", RecipeError, "prev_pio", "no field 'prev_pio'", "'prev_prio'"),
    ("events: [{event: sched:sched_switch, filter: 'prev_pid > 1 && prev_comm < 3'}]", RecipeError, "3'", "is text", ""),
    ("events: [{event: sched:sched_switch, filter: 'prev_pid = 1'}]", RecipeError, "= 1", "'='", "'=='"),
    ("events: [{event: irq:irq_handler_entry, filter: prev_pid > 1}]", RecipeError, "prev_pid", "in irq:irq_handler_entry", ""),
    ("events: [{event: 'irq:*', filter: irq > 1}]", RecipeError, "irq > 1", "(and 2 more of the 5 events of 'irq:*')", ""),
    ("events: [{event: sched:sched_switch, triggers: ['stacktrac:5']}]", RecipeError, "stacktrac:", "", ""),
    ("events: [{event: sched:sched_switch, triggers: ['hist:keys=pid']}]", RecipeError, "hist:", "", ""),
    ("events: [{event: sched:sched_switch, triggers: ['stacktrace:5 if pio == 1']}]", RecipeError, "pio", "no field 'pio'", ""),
    ("events: [{event: sched:sched_switch, triggers: [traceon, traceoff]}]", RecipeError, "traceoff", "a second trigger", "keep one"),
    ("events: [{event: sched:sched_switch, triggers: ['enable_event:irq:nosuch']}]", KernelLacksError, "irq:nosuch", "no event 'irq:nosuch'", ""),
    ("events: [sched:sched_switch]\nrequires: {events: [sched:nosuch]}", KernelLacksError, "sched:nosuch", "no event", ""),
    ("events: [sched:sched_switch]\nrequires: {events: [sched]}", RecipeError, "sched]", "has no system", ""),
    ("events: [sched:sched_switch]\nrequires: {tracers: [irqsof]}", KernelLacksError, "irqsof", "requires", "'irqsoff'"),
    ("events: [sched:sched_switch]\nrequires: {options: [event-frk]}", KernelLacksError, "event-frk", "requires", "'event-fork'"),
    ("events: [sched:sched_switch]\nrequires: {clocks: [mon]}", KernelLacksError, "mon", "requires", "'mono'"),
    ("events: [sched:sched_switch]\nrequires: {triggers: [snapshots]}", KernelLacksError, "snapshots", "requires", "'snapshot'"),
    ("events: [sched:sched_switch]\nrequires: {files: [nosuch_file]}", KernelLacksError, "nosuch_file", "requires", ""),
]  # fmt: skip


@pytest.mark.parametrize(("body", "kind", "caret", "what", "fix"), MISTAKES)
def test_a_mistake_is_answered_at_its_place(body, kind, caret, what, fix):
    error, problem = only_problem(body + "\n")

    assert type(error) is kind
    assert at_caret(problem).startswith(caret)
    assert what in f"{problem.what} {problem.why}"
    assert fix in problem.fix
    assert problem.fix
    assert "\n" not in problem.what
    assert problem.key


WITHOUT_A_KERNEL = [
    "events: [syscall:sys_enter_mount]",
    "events: [syscalls:mount]",
    "events: [sched_switch]",
    "events: [ftrace:function]",
    "events: [{any_of: [syscalls:mount, sched:sched_switch]}]",
    "events: [{event: sched:sched_switch, filter: 'prev_pid = 1'}]",
    "events: [{event: sched:sched_switch, triggers: ['stacktrace:0']}]",
    "tracer: irq",
    "tracer: sched",
    "tracer: {any_of: [blk, function]}",
    "tracer: {any_of: [irqsoff, {events: [sched]}]}",
    "tracer: {name: function, max_graph_depth: 3}",
    "tracer: function\nfunctions: {only: ['*']}",
    "events: [sched:sched_switch]\noptions: {overwrite: true}",
    "events: [sched:sched_switch]\noptions: {func_stack_trace: true}",
    "events: [sched:sched_switch]\noptions: {markers: false}\nmarkers: {stop: x}",
    "tracer: irqsoff\nscope: {pids: [1]}",
    "tracer: irqsoff\nbuffer: {mode: discard}",
    "tracer: {any_of: [irqsoff, wakeup]}\nbuffer: {mode: discard}",
    "events: [sched:sched_switch]\nrequires: {events: [sched]}",
]


@pytest.mark.parametrize("body", WITHOUT_A_KERNEL)
def test_what_is_wrong_everywhere_needs_no_kernel(body):
    [problem] = check_without_kernel(recipe(body + "\n"))

    assert problem.place is not None
    assert problem.fix
    assert isinstance(failed(body + "\n"), RecipeError)


def test_a_right_recipe_has_nothing_wrong_without_a_kernel():
    assert check_without_kernel(recipe("events: [nosuch:event]\ntracer: futuristic\n")) == []


# several problems


def test_all_problems_come_at_once_in_file_order():
    error = failed(
        """
tracer: funtion
options: {nosuch: true}
events:
  - sched:nosuch
  - {event: sched:sched_switch, filter: "prev_pio > 1 && prev_comm < 'x'"}
clock: nosuch
"""
    )

    assert type(error) is RecipeError
    assert [problem.key for problem in error.problems] == [
        "tracer", "options.nosuch", "events[0]", "events[1].filter", "events[1].filter", "clock",
    ]  # fmt: skip
    places = [(at.line, at.column) for at in (problem.place for problem in error.problems) if at]
    assert len(places) == 6
    assert places == sorted(places)


def test_only_what_the_kernel_lacks_makes_another_error():
    error = failed("events: [sched:nosuch]\nclock: nosuch\n")

    assert type(error) is KernelLacksError
    assert error.exit_status == 3
    assert len(error.problems) == 2


def test_positions_inside_a_folded_filter_are_kept():
    _, problem = only_problem(
        """
events:
  - event: sched:sched_switch
    filter: >-
      prev_pid > 1 &&
      prev_pio == 2
"""
    )

    assert problem.place.line == 8
    assert at_caret(problem) == "prev_pio == 2"


def test_blanks_around_a_filter_do_not_matter():
    [event] = resolved("events: [{event: sched:sched_switch, filter: '  prev_pid > 1 '}]\n").events
    assert event.filter == "prev_pid > 1"

    _, problem = only_problem("events: [{event: sched:sched_switch, filter: '  prev_pio > 1 '}]\n")
    assert at_caret(problem).startswith("prev_pio")


# triggers as mappings


def test_a_trigger_given_as_a_mapping_is_the_same_as_text():
    body = """
events:
  - event: sched:sched_switch
    triggers:
      - {trigger: enable_event, event: irq:irq_handler_entry, count: 3, if: prev_pid == 1}
      - {trigger: stacktrace, count: 5}
"""
    [event] = resolved(body).events

    assert event.triggers == (
        "enable_event:irq:irq_handler_entry:3 if prev_pid == 1",
        "stacktrace:5",
    )


@pytest.mark.parametrize(
    ("trigger", "caret", "what"),
    [
        ("{trigger: stacktrace, if: prev_pid = 1}", "= 1", "no operator '='"),
        ("{trigger: stacktrace, count: 5, if: prev_pio == 1}", "prev_pio", "no field"),
        ("{trigger: enable_event, event: irq:nosuch}", "irq:nosuch", "no event 'irq:nosuch'"),
        ("{trigger: enable_event, event: 'irq:*'}", "irq:*'", "without the event"),
    ],
)
def test_a_mistake_in_a_trigger_mapping_is_found_at_its_key(trigger, caret, what):
    _, problem = only_problem(
        f"events:\n  - event: sched:sched_switch\n    triggers:\n      - {trigger}\n"
    )

    assert at_caret(problem).startswith(caret)
    assert what in problem.what


# the tracer


def test_a_tracer_is_resolved_with_its_settings():
    tracer = resolved(
        """
tracer:
  name: function_graph
  options: {funcgraph-proc: true}
  threshold: 100us
  graph_functions: [vfs_read]
  graph_notrace: ["*irq*"]
  max_graph_depth: 5
"""
    ).tracer

    assert tracer is not None
    assert (tracer.name, tracer.threshold_us, tracer.max_graph_depth) == ("function_graph", 100, 5)
    assert tracer.options == {"funcgraph-proc": True}
    assert (tracer.graph_functions, tracer.graph_notrace) == (("vfs_read",), ("*irq*",))
    assert tracer.path == ("tracer",)


def test_the_first_tracer_that_the_kernel_has_is_used():
    body = "tracer: {any_of: [futuristic, {name: irqsoff, threshold: 5us}, function]}\n"
    tracer = resolved(body).tracer

    assert tracer is not None
    assert (tracer.name, tracer.threshold_us) == ("irqsoff", 5)
    assert tracer.path == ("tracer", "any_of", 1)


def test_events_can_stand_in_for_a_tracer():
    body = "tracer: {any_of: [irqsoff, {events: ['irq:*', '!irq:softirq_*']}]}\n"
    result = resolved(body, LOCKED)

    assert result.tracer is None
    assert [event.name for event in result.events] == [
        "irq:irq_handler_entry",
        "irq:irq_handler_exit",
    ]
    assert result.events[0].path == ("tracer", "any_of", 1, "events", 0)
    assert resolved(body).tracer is not None


def test_alternatives_of_a_tracer_that_are_all_absent_give_each_reason():
    error, problem = only_problem(
        "tracer: {any_of: [irqsoff, {events: [preemptirq:irq_disable]}]}\n", LOCKED
    )

    assert type(error) is KernelLacksError
    assert "no tracer 'irqsoff'" in problem.why
    assert "preemptirq:irq_disable" in problem.why


def test_what_only_another_alternative_looks_at_is_left_out_with_the_reason():
    body = "tracer: {any_of: [irqsoff, function]}\nscope: {pids: [1]}\nbuffer: {mode: discard}\n"
    skipped = dict(resolved(body + "options: {func_stack_trace: true}\n").skipped)

    assert "measures whole CPUs" in skipped["scope.pids"]
    assert "with the tracer 'irqsoff'" in skipped["buffer.mode"]
    assert "not to 'irqsoff'" in skipped["options.func_stack_trace"]

    without = replace(RICH, tracers=("function", "nop"))
    result = resolved(body + "options: {func_stack_trace: true}\n", without)
    assert (result.skipped, result.options) == ((), {"func_stack_trace": True})


def test_switching_off_what_is_of_no_use_is_met_without_a_write():
    body = "tracer: irqsoff\noptions: {func_stack_trace: false, sym-offset: true}\n"
    result = resolved(body)

    assert result.options == {"sym-offset": True}
    assert [name for name, _ in result.skipped] == ["options.func_stack_trace"]


def test_a_tracers_option_that_the_kernel_lacks_is_off_there():
    without = replace(RICH, options=tuple(one for one in RICH.options if one != "function-trace"))
    body = "tracer: irqsoff\noptions: {function-trace: %s, sym-offset: true}\n"
    result = resolved(body % "false", without)

    assert result.options == {"sym-offset": True}
    assert result.skipped == (
        ("options.function-trace", "this kernel has no option 'function-trace', so it is off"),
    )
    assert resolved(body % "false").options == {"function-trace": False, "sym-offset": True}
    error, problem = only_problem(body % "true", without)
    assert type(error) is KernelLacksError
    assert problem.key == "options.function-trace"


def test_pids_beside_a_latency_tracer_choose_its_events():
    body = "tracer: irqsoff\nevents: [sched:sched_switch]\nscope: {pids: [1]}\n"

    assert resolved(body).skipped == ()


def test_settings_of_a_tracer_that_is_no_tracer_are_not_judged():
    assert only_problem("tracer: graph\noptions: {funcgraph-proc: true}\n")[1].key == "tracer"


def test_a_tracer_that_instances_may_not_use_needs_the_top_level():
    old = replace(RICH, instance_tracers=("function", "nop"))
    error, problem = only_problem("tracer: function_graph\n", old)

    assert type(error) is KernelLacksError
    assert problem.what == "the tracer 'function_graph' cannot run in an instance on this kernel"
    assert "6.11" in problem.why
    assert "instance: top" in problem.fix
    assert resolved("tracer: function_graph\ninstance: top\n", old).tracer is not None
    assert "instances leave it out" in failed("tracer: irqsoff\n", old).problems[0].why


def test_a_tracer_that_instances_may_not_use_makes_the_alternative_be_taken():
    old = replace(RICH, instance_tracers=("function", "nop"))
    tracer = resolved("tracer: {any_of: [function_graph, function]}\n", old).tracer

    assert tracer is not None
    assert tracer.name == "function"


def test_a_kernel_that_shows_no_sign_of_it_is_tried():
    unknown = replace(RICH, instance_tracers=None)

    assert resolved("tracer: function_graph\n", unknown).tracer is not None


def test_functions_are_counted_and_put_into_the_kernels_form():
    result = resolved("tracer: function\nfunctions: {only: ['vfs_*', ip_rcv], not: [vfs_fsync]}\n")

    assert result.functions_only == ("vfs_*", "ip_rcv")
    assert result.functions_not == ("vfs_fsync",)
    assert result.function_match_counts == {"vfs_*": 7, "ip_rcv": 1, "vfs_fsync": 1}


def test_functions_of_a_module_are_counted_in_it():
    result = resolved("tracer: function\nfunctions: {module: nf_conntrack}\n")
    assert result.functions_only == ("*:mod:nf_conntrack",)
    assert result.function_match_counts == {"*:mod:nf_conntrack": 3}

    result = resolved("tracer: function\nfunctions: {only: ['nf_ct_*'], module: nf_conntrack}\n")
    assert result.function_match_counts == {"nf_ct_*:mod:nf_conntrack": 1}


def test_unknown_functions_leave_the_count_open():
    kernel = replace(RICH, functions=None)
    result = resolved("tracer: function\nfunctions: {only: [vfs_reed]}\n", kernel)

    assert result.function_match_counts == {"vfs_reed": None}


def test_functions_of_an_alternative_without_tracer_are_skipped():
    body = "tracer: {any_of: [function, {events: [irq:irq_handler_entry]}]}\nfunctions: {only: [vfs_read]}\n"
    result = resolved(body, LOCKED)

    assert result.functions_only == ()
    assert result.skipped[0][0] == "functions"


# what a kernel refuses or does not have


def test_a_locked_down_kernel_explains_why_functions_cannot_be_traced():
    error = failed("tracer: function\nfunctions: {only: [vfs_read]}\n", LOCKED)

    assert type(error) is KernelLacksError
    assert [problem.key for problem in error.problems] == ["tracer", "functions.only"]
    for problem in error.problems:
        assert "EPERM" in problem.why
        assert "lockdown" in problem.why


def test_tasks_of_a_tracer_need_their_own_file():
    error = failed("tracer: function\nscope: {pids: [1]}\n", LOCKED)

    assert any(problem.key == "scope.pids" for problem in error.problems)


@pytest.mark.parametrize(
    ("body", "missing", "key"),
    [
        ("buffer: {size: 1M}", "buffer_size_kb", "buffer.size"),
        ("buffer: {subbuf: 16K}", "buffer_subbuf_size_kb", "buffer.subbuf"),
        ("buffer: {watermark: 50}", "buffer_percent", "buffer.watermark"),
        ("scope: {cpus: '0'}", "tracing_cpumask", "scope.cpus"),
        ("scope: {pids: [1]}", "set_event_pid", "scope.pids"),
        ("scope: {exclude_pids: [1]}", "set_event_notrace_pid", "scope.exclude_pids"),
        ("markers: {start: hello}", "trace_marker", "markers.start"),
    ],
)
def test_a_missing_control_file_is_named(body, missing, key):
    kernel = replace(RICH, control_files=RICH.control_files - {missing})
    error, problem = only_problem(f"events: [sched:sched_switch]\n{body}\n", kernel)

    assert type(error) is KernelLacksError
    assert problem.key == key
    assert f"'{missing}'" in problem.what
    assert resolved(f"events: [sched:sched_switch]\n{body}\n").cpus in (None, (0,))


@pytest.mark.parametrize(("errno_name", "fix"), [("EACCES", "as root"), ("ENODEV", "kernel log")])
def test_every_kind_of_refusal_has_its_own_advice(errno_name, fix):
    kernel = replace(RICH, refused={"set_event_pid": errno_name})
    _, problem = only_problem("events: [sched:sched_switch]\nscope: {pids: [1]}\n", kernel)

    assert errno_name in problem.why
    assert fix in problem.fix


def test_following_children_needs_its_option():
    kernel = replace(RICH, options=tuple(o for o in RICH.options if o != "event-fork"))
    _, problem = only_problem(
        "events: [sched:sched_switch]\nscope: {pids: [1], follow: true}\n", kernel
    )

    assert problem.key == "scope.follow"


def test_a_trigger_that_the_kernel_lacks_makes_the_alternative_be_taken():
    body = """
events:
  - any_of:
      - {event: sched:sched_switch, triggers: [snapshot]}
      - {event: sched:sched_switch, triggers: [stacktrace]}
"""
    assert resolved(body, LOCKED).events[0].triggers == ("stacktrace",)
    assert resolved(body, RICH).events[0].triggers == ("snapshot",)


def test_a_format_that_cannot_be_read_is_a_lack_and_not_a_traceback():
    kernel = replace(RICH, format_texts={"sched:sched_switch": "garbage"}, _formats={})
    error, problem = only_problem(
        "events: [{event: sched:sched_switch, filter: prev_pid > 1}]\n", kernel
    )

    assert type(error) is KernelLacksError
    assert "format of sched:sched_switch" in problem.what


def test_a_parameter_inside_a_filter_keeps_the_place():
    body = """
params: {low: {type: int, default: 5}}
events:
  - {event: sched:sched_switch, filter: "prev_pid > ${low} && prev_pio > 1"}
"""
    _, problem = only_problem(body)

    assert at_caret(problem).startswith("prev_pio")


# large recipes


def test_names_are_guessed_for_the_first_of_very_many_mistakes():
    entries = ", ".join(f"'sched:sched_swich{number}'" for number in range(100))
    problems = failed(f"events: [{entries}]\n").problems

    assert len(problems) == 100
    guessed = ["did you mean 'sched:sched_switch'" in problem.fix for problem in problems]
    assert guessed == [number < 20 for number in range(100)]
    assert all(problem.fix and "in this kernel" in problem.what for problem in problems)


def test_braces_that_stand_for_more_names_than_a_kernel_has_are_refused_once():
    braces = "'a:" + "{a,b,c,d,e,f,g,h,i,j}" * 3 + "'"
    [problem] = check_without_kernel(recipe(f"events: [{', '.join([braces] * 8)}]\n"))

    assert problem.what == "here and before, the events stand for more than 5000 names"
    assert problem.key == "events[5]"


def test_functions_are_counted_by_name_by_glob_and_by_module():
    lines = ["vfs_read", "vfs_write", "btrfs_read [btrfs]", "init [a]", "init [b]"]
    kernel = replace(RICH, functions=lines)

    def counts(functions):
        body = f"tracer: function\nfunctions: {functions}\n"
        return dict(resolved(body, kernel).function_match_counts)

    assert counts("{only: [vfs_read, 'vfs_*', init]}") == {"vfs_read": 1, "vfs_*": 2, "init": 2}
    assert counts("{only: ['*_read'], module: btrfs}") == {"*_read:mod:btrfs": 1}
