"""Run commands and say what they cost: the whole process with its children, as the kernel counts.

Keep this process small: a child's peak of resident memory begins with that of its parent.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ROOT", "Cost", "environment", "measure", "median", "run_trace_recipe"]

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run took."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def environment() -> dict[str, str]:
    """Return an environment in which the checkout's own trace_recipe is imported."""
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'runner'}:{ROOT}"}


def measure(command: Sequence[str], *, directory: Path) -> Cost:
    """Run a command, its output dropped; raises RuntimeError with what it said when it fails."""
    said = directory / "stderr"
    with said.open("wb") as errors:
        begin = time.perf_counter()
        running = subprocess.Popen(
            command,
            cwd=directory,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        _, status, usage = os.wait4(running.pid, 0)
        wall_s = time.perf_counter() - begin
        running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise RuntimeError(f"{command[:4]} ended with {running.returncode}: {said.read_text()}")
    return Cost(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def median(costs: Sequence[Cost]) -> Cost:
    """Return the median of each number."""
    return Cost(
        statistics.median(one.wall_s for one in costs),
        statistics.median(one.cpu_s for one in costs),
        statistics.median(one.peak_mb for one in costs),
    )


def run_trace_recipe(*words: str) -> list[str]:
    """Return the command line of trace-recipe in this checkout."""
    return [sys.executable, "-m", "trace_recipe", *words]
