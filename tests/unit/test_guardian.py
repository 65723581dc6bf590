"""The guardian by itself: tests/contract/test_guardian.py shows it at work."""

import os
import signal
import time
from pathlib import Path

import pytest

from trace_recipe import guardian as guardian_module
from trace_recipe.errors import RestoreError
from trace_recipe.guardian import Guardian
from trace_recipe.journal import Intent, Journal, Leftovers, boot_time_ns, read_journal


def test_when_the_runner_goes_on_its_guardian_is_out_of_reach(tmp_path, monkeypatch):
    become_leader = os.setsid

    def late():
        time.sleep(0.3)  # a busy machine lets the parent run first
        become_leader()

    monkeypatch.setattr(os, "setsid", late)
    guardian = Guardian("run1", "r", Leftovers(), tmp_path)
    try:
        process = Path(f"/proc/{guardian.pid}")
        assert os.getsid(guardian.pid) == os.getpgid(guardian.pid) == guardian.pid
        assert (process / "comm").read_text() == "trace-guardian\n"
        assert len(list((process / "fd").iterdir())) == 4
    finally:
        guardian.dismiss()

    assert not process.exists()


@pytest.fixture
def journal(tmp_path):
    """The journal of a tried recipe that has changed nothing."""
    mount = tmp_path / "tracing"
    (mount / "instances").mkdir(parents=True)
    intent = Intent(
        run_id="run1", recipe="r", recipe_path="r.yaml", mount=str(mount), instance="",
        makes_instance=False, inode=None, before={},
    )  # fmt: skip
    return Journal.begin(tmp_path / "state", intent)


def is_dead(pid):
    """A dead child keeps its place in /proc until somebody asks for its exit status."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return text.rpartition(")")[2].split()[0] == "Z"


def wait_until_it_is_dead(pid):
    ends_at = time.monotonic() + 30
    while not is_dead(pid):
        assert time.monotonic() < ends_at


@pytest.fixture
def impatient(monkeypatch):
    """Let this process, not one that it has forked, give up some time."""
    ends_at, sleep = time.monotonic() + 30, time.sleep

    def nap(seconds):
        assert time.monotonic() < ends_at, "it waits for what never comes"
        sleep(seconds)

    return lambda: monkeypatch.setattr(time, "sleep", nap)


@pytest.fixture
def children():
    """Set what becomes of dead children."""
    before = signal.getsignal(signal.SIGCHLD)
    yield lambda handling: signal.signal(signal.SIGCHLD, handling)
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.parametrize("handling", [signal.SIG_DFL, signal.SIG_IGN], ids=["kept", "forgotten"])
def test_a_guardian_that_is_killed_before_it_has_the_journal_is_told(
    journal, impatient, children, handling
):
    children(handling)
    guardian = Guardian("run1", "r", Leftovers(), journal.path.parent)
    os.kill(guardian.pid, signal.SIGKILL)
    impatient()

    with pytest.raises(RestoreError, match="has vanished"):
        guardian.keep(journal)

    assert journal.path.exists()


def test_a_time_that_is_up_before_the_runner_has_looked_is_no_error(
    journal, impatient, monkeypatch
):
    guardian = Guardian("run1", "r", Leftovers(), journal.path.parent)
    journal.keep_until(boot_time_ns())

    def late(path):
        wait_until_it_is_dead(guardian.pid)
        return read_journal(path)

    monkeypatch.setattr(guardian_module, "read_journal", late)
    impatient()
    guardian.keep(journal)

    assert not journal.path.exists()
