"""Prober: looks at a live tracefs and the machine around it, and returns the Kernel."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from trace_recipe.errors import TracefsError
from trace_recipe.kernel import Kernel
from trace_recipe.tracefs import FormatTexts, Tracefs
from trace_recipe.tracers import TOP_LEVEL_TRACERS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["available_bytes", "parse_cpu_list", "probe_kernel"]

_KALLSYMS = Path("/proc/kallsyms")
_TRIGGER_WORDS = re.compile(r"^# Available triggers:\n# (.*)$", re.MULTILINE)

# Files whose refusal explains itself to a user: probed by opening them for reading only.
_PROBED = (
    "set_ftrace_filter",
    "set_ftrace_notrace",
    "set_ftrace_pid",
    "set_graph_function",
    "set_graph_notrace",
    "max_graph_depth",
    "available_filter_functions",
    "current_tracer",
    "set_event",
    "dynamic_events",
    "tracing_thresh",
    "tracing_max_latency",
    "set_event_pid",
    "set_event_notrace_pid",
    "set_ftrace_notrace_pid",
    "tracing_cpumask",
    "buffer_percent",
)


def probe_kernel(
    tracefs: Tracefs, *, with_functions: bool = False, with_symbols: bool = False
) -> Kernel:
    """Return what the live kernel offers; nothing is written. Raises TracefsError.

    `with_functions` also reads available_filter_functions, which takes a while (40 000 lines), and
    `with_symbols` kallsyms (0.1 s), where only that tells whether instances have function_graph.
    """
    refused = _refused(tracefs)
    tracers = tuple(tracefs.read("available_tracers").split())
    functions = _functions(tracefs) if with_functions else None
    uname = os.uname()
    return Kernel(
        release=uname.release,
        machine=uname.machine,
        byte_order="<" if sys.byteorder == "little" else ">",
        long_size=_long_size(tracefs),
        page_size_bytes=os.sysconf("SC_PAGESIZE"),
        possible_cpus=_cpus("possible"),
        online_cpus=_cpus("online"),
        tracers=tracers,
        instance_tracers=_instance_tracers(tracefs, tracers, with_symbols=with_symbols),
        options=tracefs.list("options"),
        clocks=tuple(word.strip("[]") for word in tracefs.read("trace_clock").split()),
        control_files=frozenset(tracefs.list()),
        format_texts=FormatTexts(tracefs),
        header_page_text=tracefs.read("events/header_page"),
        header_event_text=tracefs.read("events/header_event"),
        readme=tracefs.read("README"),
        triggers=_triggers(tracefs),
        refused=refused,
        functions=functions,
    )


def available_bytes() -> int | None:
    """Return the memory that can be had without swapping (MemAvailable), None when not known."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """Parse the kernel's `0-3,7` form."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first:
            cpus += range(int(first), int(last or first) + 1)
    return tuple(cpus)


def _cpus(kind: str) -> tuple[int, ...]:
    path = Path("/sys/devices/system/cpu") / kind
    try:
        return parse_cpu_list(path.read_text())
    except OSError:
        return tuple(range(os.cpu_count() or 1))


def _long_size(tracefs: Tracefs) -> int:
    match = re.search(r"commit;\toffset:\d+;\tsize:(\d+);", tracefs.read("events/header_page"))
    return int(match[1]) if match else 8


def _instance_tracers(
    tracefs: Tracefs, tracers: Sequence[str], *, with_symbols: bool
) -> tuple[str, ...] | None:
    """Return the tracers that an instance may use, or None when there is no sign of it.

    An instance lists them. Without one, all kernels agree (`allow_instances` of struct tracer)
    but on function_graph: it is allowed where allocate_fgraph_ops() gives every instance a
    function graph of its own (both are of Linux 6.11, trace_functions_graph.c).
    """
    for name in tracefs.list("instances"):
        instance = tracefs.instance(name)
        # A buffer mapped at boot cannot be swapped, so such an instance lists fewer.
        if instance.exists("last_boot_info"):
            continue
        with contextlib.suppress(TracefsError):  # it may just be going
            return tuple(instance.read("available_tracers").split())
    allowed = tuple(one for one in tracers if one not in TOP_LEVEL_TRACERS)
    if "function_graph" not in allowed:
        return allowed
    has_symbol = _has_symbol("allocate_fgraph_ops") if with_symbols else None
    if has_symbol is None:
        return None
    return allowed if has_symbol else tuple(one for one in allowed if one != "function_graph")


def _has_symbol(name: str) -> bool | None:
    """Whether the kernel has a symbol; None when it shows none. Names are shown to every user."""
    try:
        symbols = _KALLSYMS.read_bytes()
    except OSError:
        return None
    return f" {name}\n".encode() in symbols if symbols else None


def _refused(tracefs: Tracefs) -> dict[str, str]:
    refused = {}
    for name in _PROBED:
        if not tracefs.exists(name):
            continue
        try:
            os.close(tracefs.open_file(name, os.O_RDONLY))
        except TracefsError as error:
            import errno  # noqa: PLC0415 - only on the rare refusal

            if error.errno == errno.EACCES:  # the mode of this one, not of an instance's
                continue
            refused[name] = errno.errorcode.get(error.errno, str(error.errno))
    return refused


def _functions(tracefs: Tracefs) -> Sequence[str] | None:
    try:
        text = tracefs.read("available_filter_functions")
    except TracefsError:
        return None
    return text.splitlines()


def _triggers(tracefs: Tracefs) -> tuple[str, ...]:
    # The empty trigger file of any event lists the words this kernel knows.
    for system in ("sched", "syscalls", "timer", "irq"):
        if not tracefs.exists(f"events/{system}"):
            continue
        for event in tracefs.list(f"events/{system}"):
            path = f"events/{system}/{event}/trigger"
            match = tracefs.exists(path) and _TRIGGER_WORDS.search(tracefs.read(path))
            if match:
                return tuple(match[1].split())
    return ()
