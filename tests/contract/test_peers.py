"""Others who trace at the same time: each records all of its events, and is told what it misses."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.requirements import need_command
from tests.tracefs_tree import is_recording

pytestmark = pytest.mark.tracefs

INSTANCES = Path("/sys/kernel/tracing/instances")
CALLS = 500
LOAD = [
    sys.executable, "-c",
    f"import os; print(os.getpid()); [os.getppid() for _ in range({CALLS})]",
]  # fmt: skip
RECIPE = """
recipe: v1
name: {name}
events: ["syscalls:sys_enter_getppid"]
duration: 600s
outputs: [{{jsonl: {name}.jsonl}}]
"""


def _start(cli, recipe, *names):
    started = {name: cli.start("run", str(recipe(RECIPE.format(name=name), f"{name}.yaml")), "--json")
               for name in names}  # fmt: skip
    ends_at = time.monotonic() + 60
    for name, running in started.items():
        while not any(map(is_recording, INSTANCES.glob(f"trace-recipe-{name}-*"))):
            assert running.poll() is None, running.communicate()
            assert time.monotonic() < ends_at
            time.sleep(0.01)
    return started


def _end(running):
    running.send_signal(2)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    return json.loads(out)


def test_perf_and_two_recipes_record_the_same_events_side_by_side(cli, recipe, untouched):
    perf = need_command("perf")
    started = _start(cli, recipe, "one", "other")

    record = [perf, "record", "-q", "-e", "syscalls:sys_enter_getppid", "-o", "perf.data", *LOAD]
    done = subprocess.run(
        record, cwd=cli.directory, capture_output=True, text=True, check=True, timeout=60
    )

    pid = int(done.stdout)
    script = [perf, "script", "-i", "perf.data"]
    said = subprocess.run(script, cwd=cli.directory, capture_output=True, text=True, check=True)
    assert said.stdout.count("sys_enter_getppid") == CALLS
    for name, running in started.items():
        answer = _end(running)
        assert (answer["drifts"], answer["lost"]) == ([], 0)
        lines = (cli.directory / f"{name}.jsonl").read_text().splitlines()
        assert sum(json.loads(line).get("pid") == pid for line in lines) == CALLS


def test_what_others_read_out_of_our_buffer_is_told(cli, recipe, untouched):
    running = _start(cli, recipe, "emptied")["emptied"]
    (instance,) = INSTANCES.glob("trace-recipe-emptied-*")
    pipe = os.open(instance / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        subprocess.run(LOAD, check=True, capture_output=True)
        taken = b""
        while chunk := _read(pipe):
            taken += chunk
    finally:
        os.close(pipe)

    answer = _end(running)
    lines = (cli.directory / "emptied.jsonl").read_text().splitlines()

    # Other tasks make the same call, a shell when it starts.
    assert taken.count(b"sys_getppid") + len(lines) == answer["events"] >= CALLS
    (problem,) = answer["problems"]
    missing = answer["events"] - len(lines)
    assert missing > 0
    assert problem["what"].startswith(f"{missing} events are missing: somebody else has read them")
    assert not answer["ok"]


def _read(pipe):
    try:
        return os.read(pipe, 4096)
    except BlockingIOError:
        return b""
