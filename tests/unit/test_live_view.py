"""The live view: what standard output gets while recording, and what is said when it breaks off."""

import errno
import json
import os
from types import SimpleNamespace
from typing import Any

import pytest

from tests.merge_cases import trace, written
from tests.page_builder import PageBuilder
from trace_recipe.live_view import LiveView, Outlet
from trace_recipe.page_files import FilePages
from trace_recipe.sinks import make_sink

BUILD = PageBuilder()
AGAIN = "trace-recipe report /var/tmp/x --as jsonl"
PAGE_COUNT = 3000


class Recorder:
    """Spool files that are all there already; counts how often a flush was asked for."""

    is_flushed = True

    def __init__(self, directory, pages):
        path = directory / "cpu0.raw"
        path.write_bytes(b"".join(pages))
        self.spools = ((0, path, path.stat().st_size),)
        self.flushes = 0

    def request_flush(self):
        self.flushes += 1


@pytest.fixture
def recorder(tmp_path):
    """A recording of one event per sub-buffer, at 10, 20, 30, …"""
    (tmp_path / "saved_cmdlines").write_text("")
    pages = [
        page
        for number in range(1, PAGE_COUNT + 1)
        for page in written(BUILD, [(10 * number, 1, number)])
    ]
    return Recorder(tmp_path, pages)


def view_on(fd, now_ns=None) -> Any:
    """A live view of JSON lines on a descriptor; the trace clock stands at `now_ns`."""
    stats = f"now ts: {now_ns}\n" if now_ns is not None else ""
    outlet = Outlet(os.fdopen(fd, "wb", closefd=False))
    tracefs: Any = SimpleNamespace(read=lambda name: stats)
    sink = make_sink("jsonl", outlet.stream)
    return LiveView(tracefs, tracefs, trace([{}], BUILD), sink, outlet, again=AGAIN)


def finished(recorder):
    (_, path, _), = recorder.spools  # fmt: skip
    return path.parent, trace([{0: FilePages(path, BUILD.subbuf_size)}], BUILD)


def times_in(text):
    return [json.loads(line)["ts"] for line in text.splitlines()]


def test_what_the_ticks_showed_and_the_rest_are_all_events_once(recorder, tmp_path):
    with (tmp_path / "out").open("wb") as stream:
        view = view_on(stream.fileno(), now_ns=500)
        view.tick(recorder)
        view.tick(recorder)
        shown = times_in((tmp_path / "out").read_text())
        view.finish(*finished(recorder), should_stop=lambda: False)

    assert shown == list(range(10, 501, 10))
    assert recorder.flushes == 2
    assert times_in((tmp_path / "out").read_text()) == list(range(10, 10 * PAGE_COUNT + 1, 10))
    assert view.problems == []


@pytest.mark.parametrize(
    ("number", "why", "fix"),
    [
        (errno.ENOSPC, "its disk is full", "free space, then write it again"),
        (errno.EDQUOT, "its owner's disk quota is used up", "free space, then write it again"),
        (errno.EFBIG, "a file may not become larger", "raise the limit, then write it again"),
        (errno.EIO, "its device failed, or the terminal is gone", "write it again"),
        (errno.EPIPE, "whoever read it has gone", "write it again"),
        (errno.ENXIO, "no more could be written", "write it again"),
    ],
)
def test_each_errno_of_standard_output_is_told_as_what_it_is(
    recorder, monkeypatch, tmp_path, number, why, fix
):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    with (tmp_path / "out").open("wb") as stream:
        view = view_on(stream.fileno())
        monkeypatch.setattr(os, "write", refuse)
        view.finish(*finished(recorder), should_stop=lambda: False)

    [problem] = view.problems
    assert problem.what.startswith("standard output is incomplete: ")
    assert problem.what.endswith(f"({errno.errorcode[number]})")
    assert problem.why.startswith(why)
    assert problem.why.endswith("; the recording went on")
    assert problem.fix.startswith(fix)
    assert problem.fix.endswith(f": {AGAIN}")


def test_a_full_device_is_no_reader_that_has_gone(recorder):
    fd = os.open("/dev/full", os.O_WRONLY)
    view = view_on(fd)
    view.finish(*finished(recorder), should_stop=lambda: False)
    os.close(fd)

    assert "No space left on device (ENOSPC)" in view.problems[0].what


@pytest.fixture
def given(monkeypatch):
    """The numbers of sub-buffers that were read from the files."""
    counts: list[int] = []
    read = FilePages.read

    def counted(self, first, count):
        counts.append(count)
        return read(self, first, count)

    monkeypatch.setattr(FilePages, "read", counted)
    return counts


@pytest.fixture
def pipe():
    """A pipe's ends: one to read, one to write."""
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def test_while_the_reader_reads_nothing_the_remainder_stays_on_disk(recorder, given, pipe):
    is_asked = []

    def give_up():
        is_asked.append(True)
        return len(is_asked) > 1  # the first time is before the first batch

    view = view_on(pipe[1])
    view.finish(*finished(recorder), should_stop=give_up)

    assert sum(given) <= 1000
    assert "its reader took no more, and you interrupted" in view.problems[0].why
    assert view.problems[0].fix.endswith(AGAIN)


def test_a_tick_waits_neither_for_a_stalled_reader_nor_reads_ahead_of_it(recorder, given, pipe):
    view = view_on(pipe[1], now_ns=1 << 40)
    for _ in range(5):
        view.tick(recorder)

    assert sum(given) <= 1000
    assert recorder.flushes == 1

    os.set_blocking(pipe[0], False)
    text = b""
    while text.count(b"\n") < PAGE_COUNT:
        try:
            text += os.read(pipe[0], 1 << 20)
        except BlockingIOError:
            view.tick(recorder)
    assert times_in(text) == list(range(10, 10 * PAGE_COUNT + 1, 10))
