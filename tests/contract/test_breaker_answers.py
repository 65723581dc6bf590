"""What `run` says when it ended badly."""

import json
import subprocess

import pytest

pytestmark = pytest.mark.tracefs

LOSSY = """
recipe: v1
name: lossy
events: ["raw_syscalls:*"]
scope: {pids: [command]}
buffer: {size: 8K, mode: discard}
loss: {max: 0, action: %s}
run: {command: [dd, if=/dev/zero, of=/dev/null, bs=1, count=100000, status=none]}
outputs: [{text: out.txt}]
"""


@pytest.mark.parametrize(("action", "status", "ok"), [("fail", 7, False), ("mark", 0, True)])
def test_json_of_a_run_that_lost_too_much_says_so(cli, recipe, untouched, action, status, ok):
    done = cli("run", str(recipe(LOSSY % action)), "--json")

    answer = json.loads(done.stdout)
    assert (done.returncode, answer["ok"]) == (status, ok)
    assert answer["lost"] > 0
    assert [problem["key"] for problem in answer["problems"]] == ["loss.max"]


def test_a_full_spool_is_named_by_its_path(cli, recipe, untouched):
    (cli.directory / "full").mkdir()
    words = cli.command("run", str(recipe(LOSSY % "mark")), "--recording", "full/R")
    script = 'mount -t tmpfs -o size=1m x full && exec "$@"'

    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *words],
        cwd=cli.directory, env=cli.environment(), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip

    assert done.returncode == 4
    assert "no room to record in 'full/R': No space left on device (ENOSPC)" in done.stderr
    assert "state: restored" in done.stderr
