"""Others at work on the top level while a run records there."""

import json
import subprocess
import time
from pathlib import Path

from tests.requirements import need_command
from tests.waiting import WAITING, let_it_end, wait_until_it_records

TRACEFS = Path("/sys/kernel/tracing")
RECIPE = f"""
recipe: v1
name: reset
instance: top
events: [{{event: "sched:sched_switch", filter: "prev_prio < 200"}}, "sched:sched_waking", "raw_syscalls:sys_enter"]
clock: mono
buffer: {{watermark: 0}}
{WAITING}
drift: {{action: fail}}
outputs: [{{jsonl: o.jsonl}}]
"""


def test_trace_cmd_reset_is_seen_and_left_alone(cli, recipe):
    reset = [need_command("trace-cmd"), "reset"]
    running = cli.start("run", str(recipe(RECIPE)), "--json", "--recording", "R")
    wait_until_it_records(cli, running)
    ends_at = time.monotonic() + 90
    spools = cli.directory / "R"
    while not any(path.stat().st_size for path in spools.glob("cpu*.raw")):
        assert time.monotonic() < ends_at
        time.sleep(0.05)
    subprocess.run(reset, check=True, capture_output=True)
    let_it_end(cli)
    out, err = running.communicate(timeout=120)

    assert running.returncode == 7, err
    answer = json.loads(out)
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
