"""What every test on the real tracefs needs: the mount, and a machine that is left as it was."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.requirements import need
from tests.tracefs_tree import differences, snapshot

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a runner of tests under nohup ignores it for all
# Who starts the tests decides neither on whose behalf runs act nor how wide a help text is.
for _name in (
    *("SUDO_UID", "SUDO_GID", "SUDO_USER", "SUDO_COMMAND"),
    *("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS"),
):
    os.environ.pop(_name, None)
SWEPT = "crash sweep"
ROOT = Path(__file__).parent.parent
MARK = "TRACE_RECIPE_TEST"  # by which a test finds the processes that it has started
LOCK = "/run/trace-recipe-tests.lock"


def pytest_addoption(parser):
    """Let the crash sweeps be whole ones, which takes long."""
    parser.addoption("--every-point", action="store_true", help="crash sweeps stop everywhere")


@pytest.fixture(autouse=True)
def _tracefs_is_there(request):
    """A test marked `tracefs` skips, or fails, where there is none; others are not touched."""
    if request.node.get_closest_marker("tracefs") is None:
        yield
        return
    is_root = os.geteuid() == 0
    need("tracefs", is_there=is_root, reason="it takes root to use tracefs")
    clock = Path("/sys/kernel/tracing/trace_clock")
    if not clock.exists():
        subprocess.run(["mount", "-t", "tracefs", "nodev", str(clock.parent)], check=False)
    need("tracefs", is_there=clock.exists(), reason="no tracefs here, and it cannot be mounted")
    with tracefs_turn():
        yield


@contextlib.contextmanager
def tracefs_turn() -> Iterator[None]:
    """Let two test runs on one machine take turns: each compares the whole tree.

    Every test on the tracefs has its turn; what is made for a whole module needs one of its own.
    """
    with open(LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def untouched():
    """Compare every readable control file before and after the test."""
    before = snapshot()
    yield before
    assert differences(before, snapshot()) == {}


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has just ended
        return None


def pytest_terminal_summary(terminalreporter):
    """Tell how much of the crash sweep was run, by kernel."""
    found: dict[str, tuple[int, int]] = {}
    for report in terminalreporter.getreports("passed"):
        for kernel, stops, points in (
            value for name, value in report.user_properties if name == SWEPT
        ):
            before = found.get(kernel, (0, 0))
            found[kernel] = (before[0] + stops, before[1] + points)
    for kernel, (stops, points) in found.items():
        terminalreporter.write_line(
            f"{SWEPT}, {kernel}: {stops} stops, of runs with {points} points"
        )


class Cli:
    """Runs the command line as a user would, in a directory and with a state of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.started: list[subprocess.Popen[str]] = []

    def command(self, *words: str) -> list[str]:
        takes_state = {"run", "try", "extend", "confirm", "restore", "recover", "status"}
        state = ["--state-dir", str(self.state)] if words[0] in takes_state else []
        return [sys.executable, "-m", "trace_recipe", words[0], *state, *map(str, words[1:])]

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'runner'}:{ROOT}",
            "PYTHONWARNINGS": "error",
            MARK: str(self.directory),
        }

    def __call__(self, *words: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        if os.environ.get("TRACE_RECIPE_IN_VM"):
            return self._forked(*words)  # importing takes ten seconds in an emulated machine
        return subprocess.run(
            self.command(*words),
            cwd=self.directory,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def _forked(self, *words: str) -> subprocess.CompletedProcess[str]:
        from trace_recipe import conductor  # noqa: F401 - loaded before the fork, so only once
        from trace_recipe.__main__ import main
        from trace_recipe.cli import look, make, report, run, state  # noqa: F401

        paths = [self.directory / ".stdout", self.directory / ".stderr"]
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.chdir(self.directory)
                for number, path in enumerate(paths, 1):
                    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
                sys.stdout = os.fdopen(1, "w", closefd=False)
                sys.stderr = os.fdopen(2, "w", closefd=False)
                sys.argv = ["trace-recipe", *self.command(*words)[3:]]
                main()
                status = 0
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else int(bool(end.code))
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        out, err = (path.read_text() for path in paths)
        for path in paths:
            path.unlink()
        return subprocess.CompletedProcess(words, status, out, err)

    def start(self, *words: str, program: str | None = None) -> subprocess.Popen[str]:
        """Start the command line, or the text of a Python program with the same arguments."""
        command = self.command(*words)
        if program is not None:
            command[1:3] = ["-c", program]
        running = subprocess.Popen(
            command,
            cwd=self.directory,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(running)
        return running

    def guardians(self) -> list[int]:
        """Return the pids of the guardians that this test's runs have."""
        return [pid for pid, comm in self._processes() if comm == "trace-guardian"]

    def _orphans(self) -> list[int]:
        """Return the guardians without a runner, just forked ones with another name included."""
        living = {one.pid for one in self.started if one.poll() is None}
        return [
            pid
            for pid, _ in self._processes()
            if pid not in living and _parent(pid) not in {*living, None}
        ]

    def _processes(self) -> Iterator[tuple[int, str]]:
        mark = f"{MARK}={self.directory}\0".encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                is_marked = mark in (process / "environ").read_bytes()
                if is_marked and b"trace_recipe" in (process / "cmdline").read_bytes():
                    yield int(process.name), (process / "comm").read_text().strip()
            except OSError:  # it has just ended
                continue

    def kill(self, running: subprocess.Popen[str], *, with_guardian: bool = False) -> None:
        """Kill a run; a guardian that is spared gets the time to put the kernel back."""
        its_own = [pid for pid in self.guardians() if _parent(pid) == running.pid]
        for pid in its_own if with_guardian else ():
            os.kill(pid, signal.SIGKILL)
        running.kill()
        running.communicate()
        ends_at = time.monotonic() + 30
        while self._orphans():
            assert time.monotonic() < ends_at, "the guardian does not end"
            time.sleep(0.01)

    def clean_up(self) -> None:
        """After a failed test: end what it left running, and put the machine back."""
        left = [running for running in self.started if running.poll() is None]
        for running in left:
            self.kill(running)
        if left:
            self("recover")


@pytest.fixture
def cli(tmp_path):
    """The command line in an empty directory."""
    made = Cli(tmp_path)
    yield made
    made.clean_up()


@pytest.fixture
def recipe(tmp_path):
    """Write a recipe file and return its path."""

    def write(text: str, name: str = "recipe.yaml") -> Path:
        path = Path(tmp_path) / name
        path.write_text(text)
        return path

    return write
