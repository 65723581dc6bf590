"""The writer: one pass for all outputs, and what is said of an output that broke off."""

import errno
import io
import os
from pathlib import Path

import pytest

from tests.merge_cases import trace, written
from tests.page_builder import PageBuilder
from trace_recipe import writer
from trace_recipe.invoker import find_invoker
from trace_recipe.output_folder import open_output_folder
from trace_recipe.outputs import open_output_file
from trace_recipe.writer import Target, write_outputs

RECORDING = Path("/var/tmp/a recording")


@pytest.fixture
def data():
    build = PageBuilder()
    return trace([{0: written(build, [(10, 1, 1), (20, 2, 2)])}], build)


def redirect(stream, path):
    with open(path, "wb") as other:
        os.dup2(other.fileno(), stream.fileno())


@pytest.fixture
def full():
    """A device that is always full."""
    with open("/dev/full", "wb", buffering=1 << 20) as stream:
        yield stream
        redirect(stream, "/dev/null")  # what is buffered can be closed now


def test_one_pass_writes_every_output(data):
    streams = [io.BytesIO(), io.BytesIO()]
    targets = [
        Target(sink, sink, {}, stream)
        for sink, stream in zip(("jsonl", "csv"), streams, strict=True)
    ]

    done = write_outputs(data, targets, recording=RECORDING)

    assert (done.problems, done.broken) == ([], {})
    assert [stream.getvalue().count(b"\n") for stream in streams] == [2, 3]


@pytest.mark.parametrize(
    ("target", "command"),
    [
        (Target("jsonl", "o.jsonl", {"names": True}), "--as jsonl --output o.jsonl --names"),
        (Target("text", "-", {"names": False}), "--as text"),
        (Target("csv", "it's.csv", {}), """--as csv --output 'it'"'"'s.csv'"""),
        (
            Target("trace-dat", "o.dat", {"version": 6, "compression": "none"}),
            "--as trace-dat --output o.dat --version=6 --compression=none",
        ),
    ],
)
def test_the_fix_of_an_incomplete_output_can_be_typed_as_it_stands(data, target, command):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "full")

    stream = Full()
    target = Target(target.sink, target.name, target.options, stream)
    [problem] = write_outputs(data, [target], recording=RECORDING).problems

    what = "standard output" if target.name == "-" else f"output '{target.name}'"
    assert problem.what == f"{what} is incomplete: {os.strerror(errno.ENOSPC)} (ENOSPC)"
    assert problem.why == "its disk is full; what was written before is kept"
    assert problem.fix == (
        "free space, then write it again from the recording: "
        f"trace-recipe report '/var/tmp/a recording' {command}"
    )


def test_what_a_buffer_still_holds_breaks_off_before_the_writer_is_done(data, full):
    done = write_outputs(data, [Target("jsonl", "o", {}, full)], recording=RECORDING)

    assert done.broken == {"o": errno.ENOSPC}


def test_a_full_disk_under_a_file_per_event_is_told_once(data, tmp_path):
    folder = open_output_folder(tmp_path / "events", find_invoker({}))

    def open_full(name):
        stream = folder.open_file(name)
        redirect(stream, "/dev/full")
        return stream

    target = Target("csv", "events", {"layout": "per-event"}, open_file=open_full)
    done = write_outputs(data, [target], recording=RECORDING)
    folder.keep(is_whole=not done.broken)

    [problem] = done.problems
    assert problem.fix.endswith(
        "report '/var/tmp/a recording' --as csv --output events --per-event"
    )


def test_a_file_that_could_not_be_written_whole_still_gets_its_name(tmp_path):
    output = open_output_file(tmp_path / "o.txt", find_invoker({}))
    output.stream.write(b"events")
    redirect(output.stream, "/dev/full")

    output.keep(is_whole=False)

    assert [path.name for path in tmp_path.iterdir()] == ["o.txt"]


def test_an_output_that_breaks_off_does_not_keep_the_others_from_being_written(data, full):
    stream = io.BytesIO()
    targets = [Target("text", "a", {}, full), Target("jsonl", "b", {}, stream)]

    done = write_outputs(data, targets, recording=RECORDING)

    assert list(done.broken) == ["a"]
    assert stream.getvalue().count(b"\n") == 2


def test_a_trace_dat_alone_needs_no_decoding(data, monkeypatch):
    monkeypatch.setattr(writer, "decode", lambda data: pytest.fail("decoded"))
    stream = io.BytesIO()

    done = write_outputs(data, [Target("trace-dat", "o.dat", {}, stream)], recording=RECORDING)

    assert done.problems == []
    assert len(stream.getvalue()) > 4096


def test_damages_are_looked_for_where_it_is_asked():
    [page] = written(PageBuilder(), [(10, 1, 1)])
    damaged = trace([{0: [page[:8] + b"\xff" * 3 + page[11:]]}], PageBuilder())
    targets = [Target("trace-dat", "o.dat", {}, io.BytesIO())]

    assert write_outputs(damaged, targets, recording=RECORDING).damages == []
    assert write_outputs(damaged, targets, recording=RECORDING, looks_for_damages=True).damages
