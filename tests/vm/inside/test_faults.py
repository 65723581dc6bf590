"""What happens to a machine while it is traced: CPUs, mounts, probes and clocks come and go."""

import json
import os
import re
import subprocess
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli
from tests.tracefs_tree import is_recording
from trace_recipe.tracefs import mount_tracefs

TRACEFS = Path("/sys/kernel/tracing")
INSTANCES = TRACEFS / "instances"
BOTH = "'sched:sched_switch', 'faulty:reads'"
SWITCHES = "'sched:sched_switch'"
CPU1 = Path("/sys/devices/system/cpu/cpu1/online")
PROBES = TRACEFS / "kprobe_events"
RECIPE = """
recipe: v1
name: faulty
events: [{events}]
clock: mono
buffer: {{watermark: 0}}
duration: 12s
outputs: [{{jsonl: o.jsonl}}]
"""


def _write(path: Path, text: str, flags: int = 0) -> None:
    fd = os.open(path, os.O_WRONLY | flags)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _start(cli, events):
    path = cli.directory / "recipe.yaml"
    path.write_text(RECIPE.format(events=events))
    running = cli.start("run", str(path), "--json", "--recording", "R")
    ends_at = time.monotonic() + 120
    while not any(map(is_recording, INSTANCES.glob("*faulty*"))):
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < ends_at
        time.sleep(0.05)
    return running


def _wait_until_pages_are_read(cli):
    ends_at = time.monotonic() + 60
    while not all(path.stat().st_size for path in (cli.directory / "R").glob("cpu*.raw")):
        assert time.monotonic() < ends_at
        time.sleep(0.05)


@dataclass
class Found:
    """What a run left."""

    answer: dict[str, Any]
    manifest: dict[str, Any]
    records: list[dict[str, Any]]

    @property
    def counted(self):
        """All events that the kernel has counted."""
        texts = [cpu["stats"] for cpu in self.manifest["buffers"][0]["cpus"]]
        counts = re.compile(r"^(?:entries|overrun|read events): (\d+)$", re.MULTILINE)
        return sum(int(number) for text in texts for number in counts.findall(text))


def _end(cli, running):
    out, err = running.communicate(timeout=180)
    assert running.returncode == 0, err
    lines = (cli.directory / "o.jsonl").read_text().splitlines()
    manifest = json.loads((cli.directory / "R/manifest.json").read_text())
    return Found(json.loads(out), manifest, [json.loads(line) for line in lines])


@pytest.fixture(scope="module")
def eventful(tmp_path_factory):
    """One run: a CPU goes and comes, a probe is removed, and the wall clock is set."""
    cli = Cli(tmp_path_factory.mktemp("eventful"))
    has_probe = PROBES.exists()
    if has_probe:
        _write(PROBES, "p:faulty/reads vfs_read\n", os.O_APPEND)
    running = _start(cli, BOTH if has_probe else SWITCHES)
    (instance,) = INSTANCES.glob("*faulty*")
    if has_probe:
        _wait_until_pages_are_read(cli)
        _write(instance / "events/faulty/reads/enable", "0")
        _write(PROBES, "-:faulty/reads\n", os.O_APPEND)  # which empties the buffer
    moments = [time.monotonic_ns()]
    for state in "01":
        time.sleep(1)
        CPU1.write_text(state)
        moments.append(time.monotonic_ns())
    time.clock_settime(time.CLOCK_REALTIME, time.time() + 3600)
    try:
        yield _end(cli, running), moments
    finally:
        time.clock_settime(time.CLOCK_REALTIME, time.time() - 3600)
        cli.clean_up()


def test_a_cpu_that_goes_offline_and_comes_back_loses_nothing(eventful):
    found, (begun, gone, back) = eventful
    times = [one["ts"] for one in found.records if one.get("cpu") == 1]

    assert found.manifest["lost"] == 0
    assert found.manifest["events"] <= sum("event" in one for one in found.records)
    assert [time for time in times if begun < time < gone]
    assert not [time for time in times if gone < time < back - 500_000_000]
    assert max(times) > back


def test_a_probe_that_others_remove_is_a_drift_and_what_it_recorded_can_be_read(eventful):
    if not PROBES.exists():
        pytest.skip("this kernel has no kprobes")
    found, _ = eventful
    names = {one.get("event") for one in found.records}

    changes = [(one["file"].rpartition("/")[2], one["applied"]) for one in found.answer["drifts"]]
    assert ("set_event", "faulty:reads") in changes
    assert names >= {"faulty:reads", "sched:sched_switch"}
    assert not [name for name in names if name and name.startswith("unknown")]
    assert "left" not in {one["outcome"] for one in found.answer["receipt"]["files"]}


def test_a_wall_clock_that_is_set_meanwhile_changes_no_time_and_is_told(eventful):
    found, _ = eventful
    walls = [one["wall"] for one in found.records if "event" in one]

    assert 11_500_000_000 < found.manifest["duration_ns"] < 60_000_000_000
    (note,) = [note for note in found.manifest["notes"] if "wall clock" in note]
    assert note.startswith("the wall clock went +3600.0 s against the monotonic one")
    assert walls == sorted(walls)
    first, last = (datetime.fromisoformat(walls[place][:26]) for place in (0, -1))
    assert (last - first).total_seconds() < 60


def test_a_tracefs_that_is_unmounted_meanwhile_is_still_recorded_and_restored(cli):
    running = _start(cli, SWITCHES)
    subprocess.run(["umount", "-l", TRACEFS], check=True)
    assert list(TRACEFS.iterdir()) == []
    try:
        found = _end(cli, running)
    finally:
        mount_tracefs()

    assert found.answer["receipt"]["summary"].startswith("restored ")
    assert list(INSTANCES.glob("*faulty*")) == []
    assert found.manifest["events"] == found.counted == len(found.records)
    assert found.records[-1]["ts"] - found.records[0]["ts"] > 5_000_000_000


def test_a_killed_run_is_put_back_although_tracefs_is_unmounted(cli):
    running = _start(cli, SWITCHES)
    subprocess.run(["umount", "-l", TRACEFS], check=True)
    try:
        cli.kill(running)
        told = cli("recover")
    finally:
        if not INSTANCES.exists():
            mount_tracefs()

    assert "faulty: killed; restored" in told.stdout, told.stderr
    assert list(INSTANCES.glob("*faulty*")) == []
