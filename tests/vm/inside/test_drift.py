"""Others at work on the top level while a run records there."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.requirements import need_command
from tests.tracefs_tree import is_recording

TRACEFS = Path("/sys/kernel/tracing")
RECIPE = """
recipe: v1
name: reset
instance: top
events: [{{event: "sched:sched_switch", filter: "prev_prio < 200"}}, "sched:sched_waking"]
clock: mono
{more}
duration: 8s
drift: {{action: {action}}}
outputs: [{{jsonl: o.jsonl}}]
"""


def _run_and_reset(cli, recipe, action: str, more: str = "") -> tuple[int, dict[str, Any], str]:
    reset = [need_command("trace-cmd"), "reset"]
    path = recipe(RECIPE.format(action=action, more=more))
    running = cli.start("run", str(path), "--json", "--recording", f"R-{action}")
    ends_at = time.monotonic() + 90
    while not is_recording(TRACEFS):
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < ends_at
        time.sleep(0.1)
    time.sleep(1.5)
    subprocess.run(reset, check="tracer" not in more, capture_output=True)
    out, err = running.communicate(timeout=120)
    return running.returncode, json.loads(out), err


def test_trace_cmd_reset_is_seen_and_left_alone(cli, recipe):
    status, answer, err = _run_and_reset(cli, recipe, "fail")

    assert status == 7, err
    found = {one["file"]: one["found"] for one in answer["drifts"]}
    assert found["set_event"] == ""
    assert found["trace_clock"] == "local"
    assert found["events/sched/sched_switch/filter"] == "none"
    files = {line["file"]: line["outcome"] for line in answer["receipt"]["files"]}
    assert "left" not in files.values()
    assert (TRACEFS / "set_event").read_text() == ""
    records = [json.loads(line) for line in (cli.directory / "o.jsonl").read_text().splitlines()]
    kinds = ["drift" in one for one in records]
    assert kinds.index(True) > 0, "nothing was recorded before it"


def test_a_tracer_cannot_be_left_by_others_but_tracing_is_off(cli, recipe):
    tracer = "tracer: {name: function_graph, graph_functions: [vfs_read]}"

    _, answer, err = _run_and_reset(cli, recipe, "warn", tracer)

    # The kernel refuses: somebody reads trace_pipe_raw. trace-cmd gives up half way.
    found = {one["file"]: (one["applied"], one["found"]) for one in answer["drifts"]}
    assert "current_tracer" not in found, err
    assert found["tracing_on"] == ("1", "0")
    assert (TRACEFS / "current_tracer").read_text() == "nop\n"
