"""Other tools at the top level while a recipe runs: neither side's settings or events suffer."""

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.requirements import need_command
from tests.tracefs_tree import differences, is_recording, snapshot

TRACEFS = Path("/sys/kernel/tracing")
PRIVATE = """
recipe: v1
name: beside
events: [{{event: sched:sched_switch, filter: next_prio < 200}}]
clock: mono
options: {{sym-offset: true}}
buffer: {{size: 1M}}
run: {{command: [sh, -c, {command}]}}
outputs: [{{jsonl: o.jsonl}}]
"""
TOP = """
recipe: v1
name: sharing
instance: top
events: [sched:sched_switch]
clock: mono
run: {{command: [sh, -c, {command}]}}
outputs: [{{jsonl: o.jsonl}}]
"""


def _events(cli) -> list[dict[str, object]]:
    records = map(json.loads, (cli.directory / "o.jsonl").read_text().splitlines())
    return [one for one in records if "event" in one]


def _said(*words: str, directory: Path) -> str:
    done = subprocess.run(words, cwd=directory, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def peer(tmp_path):
    """trace-cmd at the top level, recording until it is interrupted; return what does that."""
    trace_cmd = need_command("trace-cmd")
    first_event = TRACEFS / "events/sched/sched_kthread_stop/enable"
    for text in ("1", "0"):  # which makes the ring buffer full-sized for good
        first_event.write_text(text)
    words = "record -q -o theirs.dat -e sched:sched_switch -f next_pid>0 -C boot"
    started = subprocess.Popen([trace_cmd, *words.split()], cwd=tmp_path, stdout=subprocess.DEVNULL)
    ends_at = time.monotonic() + 60
    while not is_recording(TRACEFS):
        assert time.monotonic() < ends_at
        time.sleep(0.05)

    def end():
        started.send_signal(signal.SIGINT)
        started.wait(timeout=120)

    yield end
    end()
    _said(trace_cmd, "reset", directory=tmp_path)


def test_what_a_peer_sets_and_records_is_not_touched_by_a_private_run(cli, recipe, peer):
    before = snapshot()
    marker = TRACEFS / "trace_marker"
    marker.write_text("before ours\n")

    done = cli("run", str(recipe(PRIVATE.format(command="sleep 0.3"))))

    marker.write_text("after ours\n")
    assert done.returncode == 0, done.stderr
    assert differences(before, snapshot()) == {}
    assert len(_events(cli)) > 10
    peer()
    theirs = _said(need_command("trace-cmd"), "report", "-N", "theirs.dat", directory=cli.directory)
    _, during, rest = re.split(r"(?:before|after) ours", theirs)
    assert min(part.count("sched_switch:") for part in (during, rest)) > 3


def test_what_peers_do_beside_a_private_run_changes_none_of_ours(cli, recipe):
    trace_cmd, perf = need_command("trace-cmd"), need_command("perf")
    command = (
        f"{trace_cmd} record -q -o theirs.dat -e sched:sched_switch -C boot sleep 0.1 &&"
        f" {perf} record -q -a -o perf.data -e sched:sched_switch sleep 0.1 &&"
        f" {trace_cmd} start -p nop -e sched:sched_waking -C global && {trace_cmd} reset"
    )

    done = cli("run", str(recipe(PRIVATE.format(command=json.dumps(command)))), "--json")

    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["ok"], answer["drifts"], answer["lost"]) == (True, [], 0)
    assert answer["exit_reason"] == "command ended with status 0"
    comms = {one["comm"] for one in _events(cli)}
    assert {"trace-cmd", "perf"} <= comms


def test_what_a_peer_sets_over_ours_at_the_top_level_is_told_and_stays(cli, recipe):
    trace_cmd = need_command("trace-cmd")
    command = f"{trace_cmd} start -e sched:sched_wakeup -C boot"
    try:
        done = cli(
            "run", "--allow-shared", "--json",
            str(recipe(TOP.format(command=json.dumps(command)))),
        )  # fmt: skip

        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        outcomes = {line["file"]: line["outcome"] for line in answer["receipt"]["files"]}
        assert outcomes["trace_clock"] == "foreign"
        assert ("trace_clock", "boot") in {(one["file"], one["found"]) for one in answer["drifts"]}
        assert "[boot]" in (TRACEFS / "trace_clock").read_text()
        assert "sched:sched_wakeup" in (TRACEFS / "set_event").read_text()
    finally:
        _said(trace_cmd, "reset", directory=cli.directory)
        (TRACEFS / "trace_clock").write_text("local")
