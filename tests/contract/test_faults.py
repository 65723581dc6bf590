"""What breaks under a run while it records: everything until then is readable, losses are counted."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trace_recipe.recorder import CpuStats, parse_stats

pytestmark = pytest.mark.tracefs

INSTANCES = Path("/sys/kernel/tracing/instances")
RECIPE = """
recipe: v1
name: faulty
events: ["raw_syscalls:*"]
scope: {{pids: [command]}}
buffer: {{size: {size}}}
duration: 60s
run: {{command: [/usr/bin/taskset, -c, "0", dd, if=/dev/zero, of=/dev/null, bs=1, {count}]}}
outputs: {outputs}
"""
MANY = 100_000


def _recipe(recipe, *, size="8M", count=10**9, outputs="[{jsonl: o.jsonl}]"):
    return recipe(RECIPE.format(size=size, count=f"count={count}", outputs=outputs))


def _wait_for(is_so, running: subprocess.Popen[str]) -> None:
    ends_at = time.monotonic() + 30
    while not is_so():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < ends_at
        time.sleep(0.01)


def _stats() -> CpuStats:
    """What the buffer of CPU 0 says of the run's instance, as soon as there is one."""
    for path in INSTANCES.glob("*faulty*/per_cpu/cpu0/stats"):
        return parse_stats(0, path.read_text())
    return parse_stats(0, "")


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
    running = cli.start("run", str(_recipe(recipe, size="256K")), "--recording", "R")
    _wait_for(lambda: _stats().read_events > 0, running)

    running.send_signal(signal.SIGSTOP)
    before = _stats().overrun
    _wait_for(lambda: _stats().overrun > before + 1000, running)
    running.send_signal(signal.SIGINT)
    running.send_signal(signal.SIGCONT)
    _, err = running.communicate(timeout=60)

    assert running.returncode == 130, err
    manifest, records = _manifest(cli), _records(cli.directory / "o.jsonl")
    assert manifest["lost"] > 1000
    assert f"{manifest['lost']} lost (CPU 0: {manifest['lost']})" in err
    assert manifest["events"] + manifest["lost"] == _counted(manifest)
    assert manifest["events"] == sum("event" in one for one in records)
    assert any("lost" in one for one in records)


def test_a_cpu_that_cannot_be_read_any_more_ends_the_run_with_what_was_read(cli, recipe, untouched):
    words = cli.command("run", str(_recipe(recipe)), "--recording", "R")

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
    path = _recipe(recipe, outputs=f"[{{{form}: '-'}}, {{trace-dat: o.dat}}]", count=MANY)
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
    assert "(command ended with status 0)" in done.stderr
    manifest = _manifest(cli)
    events = cli("report", "R", "--as", "jsonl").stdout.count('"event"')
    assert events == manifest["events"]
    assert events + manifest["lost"] >= 4 * MANY  # reads and writes, in and out
    assert cli("report", "o.dat", "--as", "jsonl").stdout.count('"event"') == events
