"""The process that decodes and writes: what it may do, and what a fault in it leaves."""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trace_dat_cases import make_data, written
from trace_recipe import cli
from trace_recipe.held_files import hold_file
from trace_recipe.invoker import find_invoker
from trace_recipe.output_folder import open_output_folder
from trace_recipe.outputs import open_output_file
from trace_recipe.scribe import TRACE_DAT, Scribe
from trace_recipe.sinks import SINKS
from trace_recipe.writer import Target

ROOT = Path(__file__).parents[2]
INVOKER = find_invoker({})
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving up root takes root")


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.dat"
    path.write_bytes(written(make_data()))
    return path


@pytest.fixture
def replaced(monkeypatch):
    """Put a sink of the tests in the place of a real one."""

    def replace(name, sink):
        monkeypatch.setitem(SINKS, name, f"tests.greedy_sink:{sink}")

    return replace


def _scribe(*targets, standard_output=1):
    return Scribe(targets, standard_output=standard_output)


def _write(scribe, trace):
    try:
        scribe.hold(trace.parent, {TRACE_DAT: hold_file(trace)})
        return scribe.write()
    finally:
        scribe.close()


@needs_root
def test_a_sink_of_a_run_by_root_has_no_right_of_root(trace, tmp_path, replaced):
    replaced("jsonl", "GreedySink")
    output = open_output_file(tmp_path / "o", INVOKER)

    found = _write(_scribe(Target("jsonl", "o", {}, output.stream)), trace)
    output.keep()

    assert not found.problems
    tried = json.loads((tmp_path / "o").read_text())
    assert tried["status"]["CapEff"] == ["0" * 16]
    assert tried["status"]["NoNewPrivs"] == ["1"]
    assert tried["errnos"]["read a file of root's"] == errno.EACCES
    assert set(tried["errnos"].values()) == {errno.EACCES, errno.EPERM}
    opened = [one for one in tried["descriptors"].values() if one.startswith("/")]
    assert sorted({*opened} - {"/dev/null"}) == sorted(
        [str(trace), str(tmp_path / f"{output.part}")]
    )


@needs_root
def test_report_gives_up_its_rights(trace, tmp_path, replaced, monkeypatch, capfd):
    replaced("text", "GreedySink")
    monkeypatch.setattr(sys, "argv", ["trace-recipe", "report", str(trace)])
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    with pytest.raises(SystemExit) as ended:
        cli.main()

    tried = json.loads(capfd.readouterr().out)
    assert ended.value.code == 0
    assert tried["status"]["CapEff"] == ["0" * 16]
    assert tried["errnos"]["read a file of root's"] == errno.EACCES


def test_a_file_outside_of_the_outputs_directory_is_not_opened(trace, tmp_path, replaced):
    replaced("csv", "NamingSink")
    folder = open_output_folder(tmp_path / "events", INVOKER)

    found = _write(_scribe(Target("csv", "events", {}, open_file=folder.open_file)), trace)
    folder.drop()

    assert found.has_failed
    assert "it asked for the file '../outside.csv'" in found.problems[0].what
    assert sorted(one.name for one in tmp_path.iterdir()) == ["events", "trace.dat"]


def test_a_file_for_each_of_many_types_needs_no_higher_limit(trace, tmp_path, replaced):
    replaced("csv", "ManySink")
    folder = open_output_folder(tmp_path / "events", INVOKER)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        found = _write(_scribe(Target("csv", "events", {}, open_file=folder.open_file)), trace)
        folder.keep()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        folder.drop()

    assert found.problems == []
    assert len(list((tmp_path / "events").glob("*.csv"))) == 1000


@pytest.mark.parametrize(
    ("sink", "words"),
    [
        ("BrokenSink", "ZeroDivisionError: a bug"),
        ("DyingSink", "killed by SIGKILL"),
        ("LyingSink", "has failed"),
    ],
)
def test_a_fault_is_told_and_no_output_is_called_whole(trace, tmp_path, replaced, sink, words):
    replaced("text", sink)
    output = open_output_file(tmp_path / "o", INVOKER)

    found = _write(_scribe(Target("text", "o", {}, output.stream)), trace)
    output.drop()

    assert found.has_failed
    assert words in found.problems[0].what
    assert found.problems[0].fix
    assert not (tmp_path / "o").exists()


def test_it_stops_when_it_is_told_to(trace, tmp_path):
    output = open_output_file(tmp_path / "o", INVOKER)
    scribe = _scribe(Target("text", "o", {}, output.stream))
    scribe.hold(trace.parent, {TRACE_DAT: hold_file(trace)})

    found = scribe.write(should_stop=lambda: True)
    output.drop()

    assert found.was_stopped
    assert not os.path.exists(f"/proc/{scribe.pid}")


def test_a_full_disk_is_a_problem_of_its_output_alone(trace, tmp_path):
    output = open_output_file(tmp_path / "o", INVOKER)
    with open("/dev/full", "wb") as full:
        targets = [
            Target("jsonl", "full", {}, full),
            Target("text", "o", {}, output.stream),
        ]
        found = _write(_scribe(*targets), trace)
    output.keep()

    assert [one.what for one in found.problems] == [
        "output 'full' is incomplete: No space left on device (ENOSPC)"
    ]
    assert (tmp_path / "o").read_text().startswith("# tracer:")


FORMS = [
    ("text", "--names"),
    ("jsonl", "--names"),
    ("csv",),
    ("csv", "--per-event"),
    ("trace-dat",),
    ("trace-dat", "--version", "6"),
]


@needs_root
@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_nothing_of_the_program_is_read_after_the_rights_are_gone(trace, tmp_path, form):
    """An installation below /root: whoever has no rights cannot import from there."""
    hidden = tmp_path / "root-only"
    hidden.mkdir(mode=0o700)
    shutil.copytree(ROOT / "runner", hidden / "runner")
    words = ["report", str(trace), "--as", *form, "-o", str(tmp_path / "out")]

    done = subprocess.run(
        [sys.executable, "-m", "trace_recipe", *words],
        env={**os.environ, "PYTHONPATH": str(hidden / "runner")},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").exists()
