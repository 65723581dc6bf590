"""The live view: what standard output gets while recording, and what is said when it breaks off."""

import errno
import io
import json
import os
import select
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.merge_cases import trace, written
from tests.page_builder import PageBuilder
from trace_recipe.drift import Drift
from trace_recipe.held_files import hold_file
from trace_recipe.live_feed import LiveFeed
from trace_recipe.live_view import LiveView, Outlet
from trace_recipe.page_files import FilePages
from trace_recipe.sinks import make_sink

BUILD = PageBuilder()
AGAIN = "trace-recipe report /var/tmp/x --as jsonl"
PAGE_COUNT = 3000
DRIFT = Drift("tracing_on", "1", "0", 205, 0)


@pytest.fixture
def spooled(tmp_path):
    """A spool file of one event per sub-buffer, at 10, 20, 30, …"""
    path = tmp_path / "cpu0.raw"
    pages = [
        page
        for number in range(1, PAGE_COUNT + 1)
        for page in written(BUILD, [(10 * number, 1, number)])
    ]
    path.write_bytes(b"".join(pages))
    return hold_file(path)


def view_on(fd, spooled) -> LiveView:
    """A live view of JSON lines on a descriptor."""
    outlet = io.BufferedWriter(Outlet(fd))
    sink = make_sink("jsonl", outlet)
    return LiveView(trace([{}], BUILD), {0: spooled}, sink, outlet, again=AGAIN)


def finished(spooled):
    return trace([{0: FilePages(spooled, BUILD.subbuf_size)}], BUILD)


def times_in(text):
    return [json.loads(line)["ts"] for line in text.splitlines()]


def test_what_was_shown_and_the_rest_are_all_events_once(spooled, tmp_path):
    size = spooled.size_bytes
    with (tmp_path / "out").open("wb") as stream:
        view = view_on(stream.fileno(), spooled)
        view.show({0: size // 2 + 1}, 500, "", [])
        view.show({0: size}, 500, "", [])
        shown = times_in((tmp_path / "out").read_text())
        view.finish(finished(spooled))

    assert shown == list(range(10, 501, 10))
    assert times_in((tmp_path / "out").read_text()) == list(range(10, 10 * PAGE_COUNT + 1, 10))
    assert view.problems == []


@pytest.mark.parametrize("is_known_in_time", [True, False])
def test_changes_by_others_stand_once_among_the_events_of_their_time(
    spooled, tmp_path, is_known_in_time
):
    with (tmp_path / "out").open("wb") as stream:
        view = view_on(stream.fileno(), spooled)
        view.show({0: spooled.size_bytes}, 200, "", [])
        view.show({0: spooled.size_bytes}, 210, "", [DRIFT] if is_known_in_time else [])
        view.finish(replace(finished(spooled), drifts=(DRIFT,)))

    lines = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    places = [number for number, line in enumerate(lines) if "drift" in line]
    assert places == [20 if is_known_in_time else 21]
    assert len(lines) == PAGE_COUNT + 1


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
    spooled, monkeypatch, tmp_path, number, why, fix
):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    with (tmp_path / "out").open("wb") as stream:
        view = view_on(stream.fileno(), spooled)
        monkeypatch.setattr(os, "write", refuse)
        view.finish(finished(spooled))

    [problem] = view.problems
    assert problem.what.startswith("standard output is incomplete: ")
    assert problem.what.endswith(f"({errno.errorcode[number]})")
    assert problem.why.startswith(why)
    assert problem.why.endswith("; the recording went on")
    assert problem.fix.startswith(fix)
    assert problem.fix.endswith(f": {AGAIN}")


def test_a_full_device_is_no_reader_that_has_gone(spooled):
    fd = os.open("/dev/full", os.O_WRONLY)
    view = view_on(fd, spooled)
    view.finish(finished(spooled))
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


@pytest.mark.parametrize("is_blocking", [True, False])
def test_while_the_reader_reads_nothing_the_remainder_stays_on_disk(
    spooled, given, pipe, is_blocking
):
    os.set_blocking(pipe[1], is_blocking)
    view = view_on(pipe[1], spooled)
    showing = threading.Thread(target=view.finish, args=[finished(spooled)])
    showing.start()
    ends_at = time.monotonic() + 30
    while not is_full(pipe[1]):
        assert time.monotonic() < ends_at
    read_before = sum(given)
    text = b""
    while text.count(b"\n") < PAGE_COUNT:
        text += os.read(pipe[0], 1 << 20)
    showing.join()

    assert read_before <= 1000
    assert times_in(text) == list(range(10, 10 * PAGE_COUNT + 1, 10))
    assert view.problems == []


def is_full(pipe):
    poller = select.poll()
    poller.register(pipe, select.POLLOUT)
    return not poller.poll(50)


class Scribe:
    """Notes what it is told to show."""

    def __init__(self):
        self.is_idle = True
        self.orders = []

    def show(self, sizes, horizon, cmdlines, drifts):
        self.orders.append((sizes, horizon, cmdlines, drifts))


class Recorder:
    """One spool file that grows; counts how often a flush was asked for."""

    def __init__(self):
        self.is_flushed = True
        self.spools = [(0, Path("cpu0.raw"), 4096)]
        self.flushes = 0

    def request_flush(self):
        self.flushes += 1


def test_a_tick_has_what_was_flushed_before_it_shown_with_the_names_of_its_tasks():
    files = {"per_cpu/cpu0/stats": "now ts: 500\n", "saved_cmdlines": "7 worker\n"}
    tracefs: Any = SimpleNamespace(read=files.__getitem__)
    scribe, recorder = Scribe(), Recorder()
    feed = LiveFeed(tracefs, tracefs, cast("Any", scribe))
    feed.tick(cast("Any", recorder))
    files["per_cpu/cpu0/stats"] = "now ts: 900\n"
    feed.mark([DRIFT])
    feed.tick(cast("Any", recorder))
    feed.tick(cast("Any", recorder))

    assert scribe.orders == [
        ({0: 4096}, 500, "7 worker\n", [DRIFT]),
        ({0: 4096}, 900, "", []),
    ]
    assert recorder.flushes == 3


@pytest.mark.parametrize("busy", ["scribe", "recorder"])
def test_a_tick_waits_neither_for_a_stalled_reader_nor_for_a_cpu(busy):
    tracefs: Any = SimpleNamespace(read=lambda name: "now ts: 500\n")
    scribe, recorder = Scribe(), Recorder()
    feed = LiveFeed(tracefs, tracefs, cast("Any", scribe))
    feed.tick(cast("Any", recorder))
    scribe.is_idle, recorder.is_flushed = busy != "scribe", busy != "recorder"
    feed.tick(cast("Any", recorder))

    assert (scribe.orders, recorder.flushes) == ([], 1)
