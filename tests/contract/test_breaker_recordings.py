"""Recordings that lost a part, hold a lie, or come from somebody who means harm."""

import json
import os
import subprocess

import pytest

RECIPE = """
recipe: v1
name: whole
events: ["sched:sched_switch"]
duration: 300ms
outputs: []
"""

pytestmark = pytest.mark.tracefs


@pytest.fixture
def recording(cli, recipe):
    done = cli("run", str(recipe(RECIPE)), "--recording", "R")
    assert done.returncode == 0, done.stderr
    return cli.directory / "R"


def _cpu_with_pages(recording):
    manifest = json.loads((recording / "manifest.json").read_text())
    return next(cpu for cpu in manifest["buffers"][0]["cpus"] if cpu["bytes"])


def _set(recording, value, *path):
    file = recording / "manifest.json"
    manifest = json.loads(file.read_text())
    here = manifest
    for part in path[:-1]:
        here = here[part]
    here[path[-1]] = value
    file.write_text(json.dumps(manifest))


@pytest.mark.parametrize("how", ["empty", "removed", "a pipe", "a link to /dev/zero"])
@pytest.mark.parametrize("form", ["text", "trace-dat"])
def test_a_cpu_without_its_pages_is_told_and_the_others_are_written(cli, recording, how, form):
    cpu = _cpu_with_pages(recording)
    path = recording / cpu["file"]
    path.unlink()
    if how == "empty":
        path.touch()
    elif how == "a pipe":
        os.mkfifo(path)
    elif how == "a link to /dev/zero":
        path.symlink_to("/dev/zero")

    done = cli("report", "R", "--as", form, "-o", "out")

    assert done.returncode == 6
    assert done.stderr == (
        f"R: CPU {cpu['cpu']} is damaged at byte 0: {cpu['bytes']} bytes are missing;"
        " the rest was decoded\n"
    )
    assert (cli.directory / "out").stat().st_size > 0


def test_whole_sub_buffers_that_are_cut_off_are_told(cli, recording):
    cpu = _cpu_with_pages(recording)
    os.truncate(recording / cpu["file"], cpu["bytes"] - 4096)

    done = cli("report", "R")

    assert done.returncode == 6
    assert f"damaged at byte {cpu['bytes'] - 4096}: 4096 bytes are missing" in done.stderr


@pytest.mark.parametrize("form", ["text", "trace-dat"])
@pytest.mark.parametrize(
    ("value", "path"),
    [
        (-1, ("kernel", "long_size")),
        (1 << 62, ("kernel", "cpu_count")),
        (0, ("buffers", 0, "subbuf_size_bytes")),
        (1 << 62, ("buffers", 0, "subbuf_size_bytes")),
        (-1, ("buffers", 0, "cpus", 0, "cpu")),
        (1 << 62, ("buffers", 0, "cpus", 0, "cpu")),
        ("x" * 9999, ("buffers", 0, "cpus", 0, "file")),
    ],
)
def test_numbers_no_kernel_has_are_no_manifest(cli, recording, form, value, path):
    _set(recording, value, *path)

    done = cli("report", "R", "--as", form, "-o", "out")

    assert done.returncode == 6
    assert "not a manifest of trace-recipe" in done.stderr
    assert not (cli.directory / "out").exists()


@pytest.mark.parametrize("name", ["formats.json", "header_page", "kallsyms.zst", "saved_cmdlines"])
def test_a_recording_cannot_make_us_wait_for_a_pipe(cli, recording, name):
    (recording / name).unlink(missing_ok=True)
    os.mkfifo(recording / name)

    assert cli("report", "R").returncode in {0, 6}


def test_a_catalogue_without_end_is_refused(cli):
    words = ["bash", "-c", 'ulimit -v 4000000; exec "$@"', "bash"]

    done = subprocess.run(
        [*words, *cli.command("list", "events", "--kernel", "/dev/zero")],
        env=cli.environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 6
    assert "not JSON" in done.stderr
