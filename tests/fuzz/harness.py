"""Runs one target on many inputs in forked children, and says which of them broke a promise.

A target may raise nothing, may not take more than BUDGET_S of processor time for one input, and may
not grow by more than its memory limit. Input number N of a seed is the same in every run, so that
its number is all that is needed to see a finding again.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import random
import resource
import selectors
import signal
import struct
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["BUDGET_S", "Finding", "Report", "Target", "fuzz", "input_of"]

BUDGET_S = 2.0
_STUCK_S = 10.0  # of processor time: the signal of the budget did not get through
_INPUTS_PER_CHILD = 1000
_ROOT = str(Path(__file__).resolve().parents[2])
_INDEX = struct.Struct("Q")
_SHOWN_CHARS = 4000


@dataclass(frozen=True, slots=True)
class Target:
    """One part of the product that takes input from elsewhere.

    `make` makes an input of a seeded generator; `run` hands it to the product and takes the errors
    that the product documents.
    """

    name: str
    make: Callable[[random.Random], Any]
    run: Callable[[Any], object]
    memory_bytes: int = 256 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """What one input did that none may do; `kind` and `where` are the same for one cause."""

    index: int
    kind: str
    where: str
    text: str


@dataclass(slots=True)
class Report:
    """What a run found: the first finding of each cause, and how often each cause came up."""

    inputs: int = 0
    seconds: float = 0.0
    findings: dict[tuple[str, str], Finding] = field(default_factory=dict)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    worst_s: float = 0.0
    worst_index: int = 0
    peak_bytes: int = 0
    peak_index: int = 0

    def add(self, finding: Finding) -> None:
        """Count a finding and keep it when it is the first of its cause."""
        cause = (finding.kind, finding.where)
        self.findings.setdefault(cause, finding)
        self.counts[cause] = self.counts.get(cause, 0) + 1


class _TooSlowError(BaseException):
    """The processor time for one input is used up; no `except Exception` may take it."""


def input_of(target: Target, seed: int, index: int) -> Any:
    """Return input number `index` of a seed."""
    return target.make(random.Random(f"{target.name}:{seed}:{index}"))


def fuzz(
    target: Target,
    *,
    inputs: int,
    seed: int,
    first: int = 0,
    jobs: int = 1,
    until: float | None = None,
    show: Callable[[Report], object] = lambda _: None,
) -> Report:
    """Run the inputs from number `first` on, fewer when time.monotonic() passes `until`."""
    report = Report()
    begin = time.monotonic()
    input_of(target, seed, first)  # what inputs are made of is read once, not by every child
    ranges = _ranges(first, first + inputs)
    working: list[_Child] = []
    with selectors.DefaultSelector() as ready:
        while True:
            while len(working) < jobs and (until is None or time.monotonic() < until):
                following = next(ranges, None)
                if following is None:
                    break
                working.append(_Child(target, seed, *following, ready))
            if not working:
                return report
            for key, _ in ready.select(timeout=1.0):
                key.data.read(report)
            for child in working:
                child.kill_if_stuck()
            for child in [one for one in working if one.is_done]:
                working.remove(child)
                rest = child.finish(report)
                if rest < child.last:  # it died of an input: the others still want their turn
                    working.append(_Child(target, seed, rest, child.last, ready))
            report.seconds = time.monotonic() - begin
            show(report)


def _ranges(first: int, end: int) -> Iterator[tuple[int, int]]:
    for start in range(first, end, _INPUTS_PER_CHILD):
        yield start, min(start + _INPUTS_PER_CHILD, end)


class _Child:
    """A forked process that works through a range of inputs and tells what it sees."""

    def __init__(
        self, target: Target, seed: int, first: int, last: int, ready: selectors.BaseSelector
    ) -> None:
        self.last = last
        self.is_done = False
        self._first = first
        self._ready = ready
        self._lines = b""
        self._index = mmap.mmap(-1, _INDEX.size)  # shared: the number of the input at work
        _INDEX.pack_into(self._index, 0, first)
        self._begun = (first, 0.0)
        self._pipe, writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._pipe)
            _work(target, seed, range(first, last), writer, self._index)
        os.close(writer)
        ready.register(self._pipe, selectors.EVENT_READ, self)

    def read(self, report: Report) -> None:
        """Take what the child wrote; at the end of that `is_done`."""
        content = os.read(self._pipe, 1 << 16)
        self.is_done = not content
        *lines, self._lines = (self._lines + content).split(b"\n")
        for kind, index, *rest in map(json.loads, lines):
            if kind == "slowest" and rest[0] > report.worst_s:
                report.worst_s, report.worst_index = rest[0], index
            elif kind == "largest" and rest[0] > report.peak_bytes:
                report.peak_bytes, report.peak_index = rest[0], index
            elif kind not in {"slowest", "largest"}:
                report.add(Finding(index, kind, *rest))

    def kill_if_stuck(self) -> None:
        """Kill a child that an input keeps in code that no signal handler can end."""
        index, cpu_s = self._at_work(), _cpu_seconds(self._pid)
        if index != self._begun[0]:
            self._begun = (index, cpu_s)
        elif cpu_s - self._begun[1] > _STUCK_S:
            os.kill(self._pid, signal.SIGKILL)

    def finish(self, report: Report) -> int:
        """Reap the child and return the number of the first input that it did not get to."""
        self._ready.unregister(self._pipe)
        os.close(self._pipe)
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        done = self._at_work() + (status != 0)
        if status != 0:
            report.add(Finding(done - 1, "died", f"exit status {status}", ""))
        report.inputs += done - self._first
        return done

    def _at_work(self) -> int:
        return int(_INDEX.unpack_from(self._index)[0])


def _work(target: Target, seed: int, indexes: range, pipe: int, at_work: mmap.mmap) -> NoReturn:
    """Run the inputs; the child's whole life."""
    status = 1
    try:
        logging.disable()
        sys.settrace(None)  # what measures coverage would take most of the time, and is not read
        signal.signal(signal.SIGPROF, _too_slow)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        limit = _pages_in_use() * resource.getpagesize() + target.memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        with open(pipe, "w", encoding="ascii") as stream:
            for line in _seen(target, seed, indexes, at_work):
                print(json.dumps(line), file=stream, flush=True)
        _INDEX.pack_into(at_work, 0, indexes.stop)
        status = 0
    finally:
        os._exit(status)


def _seen(
    target: Target, seed: int, indexes: range, at_work: mmap.mmap
) -> Iterator[tuple[Any, ...]]:
    """Yield what the parent is to know, as it happens."""
    slowest_s, start_bytes, warned_bytes = 0.0, _peak_bytes(), target.memory_bytes
    largest_bytes = 0
    for index in indexes:
        _INDEX.pack_into(at_work, 0, index)
        value = None
        begin = time.process_time()
        try:
            value = input_of(target, seed, index)
            begin = time.process_time()
            signal.setitimer(signal.ITIMER_PROF, BUDGET_S)
            try:
                target.run(value)
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
        except _TooSlowError as error:
            yield _finding(index, "hang", error, value)
        except MemoryError as error:
            yield _finding(index, "memory", error, value)
        except Exception as error:
            yield _finding(index, type(error).__name__, error, value)
        spent_s = time.process_time() - begin
        if spent_s > slowest_s:
            slowest_s = spent_s
            yield "slowest", index, spent_s
        grown_bytes = _peak_bytes() - start_bytes
        if grown_bytes > largest_bytes + (1 << 20):
            largest_bytes = grown_bytes
            yield "largest", index, grown_bytes
            if grown_bytes > warned_bytes:
                warned_bytes = 2 * grown_bytes
                yield (
                    "memory",
                    index,
                    f"grew by {grown_bytes >> 20} MiB",
                    repr(value)[:_SHOWN_CHARS],
                )


def _finding(index: int, kind: str, error: BaseException, value: object) -> tuple[Any, ...]:
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame for frame in frames if frame.filename.startswith(_ROOT) and frame.filename != __file__
    ]
    where = ""
    if own:
        where = f"{own[-1].filename.removeprefix(_ROOT + '/')}:{own[-1].lineno}"
    lines = traceback.format_exception(error)
    return kind, index, where, "".join(lines)[-_SHOWN_CHARS:] + repr(value)[:_SHOWN_CHARS]


def _too_slow(_signal: int, _frame: object) -> NoReturn:
    raise _TooSlowError


def _pages_in_use() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
