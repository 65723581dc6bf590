"""How many control files a tracing tool leaves changed: a messy top level, a run, a comparison.

Every line of the table is two machines of its own, booted for it (tests/vm): in the one the tool
runs to its end, in the other it is killed with SIGKILL while it records, its whole process group.
Needs what tests/vm needs, and linux-perf.

    python -m benchmarks.restoration                          Debian's 6.12; some six minutes
    python -m benchmarks.restoration --kernel debian-6.1
    python -m benchmarks.restoration --tool trace-cmd --files which files, and from what to what
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measured import environment
from tests.messy_tracefs import make_messy
from tests.tracefs_tree import differences, snapshot
from tests.vm.kernels import KERNELS, find_kernel
from tests.vm.machine import IN_VM, base_image, run_shell
from trace_recipe.tracefs import Tracefs

if TYPE_CHECKING:
    from collections.abc import Sequence

MOUNT = "/sys/kernel/tracing"
RECIPE = """
recipe: v1
name: benchmark
instance: {instance}
events: [sched:sched_switch]
clock: mono
buffer: {{size: 1M}}
run: {{command: [sleep, "{seconds}"]}}
outputs: [{{trace-dat: ours.dat}}]
"""
RESULT = "result: "
MACHINE_TIMEOUT_S = 300
WORKING_TIMEOUT_S = 60
SETTLED_TIMEOUT_S = 30
SHOWN_CHARACTERS = 70


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool's commands, run one after the other; `{s}` is for how long the last one traces."""

    name: str
    commands: tuple[str, ...]
    is_killable: bool = True


TOOLS = (
    Tool("trace-recipe run", (f"{sys.executable} -m trace_recipe run -q private.yaml",)),
    Tool(
        "trace-recipe run, instance: top",
        (f"{sys.executable} -m trace_recipe run -q --allow-shared top.yaml",),
    ),
    Tool("trace-cmd record", ("trace-cmd record -q -e sched:sched_switch sleep {s}",)),
    Tool("trace-cmd record -B", ("trace-cmd record -q -B mine -e sched:sched_switch sleep {s}",)),
    Tool(
        "trace-cmd record -p function", ("trace-cmd record -q -p function -l vfs_read sleep {s}",)
    ),
    Tool(
        "trace-cmd start, stop, reset",
        ("trace-cmd start -e sched:sched_switch", "sleep {s}", "trace-cmd stop", "trace-cmd reset"),
        is_killable=False,
    ),
    Tool("perf ftrace trace", ("perf ftrace trace -a -T vfs_read sleep {s}",)),
    Tool("perf ftrace latency", ("perf ftrace latency -a -T vfs_read sleep {s}",)),
    Tool("perf record", ("perf record -q -a -o perf.data -e sched:sched_switch sleep {s}",)),
)


@dataclass(frozen=True, slots=True)
class Found:
    """What one machine said: how many files were compared, and which read differently."""

    files: int
    changed: dict[str, tuple[str, str]]

    @classmethod
    def between(cls, before: dict[str, str], after: dict[str, str]) -> Found:
        """Compare two snapshots; what only repeats other files counts nothing."""
        changed = {
            file: readings
            for file, readings in differences(before, after).items()
            if not _REPEATS.fullmatch(file)
        }
        return cls(len(before), changed)

    @property
    def words(self) -> str:
        """The number of files, an instance left behind counted as one thing of its own."""
        left = sorted({match[1] for match in map(_INSTANCE.match, self.changed) if match})
        count = sum(not _INSTANCE.match(file) for file in self.changed)
        return f"{count}" + (f" and a live instance '{left[0]}'" if left else "")


_INSTANCE = re.compile(r"instances/([^/]+)")
_REPEATS = re.compile(
    r"set_event|trace_options|buffer_total_size_kb|events/(\w+/)?enable|(per_cpu/cpu\d+/)?snapshot"
)


# -- in the machine -------------------------------------------------------------------------------


def run_here(tool: Tool, *, is_killed: bool) -> Found:
    """Make the top level messy, run the tool, and compare every readable control file."""
    make_messy(Tracefs(MOUNT))
    every = re.compile("")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        seconds = 1000 if is_killed else 1
        for instance in ("private", "top"):
            text = RECIPE.format(instance=instance, seconds=seconds)
            (directory / f"{instance}.yaml").write_text(text)
        before = snapshot(instances=every)
        *first, last = (shlex.split(command.format(s=seconds)) for command in tool.commands)
        for command in first:
            _run(command, directory)
        if is_killed:
            _kill_while_it_records(last, directory)
        else:
            _run(last, directory)
        _settle()
        return Found.between(before, snapshot(instances=every))


def _run(command: Sequence[str], directory: Path) -> None:
    done = subprocess.run(
        command, cwd=directory, env=environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")


def _kill_while_it_records(command: Sequence[str], directory: Path) -> None:
    process = subprocess.Popen(
        command,
        cwd=directory,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    ends_at = time.monotonic() + WORKING_TIMEOUT_S
    while not _is_working(process.pid) and time.monotonic() < ends_at:
        if process.poll() is not None:
            raise RuntimeError(f"{shlex.join(command)} ended by itself: {process.returncode}")
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _is_working(pid: int) -> bool:
    """Whether the command to be traced runs: every tool here starts it when it records."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        found = [Path(f"/proc/{child}/comm").read_text().strip() for child in children]
    except OSError:  # one has just ended
        return False
    return "sleep" in found or any(map(_is_working, map(int, children)))


def _settle() -> None:
    """Wait until our guardian has ended, and the kernel stands still."""
    ends_at = time.monotonic() + SETTLED_TIMEOUT_S
    last: dict[str, str] = {}
    while time.monotonic() < ends_at:
        now = snapshot(instances=re.compile(""))
        names = [path.read_text().strip() for path in Path("/proc").glob("[0-9]*/comm")]
        if now == last and "trace-guardian" not in names:
            return
        last = now
        time.sleep(0.5)


# -- outside --------------------------------------------------------------------------------------


def run_in_machine(kernel: str, tool: Tool, *, is_killed: bool) -> Found | None:
    """Boot a machine for one run; None where the tool has no process that could be killed."""
    if is_killed and not tool.is_killable:
        return None
    words = ["--here", "--tool", tool.name, *(["--kill"] if is_killed else [])]
    command = shlex.join([sys.executable, "-m", "benchmarks.restoration", *words])
    outcome = run_shell(find_kernel(kernel), command, timeout_s=MACHINE_TIMEOUT_S)
    lines = [line for line in outcome.output.splitlines() if line.startswith(RESULT)]
    if outcome.status or not lines:
        raise RuntimeError(f"{tool.name}: status {outcome.status}\n{outcome.output}")
    data = json.loads(lines[-1].removeprefix(RESULT))
    return Found(data["files"], {file: (old, new) for file, (old, new) in data["changed"].items()})


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.restoration",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--kernel", default="debian-6.12", choices=KERNELS)
    parser.add_argument("--tool", default="", help="only tools whose name begins with this")
    parser.add_argument("--files", action="store_true", help="print what each has changed")
    parser.add_argument("--here", action="store_true", help="in this machine; used by the others")
    parser.add_argument("--kill", action="store_true", help="with --here: kill it meanwhile")
    options = parser.parse_args()
    tools = [tool for tool in TOOLS if tool.name.startswith(options.tool)]
    if options.here:
        if not os.environ.get(IN_VM):
            parser.error("--here lets others write the top level of tracefs: in a machine only")
        (tool,) = (tool for tool in TOOLS if tool.name == options.tool)
        found = run_here(tool, is_killed=options.kill)
        print(RESULT + json.dumps({"files": found.files, "changed": found.changed}))
        return 0
    base_image()  # made once, before two machines want it
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        jobs = list(itertools.product(tools, (False, True)))
        results = dict(
            zip(
                jobs,
                pool.map(
                    lambda job: run_in_machine(options.kernel, job[0], is_killed=job[1]), jobs
                ),
                strict=True,
            )
        )
    print_table(options.kernel, tools, results)
    if options.files:
        print_files(results)
    ours = [found for (tool, _), found in results.items() if tool.name.startswith("trace-recipe")]
    return int(any(found and found.changed for found in ours))


def print_table(
    kernel: str, tools: Sequence[Tool], results: dict[tuple[Tool, bool], Found | None]
) -> None:
    files = {found.files for found in results.values() if found}
    print(f"{kernel}: of {min(files)} control files, a messy top level, these read differently\n")
    print("| | after its end | after SIGKILL |")
    print("|---|---|---|")
    for tool in tools:
        ended, killed = results[tool, False], results[tool, True]
        assert ended is not None
        print(f"| {tool.name} | {ended.words} | {killed.words if killed else '-'} |")


def print_files(results: dict[tuple[Tool, bool], Found | None]) -> None:
    for (tool, is_killed), found in results.items():
        if found and found.changed:
            print(f"\n{tool.name}, {'killed' if is_killed else 'ended'}:")
        for file, (old, new) in found.changed.items() if found else ():
            if not file.startswith("instances/"):
                print(f"  {file}: {_short(old)} → {_short(new)}")


def _short(text: str) -> str:
    return repr(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…")


if __name__ == "__main__":
    sys.exit(main())
