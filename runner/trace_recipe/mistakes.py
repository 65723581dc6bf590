"""Common mistakes in recipes, and what recipes may not do: the words of each answer.

Pure functions from a name to a Problem (without its place), or None when nothing is wrong.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trace_recipe.errors import Problem
from trace_recipe.suggestions import closest, did_you_mean, either, listed
from trace_recipe.tracers import users_of_option

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trace_recipe.event_names import Expansion
    from trace_recipe.kernel import Kernel

__all__ = [
    "absent_event",
    "absent_option",
    "counted_option",
    "denied_option",
    "denied_tracer",
    "eventless_name",
    "file_problem",
    "foreign_tracer_option",
    "misnamed_event",
    "misnamed_tracer",
    "refused_file",
    "top_level_tracer",
    "wrong_function",
    "wrong_module",
]

_PROBE_SYSTEMS = frozenset(
    {"kprobe", "kprobes", "uprobe", "uprobes", "eprobes", "fprobes", "tracepoints", "synthetic",
     "user_events"}
)  # fmt: skip
_WRONG_SYSTEMS = {"syscall": "syscalls", "sys": "syscalls", "scheduler": "sched"}

_IRQSOFF = Problem(
    "'irq' is not a tracer",
    why="the tracer irqsoff measures the longest time with interrupts off; irq:* are events",
    fix="write 'tracer: irqsoff', or 'events: [\"irq:*\"]'",
)
_TRACER_NICKNAMES = {
    "irqs": "irqsoff", "irqoff": "irqsoff", "irq_off": "irqsoff", "preempt": "preemptoff",
    "graph": "function_graph", "funcgraph": "function_graph", "fgraph": "function_graph",
    "function-graph": "function_graph", "func": "function", "functions": "function",
    "wakeup-rt": "wakeup_rt", "wakeup-dl": "wakeup_dl", "none": "nop", "off": "nop",
}  # fmt: skip
_EVENT_SYSTEMS = frozenset(
    {"sched", "syscalls", "raw_syscalls", "timer", "block", "net", "tcp", "sock", "kmem", "signal",
     "task", "workqueue", "writeback", "ext4", "xfs", "filemap", "power", "exceptions", "kvm"}
)  # fmt: skip


def misnamed_event(text: str) -> Problem | None:
    """Answer an expanded `system:event` that no kernel has, although people expect it."""
    system, _, event = text.partition(":")
    if system == "ftrace":
        return Problem(
            f"'{text}' cannot be switched on",
            why="the events of 'ftrace' belong to tracers and markers, which write them",
            fix="remove it, and name the tracer with 'tracer:'",
        )
    if system in _WRONG_SYSTEMS:
        right = _WRONG_SYSTEMS[system]
        return Problem(
            f"no system '{system}'; it is called '{right}'",
            fix=f"write '{right}:{_system_call(event) if right == 'syscalls' else event}'",
        )
    is_plain = not re.search(r"[*?\[]", event)
    if system == "syscalls" and is_plain and not event.startswith(("sys_enter_", "sys_exit_")):
        name = _system_call(event)
        return Problem(
            f"no event '{text}': a system call has two events, enter and exit",
            why="sys_enter_* has the arguments and sys_exit_* the result",
            fix=f"write 'syscalls:{name}', or 'syscalls:{name.replace('sys_enter_', _BOTH)}'",
        )
    if system == "raw_syscalls" and is_plain and re.match(r"sys_(enter|exit)_\w", event):
        return Problem(
            f"no event '{text}': raw_syscalls has sys_enter and sys_exit for all system calls",
            fix=f"write 'syscalls:{event}', or 'raw_syscalls:{event[:9].rstrip('_')}'"
            " with a filter on 'id'",
        )
    return None


_BOTH = "sys_{enter,exit}_"


def _system_call(event: str) -> str:
    if event.startswith(("sys_enter", "sys_exit")) or re.search(r"[*?\[]", event):
        return event
    return f"sys_enter_{event.removeprefix('sys_').removeprefix('enter_')}"


def absent_event(one: Expansion, events: Sequence[str], *, guesses: bool = True) -> Problem:
    """Say why an event is not among the kernel's, and which one may have been meant.

    Without `guesses` it is not compared with all others, which takes milliseconds.
    """
    if not guesses and one.is_plain:
        return Problem(f"no event '{one.text}' in this kernel", fix=_OPTIONAL)
    if not guesses:
        return Problem(f"'{one.text}' matches no event of this kernel", fix=_OPTIONAL)
    systems = sorted({event.partition(":")[0] for event in events})
    if not one.is_plain:
        why = fix = ""
        if not re.search(r"[*?\[]", one.system) and one.system not in systems:
            why = f"it has no system '{one.system}'"
            fix = did_you_mean(one.system, systems, otherwise="")
        return Problem(
            f"'{one.text}' matches no event of this kernel",
            why=why,
            fix=fix or "write 'optional: true', or see 'trace-recipe list events'",
        )
    if one.system in _PROBE_SYSTEMS:
        return Problem(
            f"no event '{one.text}' in this kernel",
            why="probe events exist only after somebody defined them; recipes define none",
            fix="define the probe before the run, or write 'optional: true'",
        )
    elsewhere = [event for event in events if event.partition(":")[2] == one.name]
    if one.system in systems:
        own = [event for event in events if event.partition(":")[0] == one.system]
        fix = did_you_mean(one.text, elsewhere or own)
        why = f"system '{one.system}' has {listed(event.partition(':')[2] for event in own)}"
        return Problem(f"no event '{one.text}' in this kernel", why=why, fix=fix or _OPTIONAL)
    fix = did_you_mean(one.text, elsewhere, otherwise="")
    if not fix:
        near = closest(one.system, systems)
        names = [event for event in events if event.partition(":")[0] in near]
        like = closest(one.text, names, cutoff=0.75)
        fix = did_you_mean(one.text, like) or did_you_mean(one.system, systems)
    if not fix:
        fix = did_you_mean(one.text, events, otherwise=_OPTIONAL)
    return Problem(
        f"no event '{one.text}' in this kernel",
        why=f"it has no system '{one.system}'",
        fix=fix,
    )


_OPTIONAL = "write 'optional: true', or give an alternative with 'any_of'"


def eventless_name(name: str, events: Sequence[str]) -> str:
    """Return the fix for a name without a system, from what the kernel has."""
    whole = [event for event in events if event.partition(":")[2] == name]
    call = f"syscalls:sys_enter_{name.removeprefix('sys_')}"
    if whole:
        return f"write {' or '.join(repr(event) for event in whole[:3])}"
    if name in {event.partition(":")[0] for event in events}:
        return f"write '{name}:*' for every event of the system"
    if call in events:
        return f"write '{call}'"
    names = {event.partition(":")[2]: event for event in events}
    return either(names[one] for one in closest(name, names))


def absent_option(option: str, known: Iterable[str]) -> Problem:
    """Say that the kernel lacks an option, and which one may have been meant."""
    return Problem(
        f"this kernel has no option '{option}'",
        fix=did_you_mean(option, known, otherwise="'trace-recipe list options' shows them"),
    )


def misnamed_tracer(name: str, kernel: Kernel | None = None) -> Problem | None:
    """Answer a tracer name that is something else: an event, a system, a nickname."""
    if kernel is not None and name in kernel.tracers:
        return None
    if name == "irq":
        return _IRQSOFF
    if name in _TRACER_NICKNAMES:
        right = _TRACER_NICKNAMES[name]
        return Problem(f"'{name}' is not a tracer", fix=f"did you mean '{right}'?")
    if ":" in name:
        return Problem(
            f"'{name}' is an event, not a tracer",
            why="a tracer is what current_tracer takes; events are switched one by one",
            fix=f"write 'events: [\"{name}\"]', and leave 'tracer' out",
        )
    if name in {"kprobe", "kprobes", "uprobe", "uprobes", "fprobe", "eprobe"}:
        return Problem(
            f"'{name}' is not a tracer",
            why="probes are events that must be defined; recipes of this version define none",
            fix=f"define the probe before the run and write 'events: [\"{name.rstrip('s')}s:*\"]'",
        )
    systems = _EVENT_SYSTEMS | (set(kernel.systems) if kernel is not None else set())
    if name in systems:
        return Problem(
            f"'{name}' is a system of events, not a tracer",
            fix=f"write 'events: [\"{name}:*\"]', and leave 'tracer' out",
        )
    events = [] if kernel is None else kernel.events
    whole = [event for event in events if event.partition(":")[2] == name]
    if whole:
        return Problem(
            f"'{name}' is an event, not a tracer",
            fix=f"write 'events: [\"{whole[0]}\"]', and leave 'tracer' out",
        )
    return None


def denied_tracer(name: str) -> Problem | None:
    """Refuse tracers that record nothing by themselves."""
    if name == "blk":
        return Problem(
            "the tracer 'blk' is not for recipes",
            why="it records nothing until block devices are set up in sysfs, for everybody",
            fix="write 'events: [\"block:*\"]'",
        )
    return None


def top_level_tracer(name: str) -> Problem:
    """Say that a kernel allows a tracer at the top level only."""
    return Problem(
        f"the tracer '{name}' cannot run in an instance on this kernel",
        why="it came to instances with Linux 6.11"
        if name == "function_graph"
        else "the available_tracers of its instances leave it out",
        fix="write 'instance: top' (shared with everyone while it runs), or use another kernel",
    )


def denied_option(option: str, *, value: bool) -> Problem | None:
    """Refuse options that recipes set in another way, or that change the machine's trace."""
    if option == "overwrite":
        mode = "overwrite" if value else "discard"
        return Problem(
            "the option 'overwrite' is set by the buffer's mode",
            fix=f"write 'buffer: {{mode: {mode}}}'",
        )
    if option == "trace_printk_dest":
        return Problem(
            "the option 'trace_printk_dest' is not for recipes",
            why="exactly one instance has it, so setting it takes it from somebody else",
            fix="remove it",
        )
    if option == "trace_printk":
        return Problem(
            "the option 'trace_printk' is not for recipes",
            why="it stops trace_printk() of the whole machine",
            fix="remove it",
        )
    if option in {"test_nop_accept", "test_nop_refuse"}:
        return Problem(
            f"the option '{option}' is not for recipes",
            why="it changes nothing: the kernel tests itself with it",
            fix="remove it",
        )
    return None


def counted_option(option: str, *, value: bool, instance: str) -> Problem | None:
    """Refuse to switch off, now or when it is put back, what the kernel counts for all instances.

    trace_event_enable_cmd_record() (kernel/trace/trace_events.c) walks the enabled events of every
    instance and takes each off one counter, those too that were taken off before. Below zero, a
    single event gets no task names: seen on 6.18, where it took 84 steps up to have them back.
    """
    if option not in {"record-cmd", "record-tgid"} or (value and instance == "private"):
        return None
    return Problem(
        f"the option '{option}' cannot be switched {'on in a shared instance' if value else 'off'}",
        why="the kernel counts it for the events of all instances together, and counts wrongly when"
        " one switches it off: names would be missing from everybody's traces",
        fix="use a private instance" if value else "remove it",
    )


def foreign_tracer_option(option: str, tracer: str | None) -> Problem | None:
    """Answer an option that only other tracers look at; None: the recipe sets no tracer."""
    users = users_of_option(option)
    if users is None or (tracer or "nop") in users:
        return None
    owners = f"tracer{'s'[: len(users) > 1]} {listed(repr(one) for one in sorted(users))}"
    fix = "remove it"
    if len(users) == 1 and denied_tracer(*users) is None:
        fix += f", or use the tracer '{listed(users)}'"
    return Problem(
        f"the option '{option}' belongs to the {owners}, "
        + (f"not to '{tracer}'" if tracer else "and no tracer is set"),
        why="it would change nothing in this trace",
        fix=fix,
    )


_FUNCTION = re.compile(r"[A-Za-z0-9_.$?*\[\]-]{1,128}")


def wrong_function(pattern: str) -> Problem | None:
    """Refuse function patterns that the kernel reads as something else, or as everything."""
    if pattern.isdigit():
        return Problem(
            f"'{pattern}' is a number, not a function",
            why="the kernel takes it for a line number in available_filter_functions",
            fix="write the name of the function",
        )
    if pattern.startswith("!"):
        return Problem(
            f"'{pattern}' takes functions out",
            why="the kernel takes what follows '!' out of its list of functions",
            fix=f"write '{pattern[1:]}' under 'not'",
        )
    if ":" in pattern:
        if ":mod:" in pattern:
            fix = f"write 'module: {pattern.rpartition(':')[2]}'"
        else:
            fix = f"write '{pattern.partition(':')[0]}'"
        return Problem(
            f"'{pattern}' is a command, not a function",
            why="the kernel takes what follows ':' for a command to run at every call",
            fix=fix,
        )
    if pattern and not pattern.strip("*?"):
        return Problem(
            f"'{pattern}' is every function of the kernel",
            why="tracing some 40 000 functions slows the machine and loses events",
            fix="name a subsystem, as in 'tcp_*'; without 'functions' all are traced",
        )
    if not _FUNCTION.fullmatch(pattern):
        return Problem(
            f"'{pattern}' is not a function or a glob",
            why="function patterns are letters, digits and _ . $ - with the globs * ? [..]",
            fix="write it as in 'tcp_*'",
        )
    return None


def wrong_module(name: str) -> Problem | None:
    """Refuse what cannot be the name of a kernel module."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,55}", name):
        return None
    return Problem(
        f"'{name}' is not the name of a module",
        why="names of modules are letters, digits, '_' and '-'",
        fix="write it as lsmod shows it",
    )


def file_problem(kernel: Kernel, file: str, purpose: str) -> Problem | None:
    """Return why a control file cannot be used for `purpose`, or None."""
    if file not in kernel.control_files:
        return Problem(
            f"this kernel has no file '{file}', which {purpose} needs",
            why=_ABSENT_FILES.get(file, "it is older than the file, or was built without it"),
            fix=f"leave {purpose} out, or use another kernel",
        )
    refused = kernel.refused.get(file)
    return None if refused is None else refused_file(purpose, file, refused)


_WITHOUT = "it is built without CONFIG_"
_ABSENT_FILES = {
    "buffer_subbuf_size_kb": "sub-buffers of other sizes came with Linux 6.8",
    "set_event_notrace_pid": "excluding pids came with Linux 5.7",
    "set_ftrace_notrace_pid": "excluding pids came with Linux 5.7",
    "set_ftrace_filter": f"{_WITHOUT}DYNAMIC_FTRACE",
    "set_ftrace_notrace": f"{_WITHOUT}DYNAMIC_FTRACE",
    "set_ftrace_pid": f"{_WITHOUT}FUNCTION_TRACER",
    "set_graph_function": f"{_WITHOUT}FUNCTION_GRAPH_TRACER",
    "set_graph_notrace": f"{_WITHOUT}FUNCTION_GRAPH_TRACER",
    "max_graph_depth": f"{_WITHOUT}FUNCTION_GRAPH_TRACER",
}


def refused_file(purpose: str, file: str, error_name: str, *, instead: str = "") -> Problem:
    """Say why the kernel refuses a file that exists; `instead` is what can be done without it."""
    why = f"opening '{file}' fails with {error_name}"
    fix = f"leave {purpose} out{instead}, or use another kernel"
    if error_name == "EPERM":
        why += ", for root too: kernel lockdown or a security module closes it"
        fix = f"leave {purpose} out{instead}, or boot without lockdown"
        fix += " ('cat /sys/kernel/security/lockdown' shows it)"
    elif error_name == "EACCES":
        why += ": the files of tracefs belong to root"
        fix = "run it as root"
    elif error_name == "ENODEV":
        why += ": tracing is disabled in this kernel"
        fix = "see the kernel log for why, and reboot"
    return Problem(f"this kernel refuses '{file}', which {purpose} needs", why=why, fix=fix)
