"""What happens to a machine while it is traced: CPUs, mounts, probes and clocks come and go."""

import json
import mmap
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
from tests.vm import kernels
from tests.waiting import WAITING, let_it_end, wait_until_it_records
from trace_recipe.executor import apply
from trace_recipe.plan import Plan, Scope, SetFile
from trace_recipe.receipt import Outcome
from trace_recipe.tracefs import Tracefs, mount_tracefs

TRACEFS = Path("/sys/kernel/tracing")
INSTANCES = TRACEFS / "instances"
SWITCHES = "'sched:sched_switch'"
MODULE = Path("/", kernels.MODULE)
OF_MODULE = "events/netfs/netfs_read"
SIZES = ("64", "128")
CPU1 = Path("/sys/devices/system/cpu/cpu1/online")
PROBES = TRACEFS / "kprobe_events"
RECIPE = """
recipe: v1
name: faulty
events: [{events}]
clock: mono
buffer: {{watermark: 0}}
{waiting}
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
    path.write_text(RECIPE.format(events=events, waiting=WAITING))
    running = cli.start("run", str(path), "--json", "--recording", "R")
    wait_until_it_records(cli, running)
    return running


def _work_on(cpu):
    """Switch tasks and read on a CPU, where nothing else may happen for seconds."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    for _ in range(20):
        Path("/proc/self/comm").read_text()
        time.sleep(0.005)
    os.sched_setaffinity(0, before)


def _read_until_reads_are_spooled(cli):
    """Of two more sub-buffers of each CPU the second holds what happens here, and nothing older."""
    ends_at = time.monotonic() + 60
    wanted = {
        path: path.stat().st_size + 2 * mmap.PAGESIZE
        for path in (cli.directory / "R").glob("cpu*.raw")
    }
    while any(path.stat().st_size < size for path, size in wanted.items()):
        assert time.monotonic() < ends_at
        for cpu in sorted(os.sched_getaffinity(0)):
            _work_on(cpu)


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

    @property
    def disabled(self):
        """The events that others were seen to disable."""
        texts = [one for one in self.answer["drifts"] if one["file"].endswith("/set_event")]
        return {name for one in texts for name in one["applied"].split()}


def _end(cli, running):
    let_it_end(cli)
    out, err = running.communicate(timeout=180)
    assert running.returncode == 0, err
    lines = (cli.directory / "o.jsonl").read_text().splitlines()
    manifest = json.loads((cli.directory / "R/manifest.json").read_text())
    return Found(json.loads(out), manifest, [json.loads(line) for line in lines])


@pytest.fixture(scope="module")
def eventful(tmp_path_factory):
    """One run: a probe and a module go, a CPU goes and comes, and the wall clock is set."""
    cli = Cli(tmp_path_factory.mktemp("eventful"))
    events = [SWITCHES]
    if PROBES.exists():
        _write(PROBES, "p:faulty/reads vfs_read\n", os.O_APPEND)
        events.append("'faulty:reads'")
    if MODULE.exists():
        subprocess.run(["insmod", MODULE], check=True)
        events.append("'netfs:netfs_read'")
    moments = [time.monotonic_ns()]
    running = _start(cli, ", ".join(events))
    (instance,) = INSTANCES.glob("*faulty*")
    if len(events) > 1:
        _read_until_reads_are_spooled(cli)
    if PROBES.exists():
        _write(instance / "events/faulty/reads/enable", "0")
        _write(PROBES, "-:faulty/reads\n", os.O_APPEND)  # which empties the buffer
    if MODULE.exists():
        subprocess.run(["rmmod", "netfs"], check=True)  # that too
    moments.append(time.monotonic_ns())
    _work_on(1)
    CPU1.write_text("0")
    moments.append(time.monotonic_ns())
    time.sleep(1)
    moments.append(time.monotonic_ns())
    CPU1.write_text("1")
    moments.append(time.monotonic_ns())
    _work_on(1)
    time.clock_settime(time.CLOCK_REALTIME, time.time() + 3600)
    time.sleep(1)  # for whoever looks at a clock, and at the wrong one
    try:
        found = _end(cli, running)
        yield found, [*moments, time.monotonic_ns()]
    finally:
        time.clock_settime(time.CLOCK_REALTIME, time.time() - 3600)
        cli.clean_up()


def test_a_cpu_that_goes_offline_and_comes_back_loses_nothing(eventful):
    found, (_, begun, gone, returning, back, _) = eventful
    times = [one["ts"] for one in found.records if one.get("cpu") == 1]

    assert found.manifest["lost"] == 0
    assert found.manifest["events"] <= sum("event" in one for one in found.records)
    assert [time for time in times if begun < time < gone]
    assert not [time for time in times if gone < time < returning]
    assert max(times) > back


def test_a_probe_that_others_remove_is_a_drift_and_what_it_recorded_can_be_read(eventful):
    if not PROBES.exists():
        pytest.skip("this kernel has no kprobes")
    found, _ = eventful
    names = {one.get("event") for one in found.records}

    assert "faulty:reads" in found.disabled
    assert names >= {"faulty:reads", "sched:sched_switch"}
    assert not [name for name in names if name and name.startswith("unknown")]
    assert "left" not in {one["outcome"] for one in found.answer["receipt"]["files"]}


def test_a_module_that_is_unloaded_is_a_drift_and_what_was_recorded_before_can_be_read(eventful):
    if not MODULE.exists():
        pytest.skip("this kernel came without a module")
    found, (_, begun, *_) = eventful

    assert "netfs:netfs_read" in found.disabled
    assert [one for one in found.records if one.get("ts", begun) < begun]
    assert "left" not in {one["outcome"] for one in found.answer["receipt"]["files"]}


@pytest.fixture
def theirs():
    """An instance of somebody else, whose CPUs have buffers of their own sizes."""
    instance = INSTANCES / "theirs"
    instance.mkdir()
    for cpu, size in enumerate(SIZES):
        _write(instance / f"per_cpu/cpu{cpu}/buffer_size_kb", size)
    yield instance
    instance.rmdir()


def _applied(directory, *steps):
    files = [SetFile(f"instances/theirs/{name}", name, None, text, text, Scope.SHARED, None, "",
                     also=tuple(f"instances/theirs/{one}" for one in also))
             for name, text, also in steps]  # fmt: skip
    plan = Plan("gone", "g.yaml", "named", "theirs", tuple(files))
    return apply(plan, Tracefs(), run_id="gone", state_directory=directory, bindings={})


def test_what_a_module_took_with_it_is_nobodys_and_the_rest_is_put_back(tmp_path, theirs):
    if not MODULE.exists():
        pytest.skip("this kernel came without a module")
    subprocess.run(["insmod", MODULE], check=True)
    session = _applied(
        tmp_path, (f"{OF_MODULE}/filter", "common_pid > 0", ()), (f"{OF_MODULE}/enable", "1", ()),
        ("buffer_percent", "33", ()),
    )  # fmt: skip
    subprocess.run(["rmmod", "netfs"], check=True)

    receipt = session.restore()

    outcomes = {line.file.rpartition("/")[2]: line.outcome for line in receipt.lines}
    assert outcomes == {
        "filter": Outcome.FOREIGN, "enable": Outcome.FOREIGN, "buffer_percent": Outcome.RESTORED
    }  # fmt: skip
    assert (theirs / "buffer_percent").read_text() == "50\n"
    assert list(tmp_path.glob("*.journal")) == []


def test_the_buffer_of_a_cpu_that_went_offline_gets_its_size_back(tmp_path, theirs):
    names = [f"per_cpu/cpu{cpu}/buffer_size_kb" for cpu in range(2)]
    before = [(theirs / name).read_text() for name in names]
    session = _applied(tmp_path, ("buffer_size_kb", "300", names))
    CPU1.write_text("0")
    try:
        receipt = session.restore()
        while_offline = [(theirs / name).read_text() for name in names]
    finally:
        CPU1.write_text("1")

    assert {line.outcome for line in receipt.lines} == {Outcome.RESTORED}
    assert len(set(before)) == 2
    assert while_offline == before == [(theirs / name).read_text() for name in names]


def test_a_wall_clock_that_is_set_meanwhile_changes_no_time_and_is_told(eventful):
    found, (launched, *_, ended) = eventful
    walls = [one["wall"] for one in found.records if "event" in one]

    assert found.manifest["exit_reason"] == "command ended with status 0"
    assert 2_000_000_000 < found.manifest["duration_ns"] < ended - launched
    (note,) = [note for note in found.manifest["notes"] if "wall clock" in note]
    told = re.match(r"the wall clock went \+([\d.]+) s against the monotonic one", note)
    assert told and abs(float(told[1]) - 3600) < 30
    assert walls == sorted(walls)
    first, last = (datetime.fromisoformat(walls[place][:26]) for place in (0, -1))
    assert (last - first).total_seconds() <= found.manifest["duration_ns"] / 1e9 + 1


def test_a_tracefs_that_is_unmounted_meanwhile_is_still_recorded_and_restored(cli):
    running = _start(cli, SWITCHES)
    subprocess.run(["umount", "-l", TRACEFS], check=True)
    assert list(TRACEFS.iterdir()) == []
    unmounted_ns = time.monotonic_ns()
    _work_on(1)
    try:
        found = _end(cli, running)
    finally:
        mount_tracefs()

    assert found.answer["receipt"]["summary"].startswith("restored ")
    assert list(INSTANCES.glob("*faulty*")) == []
    assert found.manifest["events"] == found.counted == len(found.records)
    assert found.records[0]["ts"] < unmounted_ns < found.records[-1]["ts"]


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
