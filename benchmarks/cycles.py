"""Open and close everything of a run, thousands of times in one process: what stays behind?

Each cycle makes a private instance, journals, records from it and puts everything back. Needs root
and tracefs, which it shares: the lock of the tests is held for a slice of the cycles at a time.
Exit status 1 when descriptors, threads or memory have grown.
Usage: python benchmarks/cycles.py [--cycles N]
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from trace_recipe.executor import apply
from trace_recipe.formats import parse_header_page
from trace_recipe.journal import new_run_id
from trace_recipe.plan import HoldFile, MakeInstance, Plan, Scope, SetFile
from trace_recipe.recorder import Recorder
from trace_recipe.tracefs import Tracefs
from trace_recipe.watcher import Watcher

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from trace_recipe.plan import Step

LOCK = "/run/trace-recipe-tests.lock"
SLICE = 50
"""Cycles until others get their turn."""
PAUSE_S = 0.2
"""Until the lock is wanted again: who waits for it gets it."""
TOLD = 1000
"""Cycles between two lines that say how it stands."""
WARM_UP = 50
"""Cycles until caches and pools have about the size that they keep."""
MAX_GROWTH_BYTES = 1024
"""Per cycle: less than any buffer, page or stack, more than the interpreter itself hoards."""
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024


@dataclass(frozen=True, slots=True)
class Held:
    """What this process holds."""

    descriptors: int
    threads: int
    resident_kb: int

    @classmethod
    def now(cls) -> Held:
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_KB
        return cls(len(os.listdir("/proc/self/fd")), threading.active_count(), resident)


def run_cycles(
    count: int, directory: Path, *, turn: AbstractContextManager[object] | None = None
) -> tuple[Held, Held, int]:
    """Return what was held after the warm-up and at the end, and the events recorded in all.

    `turn` is entered for each slice of the cycles.
    """
    turn = turn or contextlib.nullcontext()
    with turn:
        for _ in range(min(WARM_UP, count)):
            _cycle(directory)
    before = Held.now()
    events = 0
    for begun in range(0, count, SLICE):
        with turn:
            events += sum(_cycle(directory) for _ in range(min(SLICE, count - begun)))
        if begun and begun % TOLD == 0:
            print(f"after {begun} cycles: {Held.now()}", file=sys.stderr, flush=True)
    return before, Held.now(), events


class _Turn:
    """The lock by which those who compare the whole tree take turns."""

    def __enter__(self) -> None:
        self._lock = open(LOCK, "w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self._lock.close()
        time.sleep(PAUSE_S)


def is_steady(before: Held, after: Held, count: int) -> bool:
    """Whether nothing is held that was not held before, but for what each cycle may add."""
    grown_bytes = (after.resident_kb - before.resident_kb) * 1024
    same = (before.descriptors, before.threads) == (after.descriptors, after.threads)
    return same and grown_bytes <= MAX_GROWTH_BYTES * count


def _cycle(directory: Path) -> int:
    run_id = new_run_id()
    plan = _plan(f"benchmark-cycle-{run_id}")
    spool = directory / run_id
    spool.mkdir()
    with Tracefs().held() as tracefs:
        recorder = Recorder(spool, range(os.cpu_count() or 1))
        recorder.prepare()
        session = apply(
            plan, tracefs, run_id=run_id, state_directory=directory / "state", bindings={}
        )
        try:
            header = parse_header_page(session.instance.read("events/header_page"))
            recorder.attach(session.instance, subbuf_size_bytes=header.subbuf_size_bytes)
            session.start()
            watcher = Watcher(session, range(os.cpu_count() or 1))
            recorder.go()
            os.getppid()
            drifts = watcher.look()
            session.stop()
            recorder.finish()
            events = sum(one.read_events for one in recorder.stats())
        finally:
            recorder.close()
            session.restore()
    shutil.rmtree(spool)
    if drifts:
        raise RuntimeError(f"somebody else was at work: {drifts[0]}")
    return events


def _plan(instance: str) -> Plan:
    prefix = f"instances/{instance}/"

    def put(name: str, text: str, *, starts: bool = False) -> SetFile:
        file = prefix + name
        return SetFile(file, name, None, text, text, Scope.PRIVATE, None, "", starts=starts)

    steps: list[Step] = [
        MakeInstance(instance, None),
        put("tracing_on", "0"),
        put("buffer_size_kb", "64"),
        put("set_event_pid", str(os.getpid())),
        put("events/raw_syscalls/sys_enter/enable", "1"),
        put("options/disable_on_free", "1"),
        HoldFile(f"{prefix}free_buffer", "free_buffer", None, ""),
        put("tracing_on", "1", starts=True),
    ]
    events = ("raw_syscalls:sys_enter",)
    return Plan("cycles", "cycles.py", "private", instance, tuple(steps), events=events)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=10_000)
    count = parser.parse_args().cycles
    with tempfile.TemporaryDirectory() as name:
        begin = time.perf_counter()
        before, after, events = run_cycles(count, Path(name), turn=_Turn())
        wall_s = time.perf_counter() - begin
    print("| | after the warm-up | at the end |")
    print("|---|---|---|")
    print(f"| descriptors | {before.descriptors} | {after.descriptors} |")
    print(f"| threads | {before.threads} | {after.threads} |")
    print(f"| resident KB | {before.resident_kb} | {after.resident_kb} |")
    print(f"\n{count} cycles, {events} events, {wall_s / count * 1000:.1f} ms a cycle")
    return 0 if is_steady(before, after, count) else 1


if __name__ == "__main__":
    sys.exit(main())
