"""The process that is given what others wrote: what it can still do, and how it ends."""

import errno
import json
import os
import signal
import time

import pytest

from tests.greedy_sink import attempts
from trace_recipe.channel import BrokenChannelError
from trace_recipe.confiner import Confined

NOBODY = 65534
NOTHING = ["0" * 16]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving up root takes root")


def _answer(work, **options):
    child = Confined(work, **options)
    try:
        answer, _ = child.channel.receive()
    finally:
        child.end()
    return answer


def _is_gone(pid, within_s=10.0):
    ends_at = time.monotonic() + within_s
    while time.monotonic() < ends_at:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


@needs_root
def test_the_child_has_no_right_of_root_and_cannot_get_one_back():
    tried = _answer(lambda channel: channel.send(attempts()))

    status = tried["status"]
    assert status["Uid"] == status["Gid"] == [str(NOBODY)] * 4
    assert status["Groups"] == []
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert status[name] == NOTHING, name
    assert status["NoNewPrivs"] == ["1"]
    assert set(tried["errnos"].values()) == {errno.EACCES, errno.EPERM}
    assert tried["pid"] != os.getpid()


@needs_root
def test_the_child_can_enter_no_descriptor_but_those_it_was_given(tmp_path):
    given = os.open(tmp_path / "given", os.O_CREAT | os.O_WRONLY)
    other = os.open(tmp_path / "other", os.O_CREAT | os.O_WRONLY)
    os.set_inheritable(other, True)  # what a careless parent of ours might leave us
    try:
        seen = _answer(lambda channel: channel.send(attempts()), keep=[given])["descriptors"]
    finally:
        os.close(given)
        os.close(other)

    sockets = [number for number, name in seen.items() if name.startswith("socket:")]
    assert len(sockets) == 1
    assert {name: seen.pop(name) for name in ("0", "1", "2")} == dict.fromkeys("012", "/dev/null")
    assert set(seen) == {str(given), *sockets}


def test_a_user_without_rights_can_confine_too():
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if os.geteuid() == 0:
                os.setresuid(NOBODY, NOBODY, NOBODY)
            status = _answer(lambda channel: channel.send(attempts()))["status"]
            os.write(write, json.dumps(status).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read, "rb") as stream:
        status = json.loads(stream.read())

    assert status["CapEff"] == NOTHING
    assert status["NoNewPrivs"] == ["1"]


def test_the_child_ends_when_its_parent_is_killed():
    read, write = os.pipe()
    middle = os.fork()
    if middle == 0:
        try:
            child = Confined(lambda channel: time.sleep(600))
            os.write(write, str(child.pid).encode())
            signal.pause()
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb", buffering=0) as stream:
        pid = int(stream.read(20))
    assert not _is_gone(pid, within_s=0.1)

    os.kill(middle, signal.SIGKILL)
    os.waitpid(middle, 0)

    assert _is_gone(pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_terminals_signals_are_not_for_the_child(number):
    def work(channel):
        os.kill(os.getpid(), number)
        channel.send({"still": "here"})

    assert _answer(work) == {"still": "here"}


def test_a_fault_in_the_child_is_told_with_its_place():
    def work(channel):
        raise ZeroDivisionError("a bug")

    crashed = _answer(work)["crashed"]
    assert "ZeroDivisionError: a bug" in crashed
    assert "in work" in crashed


def test_the_end_of_the_child_is_seen_and_its_status_known():
    child = Confined(lambda channel: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(BrokenChannelError):
        child.channel.receive()

    assert child.end() == child.end() == -signal.SIGKILL
