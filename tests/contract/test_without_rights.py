"""A run's events are decoded and written without root's rights, also those shown live."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from tests.waiting import WAITING, let_it_end
from trace_recipe import cli
from trace_recipe.sinks import SINKS

pytestmark = pytest.mark.tracefs

RECIPE = """
recipe: v1
name: rights
events: ["raw_syscalls:sys_enter"]
{ends}
outputs: {outputs}
"""
NOBODY = ["65534"] * 4
BUSY = "import os, time\nprint(flush=True)\nwhile True: os.getppid(); time.sleep(0.01)"


@pytest.fixture
def busy():
    """A process with system calls: a machine may have no others for seconds."""
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"\n"
        yield
        process.kill()


@pytest.fixture
def run(monkeypatch, capfd, tmp_path):
    """Run a recipe in this process, so that sinks of the tests can take the place of ours."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        state = str(tmp_path / "state")
        monkeypatch.setattr(sys, "argv", ["trace-recipe", "run", "--state-dir", state, *words])
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, getattr(sys, name))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capfd.readouterr()
        assert ended.value.code == 0, printed.err
        return printed.out

    return run


@pytest.mark.parametrize("sudo", [False, True], ids=["root", "sudo"])
def test_what_decodes_and_writes_has_no_right_of_root(
    untouched, busy, run, recipe, monkeypatch, tmp_path, sudo
):
    for name in ("text", "csv"):
        monkeypatch.setitem(SINKS, name, "tests.greedy_sink:GreedySink")
    outputs = '[{text: "-"}, {csv: tried.json}, {jsonl: events.jsonl}]'
    path = recipe(RECIPE.format(ends="duration: 400ms", outputs=outputs))
    if sudo:
        for one in (tmp_path, *tmp_path.parents[:2]):
            one.chmod(0o755)
        path.chmod(0o644)
        os.chown(tmp_path, 1234, 1234)
        monkeypatch.setenv("SUDO_UID", "1234")
        monkeypatch.setenv("SUDO_GID", "1234")

    live = json.loads(run(str(path)))
    written = json.loads((tmp_path / "tried.json").read_text())

    for tried in (live, written):
        assert tried["status"]["Uid"] == NOBODY
        assert tried["status"]["CapEff"] == tried["status"]["CapBnd"] == ["0" * 16]
        assert tried["status"]["NoNewPrivs"] == ["1"]
        assert tried["errnos"]["read a file of root's"] == errno.EACCES
        assert tried["errnos"]["open tracefs"] == errno.EACCES
    assert (tmp_path / "tried.json").stat().st_uid == (1234 if sudo else 0)
    records = map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines())
    pids = {one["pid"] for one in records if "event" in one}
    assert pids
    assert pids.isdisjoint({live["pid"], written["pid"], os.getpid()})


def test_a_process_that_shows_events_and_is_killed_does_not_stop_the_recording(
    untouched, busy, cli, recipe
):
    outputs = '[{text: "-"}, {jsonl: events.jsonl}]'
    path = recipe(RECIPE.format(ends=WAITING, outputs=outputs))
    running = cli.start("run", str(path), "--recording", "kept.rec")
    assert running.stdout is not None
    assert running.stdout.readline().startswith("# tracer")
    words = ["ps", "-o", "uid=,pid=", "--ppid", str(running.pid)]
    children = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    (pid,) = [pid for uid, pid in map(str.split, children.splitlines()) if uid == NOBODY[0]]
    os.kill(int(pid), signal.SIGKILL)
    let_it_end(cli)
    _, err = running.communicate(timeout=60)
    done = cli("report", "kept.rec", "--as", "jsonl", "-o", "again.jsonl")

    assert running.returncode == 4
    assert "the process that writes the outputs has failed: killed by SIGKILL" in err
    assert "; restored " in err
    assert not (cli.directory / "events.jsonl").exists()
    assert done.returncode == 0, done.stderr
    assert (cli.directory / "again.jsonl").stat().st_size > 0
