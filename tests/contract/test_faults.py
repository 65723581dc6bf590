"""What breaks under a run while it records: everything until then is readable, losses are counted."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tracefs_tree import is_recording

pytestmark = pytest.mark.tracefs

INSTANCES = Path("/sys/kernel/tracing/instances")
RECIPE = """
recipe: v1
name: faulty
events: ["raw_syscalls:*"]
scope: {{pids: [command]}}
buffer: {{size: {size}}}
duration: {duration}
run: {{command: [/usr/bin/taskset, -c, "{cpu}", dd, if=/dev/zero, of=/dev/null, bs=1]}}
outputs: {outputs}
"""


def _recipe(recipe, *, size="8M", duration="2s", cpu=0, outputs="[{jsonl: o.jsonl}]"):
    return recipe(RECIPE.format(size=size, duration=duration, cpu=cpu, outputs=outputs))


def _wait_until_it_records(running: subprocess.Popen[str]) -> None:
    ends_at = time.monotonic() + 30
    while not any(map(is_recording, INSTANCES.glob("*faulty*"))):
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < ends_at
        time.sleep(0.01)


def _records(path: Path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def _counted(manifest) -> int:
    """Return all events that the kernel has counted on all CPUs."""
    return sum(
        int(number)
        for cpu in manifest["buffers"][0]["cpus"]
        for number in re.findall(
            r"^(?:entries|overrun|read events): (\d+)$", cpu["stats"], re.MULTILINE
        )
    )


def _manifest(cli):
    return json.loads((cli.directory / "R/manifest.json").read_text())


def test_what_is_lost_while_the_runner_is_stopped_is_counted(cli, recipe, untouched):
    path = _recipe(recipe, size="256K", duration="1s")  # millions of events in a second
    running = cli.start("run", str(path), "--recording", "R")
    _wait_until_it_records(running)

    running.send_signal(signal.SIGSTOP)
    time.sleep(0.7)
    running.send_signal(signal.SIGCONT)
    _, err = running.communicate(timeout=60)

    assert running.returncode == 0, err
    manifest, records = _manifest(cli), _records(cli.directory / "o.jsonl")
    assert manifest["lost"] > 1000
    assert f"{manifest['lost']} lost (CPU 0: {manifest['lost']})" in err
    assert manifest["events"] + manifest["lost"] == _counted(manifest)
    assert manifest["events"] == sum("event" in one for one in records)
    assert any("lost" in one for one in records)


def test_a_cpu_that_cannot_be_read_any_more_ends_the_run_with_what_was_read(cli, recipe, untouched):
    words = cli.command("run", str(_recipe(recipe, duration="30s")), "--recording", "R")

    done = subprocess.run(
        [sys.executable, "-m", "tests.faulty", *words[3:]],
        cwd=cli.directory, env=cli.environment(), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip

    assert done.returncode == 4, done.stderr
    assert "the recording of CPU 0 broke off: Input/output error (EIO)" in done.stderr
    assert "fix: see the kernel's log, and run it again" in done.stderr
    assert "restored" in done.stderr
    manifest, records = _manifest(cli), _records(cli.directory / "o.jsonl")
    assert manifest["exit_reason"] == "the recording broke off"
    assert manifest["events"] == sum("event" in one for one in records) > 1000
    assert manifest["events"] + manifest["lost"] == _counted(manifest)
    assert sum(one["lost"] for one in records if "lost" in one) == manifest["lost"]
    assert records[-1]["lost"] >= manifest["buffers"][0]["cpus"][0]["unwritten"] > 0


@pytest.mark.parametrize("form", ["text", "jsonl", "csv"])
def test_a_reader_that_leaves_does_not_stop_the_recording(cli, recipe, untouched, form):
    path = _recipe(recipe, outputs=f"[{{{form}: '-'}}, {{trace-dat: o.dat}}]", duration="1s")
    words = cli.command("run", str(path), "--recording", "R")

    done = subprocess.run(
        ["/bin/bash", "-c", '"$@" | head -n1; exit ${PIPESTATUS[0]}', "bash", *words],
        cwd=cli.directory, env=cli.environment(), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip

    assert done.returncode == 4, done.stderr
    assert done.stdout.count("\n") == 1
    assert "standard output is incomplete: Broken pipe (EPIPE)" in done.stderr
    assert "Traceback" not in done.stderr
    assert "(duration)" in done.stderr
    assert _manifest(cli)["duration_ns"] >= 1_000_000_000
    events = cli("report", "R", "--as", "jsonl").stdout.count('"event"')
    assert events == _manifest(cli)["events"] > 1000
    assert cli("report", "o.dat", "--as", "jsonl").stdout.count('"event"') == events
