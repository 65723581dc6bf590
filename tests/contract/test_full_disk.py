"""A disk that fills up at any stage of a run: on the real tracefs, on disks of a few kilobytes."""

import json
import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.tracefs

INSTANCES = Path("/sys/kernel/tracing/instances")
RECIPE = """
recipe: v1
name: fullness
events: {events}
scope: {{pids: [command]}}
run: {{command: [/usr/bin/dd, if=/dev/zero, of=/dev/null, bs=1, count={count}, status=none]}}
outputs: {outputs}
"""
OUTPUTS = "[{{jsonl: {0}/o.jsonl}}, {{text: {0}/o.txt}}, {{trace-dat: {0}/o.dat}}]"
SYSCALLS = "['raw_syscalls:*']"


@pytest.fixture
def small(tmp_path):
    """Mount a small disk; return where it is."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted: list[Path] = []

    def mount(options):
        while mounted:
            subprocess.run(["umount", mounted.pop()], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", directory], check=True)
        mounted.append(directory)
        return directory

    yield mount
    for one in mounted:
        subprocess.run(["umount", one], check=True)


def _recipe(recipe, outputs, *, count=20000, events=SYSCALLS):
    shown = OUTPUTS.format(outputs) if outputs else "[]"
    return recipe(RECIPE.format(events=events, count=count, outputs=shown))


def _is_over(cli) -> bool:
    journals = list(cli.state.glob("*.journal")) if cli.state.exists() else []
    parts = list(cli.directory.rglob("*.part"))
    return not (journals or parts or list(INSTANCES.glob("*fullness*")))


@pytest.mark.slow
def test_wherever_a_file_cannot_be_made_the_run_ends_as_documented(cli, recipe, small, untouched):
    statuses = set()
    cpus = len(list(Path("/sys/kernel/tracing/per_cpu").iterdir()))  # each has a file
    for files in sorted({*range(2, 24), 21 + cpus}):
        disk = small(f"size=50m,nr_inodes={files}")
        cli.state = disk / "state"

        done = cli("run", str(_recipe(recipe, disk, count=200)), "--recording", str(disk / "R"))

        statuses.add(done.returncode)
        assert done.returncode in {0, 3, 4}, done.stderr
        assert "Traceback" not in done.stderr
        assert (done.returncode == 0) == ("No space left on device" not in done.stderr)
        assert _is_over(cli)
        if (disk / "R").exists():
            assert cli("report", str(disk / "R")).stdout.count("sys_enter") > 200
        else:
            assert "state: untouched" in done.stderr or "state: restored" in done.stderr
    assert statuses == {0, 3, 4}


@pytest.mark.slow
@pytest.mark.parametrize("size_kb", [8, 64, 1024, 2000, 2100, 2300, 2600, 4000, 6000])
def test_wherever_room_ends_the_recording_is_readable_up_to_there_and_all_events_are_counted(
    cli, recipe, small, untouched, size_kb
):
    disk = small(f"size={size_kb}k")
    cli.state = disk / "state"

    done = cli("run", str(_recipe(recipe, disk)), "--recording", str(disk / "R"))

    assert done.returncode == 4, done.stderr
    assert "Traceback" not in done.stderr
    assert "No space left on device (ENOSPC)" in done.stderr
    assert _is_over(cli)
    if size_kb <= 2000:
        assert f"no room to record in '{disk}/R'" in done.stderr
        assert not (disk / "R").exists()
        return
    manifest = json.loads((disk / "R/manifest.json").read_text())
    records = [
        json.loads(line)
        for line in cli("report", str(disk / "R"), "--as", "jsonl").stdout.splitlines()
    ]
    events = [one for one in records if "event" in one]
    gaps = [one for one in records if "lost" in one]
    assert len(events) == manifest["events"]
    cpus = manifest["buffers"][0]["cpus"]
    assert sum(gap["lost"] for gap in gaps) == manifest["lost"]
    counted = sum(
        int(number)
        for cpu in cpus
        for number in re.findall(
            r"^(?:entries|overrun|read events): (\d+)$", cpu["stats"], re.MULTILINE
        )
    )
    assert manifest["events"] + manifest["lost"] == counted


def test_outputs_that_do_not_fit_are_incomplete_and_the_recording_is_kept(
    cli, recipe, small, untouched
):
    disk = small("size=256k")

    done = cli("run", str(_recipe(recipe, disk)))

    assert done.returncode == 4, done.stderr
    assert done.stderr.count("is incomplete: No space left on device (ENOSPC)") == 3
    kept = Path(re.search(r"recording (/\S+)", done.stderr)[1])
    try:
        assert cli("report", str(kept)).stdout.count("sys_enter") > 20000
    finally:
        subprocess.run(["rm", "-r", kept], check=True)
    assert _is_over(cli)


def test_a_state_directory_that_fills_while_the_plan_is_applied_undoes_it(
    cli, recipe, small, untouched
):
    cli.state = small("size=12k") / "state"
    path = _recipe(recipe, cli.directory, events="['syscalls:sys_enter_*']", count=10)

    done = cli("run", str(path))

    assert done.returncode == 4, done.stderr
    assert "cannot write the journal" in done.stderr
    assert "No space left on device (ENOSPC)" in done.stderr
    assert "state: restored" in done.stderr
    assert _is_over(cli)


def test_a_full_state_directory_is_told_before_anything_is_touched(cli, recipe, small, untouched):
    disk = small("size=4k")
    (disk / "filler").write_bytes(b"x" * 4096)
    cli.state = disk / "state"

    done = cli("run", str(_recipe(recipe, cli.directory, count=10)))

    assert done.returncode == 3, done.stderr
    assert "fix: free space there, or name another place with --state-dir" in done.stderr
    assert "state: untouched" in done.stderr


def test_an_output_whose_directory_is_gone_when_it_gets_its_name_is_told(cli, recipe, untouched):
    place = cli.directory / "place"
    place.mkdir()
    command = f"rm -r {place}"
    path = recipe(
        "recipe: v1\nname: fullness\nevents: ['raw_syscalls:*']\nscope: {pids: [command]}\n"
        f"run: {{command: [/bin/sh, -c, '{command}']}}\noutputs: [{{jsonl: {place}/o.jsonl}}]\n"
    )

    done = cli("run", str(path), "--recording", "R")

    assert done.returncode == 4, done.stderr
    assert f"cannot name output '{place}/o.jsonl': No such file or directory (ENOENT)" in (
        done.stderr
    )
    assert cli("report", "R").stdout.count("sys_enter") > 10
