"""What `run` says when it ended badly."""

import json
import shlex
import shutil
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
    assert "state: untouched" in done.stderr


TOO_MUCH = """
recipe: v1
name: too-much
events: ["raw_syscalls:*"]
scope: {pids: [command]}
run: {command: [dd, if=/dev/zero, of=/dev/null, bs=1, count=20000, status=none]}
outputs: [{jsonl: small/it.jsonl}]
"""


def test_the_way_to_write_an_incomplete_output_again_is_told_and_works(cli, recipe, untouched):
    (cli.directory / "small").mkdir()
    words = cli.command("run", str(recipe(TOO_MUCH)), "--json")
    script = (
        'mount -t tmpfs -o size=64k x small && "$@"; status=$?; cat small/it.jsonl; exit $status'
    )

    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *words],
        cwd=cli.directory, env=cli.environment(), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip

    answer, end = json.JSONDecoder().raw_decode(done.stdout)
    assert done.returncode == 4
    [problem] = answer["problems"]
    assert problem["what"].startswith("output 'small/it.jsonl' is incomplete: No space left")
    assert done.stdout[end:].strip().startswith('{"ts":')  # what was written before is kept
    command = problem["fix"].partition("write it again from the recording: ")[2]
    try:
        assert cli(*shlex.split(command)[1:]).returncode == 0
    finally:
        shutil.rmtree(answer["recording"])
    lines = (cli.directory / "small" / "it.jsonl").read_text().splitlines()
    assert len(lines) == answer["events"]


def test_a_reader_of_a_report_that_has_seen_enough_is_not_bothered(cli, recipe, untouched):
    done = cli("run", str(recipe(TOO_MUCH.replace("small/", ""))), "--recording", "R")
    assert done.returncode == 0, done.stderr
    words = cli.command("report", "R", "--as", "jsonl")

    done = subprocess.run(
        ["/bin/bash", "-c", '"$@" | head -c1; exit "${PIPESTATUS[0]}"', "bash", *words],
        cwd=cli.directory, env=cli.environment(), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (4, "{", "")
