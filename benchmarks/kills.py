"""Runs killed at random moments, eight at a time: what is left, and how soon everything is back.

The victim of each is the runner, its guardian, both, or all that shares the runner's process group
or session. All runs are forked from one process that has imported everything, so that the moments
lie in what a run does; a first round that nobody kills says how long that takes. Afterwards every
readable control file is compared, and no instance, process, journal, spool or unnamed output may
be left. Needs root and tracefs; on the running kernel only instances of its own are used.

    python -m benchmarks.kills                           320 runs; some minutes
    python -m benchmarks.kills --runs 24 --seed 7
    python -m benchmarks.kills --kernel debian-6.12      in a machine, one at its messy top level
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import os
import re
import shlex
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from tests.messy_tracefs import make_messy
from tests.tracefs_tree import differences, snapshot
from tests.vm.kernels import KERNELS, find_kernel
from tests.vm.machine import IN_VM, run_shell
from trace_recipe import conductor  # noqa: F401 - loaded before the forks, so only once
from trace_recipe.__main__ import main as trace_recipe
from trace_recipe.cli import run, state  # noqa: F401
from trace_recipe.journal import journals
from trace_recipe.tracefs import Tracefs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Killed", "kill_runs"]

LOCK = "/run/trace-recipe-tests.lock"
SLOTS = 8
ROUND = 40
"""Kills until the whole tree is compared, and others get their turn."""
GUARDIAN, RUNNER = "guardian", "runner"
VICTIMS = (RUNNER, GUARDIAN, "both", "group", "session")
INSTANCE = "messy-kills-"
RECIPES = (
    """
events: [sched:sched_switch]
outputs: [{text: out.txt}]
""",
    """
events: [{event: sched:sched_waking, filter: pid > 1, triggers: ["stacktrace:3"]}]
clock: mono
outputs: [{jsonl: out.jsonl}]
""",
    """
events: [sched:sched_switch, raw_syscalls:sys_enter]
options: {sym-offset: true}
scope: {pids: [command], follow: true}
run: {command: [sleep, "SECONDS"]}
outputs: [{trace-dat: out.dat}, {csv: out.csv}]
""",
    """
instance: THEIRS
events: [{event: sched:sched_wakeup, filter: prio < 100}]
buffer: {size: 512K, watermark: 20}
scope: {cpus: "0", exclude_pids: [1]}
outputs: [{text: out.txt}]
""",
    """
events: [sched:sched_switch]
buffer: {size: 1M, mode: discard, disable_on_free: true}
outputs: [{text: "-"}, {jsonl: out.jsonl}]
""",
    """
events: ["sched:sched_process_*"]
buffer: {size: 256K}
markers: {start: begun, stop: done}
outputs: [{csv: {path: out, layout: per-event}}]
""",
)
FUNCTIONS = """
tracer: function
functions: {only: [vfs_open, vfs_read]}
buffer: {size: 1M}
scope: {pids: [command], follow: true}
run: {command: [sleep, "SECONDS"]}
outputs: [{text: out.txt}]
"""
TOP = """
instance: top
events: [{event: sched:sched_switch, filter: next_pid > 1, triggers: ["stacktrace:2"]}]
clock: mono
buffer: {size: 512K}
options: {sym-offset: false}
outputs: [{text: out.txt}]
"""
_PR_SET_CHILD_SUBREAPER = 36
_TICK_S = 0.002
_PAUSE_S = 0.5
_PATIENCE_S = 120
_MACHINE_S = 3000


@dataclass(slots=True)
class Run:
    """One run: who of it is killed when, and what is known of it since."""

    slot: int
    pid: int
    place: Path
    started_at: float
    kill_at: float
    victim: str
    killed_at: float = 0.0
    family: set[int] = field(default_factory=set)
    """What it had started when it was killed, and itself."""
    journal: Path | None = None
    restored_s: float = 0.0
    is_unguarded: bool = False


@dataclass(slots=True)
class Killed:
    """What became of all the runs."""

    victims: Counter[str] = field(default_factory=Counter)
    ended: int = 0
    """Runs that were not killed, because they had ended before."""
    changed: int = 0
    """Killed runs that had a journal: something of the kernel was changed, or about to be."""
    by_guardian_s: list[float] = field(default_factory=list)
    by_recover_s: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, other: Killed) -> None:
        """Add what became of more."""
        self.victims += other.victims
        self.ended += other.ended
        self.changed += other.changed
        self.by_guardian_s += other.by_guardian_s
        self.by_recover_s += other.by_recover_s
        self.problems += other.problems


class _Killer:
    """Starts, kills and looks; everything of its own lies in one directory."""

    def __init__(self, directory: Path, rng: Random, recipes: Sequence[str], *, slots: int) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.rng = rng
        self.recipes = recipes
        self.slots = slots
        self.found = Killed()
        self.statuses: dict[int, int] = {}
        self.started = 0

    def let_live(self) -> float:
        """Let runs of all recipes come to their ends; return how long the longest took."""
        return self._go(lambda begun: begun < max(self.slots, len(self.recipes)), None)

    def kill(self, count: int, life_s: float) -> None:
        """Start runs, and kill each within `life_s`, until so many were killed."""
        self._go(lambda _: self.found.victims.total() < count, life_s)

    def _go(self, goes_on: Callable[[int], bool], life_s: float | None) -> float:
        slots: dict[int, Run] = {}
        begun, longest_s = 0, 0.0
        while goes_on(begun) or slots:
            for slot in range(self.slots):
                if slot not in slots and goes_on(begun):
                    slots[slot] = self._start(slot, life_s)
                    begun += 1
            self._reap()
            for slot, one in list(slots.items()):
                if self._is_over(one):
                    longest_s = max(longest_s, time.monotonic() - one.started_at)
                    del slots[slot]
            time.sleep(_TICK_S)
        return longest_s

    # -- one run ------------------------------------------------------------------------------

    def _start(self, slot: int, life_s: float | None) -> Run:
        seconds = f"{self.rng.uniform(0.1, 0.6):.2f}"
        text = self.recipes[self.started % len(self.recipes)]
        self.started += 1
        if "command:" not in text:
            text += f"duration: {float(seconds) * 1000:.0f}ms\n"
        text = text.replace("SECONDS", seconds).replace("THEIRS", f"{INSTANCE}{slot}")
        place = Path(tempfile.mkdtemp(dir=self.directory))
        (place / "recipe.yaml").write_text(f"recipe: v1\nname: kills{text}")
        words = ["--allow-shared"] if "instance: top" in text else []
        pid = self.fork(place, "run", "-q", *words, "recipe.yaml")
        now = time.monotonic()
        if life_s is None:
            return Run(slot, pid, place, now, float("inf"), "")
        return Run(
            slot, pid, place, now, now + self.rng.uniform(0, life_s), self.rng.choice(VICTIMS)
        )

    def fork(self, place: Path, word: str, *words: str) -> int:
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            os.setsid()
            os.chdir(place)
            out = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(out, 1)
            os.dup2(out, 2)
            sys.argv = ["trace-recipe", word, "--state-dir", str(self.state), *words]
            trace_recipe()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        finally:
            os._exit(status)

    def _is_over(self, one: Run) -> bool:
        now = time.monotonic()
        if not one.killed_at:
            if one.pid not in self.statuses and now >= one.kill_at:
                self._kill(one)
            if one.pid in self.statuses:
                self._ended(one)
            return one.pid in self.statuses
        if one.journal and not one.restored_s and not one.journal.exists():
            one.restored_s = now - one.killed_at
        if now > one.killed_at + _PATIENCE_S:
            self._tell(one, f"not over after {_PATIENCE_S} s")
            return True
        if any(map(self._is_alive, one.family)):
            return False
        self._look_after(one)
        return True

    def _kill(self, one: Run) -> None:
        # Stopped first: it starts nothing between our look at what there is and its death.
        os.kill(one.pid, signal.SIGSTOP)
        _, status = os.waitpid(one.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            self.statuses[one.pid] = os.waitstatus_to_exitcode(status)
            return
        one.family = {one.pid, *_descendants(one.pid)}
        one.journal = next(
            (found.path for found in journals(self.state) if found.pid == one.pid), None
        )
        guardians = {pid for pid in one.family if _comm(pid) == "trace-guardian"}
        chosen = {
            RUNNER: {one.pid},
            GUARDIAN: guardians,
            "both": {one.pid} | guardians,
            "group": {pid for pid in one.family if _has(os.getpgid, pid, one.pid)},
            "session": {pid for pid in one.family if _has(os.getsid, pid, one.pid)},
        }[one.victim]
        one.is_unguarded = bool(guardians & chosen)
        self.found.victims[one.victim] += 1
        self.found.changed += one.journal is not None
        one.killed_at = time.monotonic()
        for pid in chosen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGCONT)

    def _ended(self, one: Run) -> None:
        self.found.ended += bool(one.victim)
        if status := self.statuses[one.pid]:
            self._tell(one, f"ended by itself with status {status}: {_said(one.place)}")

    def _look_after(self, one: Run) -> None:
        """When all of its processes have ended: see that it has been put back, or do it."""
        status = self.statuses[one.pid]
        if one.victim == GUARDIAN and status:
            self._tell(one, f"its runner ended with status {status}: {_said(one.place)}")
        if one.journal is None or one.victim == GUARDIAN:
            return
        if not one.journal.exists():
            self.found.by_guardian_s.append(one.restored_s or time.monotonic() - one.killed_at)
            return
        if not one.is_unguarded:
            self._tell(one, "not put back by its guardian")
        began = time.monotonic()
        place = Path(tempfile.mkdtemp(dir=self.directory))
        pid = self.fork(place, "recover", one.journal.stem)
        if status := os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
            self._tell(one, f"recover ended with status {status}: {_said(place)}")
        self.found.by_recover_s.append(time.monotonic() - began)

    def _tell(self, one: Run, text: str) -> None:
        who = f"{one.place.name}, victim {one.victim or 'none'}"
        if one.killed_at:
            who += f", killed {one.killed_at - one.started_at:.3f} s after its start"
        self.found.problems.append(f"{who}: {text}")

    # -- processes ----------------------------------------------------------------------------

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                self.statuses[pid] = os.waitstatus_to_exitcode(status)

    def _is_alive(self, pid: int) -> bool:
        return pid not in self.statuses and Path(f"/proc/{pid}").exists()

    def remaining(self) -> list[str]:
        """Return the names of the processes that are ours, and should not be any more."""
        self._reap()
        return [f"{_comm(pid)} ({pid})" for pid in _descendants(os.getpid())]


def _descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread has just ended
            found |= {int(word) for word in path.read_text().split()}
    return found.union(*map(_descendants, found))


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _has(getter: object, pid: int, wanted: int) -> bool:
    assert callable(getter)
    try:
        return bool(getter(pid) == wanted)
    except ProcessLookupError:
        return False


def _said(place: Path) -> str:
    path = place / "said"
    return path.read_text(errors="replace") if path.exists() else ""


# -- all of them ----------------------------------------------------------------------------------


def kill_runs(
    count: int, seed: int, recipes: Sequence[str] = RECIPES, *, slots: int = SLOTS
) -> Killed:
    """Kill so many runs on this kernel, and say what was left."""
    tracefs, prctl = Tracefs(), ctypes.CDLL(None).prctl
    names = [f"{INSTANCE}{slot}" for slot in range(slots)]
    with contextlib.ExitStack() as stack:
        prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what outlives a runner becomes our child
        stack.callback(prctl, _PR_SET_CHILD_SUBREAPER, 0)
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kills-")))
        for name in names:
            if tracefs.exists(f"instances/{name}"):
                continue  # in a machine, whose function commands keep it from being removed
            tracefs.make_instance(name)
            if not os.environ.get(IN_VM):
                stack.callback(tracefs.remove_instance, name)
            make_messy(tracefs.instance(name))
        killer = _Killer(directory, Random(seed), recipes, slots=slots)
        ours = re.compile(f"trace-recipe-kills-|{INSTANCE}")
        before, spools = snapshot(instances=ours), _spools()
        killer.kill(count, killer.let_live())
        killer.found.problems += _left(killer, before, ours, spools)
    return killer.found


def _left(
    killer: _Killer, before: dict[str, str], ours: re.Pattern[str], spools: set[Path]
) -> Iterator[str]:
    """Say what is still there when every run is over."""
    # The files of those killed before they had a journal, or after they were rid of it.
    pid = killer.fork(killer.directory, "recover")
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        yield f"recover: {_said(killer.directory)}"
    said = "".join(path.read_text(errors="replace") for path in killer.directory.glob("**/said"))
    told = set(map(Path, re.findall(r"trace-recipe report (\S+)", said)))
    kept = _spools() - spools
    for spool in kept & told:  # `recover` has named these: they can still be reported
        shutil.rmtree(spool)
    changed = differences(before, snapshot(instances=ours))
    yield from (f"{file}: {old!r} -> {new!r}" for file, (old, new) in changed.items())
    yield from (f"process left: {name}" for name in killer.remaining())
    yield from (f"journal left: {one.path}" for one in journals(killer.state))
    yield from (f"spool left: {spool}" for spool in sorted(kept - told))
    yield from (f"output left: {path}" for path in killer.directory.glob("**/.*.part"))


def _spools() -> set[Path]:
    return set(Path("/var/tmp").glob("trace-recipe-*"))


def print_found(found: Killed, seed: int, slots: int) -> None:
    victims = ", ".join(f"{name} {number}" for name, number in sorted(found.victims.items()))
    print(f"{found.victims.total()} runs killed, {slots} at a time, seed {seed}: {victims}")
    print(f"{found.changed} of them had changed the kernel; {found.ended} others had ended before")
    for by, times in (("guardian", found.by_guardian_s), ("recover", found.by_recover_s)):
        if times:
            median, worst = statistics.median(times), max(times)
            print(f"put back by {by}: {len(times)}, median {median:.3f} s, worst {worst:.3f} s")
    for problem in found.problems:
        print(f"LEFT: {problem}")
    print(f"{len(found.problems)} things left", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kills",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=320)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slots", type=int, default=SLOTS, help="so many at a time")
    parser.add_argument("--kernel", choices=KERNELS, help="in a machine with this kernel")
    options = parser.parse_args()
    if options.kernel:
        words = ["--runs", options.runs, "--seed", options.seed, "--slots", options.slots]
        command = [sys.executable, "-m", "benchmarks.kills", *map(str, words)]
        kernel = find_kernel(options.kernel)
        outcome = run_shell(kernel, shlex.join(command), timeout_s=_MACHINE_S, show=print)
        return outcome.status
    recipes: tuple[str, ...] = RECIPES
    if os.environ.get(IN_VM):
        make_messy(Tracefs())
        recipes = (*RECIPES, FUNCTIONS, TOP)
    found, seed = Killed(), options.seed
    while (left := options.runs - found.victims.total()) > 0:
        with open(LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # others compare the whole tree meanwhile
            found.add(kill_runs(min(ROUND, left), seed, recipes, slots=options.slots))
        seed += 1
        time.sleep(_PAUSE_S)
    print_found(found, options.seed, options.slots)
    return int(bool(found.problems))


if __name__ == "__main__":
    sys.exit(main())
