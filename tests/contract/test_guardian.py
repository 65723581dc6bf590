"""The guardian puts the kernel back when the runner vanishes, and ends with the run otherwise."""

import contextlib
import fcntl
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.tracefs_tree import is_recording
from trace_recipe.guardian import Guardian
from trace_recipe.journal import Intent, Journal, Leftovers

pytestmark = pytest.mark.tracefs

INSTANCES = Path("/sys/kernel/tracing/instances")
ENDLESS = """
recipe: v1
name: guarded
events: [sched:sched_switch]
duration: 600s
outputs: [{text: out.txt}, {jsonl: out.jsonl}]
"""


def _wait_for(condition, running):
    ends_at = time.monotonic() + 30
    while not condition():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < ends_at, "it did not happen"
        time.sleep(0.005)


def _start(cli, recipe):
    running = cli.start("run", str(recipe(ENDLESS)))
    _wait_for(lambda: any(map(is_recording, INSTANCES.glob("*guarded*"))), running)
    return running


def _spool(cli) -> Path:
    (journal,) = cli.state.glob("*.journal")
    return Path(json.loads(journal.read_text().splitlines()[0])["leftovers"]["spool"])


def test_a_killed_run_is_put_back_and_its_pages_can_be_read(cli, recipe, untouched):
    running = _start(cli, recipe)
    spool = _spool(cli)
    # A sub-buffer of the CPU on which this test wakes every few milliseconds is soon full.
    _wait_for(lambda: any(path.stat().st_size for path in spool.glob("cpu*.raw")), running)

    cli.kill(running)

    assert not list(INSTANCES.glob("*guarded*"))
    assert [path.name for path in cli.directory.iterdir() if path.name.endswith(".part")] == []
    assert f"trace-recipe report {spool}" in cli("status").stdout
    told = cli("recover")
    assert told.returncode == 0
    assert "guarded: killed; restored" in told.stdout
    assert "by its guardian" in told.stdout
    assert cli("recover").stdout == "nothing to recover\n"
    report = cli("report", str(spool))
    assert report.returncode == 0, report.stderr
    assert report.stdout.count("sched_switch: ") > 10
    assert not (spool / ".reserve").exists()


def test_a_signal_to_the_whole_process_group_spares_the_guardian(cli, recipe, untouched):
    running = _start(cli, recipe)
    (guardian,) = cli.guardians()

    assert os.getpgid(guardian) == os.getsid(guardian) == guardian
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        os.kill(guardian, number)
    time.sleep(0.1)
    assert cli.guardians() == [guardian]
    cli.kill(running)
    assert not list(INSTANCES.glob("*guarded*"))


def test_the_guardian_holds_nothing_of_the_runner_open_and_has_little_memory_of_its_own(
    cli, recipe, untouched
):
    running = _start(cli, recipe)
    (guardian,) = cli.guardians()
    files = [link.readlink().name for link in Path(f"/proc/{guardian}/fd").iterdir()]
    memory = Path(f"/proc/{guardian}/smaps_rollup").read_text()
    own_kb = sum(map(int, re.findall(r"^Private_\w+: +(\d+) kB", memory, re.MULTILINE)))

    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)

    assert sorted(files)[:3] == ["null", "null", "null"]
    assert [name.partition(":")[0] for name in sorted(files)[3:]] == ["pipe"]
    assert running.returncode == 130
    assert cli.guardians() == []
    assert own_kb < 8000  # of the 40 MB and more that it shares with the runner


@contextlib.contextmanager
def _held_before_it_applies(cli, text):
    """A run that waits, with everything open, for the lock that it takes before its journal."""
    cli.state.mkdir(mode=0o700)
    path = cli.directory / "recipe.yaml"
    path.write_text(text)
    with (cli.state / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        running = cli.start("run", str(path))
        _wait_for(cli.guardians, running)
        yield running


def _noted(cli) -> Path:
    """Where the only run that has a note of its files spools its pages."""
    (note,) = cli.state.glob("*.leftovers")
    return Path(json.loads(note.read_text())["spool"])


def _left(cli, spool: Path) -> set[Path]:
    """What there is of the spool and of outputs without a name."""
    return {*spool.parent.glob(spool.name), *cli.directory.rglob(".*.part")}


def test_a_run_that_is_killed_before_it_applies_leaves_no_spool(cli, recipe, untouched):
    with _held_before_it_applies(cli, ENDLESS) as running:
        spool = _noted(cli)
        assert {path.suffix for path in _left(cli, spool)} == {"", ".part"}
        cli.kill(running)

    assert _left(cli, spool) == set()


@pytest.mark.parametrize("word", ["recover", "run"])
def test_what_runner_and_guardian_leave_before_they_apply_is_removed_by_a_later_command(
    cli, recipe, untouched, word
):
    with _held_before_it_applies(cli, ENDLESS) as running:
        spool = _noted(cli)
        cli.kill(running, with_guardian=True)
        killed = _left(cli, spool)
    other = recipe(ENDLESS.replace("guarded", "other").replace("600s", "50ms"), "other.yaml")

    done = cli(word, *([str(other)] if word == "run" else []))

    assert done.returncode == 0, done.stderr
    assert {path.suffix for path in killed} == {"", ".part"}
    assert _left(cli, spool) == set()
    assert "was killed, its files removed" in done.stdout + done.stderr
    assert cli("recover").stdout == "nothing to recover\n"


def test_recover_leaves_the_files_of_a_living_run_alone(cli, recipe, untouched):
    with _held_before_it_applies(cli, ENDLESS) as running:
        held = _left(cli, spool := _noted(cli))

        assert cli("recover").stdout == "nothing to recover\n"
        assert _left(cli, spool) == held
        cli.kill(running)


def test_a_run_that_is_killed_as_soon_as_it_has_a_journal_is_put_back(tmp_path, untouched):
    intent = Intent(
        run_id="c0ffee", recipe="r", recipe_path="r.yaml", mount=str(INSTANCES.parent),
        instance="", makes_instance=False, inode=None, before={"trace_clock": "[local] global"},
    )  # fmt: skip
    pid = os.fork()
    if pid == 0:
        try:
            Guardian("c0ffee", "r", Leftovers(), tmp_path)
            Journal.begin(tmp_path, intent)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)

    ends_at = time.monotonic() + 30
    while not list(tmp_path.glob("*.ended")):
        assert time.monotonic() < ends_at, list(tmp_path.iterdir())
        time.sleep(0.01)
    assert not list(tmp_path.glob("*.journal"))


def test_a_stopped_run_is_ended_by_restore(cli, recipe, untouched):
    running = _start(cli, recipe)
    (state,) = json.loads(cli("status", "--json").stdout)
    running.send_signal(signal.SIGSTOP)

    done = cli("restore", state["run_id"])

    assert done.returncode == 0, done.stderr
    assert "ended and restored by its own process" in done.stdout
    assert running.wait(timeout=60) == 130
    running.communicate()


def test_an_instance_that_is_held_open_is_named_freed_and_removed_by_a_later_run(
    cli, recipe, untouched
):
    running = _start(cli, recipe)
    (instance,) = INSTANCES.glob("*guarded*")
    held = os.open(instance / "per_cpu/cpu0/trace_pipe_raw", os.O_RDONLY | os.O_NONBLOCK)
    try:
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
        assert running.returncode == 5, err
        assert err.count("is not restored") == 1, err
        own = Path("/proc/self/comm").read_text().strip()
        assert f"held open by {own} (pid {os.getpid()})" in err
        assert (instance / "tracing_on").read_text() == "0\n"
        assert int((instance / "buffer_size_kb").read_text()) < 10
        status = cli("status").stdout
        assert f"(pid {os.getpid()})" in status
        quick = recipe(ENDLESS.replace("guarded", "later").replace("600s", "50ms"), "later.yaml")
        still = cli("run", str(quick))
        assert still.returncode == 0, still.stderr
        assert "still cannot be removed" in still.stderr
    finally:
        os.close(held)

    done = cli("run", str(quick))

    assert done.returncode == 0, done.stderr
    assert "is removed now" in done.stderr
    assert not instance.exists()
    assert cli("recover").stdout == "nothing to recover\n"
