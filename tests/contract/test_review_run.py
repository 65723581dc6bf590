"""A run whose reader, directory, journal or marker is not what it hoped for: on the real tracefs."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.requirements import need_two_cpus
from tests.tracefs_tree import is_recording

pytestmark = pytest.mark.tracefs

INSTANCES = Path("/sys/kernel/tracing/instances")
NOBODY = 65534
FLOOD = """
recipe: v1
name: rev-flood
events: ["raw_syscalls:sys_enter"]
duration: {duration}
run: {{command: [/usr/bin/dd, if=/dev/zero, of=/dev/null, bs=1, count=90000000]}}
outputs: [{{text: "-"}}]
"""
QUIET = """
recipe: v1
name: rev-quiet
events: ["sched:sched_process_exec"]
duration: {duration}
{more}
outputs: [{{jsonl: o.jsonl}}]
"""


def _instance(name: str, running: subprocess.Popen[str]) -> Path:
    ends_at = time.monotonic() + 30
    while time.monotonic() < ends_at:
        for path in INSTANCES.glob(f"trace-recipe-{name}-*"):
            if is_recording(path):
                return path
        assert running.poll() is None, running.communicate()
        time.sleep(0.02)
    raise AssertionError("no instance appeared")


def _gone(path: Path, within_s: float) -> bool:
    ends_at = time.monotonic() + within_s
    while path.exists() and time.monotonic() < ends_at:
        time.sleep(0.05)
    return not path.exists()


def test_a_reader_that_reads_nothing_does_not_keep_the_kernel_tracing(untouched, cli, recipe):
    running = cli.start("run", str(recipe(FLOOD.format(duration="3s"))))
    instance = _instance("rev-flood", running)

    assert _gone(instance, within_s=60)
    out, err = running.communicate(timeout=100)
    assert running.returncode == 0, err
    events = sum(" NR " in line for line in out.split("\n"))
    assert f"rev-flood: {events} events in " in err


def test_ctrl_c_works_while_the_reader_reads_nothing(untouched, cli, recipe):
    running = cli.start("run", str(recipe(FLOOD.format(duration="60s"))), "--recording", "r")
    instance = _instance("rev-flood", running)
    time.sleep(1.5)

    running.send_signal(signal.SIGINT)
    assert _gone(instance, within_s=30)
    time.sleep(0.3)  # a second one within 0.2 s is the same wish
    running.send_signal(signal.SIGINT)
    assert running.wait(timeout=30) == 130
    # The second one may come before the recording's rest is written, or while it waits.
    told = running.communicate()[1]
    assert "standard output is incomplete" in told or "outputs were skipped" in told


def test_closed_standard_output_is_not_a_traceback(untouched, cli, recipe):
    words = cli.command("run", str(recipe(QUIET.format(duration="200ms", more=""))))

    done = subprocess.run(
        ["/bin/sh", "-c", '"$@" >&-', "sh", *words],
        cwd=cli.directory, env=cli.environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr


def test_a_journal_removed_during_the_run_is_still_the_way_back(untouched, cli, recipe):
    running = cli.start("run", str(recipe(QUIET.format(duration="60s", more=""))))
    instance = _instance("rev-quiet", running)
    shutil.rmtree(cli.state)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)

    assert running.returncode == 130, err
    assert not instance.exists()


def test_what_was_recorded_is_written_when_the_restore_fails(untouched, cli, recipe):
    running = cli.start("run", str(recipe(QUIET.format(duration="60s", more=""))))
    instance = _instance("rev-quiet", running)
    held = os.open(instance / "tracing_on", os.O_RDONLY)
    try:
        subprocess.run(["/bin/true"], check=True)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    finally:
        os.close(held)
    recovered = cli("recover")

    assert running.returncode == 5, err
    assert "state: NOT restored" in err
    assert "/bin/true" in (cli.directory / "o.jsonl").read_text()
    assert recovered.returncode == 0, recovered.stderr
    assert not instance.exists()


def test_markers_are_written_when_the_top_level_has_them_off_and_only_one_cpu_is_traced(
    untouched, cli, recipe
):
    need_two_cpus()
    off = Path("/sys/kernel/tracing/options/markers")
    more = (
        "scope: {cpus: [0]}\n"
        "markers: {start: begins, stop: ends}\n"
        "run: {command: [/usr/bin/taskset, -c, '1', sleep, '0.2']}"
    )
    path = recipe(QUIET.format(duration="10s", more=more))
    words = ["/usr/bin/taskset", "-c", "1", *cli.command("run", str(path))]

    assert off.read_text() == "1\n"
    plan = json.loads(cli("plan", str(path), "--json").stdout)
    done = subprocess.run(
        words, cwd=cli.directory, env=cli.environment(), capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert [one["after"] for one in plan["steps"] if one["file"].endswith("/markers")] == ["1"]
    texts = (cli.directory / "o.jsonl").read_text()
    assert "begins" in texts
    assert "ends" in texts


def test_a_marker_that_cannot_be_written_is_told(untouched, cli, recipe):
    text = (
        "recipe: v1\nname: rev-off\nmarkers: {stop: ends}\nduration: 300ms\n"
        "events: [{event: 'sched:sched_switch', triggers: [traceoff]}]\noutputs: [{text: o.txt}]\n"
    )

    done = cli("run", str(recipe(text)))

    assert done.returncode == 0, done.stderr
    assert "marker 'ends' was not written: Bad file descriptor (EBADF)" in done.stderr


def test_a_command_that_cannot_start_is_shown_in_the_recipe(untouched, cli, recipe):
    path = recipe(QUIET.format(duration="1s", more="run: {command: [/no/such/program]}"))

    done = cli("run", str(path))

    assert done.returncode == 2
    assert f"{path}:6:" in done.stderr


@pytest.fixture
def theirs():
    """A directory of another user."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        home = Path(name) / "home"
        home.mkdir()
        os.chown(home, NOBODY, NOBODY)
        yield home


def _under_sudo(cli, home: Path, recipe: Path, *words: str) -> subprocess.CompletedProcess[str]:
    theirs = home / "recipe.yaml"  # a recipe is read with the rights of who called sudo
    shutil.copy(recipe, theirs)
    theirs.chmod(0o644)
    return subprocess.run(
        cli.command("run", str(theirs), *words),
        cwd=home,
        env={**cli.environment(), "SUDO_UID": str(NOBODY), "SUDO_GID": str(NOBODY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_recording_directory_swapped_for_a_link_gets_nothing(untouched, cli, recipe, theirs):
    victim = theirs.parent / "victim"
    victim.mkdir(mode=0o755)
    (victim / "precious").write_text("of root")
    swap = f"mv r.rec moved && ln -s {victim} r.rec && touch done; sleep 0.2"
    path = recipe(QUIET.format(duration="5s", more=f"run: {{command: [/bin/sh, -c, '{swap}']}}"))

    done = _under_sudo(cli, theirs, path, "--recording", "r.rec")

    assert (theirs / "done").exists(), done.stderr
    assert [one.name for one in victim.iterdir()] == ["precious"]
    assert (victim / "precious").stat().st_uid == 0
    assert (theirs / "moved/manifest.json").stat().st_uid == NOBODY
    assert done.returncode == 0, done.stderr


def test_a_recording_directory_of_somebody_else_is_refused(untouched, cli, recipe, theirs):
    (theirs / "of-root").mkdir(mode=0o755)
    path = recipe(QUIET.format(duration="100ms", more=""))

    done = _under_sudo(cli, theirs, path, "--recording", "of-root")

    assert done.returncode == 4, done.stderr
    assert "belongs to somebody else (uid 0)" in done.stderr
    assert (theirs / "of-root").stat().st_uid == 0
    assert list((theirs / "of-root").iterdir()) == []


def test_a_recording_belongs_to_the_user_before_sudo(untouched, cli, recipe, theirs):
    path = recipe(QUIET.format(duration="100ms", more=""))

    done = _under_sudo(cli, theirs, path, "--recording", "mine.rec")

    assert done.returncode == 0, done.stderr
    owners = {
        one.stat().st_uid for one in ((theirs / "mine.rec"), *(theirs / "mine.rec").iterdir())
    }
    assert owners == {NOBODY}
    assert (theirs / "o.jsonl").stat().st_uid == NOBODY


def test_outputs_that_were_skipped_are_not_said_to_be_written(untouched, cli, recipe):
    path = recipe(QUIET.format(duration="60s", more="delay: 60s"))
    running = cli.start("run", str(path), "--recording", "r")
    ends_at = time.monotonic() + 30
    while not list(INSTANCES.glob("trace-recipe-rev-quiet-*/set_event_notrace_pid")):
        assert time.monotonic() < ends_at
        time.sleep(0.02)
    for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
        running.send_signal(number)
    _, err = running.communicate(timeout=60)

    assert running.returncode == 130, err
    assert "outputs were skipped" in err
    assert "wrote" not in err
