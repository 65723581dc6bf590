"""What stands left of an event's text in the `trace` file (kernel/trace/trace_output.c)."""

from __future__ import annotations

import re
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from trace_recipe.decoder.print_values import MAX_REMEMBERED, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from trace_recipe.events import Buffer, EventColumns, TraceData

__all__ = ["Context", "header_lines", "latency_flags", "task_name", "with_notes"]

_IRQS_OFF, _RESCHED_LAZY, _RESCHED, _HARDIRQ = 0x01, 0x02, 0x04, 0x08
_SOFTIRQ, _PREEMPT_RESCHED, _NMI, _BH_OFF = 0x10, 0x20, 0x40, 0x80
_RESCHED_LETTERS = {
    _RESCHED | _RESCHED_LAZY | _PREEMPT_RESCHED: "B",
    _RESCHED | _PREEMPT_RESCHED: "N",
    _RESCHED_LAZY | _PREEMPT_RESCHED: "L",
    _RESCHED | _RESCHED_LAZY: "b",
    _RESCHED: "n",
    _RESCHED_LAZY: "l",
    _PREEMPT_RESCHED: "p",
}
_STAT = re.compile(r"^(entries|overrun|read events): (\d+)$", re.MULTILINE)


def latency_flags(flags: int, preempt_count: int) -> str:
    """Return the five letters: irqs off, need resched, hard/softirq, preempt and migrate depth."""
    if flags & _IRQS_OFF:
        irqs = "D" if flags & _BH_OFF else "d"
    else:
        irqs = "b" if flags & _BH_OFF else "."
    resched = _RESCHED_LETTERS.get(flags & (_RESCHED | _RESCHED_LAZY | _PREEMPT_RESCHED), ".")
    if flags & _NMI:
        context = "Z" if flags & _HARDIRQ else "z"
    elif flags & _HARDIRQ:
        context = "H" if flags & _SOFTIRQ else "h"
    else:
        context = "s" if flags & _SOFTIRQ else "."
    depth, migrate = preempt_count & 0xF, preempt_count >> 4 & 0xF
    depths = "".join(f"{one:x}" if one else "." for one in (depth, migrate))
    return irqs + resched + context + depths


def task_name(cmdlines: Mapping[int, str], pid: int) -> str:
    """Return a task's name as trace_find_cmdline() does."""
    if pid == 0:
        return "<idle>"
    if pid < 0:
        return "<XXX>"
    name = cmdlines.get(pid)
    return "<...>" if name is None else visible(name)


class _Prefixes(dict[int, str]):
    """Task, CPU and flags as text by their packed number; bounded."""

    def __init__(self, data: TraceData) -> None:
        super().__init__()
        self._nameless: list[int] = []
        self._cmdlines = data.cmdlines
        self._tgids = data.tgids
        self._with_tgid = data.options.get("record-tgid", False)
        self._with_flags = data.options.get("irq-info", True)

    def __missing__(self, packed: int) -> str:
        if len(self) >= MAX_REMEMBERED:
            self.clear()
        pid, cpu = packed >> 32, packed >> 16 & 0xFFFF
        text = f"{task_name(self._cmdlines, pid):>16s}-{pid:<7d} "
        if self._with_tgid:
            tgid = self._tgids.get(pid, 0)
            text += f"({tgid:7d}) " if tgid else "(-------) "
        text += f"[{cpu:03d}] "
        if self._with_flags:
            text += latency_flags(packed >> 8 & 0xFF, packed & 0xFF)
        self[packed] = text
        if pid not in self._cmdlines:
            self._nameless.append(packed)
        return text

    def retry_names(self) -> None:
        """Forget the tasks without a name: while events are printed live it may still come."""
        for packed in self._nameless:
            self.pop(packed, None)
        self._nameless.clear()


class Context:
    """Makes the columns left of the text: `task-pid [cpu] flags time: `."""

    def __init__(self, data: TraceData, *, in_ns: bool) -> None:
        self._prefixes = _Prefixes(data)
        self._in_ns = in_ns
        self._shown = data.options.get("context-info", True)

    def begin_batch(self) -> None:
        """Look again for names that were not known."""
        self._prefixes.retry_names()

    def time(self, timestamp_ns: int) -> str:
        """Return one time as `arguments` would show it."""
        if not self._in_ns:
            return f"{timestamp_ns}: "
        seconds, rest = divmod((timestamp_ns + 500) // 1000, 1_000_000)
        return f"{seconds}.{rest:06d}: "

    @property
    def template(self) -> str:
        """Return the `%` template of the columns of `arguments`."""
        if not self._shown:
            return ""
        return "%s %5d.%06d: " if self._in_ns else "%s %12d: "

    def arguments(self, columns: EventColumns) -> list[list[Any]]:
        """Return what the template takes, one entry per event."""
        if not self._shown:
            return []
        pid, flags, preempt = (
            common(columns, name) for name in ("common_pid", "common_flags", "common_preempt_count")
        )
        packed = (pid << 32) | (columns.cpu.astype(np.int64) << 16) | (flags << 8) | preempt
        prefixes = list(map(self._prefixes.__getitem__, packed.tolist()))
        if not self._in_ns:
            return [prefixes, columns.timestamp_ns.tolist()]
        usec = (columns.timestamp_ns + np.uint64(500)) // np.uint64(1000)
        seconds, rest = np.divmod(usec, np.uint64(1_000_000))
        return [prefixes, seconds.tolist(), rest.tolist()]


def with_notes(rows: list[str], notes: Iterable[tuple[int, str]]) -> list[str]:
    """Return the rows with each (number, note) before the row of that number."""
    ordered = sorted(notes, key=itemgetter(0))  # those of one place stay in their order
    if not ordered:
        return rows
    merged: list[str] = []
    done = 0
    for before, note in ordered:
        merged += rows[done:before]
        merged.append(note)
        done = max(done, before)
    return merged + rows[done:]


def common(columns: EventColumns, name: str) -> NDArray[np.int64]:
    """Return a common field; 0 where the format has none of that name."""
    field = columns.format.find(name)
    if field is None:
        return np.zeros(columns.count, np.int64)
    values: NDArray[np.int64] = columns.column(name).astype(np.int64)
    return values if field.size > 1 else values & 0xFF


def header_lines(data: TraceData, buffer: Buffer) -> list[str]:
    """Return the header below `# tracer:` as print_func_help_header() and its _irq form print it.

    The entry counts come from the stats files, which exist when the recording has ended: what was
    read is what was in the buffer. Without them (live) their line is left out.
    """
    if not data.options.get("context-info", True):
        return []
    lines = []
    counts = _entry_counts(buffer)
    if counts is not None:
        held, written = counts
        lines += [
            f"# entries-in-buffer/entries-written: {held}/{written}   #P:{data.cpu_count}",
            "#",
        ]
    has_tgid = data.options.get("record-tgid", False)
    if not data.options.get("irq-info", True):
        title, mark = ("   TGID   ", "     |    ") if has_tgid else ("", "")
        return [
            *lines,
            f"#           TASK-PID    {title} CPU#     TIMESTAMP  FUNCTION",
            f"#              | |      {mark}   |         |         |",
        ]
    space = " " * (12 if has_tgid else 2)
    lines += [
        f"#                            {space}{drawn}"
        for drawn in (
            "  _-----=> irqs-off/BH-disabled",
            " / _----=> need-resched",
            "| / _---=> hardirq/softirq",
            "|| / _--=> preempt-depth",
            "||| / _-=> migrate-disable",
            "|||| /     delay",
        )
    ]
    width = 12 if has_tgid else 2
    title, mark = "     TGID   "[:width], "       |    "[:width]
    return [
        *lines,
        f"#           TASK-PID  {title} CPU#  |||||  TIMESTAMP  FUNCTION",
        f"#              | |    {mark}   |   |||||     |         |",
    ]


def _entry_counts(buffer: Buffer) -> tuple[int, int] | None:
    if not any(buffer.stats.values()):  # they are known at the end only
        return None
    held = lost = 0
    for text in buffer.stats.values():
        counts = {name: int(number) for name, number in _STAT.findall(text)}
        held += counts.get("entries", 0) + counts.get("read events", 0)
        lost += counts.get("overrun", 0)
    unwritten = sum(getattr(pages, "unwritten", 0) for pages in buffer.cpus.values())
    held, lost = held - unwritten, lost + unwritten
    return held, held + lost
