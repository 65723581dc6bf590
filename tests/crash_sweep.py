"""Crash sweep: kill a run at every call that changes something, recover, compare the whole tree.

    python -m tests.crash_sweep                         every point, on the three kernels
    python -m tests.crash_sweep --kernel debian-6.1 --points 20   twenty of each case, spread evenly
    python -m tests.crash_sweep --here                  on this very kernel: in a test machine only

Each recipe of CASES runs in each home: an instance of its own on a kernel at rest and on one whose
top level somebody else has set up (tests/messy_tracefs.py), an instance of somebody else's, and the
top level itself. Exit status 1 when anything reads differently after any point.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import re
import shlex
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from tests.crash_points import count_points, refuse_at, stop_at
from tests.messy_tracefs import make_messy
from tests.tracefs_tree import differences, snapshot
from tests.vm.kernels import KERNELS, find_kernel
from tests.vm.machine import IN_VM, run_shell
from trace_recipe.errors import ApplyError, KernelLacksError, Problem, RestoreError, TracefsError
from trace_recipe.executor import apply
from trace_recipe.journal import Journal, journals, new_run_id
from trace_recipe.plan import COMMAND, RUNNER
from trace_recipe.planner import make_plan
from trace_recipe.prober import probe_kernel
from trace_recipe.receipt import Outcome
from trace_recipe.recipe.load import load_recipe
from trace_recipe.resolver import resolve
from trace_recipe.restorer import restore
from trace_recipe.tracefs import Tracefs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from trace_recipe.executor import Session
    from trace_recipe.kernel import Kernel
    from trace_recipe.receipt import Receipt
    from trace_recipe.resolver import ResolvedRecipe

__all__ = [
    "CASES",
    "HOMES",
    "MESSY_INSTANCE",
    "SUMMARY",
    "Difference",
    "Swept",
    "Tree",
    "apply_here",
    "recover_here",
    "resolve_case",
    "sweep",
]

MOUNT = Path("/sys/kernel/tracing")
MESSY_INSTANCE = "messy-sweep"
BINDINGS = {RUNNER: (4300001, 4300002), COMMAND: (4300003,)}
"""Above the kernel's PID_MAX_LIMIT: no task of any machine has one."""
HOWS = ("after", "twice", "refused", "torn")
"""Killed after a call; killed, and the recovery killed too; a call refused; a line half written."""
SUMMARY = "crash sweep"
_RECOVERY_POINTS = 40
_SPREAD = 1.618
_TIMEOUT_S = 4 * 3600

# In this order: what is made for a home stays.
HOMES: Mapping[str, str] = {
    "private": "private",
    "top level": "top",
    "messy instance": MESSY_INSTANCE,
    "messy top level": "top",
    "private, messy top level": "private",
}

EVENTS = """
events:
  - event: sched:sched_waking
    filter: pid < 100
    triggers: ["stacktrace:3 if pid == 4999996", "enable_event:sched:sched_kthread_stop:1"]
  - {event: sched:sched_wakeup, filter: 'comm == "swept"'}
options: {sym-offset: false, stacktrace: false}
clock: mono
buffer: {size: 200K, mode: discard, watermark: 10}
scope: {cpus: "0", pids: [4194304, command], exclude_pids: [4194303], follow: true}
"""
SUB_BUFFERS = """
events: [sched:sched_kthread_stop]
buffer: {size: 400K, subbuf: 16K}
"""
FUNCTIONS = """
tracer: function
functions: {only: [vfs_open, vfs_fallocate], not: [vfs_open]}
scope: {pids: [4194304, command], exclude_pids: [4194303], follow: true}
options: {func_stack_trace: true}
"""
GRAPH = """
tracer:
  name: function_graph
  graph_functions: [vfs_read]
  graph_notrace: [vfs_open]
  max_graph_depth: 3
  threshold: 10us
  options: {funcgraph-proc: false, funcgraph-irqs: false}
functions: {only: [vfs_read, vfs_open]}
"""
IRQSOFF = """
tracer: {name: irqsoff, threshold: 100us}
options: {sym-offset: true}
"""
WAKEUP = """
tracer: wakeup
events: [sched:sched_kthread_stop]
"""
TRACE_OPTIONS = """
events: [sched:sched_kthread_stop]
options: {printk-msg-only: true}
"""
# Where somebody else has a traceoff on the event, the kernel refuses ours, the very last step.
CLASH = """
events:
  - {event: sched:sched_waking, filter: pid < 50, triggers: ["traceoff:2 if pid == 4999995"]}
options: {sym-offset: true}
clock: global
"""

SNAPSHOT = """
events: [{event: sched:sched_waking, triggers: ["snapshot:1"]}]
"""
HELD = """
events: [sched:sched_kthread_stop]
buffer: {size: 200K, disable_on_free: true}
"""

CASES: Mapping[str, str] = {
    "events": EVENTS,
    "sub-buffers": SUB_BUFFERS,
    "functions": FUNCTIONS,
    "graph": GRAPH,
    "irqsoff": IRQSOFF,
    "wakeup": WAKEUP,
    "trace-options": TRACE_OPTIONS,
    "clash": CLASH,
    "held": HELD,
    "snapshot": SNAPSHOT,
}
_END = "run: {command: [/bin/true]}\n"


@dataclass(frozen=True, slots=True)
class Tree:
    """What is swept: a tracefs, the kernel that it belongs to, and how it is photographed."""

    tracefs: Tracefs
    kernel: Kernel
    snapshot: Callable[[], dict[str, str]]


@dataclass(frozen=True, slots=True)
class Swept:
    """One recipe in one home: how many points there were, and how often it was stopped."""

    points: int
    stops: int

    def __str__(self) -> str:
        return f"{self.stops} stops at {self.points} points"


class Difference(Exception):
    """After a kill and a recovery something is not as before; the text says what and where."""


def resolve_case(case: str, home: str, kernel: Kernel) -> ResolvedRecipe:
    """Return a recipe of CASES for a home; raises KernelLacksError."""
    for tracer in {"irqsoff", "wakeup"} & {case} - {*kernel.tracers}:
        raise KernelLacksError(Problem(f"no tracer '{tracer}'"))
    if case == "held" and (HOMES[home], "free_buffer" in kernel.control_files) != ("private", True):
        raise KernelLacksError(Problem("only a run's own instance is held, by its free_buffer"))
    text = f"recipe: v1\nname: sweep-{case}\ninstance: {HOMES[home]}\n{CASES[case]}{_END}"
    return resolve(load_recipe(f"{case}.yaml", text), kernel)


def sweep(
    tree: Tree, resolved: ResolvedRecipe, *, points: int | None = None, seed: int = 0
) -> Swept:
    """Stop the run at all its points in every way, or at so many points.

    Raises Difference, and KernelLacksError when the run ends before it writes anything.

    A few points are spread evenly, and each is stopped at in the next of the ways; another `seed`
    chooses others.
    """
    before = tree.snapshot()
    count = _whole_run(tree, resolved, before)
    if not count:
        raise KernelLacksError(Problem("refused before anything is written"))
    if points is None:
        chosen = [(number, how) for number in range(1, count + 1) for how in HOWS]
    else:
        places = [(seed / _SPREAD + (turn + 0.5) / points) % 1 for turn in range(points)]
        hows = itertools.islice(itertools.cycle(HOWS), seed % len(HOWS), None)
        chosen = [(int(place * count) + 1, how) for place, how in zip(places, hows)]  # noqa: B905 - the ways go on for ever
    for number, how in chosen:
        _stop(tree, resolved, before, number, how)
    return Swept(count, len(chosen))


def _whole_run(tree: Tree, resolved: ResolvedRecipe, before: dict[str, str]) -> int:
    """Let the run go to its end, and count; raises Difference when that alone leaves something."""
    with _state_directory() as state:
        count = count_points(lambda: _run(tree, resolved, state))
        _compare(before, tree, state, "after a whole run")
    return count


def _stop(
    tree: Tree, resolved: ResolvedRecipe, before: dict[str, str], number: int, how: str
) -> None:
    """Stop the run at a point, recover, compare."""
    with _state_directory() as state:
        if how == "refused":
            stop = refuse_at(number, lambda: _run(tree, resolved, state))
        else:
            when = "after" if how == "twice" else how
            stop = stop_at(number, when, lambda: _run(tree, resolved, state))
        words = f"stopped at {stop}"
        if how == "twice":
            again = Random(words).randint(1, _RECOVERY_POINTS)
            words += f", recovery at {stop_at(again, 'after', lambda: recover_here(tree, state))}"
        receipts = recover_here(tree, state)
        _compare(before, tree, state, words)
        odd = [
            line
            for receipt in receipts
            for line in receipt.lines
            if line.outcome is not Outcome.RESTORED
        ]
        if odd:
            raise Difference(f"{words}: nothing differs, but the receipt says {odd}")


def apply_here(tree: Tree, resolved: ResolvedRecipe, state: Path) -> Session:
    """Plan a recipe for the tree as it is now and apply it, with its journal in the directory."""
    tracefs, run_id = tree.tracefs, new_run_id()
    plan = make_plan(
        resolved,
        run_id=run_id,
        current=lambda file: tracefs.read(file) if tracefs.exists(file) else None,
        instance_exists=lambda name: tracefs.exists(f"instances/{name}"),
    )
    return apply(plan, tracefs, run_id=run_id, state_directory=state, bindings=BINDINGS)


def recover_here(tree: Tree, state: Path) -> list[Receipt]:
    """Put back what every run with a journal in the directory has changed."""
    return [restore(one, tree.tracefs, Journal.adopt(one)) for one in journals(state)]


def _run(tree: Tree, resolved: ResolvedRecipe, state: Path) -> None:
    """Do what a run does to the kernel, but for the recording."""
    # The recipe that clashes is refused; and so is any, at the points where a call is.
    with contextlib.suppress(ApplyError, KernelLacksError, RestoreError):
        session = apply_here(tree, resolved, state)
        session.start()
        with contextlib.suppress(TracefsError):  # as the conductor does: restoring is what counts
            session.stop()
        session.restore()


def _compare(before: dict[str, str], tree: Tree, state: Path, where: str) -> None:
    found = differences(before, tree.snapshot())
    found |= {str(path): ("(absent)", "(left behind)") for path in state.glob("*.journal")}
    if found:
        lines = [f"  {file}: {old!r} -> {new!r}" for file, (old, new) in found.items()]
        raise Difference("\n".join([where, *lines]))


@contextlib.contextmanager
def _state_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="trace-recipe-sweep-", dir="/dev/shm") as name:
        yield Path(name, "state")


# -- the command ----------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.crash_sweep",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--kernel", default="all", choices=("all", *KERNELS))
    parser.add_argument("--points", type=int, help="so many of each case; all without it")
    parser.add_argument("--case", action="append", choices=CASES, help="only this recipe")
    parser.add_argument("--home", action="append", choices=HOMES, help="only there")
    parser.add_argument("--here", action="store_true", help="on this kernel, in a machine only")
    options = parser.parse_args()
    if options.here:
        if not os.environ.get(IN_VM):
            parser.error("--here writes the top level of tracefs: in a test machine only")
        return sweep_here(options.case or CASES, options.home or HOMES, options.points)
    names = KERNELS if options.kernel == "all" else (options.kernel,)
    words = [word for word in sys.argv[1:] if word != "--here"]
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return max(pool.map(lambda name: _sweep_in_machine(name, words), names))


def _sweep_in_machine(name: str, words: list[str]) -> int:
    command = shlex.join([sys.executable, "-m", "tests.crash_sweep", "--here", *words])
    outcome = run_shell(
        find_kernel(name),
        command,
        timeout_s=_TIMEOUT_S,
        show=lambda line: print(f"{name}: {line}", flush=True),
    )
    return outcome.status


def sweep_here(cases: Iterable[str], homes: Iterable[str], points: int | None) -> int:
    """Sweep this kernel, printing a line per case and home; return the exit status."""
    tracefs = Tracefs(MOUNT)
    kernel = probe_kernel(tracefs, with_functions=True)
    tree = Tree(tracefs, kernel, lambda: snapshot(str(MOUNT), instances=re.compile("")))
    total, failures = Swept(0, 0), 0
    for seed, (home, case) in enumerate(itertools.product(homes, cases)):
        started = time.monotonic()
        _prepare(home)
        try:
            resolved = resolve_case(case, home, kernel)
            swept = sweep(tree, resolved, points=points, seed=seed)
        except KernelLacksError as error:
            print(f"{home}: {case}: not on this kernel: {error.problems[0].what}", flush=True)
        except (Difference, RuntimeError) as error:
            failures += 1
            print(f"{home}: {case}: FAILED: {error}", flush=True)
        else:
            seconds = time.monotonic() - started
            print(f"{home}: {case}: {swept}, {seconds:.0f} s", flush=True)
            total = Swept(total.points + swept.points, total.stops + swept.stops)
    print(f"{SUMMARY}: {total}, {failures} cases FAILED", flush=True)
    return min(failures, 1)


def _prepare(home: str) -> None:
    """Make what a home needs; what was made stays until the machine is turned off."""
    tracefs = Tracefs(MOUNT)
    if "expanded" in tracefs.read("buffer_size_kb"):
        _expand(tracefs)
    if home.endswith("messy top level") and "messy" not in tracefs.read("dynamic_events"):
        print(f"{make_messy(tracefs)} settings made at the top level", flush=True)
    if home == "messy instance" and not tracefs.exists(f"instances/{MESSY_INSTANCE}"):
        tracefs.make_instance(MESSY_INSTANCE)
        print(f"{make_messy(tracefs.instance(MESSY_INSTANCE))} settings in an instance", flush=True)


def _expand(tracefs: Tracefs) -> None:
    """Let the first event make the ring buffer full-sized: the kernel never takes that back."""
    for text in ("1", "0"):
        tracefs.write("events/sched/sched_kthread_stop/enable", text)


if __name__ == "__main__":
    sys.exit(main())
