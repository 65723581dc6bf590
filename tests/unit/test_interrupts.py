import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from trace_recipe.interrupts import Interrupts

# Signals that strike at every point of a wait; a lock in the handler hangs within a second.
STORM = """
import itertools, os, signal, sys, time
from trace_recipe.interrupts import Interrupts
parent = os.getpid()
count = itertools.count()
gate, opened = os.pipe()
child = os.fork()
if child == 0:
    os.read(gate, 1)
    ends_at = time.monotonic() + 2
    while time.monotonic() < ends_at:
        os.kill(parent, signal.SIGTERM)
        if next(count) % 50 == 0:
            time.sleep(0.001)  # handlers that interrupt each other without end are another matter
    os._exit(0)
with Interrupts() as interrupts:
    os.write(opened, b"x")
    waits = 0
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        interrupts.names.clear()
        interrupts.wait(0.0001)
        waits += 1
print(waits)
"""

# A recorder's threads beside a wait.
BESIDE_THREADS = """
import sys
from pathlib import Path
from trace_recipe.interrupts import Interrupts
from trace_recipe.recorder import Recorder
recorder = Recorder(Path(sys.argv[1]), range(8))
recorder.prepare()
for _ in range(4):
    with Interrupts() as interrupts:
        print("waits", flush=True)
        interrupts.wait(20)
        print(*interrupts.names, flush=True)
recorder.close()
"""


def test_a_storm_of_signals_never_blocks_the_wait():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    done = subprocess.run(
        [sys.executable, "-c", STORM], env=environment, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


def test_the_handler_has_no_lock_to_wait_for():
    with Interrupts() as interrupts:
        held = [value for value in vars(interrupts).values() if isinstance(value, threading.Event)]

    assert held == []  # the interrupted code may be inside its lock


def test_a_signal_ends_the_wait_at_once_and_stays_noted():
    with Interrupts() as interrupts:
        assert not interrupts.wait(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        started = time.monotonic()

        assert interrupts.wait(20)
        assert interrupts.wait(20)
        assert time.monotonic() - started < 5
        assert interrupts.names == ["SIGINT"]
        assert not interrupts.skips_outputs


def test_one_wish_that_arrives_twice_is_one_wish(monkeypatch):
    monkeypatch.setattr("trace_recipe.interrupts.time.monotonic", lambda: 100.0)
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)  # timeout(1): to the process ...
        os.kill(os.getpid(), signal.SIGTERM)  # ... and to its group

        assert interrupts.names == ["SIGTERM"]
        assert not interrupts.skips_outputs


def test_another_signal_and_the_same_one_later_are_a_second_wish(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("trace_recipe.interrupts.time.monotonic", lambda: now[0])
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        now[0] += 0.3
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)

        assert interrupts.names == ["SIGINT", "SIGINT", "SIGTERM"]
        assert interrupts.skips_outputs


def test_the_handlers_of_before_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) != before

    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_to_a_stopped_run_ends_the_wait_when_it_goes_on(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", BESIDE_THREADS, tmp_path], env=environment, text=True,
        stdout=subprocess.PIPE,
    ) as waiting:  # fmt: skip
        assert waiting.stdout is not None
        for _ in range(4):
            assert waiting.stdout.readline() == "waits\n"
            _until_state(waiting.pid, "S")
            waiting.send_signal(signal.SIGSTOP)
            _until_state(waiting.pid, "T")
            started = time.monotonic()
            waiting.send_signal(signal.SIGINT)
            waiting.send_signal(signal.SIGCONT)

            assert waiting.stdout.readline() == "SIGINT\n"
            assert time.monotonic() - started < 15  # the whole wait is 20 s
        assert waiting.wait() == 0


def _until_state(pid: int, state: str) -> None:
    ends_at = time.monotonic() + 20
    while f") {state} " not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < ends_at
        time.sleep(0.005)
