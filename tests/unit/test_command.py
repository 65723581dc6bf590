"""The command of a recipe: held, released, and ended with all that it has started."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT
from trace_recipe import command as command_module
from trace_recipe.command import MARK, HeldCommand
from trace_recipe.interrupts import Interrupts
from trace_recipe.invoker import find_invoker
from trace_recipe.processes import Process, family, process, running
from trace_recipe.recipe.parts.session import Run

RUN_ID = f"test-{os.getpid()}"


@pytest.fixture
def hold(tmp_path, monkeypatch):
    """Hold a shell script; whatever it leaves is ended with the test."""
    monkeypatch.setattr(command_module, "_GRACE_S", 0.5)
    monkeypatch.chdir(tmp_path)
    held = []

    def make(script, **options):
        run = Run.model_validate({"command": ["/bin/sh", "-c", script]})
        held.append(HeldCommand(run, find_invoker({}), os.environ, run_id=RUN_ID, **options))
        return held[-1]

    yield make
    for one in held:
        one.end()
    for left in family((), f"{MARK}={RUN_ID}".encode()):
        os.kill(left.pid, signal.SIGKILL)


def wait_until(condition):
    ends_at = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(0.01)


def processes_in(path, count) -> set[Process]:
    """The processes whose pids the script has written to a file, one a line."""
    wait_until(lambda: path.exists() and path.read_text().count("\n") == count)
    found = {process(int(line)) for line in path.read_text().split()}
    return {one for one in found if one is not None}


SCRIPTS = {
    "children": "sleep 1000 & echo $! >> pids; sleep 1000 & echo $! >> pids; wait",
    "grandchildren": "sh -c 'echo $$ >> pids; sleep 1000 & echo $! >> pids; wait' & wait",
    "an orphan": "(sleep 1000 & echo $! >> pids); sleep 1000 & echo $! >> pids; wait",
    "another session": "setsid sh -c 'echo $$ >> pids; sleep 1000 & echo $! >> pids; wait' & wait",
    "one without its environment": "env -i sleep 1000 & echo $! >> pids; echo $$ >> pids; wait",
    "one that ignores it": "sh -c \"trap '' TERM; echo \\$\\$ >> pids; while :; do sleep 1; done\" &"
    " echo $$ >> pids; wait",
    "a stopped one": "sleep 1000 & echo $! >> pids; kill -STOP $!; echo $$ >> pids; wait",
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_what_a_command_has_started_ends_with_it(hold, tmp_path, script):
    command = hold(script)
    command.release()
    started = processes_in(tmp_path / "pids", 2)
    assert running(started) == started
    assert len(started) == 2

    command.end()

    wait_until(lambda: not running(started))  # SIGKILL takes no longer than the machine does
    assert command.exit_status is not None


def test_an_orphan_ends_also_when_the_command_has_just_died(hold, tmp_path):
    command = hold("sleep 1000 & echo $! >> pids; wait")
    command.release()
    [started] = processes_in(tmp_path / "pids", 1)
    os.kill(command.pid, signal.SIGKILL)
    wait_until(lambda: process(command.pid) is None)

    command.end()

    wait_until(lambda: not running([started]))
    assert command.exit_status == 128 + signal.SIGKILL


def test_what_a_command_left_in_the_background_when_it_ended_stays(hold, tmp_path):
    command = hold("sleep 1000 & echo $! >> pids")
    command.release()
    started = processes_in(tmp_path / "pids", 1)
    assert command.wait() == 0

    command.end()

    assert running(started) == started


def test_the_process_of_another_run_stays(hold, tmp_path):
    mark = {MARK: f"{RUN_ID}-other"}
    with subprocess.Popen(["sleep", "1000"], env={**os.environ, **mark}) as other:
        command = hold("echo $$ >> pids; sleep 1000")
        command.release()
        processes_in(tmp_path / "pids", 1)

        command.end()

        assert other.poll() is None
        other.kill()


def test_neither_this_process_nor_its_parents_are_in_any_family():
    """As in a run that is the command of another run: both carry that one's mark."""
    code = (
        "import sys; from trace_recipe.processes import family\n"
        "print(*[one.pid for one in family((), sys.argv[1].encode())])"
    )
    name, value = "TEST_FAMILY", str(os.getpid())
    script = 'sleep 1000 & "$@"; echo $!; kill $!'
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", sys.executable, "-c", code, f"{name}={value}"],
        env={name: value, "PYTHONPATH": str(ROOT / "runner")},
        capture_output=True,
        text=True,
        check=True,
    )

    found, started = done.stdout.splitlines()
    assert found == started


def test_a_pid_that_was_given_again_is_another_process():
    this = process(os.getpid())
    assert this is not None
    earlier = Process(this.pid, this.started_ticks - 1)

    assert running([this, earlier]) == {this}
    assert family([earlier], b"NO=MARK") == set()


def test_the_command_stays_where_a_terminal_finds_it(hold, tmp_path):
    command = hold("echo $$ >> pids; sleep 1000")
    command.release()
    processes_in(tmp_path / "pids", 1)

    assert os.getpgid(command.pid) == os.getpgrp()
    assert os.getsid(command.pid) == os.getsid(0)


def test_its_end_wakes_whoever_waits_for_signals(hold):
    command = hold("exit 3")
    with Interrupts() as interrupts:
        assert not interrupts.wait(0, until_readable=command.end_fd)
        command.release()

        interrupts.wait(1000, until_readable=command.end_fd)

        assert command.poll() == 3
    assert command.end_fd is None


def test_a_kernel_without_pidfd_open_is_looked_at_from_time_to_time(hold, monkeypatch):
    def refuse(pid):
        raise OSError(errno.ENOSYS, "not there")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    command = hold("exit 3")
    command.release()

    assert command.end_fd is None
    assert command.wait() == 3


def test_its_standard_output_goes_where_it_is_told(hold, tmp_path):
    with (tmp_path / "said").open("wb") as said:
        command = hold("echo out; echo err >&2", stdout=said.fileno())
        command.release()
        assert command.wait() == 0

    assert (tmp_path / "said").read_text() == "out\n"
