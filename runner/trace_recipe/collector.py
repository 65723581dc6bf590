"""Collector: what the kernel tells about a recording beside its pages: formats, tables, clocks."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import zstandard

from trace_recipe.decoder.pages import PageLayout, scan
from trace_recipe.errors import TracefsError
from trace_recipe.manifest import (
    BufferEntry,
    ClockPair,
    CpuEntry,
    KernelEntry,
    Manifest,
    RecipeEntry,
)
from trace_recipe.plan import plan_to_json
from trace_recipe.recorder import CpuStats, trace_clock_now
from trace_recipe.recording import KALLSYMS_FILE, LATENCY_FILE
from trace_recipe.tracers import LATENCY_TRACERS
from trace_recipe.version import tool_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trace_recipe.drift import Drift
    from trace_recipe.plan import Plan
    from trace_recipe.recorder import Recorder
    from trace_recipe.resolver import ResolvedRecipe
    from trace_recipe.tracefs import Tracefs

__all__ = ["STRING_TABLE", "TASK_TABLES", "Collector", "finished_manifest", "ftrace_events"]

STRING_TABLE = "printk_formats"
TASK_TABLES = ("saved_cmdlines", "saved_tgids")

# What markers, trace_printk and the stacktrace option and trigger write without any tracer.
_TRACERLESS_EVENTS = frozenset(
    {"print", "bprint", "bputs", "raw_data", "kernel_stack", "user_stack"}
)
# Neither what the two readings take, nor what NTP does to a clock at most (500 ppm), is a jump.
_CLOCK_JUMP_S, _CLOCK_SLEW = 0.5, 1e-3
_KALLSYMS = Path("/proc/kallsyms")


class Collector:
    """Reads from an applied instance and writes into the directory of its recording."""

    def __init__(
        self,
        resolved: ResolvedRecipe,
        plan: Plan,
        *,
        tracefs: Tracefs,
        instance: Tracefs,
        directory: Path,
    ) -> None:
        self.resolved = resolved
        self.plan = plan
        self.tracefs = tracefs
        self.instance = instance
        self.directory = directory

    def write_texts(self) -> None:
        """Write what is known before the start: recipe, plan, formats, page headers."""
        loaded = self.resolved.loaded
        (self.directory / "recipe.yaml").write_text(loaded.text, "utf-8")
        plan = json.dumps(plan_to_json(self.plan), indent=2)
        (self.directory / "plan.json").write_text(f"{plan}\n")
        names = dict.fromkeys((*self.plan.events, *self.plan.trigger_targets))
        names.update(dict.fromkeys(self.instance.read("set_event").split()))
        tracer = self.instance.read("current_tracer").strip()
        ftrace = ftrace_events(self.tracefs, tracer)
        names.update(dict.fromkeys(f"ftrace:{name}" for name in ftrace))
        formats = {name: self._format_text(name) for name in names}
        (self.directory / "formats.json").write_text(
            json.dumps(formats, indent=0), "utf-8", "surrogateescape"
        )
        for name in ("header_page", "header_event"):
            (self.directory / name).write_text(self.instance.read(f"events/{name}"))
        (self.directory / STRING_TABLE).write_text(
            self._optional(STRING_TABLE), "utf-8", "surrogateescape"
        )

    def write_tables(self) -> None:
        """Write what the kernel knows of tasks and symbols; what was written before stays whole."""
        for name in TASK_TABLES:
            self._put(name, self._optional(name).encode("utf-8", "surrogateescape"))
        with contextlib.suppress(OSError):  # without symbols addresses stay numbers
            packed = zstandard.ZstdCompressor(level=1).compress(_KALLSYMS.read_bytes())
            self._put(KALLSYMS_FILE, packed)

    def write_latency(self) -> list[str]:
        """Write a latency tracer's report; return notes for the user."""
        if self.plan.tracer not in LATENCY_TRACERS:
            return []
        report = self.instance.read("trace")
        if "\n# latency: " not in report:
            return ["no latency above the threshold was met"]
        self._put(LATENCY_FILE, report.encode("utf-8", "surrogateescape"))
        return [f"the longest latency was {self.instance.read('tracing_max_latency').strip()} us"]

    def clock_pair(self) -> ClockPair:
        """Return the trace clock and the wall clock of one moment."""
        before_ns = time.time_ns()
        trace = trace_clock_now(self.instance)
        after_ns = time.time_ns()
        return ClockPair(trace, (before_ns + after_ns) // 2)

    def manifest(self, cpus: Sequence[int], subbuf_size_bytes: int) -> Manifest:
        """Return the manifest of a recording that has not begun."""
        loaded = self.resolved.loaded
        kernel = self.resolved.kernel
        uname = os.uname()
        clock = self.instance.read("trace_clock")
        buffer = BufferEntry(
            name=self.plan.instance,
            clock=clock[clock.index("[") + 1 : clock.index("]")],
            tracer=self.instance.read("current_tracer").strip(),
            subbuf_size_bytes=subbuf_size_bytes,
            cpus=tuple(CpuEntry(cpu, f"cpu{cpu}.raw", 0, 0, 0, 0, 0, "") for cpu in cpus),
        )
        return Manifest(
            manifest="v1",
            tool=tool_version(),
            recipe=RecipeEntry(loaded.recipe.name, loaded.path, loaded.sha256, dict(loaded.params)),
            kernel=KernelEntry(
                release=kernel.release,
                machine=kernel.machine,
                uname=f"{uname.sysname} {uname.nodename} {uname.release} {uname.version}"
                f" {uname.machine}",
                byte_order="little" if kernel.byte_order == "<" else "big",
                long_size=8 if kernel.long_size == 8 else 4,
                page_size_bytes=kernel.page_size_bytes,
                cpu_count=len(kernel.possible_cpus),
            ),
            buffers=(buffer,),
            clock_pairs=(self.clock_pair(),),
            started_at_ns=time.time_ns(),
            duration_ns=0,
            events=0,
            lost=0,
            exit_reason="unfinished",
            command_exit_status=None,
            options=_options(self.instance),
            notes=(),
        )

    def _format_text(self, full_name: str) -> str:
        system, _, name = full_name.partition(":")
        return self.tracefs.read(f"events/{system}/{name}/format")

    def _put(self, name: str, data: bytes) -> None:
        # A new file each time: a live view may be reading the old one.
        path = self.directory / name
        path.unlink(missing_ok=True)
        path.write_bytes(data)

    def _optional(self, name: str) -> str:
        try:
            return self.tracefs.read(name)
        except TracefsError:
            return ""


def ftrace_events(tracefs: Tracefs, tracer: str) -> list[str]:
    """Return ftrace's own events that can be in the buffer: tracers have theirs."""
    directory = "events/ftrace"
    names = tracefs.list(directory) if tracefs.exists(directory) else ()
    if tracer == "nop":
        names = tuple(name for name in names if name in _TRACERLESS_EVENTS)
    return [name for name in names if tracefs.exists(f"{directory}/{name}/format")]


def finished_manifest(
    manifest: Manifest,
    recorder: Recorder,
    *,
    data_offset: int,
    stats: Sequence[CpuStats],
    clock_pairs: tuple[ClockPair, ...],
    duration_ns: int,
    exit_reason: str,
    command_exit_status: int | None,
    notes: Sequence[str],
    drifts: Sequence[Drift],
) -> Manifest:
    """Return the manifest with what the recording came to; `data_offset` is of header_page."""
    by_cpu = {one.cpu: one for one in stats}
    cut = recorder.cut_bytes
    dropped = _dropped(recorder, manifest, data_offset)
    cpus = []
    for cpu, spool, size in recorder.spools:
        one = by_cpu.get(cpu) or CpuStats(cpu, 0, 0, 0, 0, 0, "")
        # What a CPU that broke off has still in its buffer nobody reads any more.
        unwritten = dropped[cpu] + one.entries if cpu in dropped else 0
        cpus.append(
            CpuEntry(
                cpu,
                spool.name,
                size,
                one.overrun,
                one.commit_overrun,
                one.dropped_events,
                cut[cpu],
                one.text,
                unwritten,
            )
        )
    return replace(
        manifest,
        buffers=(replace(manifest.buffers[0], cpus=tuple(cpus)),),
        clock_pairs=clock_pairs,
        duration_ns=duration_ns,
        events=sum(one.read_events for one in stats) - sum(dropped.values()),
        lost=sum(cpu.lost for cpu in cpus),
        exit_reason=exit_reason,
        command_exit_status=command_exit_status,
        notes=(*notes, *_clock_note(clock_pairs, duration_ns)),
        drifts=tuple(drifts),
    )


def _clock_note(pairs: tuple[ClockPair, ...], duration_ns: int) -> list[str]:
    """Say when the wall clock went otherwise than time itself: `duration_ns` is monotonic."""
    jump_s = (pairs[-1].wall_ns - pairs[0].wall_ns - duration_ns) / 1e9
    if abs(jump_s) < _CLOCK_JUMP_S + duration_ns * _CLOCK_SLEW / 1e9:
        return []
    how = "set by somebody, or the machine slept"
    note = f"the wall clock went {jump_s:+.1f} s against the monotonic one ({how})"
    return [f"{note}; wall times are by how it stood at the start"]


def _dropped(recorder: Recorder, manifest: Manifest, data_offset: int) -> dict[int, int]:
    """Return how many events each CPU that broke off had read and could not write."""
    kernel, size = manifest.kernel, manifest.buffers[0].subbuf_size_bytes
    layout = PageLayout(
        "<" if kernel.byte_order == "little" else ">", kernel.long_size, data_offset
    )
    found = {}
    for cpu, data in recorder.unwritten.items():
        whole = len(data) - len(data) % size
        found[cpu] = scan(np.frombuffer(data[:whole], np.uint8).reshape(-1, size), layout).count
    return found


def _options(instance: Tracefs) -> dict[str, bool]:
    words = instance.read("trace_options").split()
    # No option's name begins with "no", so the prefix can be taken off.
    return {word.removeprefix("no"): not word.startswith("no") for word in words}
