"""Machines that run ahead: they boot while the other tests run, and their own tests wait for them.

An emulator keeps one CPU busy for minutes, and most other tests wait more than they compute. So one
process of low priority boots a machine at a time, and as many as there are CPUs once nothing else
is left to test. It ends with the tests, and its machines with it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.vm.kernels import KernelAbsentError, find_kernel
from tests.vm.machine import InnerTest, MachineError, Outcome, base_image, run_pytest, run_shell

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Ahead", "Job"]

_NICENESS = 10
_POLL_S = 0.2
_TIMEOUT_S = 1500  # of one machine, which may have a small part of a CPU
_ALL_AT_ONCE = "all at once\n"


@dataclass(frozen=True, slots=True)
class Job:
    """What to run on a kernel: arguments of pytest, or a shell command."""

    kernel: str
    pytest: tuple[str, ...] = ()
    shell: str = ""

    def run(self) -> Outcome:
        """Boot and run; raises MachineError and KernelAbsentError."""
        kernel = find_kernel(self.kernel)
        if self.shell:
            return run_shell(kernel, self.shell, timeout_s=_TIMEOUT_S)
        return run_pytest(kernel, self.pytest, timeout_s=_TIMEOUT_S)


class Ahead:
    """The process that runs jobs in their order, and what came of them."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = list(jobs)
        self._directory = tempfile.TemporaryDirectory(prefix="trace-recipe-ahead-")
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, self._directory.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "TMPDIR": self._directory.name},  # what a killed one leaves goes too
            text=True,
        )
        self._tell(json.dumps([asdict(job) for job in jobs]) + "\n")

    def outcome(self, job: Job) -> Outcome:
        """Wait for a job's end; raises MachineError."""
        self._tell(_ALL_AT_ONCE)
        path = _result_path(self._directory.name, self._jobs.index(job))
        while not path.exists():
            if self._process.poll() is not None and not path.exists():
                raise MachineError(f"what boots machines ended with {self._process.returncode}")
            time.sleep(_POLL_S)
        result = json.loads(path.read_text())
        if "error" in result:
            raise MachineError(result["error"])
        return Outcome(**{**result, "tests": tuple(InnerTest(**one) for one in result["tests"])})

    def end(self) -> None:
        """Stop what still runs."""
        self._process.kill()
        self._process.communicate()
        self._directory.cleanup()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except BrokenPipeError:  # it has ended: whoever waits for a job is told
            pass


def _result_path(directory: str, index: int) -> Path:
    return Path(directory) / f"{index}.json"


def _main() -> None:
    os.nice(_NICENESS)
    (directory,) = sys.argv[1:]
    jobs = [
        Job(one["kernel"], tuple(one["pytest"]), one["shell"])
        for one in json.loads(sys.stdin.readline())
    ]
    cpu_count = os.cpu_count() or 1
    # The tests have one CPU for themselves.
    turns = threading.Semaphore(min(cpu_count - 1, 1))
    base_image()  # made once, before they all want it
    pool = ThreadPoolExecutor(max_workers=cpu_count)
    for index, job in enumerate(jobs):
        pool.submit(_run, job, _result_path(directory, index), turns)
    for line in sys.stdin:
        if line == _ALL_AT_ONCE:
            turns.release(cpu_count)
    shutil.rmtree(directory, ignore_errors=True)  # the tests were killed
    os._exit(1)  # and the machines go with the process


def _run(job: Job, path: Path, turns: threading.Semaphore) -> None:
    with turns:
        try:
            result = asdict(job.run())
        except (MachineError, KernelAbsentError) as error:
            result = {"error": str(error)}
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(result))
    temporary.rename(path)


if __name__ == "__main__":
    _main()
