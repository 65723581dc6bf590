"""Watcher: whether what a run has set still reads as it set it, while it records.

One look costs some twenty reads whatever the number of events: those that are enabled stand in
the instance's set_event, and the rest of many files takes turns.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trace_recipe.control_files import (
    FORK_OPTIONS,
    ControlFile,
    control_file,
    switches_tracing,
)
from trace_recipe.drift import Drift
from trace_recipe.errors import TracefsError
from trace_recipe.plan import SetFile
from trace_recipe.recorder import parse_stats, trace_clock_now

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trace_recipe.executor import Session

__all__ = ["Watcher"]

_FILES_PER_LOOK = 64
_CPUS_PER_LOOK = 16
# What decides whose events are recorded and what their times mean, even if no step had to set it.
_ALWAYS = (
    "tracing_on",
    "trace_clock",
    "current_tracer",
    "buffer_size_kb",
    "tracing_cpumask",
    "set_event_pid",
    "set_event_notrace_pid",
)
# Later steps change these too: trace_options shows every option, and a latency tracer switches some
# itself (kernel/trace/trace_irqsoff.c, __irqsoff_tracer_init()).
_LEFT_BY_LATER_STEPS = frozenset(
    {
        "trace_options",
        "options/overwrite",
        "options/latency-format",
        "options/pause-on-trace",
    }
)

_Change = tuple[str, str, str | None]  # file, applied, found


@dataclass(slots=True)
class _Watched:
    """One file: what it is to read, and what it read at the last look (None: it was gone)."""

    file: str
    rules: ControlFile
    applied: str
    last: str | None


@dataclass(slots=True)
class _Counters:
    """What one CPU's stats said at the last look; `written` events there were at the least."""

    overrun: int = 0
    read: int = 0
    written: int = 0


class Watcher:
    """Compares the files of a started session with what they read after its writes."""

    def __init__(self, session: Session, cpus: Sequence[int]) -> None:
        """Take what cannot be known before the start as it reads now."""
        self._plan = session.plan
        self._tracefs = session.tracefs
        self._instance = session.instance
        self._cpus = tuple(cpus)
        self._next_file = 0
        self._next_cpu = 0
        self._counters: dict[int, _Counters] = {}
        self._directory = f"instances/{self._plan.instance}" if self._plan.instance else ""
        self._inode = self._identity()
        self._wanted = self._enabled = self._events() | frozenset(self._plan.events)
        self._files = list(self._watched(session.readings))

    def look(self) -> tuple[Drift, ...]:
        """Return what has changed since the last look, changes back included."""
        changes = list(self._changes())
        if not changes:
            return ()
        trace_ns, wall_ns = trace_clock_now(self._instance), time.time_ns()
        return tuple(Drift(*change, trace_ns, wall_ns) for change in changes)

    # -- what is watched ----------------------------------------------------------------------

    def _watched(self, readings: dict[str, str]) -> Iterator[_Watched]:
        steps = [step for step in self._plan.steps if isinstance(step, SetFile)]
        files = {f"{self._plan.prefix}{name}": name for name in _ALWAYS}
        files |= {step.file: step.name for step in steps}
        own_doing = self._own_doing(steps)
        for file, name in files.items():
            if file in own_doing or self._may_grow(name):
                continue
            is_enable = name.startswith("events/") and name.endswith("/enable")
            known = readings.get(file)
            if is_enable and known is not None and "*" not in known:
                continue  # seen in set_event
            if known is None or name in _LEFT_BY_LATER_STEPS:
                known = self._read(file)
            if known is not None:
                yield _Watched(file, control_file(name), known, known)

    def _own_doing(self, steps: Sequence[SetFile]) -> frozenset[str]:
        """Return the files that the run's own triggers may change."""
        texts = [step.text for step in steps if step.name.endswith("/trigger")]
        tracing_on = [f"{self._plan.prefix}tracing_on"]
        return frozenset(self._plan.moving_files) | frozenset(
            tracing_on if any(map(switches_tracing, texts)) else ()
        )

    def _may_grow(self, name: str) -> bool:
        option = FORK_OPTIONS.get(name)
        return option is not None and self._read(f"{self._plan.prefix}options/{option}") == "1\n"

    # -- one look -----------------------------------------------------------------------------

    def _changes(self) -> Iterator[_Change]:
        inode = self._identity()
        if inode != self._inode:
            is_gone, self._inode = inode is None, inode
            yield self._directory, "", None if is_gone else "made anew"
        if inode is None:
            return
        yield from self._event_changes()
        for watched in self._turn():
            now = self._read(watched.file)
            rules, last = watched.rules, watched.last
            if now is last or (now is not None and last is not None and rules.same(now, last)):
                continue
            watched.last = now
            if now is not None and rules.same(now, watched.applied):
                now = watched.applied
            found = None if now is None else _shown(rules, now)
            yield watched.file, _shown(rules, watched.applied), found
        yield from self._emptied()

    def _turn(self) -> list[_Watched]:
        """Return the files to read now: all, or the next ones of many."""
        if len(self._files) <= _FILES_PER_LOOK:
            return self._files
        ahead = [*self._files[self._next_file :], *self._files[: self._next_file]]
        self._next_file = (self._next_file + _FILES_PER_LOOK) % len(self._files)
        return ahead[:_FILES_PER_LOOK]

    def _event_changes(self) -> Iterator[_Change]:
        enabled = self._events()
        changed = enabled ^ self._enabled
        if not self._plan.makes_instance:  # what others enable beside ours is their affair
            changed &= self._wanted
        self._enabled = enabled
        if changed:
            applied, found = changed & self._wanted, changed & enabled
            yield f"{self._plan.prefix}set_event", _words(applied), _words(found)

    def _emptied(self) -> Iterator[_Change]:
        """Notice by counters that only a reset sets back that somebody emptied the buffer.

        All written events are in the buffer, overwritten or read. The file counts those in the
        buffer first, so its sum is never too small, and with the last look's counts never too
        large: whatever the recorder reads meanwhile, a sum below an earlier one means a reset.
        """
        count = min(_CPUS_PER_LOOK, len(self._cpus))
        for _ in range(count):
            cpu = self._cpus[self._next_cpu]
            self._next_cpu = (self._next_cpu + 1) % len(self._cpus)
            file = f"{self._plan.prefix}per_cpu/cpu{cpu}/stats"
            text = self._read(file)
            if text is None:
                continue
            now, last = parse_stats(cpu, text), self._counters.get(cpu, _Counters())
            at_most = now.entries + now.overrun + now.read_events
            at_least = max(last.written, now.entries + last.overrun + last.read)
            if at_most < last.written:
                yield file, f"{last.written} events", f"{at_most} events"
                at_least = now.entries
            self._counters[cpu] = _Counters(now.overrun, now.read_events, at_least)

    def _events(self) -> frozenset[str]:
        text = self._read(f"{self._plan.prefix}set_event") or ""
        # `*:mod:NAME` stands for the events of a module that is not there yet.
        return frozenset(line for line in text.split() if line.count(":") == 1)

    def _identity(self) -> int | None:
        if not self._directory:
            return 0
        try:
            return self._tracefs.identity(self._directory)
        except TracefsError:
            return None

    def _read(self, file: str) -> str | None:
        try:
            return self._tracefs.read(file)
        except TracefsError:
            return None


def _shown(rules: ControlFile, text: str) -> str:
    value = rules.value(text)
    if isinstance(value, str | int):
        return str(value).strip()
    return "\n".join(line for line in text.splitlines() if not line.startswith("# "))


def _words(events: frozenset[str]) -> str:
    return " ".join(sorted(events))
