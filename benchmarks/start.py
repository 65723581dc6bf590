"""What starting costs: a run that records next to nothing, and a command that only looks.

The peer is trace-cmd with the same job: /bin/true traced for one event, 1 MB per CPU, clock mono,
into a compressed trace.dat. It is kept from the machine's own tracing as in record_vs_trace_cmd.py.
Needs root, tracefs, unshare and trace-cmd; takes half a minute.
Usage: python benchmarks/start.py [--rounds N]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measured import Cost, measure, median, run_trace_recipe
from benchmarks.record_vs_trace_cmd import INSTANCE, in_namespace, instance, make_stage

if TYPE_CHECKING:
    from collections.abc import Callable

EVENT = "sched:sched_process_exec"
COMMAND = "/bin/true"
BUFFER_KB = 1024
OURS, THEIRS = "trace-recipe", "trace-cmd"


def run(directory: Path) -> list[str]:
    recipe = {
        "recipe": "v1",
        "name": "benchmark-start",
        "events": [EVENT],
        "clock": "mono",
        "buffer": {"size": f"{BUFFER_KB}K"},
        "scope": {"pids": ["command"], "follow": True},
        "run": {"command": [COMMAND]},
        "outputs": [{"trace-dat": "trace.dat"}],
    }
    (directory / "recipe.yaml").write_text(json.dumps(recipe))
    return run_trace_recipe("run", "-q", "--state-dir", str(directory / "state"), "recipe.yaml")


def record(directory: Path) -> list[str]:
    command = [
        "trace-cmd", "record", "-q", "-o", "trace.dat", "-B", INSTANCE, "-C", "mono",
        "-b", str(BUFFER_KB), "-e", EVENT, "-F", "-c", COMMAND,
    ]  # fmt: skip
    return in_namespace(make_stage(directory), command)


def list_tracers(directory: Path) -> list[str]:
    del directory
    return run_trace_recipe("list", "tracers")


def list_t(directory: Path) -> list[str]:
    return in_namespace(make_stage(directory), ["trace-cmd", "list", "-t"])


JOBS: dict[str, dict[str, Callable[[Path], list[str]]]] = {
    "record one process": {OURS: run, THEIRS: record},
    "list tracers": {OURS: list_tracers, THEIRS: list_t},
}


def cost_of(make: Callable[[Path], list[str]], directory: Path) -> Cost:
    with contextlib.suppress(FileNotFoundError):
        (directory / "trace.dat").unlink()
    with instance():
        return measure(make(directory), directory=directory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    costs: dict[tuple[str, str], list[Cost]] = {}
    with tempfile.TemporaryDirectory() as name:
        for number in range(rounds + 1):
            for job, makers in JOBS.items():
                for title, make in makers.items():
                    cost = cost_of(make, Path(name))
                    if number:  # the first round fills the caches of files and bytecode
                        costs.setdefault((job, title), []).append(cost)
    print(f"medians of {rounds} interleaved rounds\n")
    print("| | | CPU s | wall s | peak MB | CPU vs trace-cmd | wall vs trace-cmd |")
    print("|---|---|---|---|---|---|---|")
    for job, makers in JOBS.items():
        peer = median(costs[job, THEIRS])
        for title in makers:
            one = median(costs[job, title])
            print(
                f"| {job} | {title} | {one.cpu_s:.2f} | {one.wall_s:.2f} | {one.peak_mb:.0f}"
                f" | {one.cpu_s / peer.cpu_s:.1f} | {one.wall_s / peer.wall_s:.1f} |"
            )


if __name__ == "__main__":
    main()
