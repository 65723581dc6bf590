import contextlib
import errno
import os
import resource
import signal
import tty

import pytest

from trace_recipe.recorder import Recorder, parse_stats

STATS = """entries: 3
overrun: 39061
commit overrun: 2
bytes: 1440
oldest event ts:  1181.245621
now ts:  1182.545121
dropped events: 5
read events: 129
"""


def test_stats_are_read_by_name():
    stats = parse_stats(1, STATS)

    assert (stats.entries, stats.overrun, stats.commit_overrun) == (3, 39061, 2)
    assert (stats.dropped_events, stats.read_events) == (5, 129)
    assert stats.lost == 39061 + 2 + 5
    assert stats.seen == 132


def test_stats_that_lack_a_line_count_nothing():
    assert parse_stats(0, "entries: 1\n").lost == 0


PAGE_BYTES = 4096


class Pages:
    """Stands for an instance whose CPU 0 gives what is put in, and fails behind it."""

    def __init__(self):
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)

    def read(self, path):
        return "entries: 0\nread events: 7\n"

    def open_raw(self, cpu):
        assert cpu == 0
        os.set_blocking(self.master, False)
        return self.master


@pytest.fixture
def recorder(tmp_path):
    made = Recorder(tmp_path, [0])
    made.prepare()
    yield made
    made.close()


def test_a_read_error_ends_the_recording_of_its_cpu_with_the_whole_pages_kept(tmp_path, recorder):
    pages = Pages()
    recorder.attach(pages, subbuf_size_bytes=PAGE_BYTES)
    recorder.go()
    # A terminal whose other side is closed answers with EIO once it is empty.
    for number in range(3):
        os.write(pages.slave, bytes([number]) * (PAGE_BYTES // 2))
        os.write(pages.slave, bytes([number]) * (PAGE_BYTES // 2))
    os.write(pages.slave, b"rest")
    os.close(pages.slave)

    assert recorder.failed.wait(timeout=10)
    recorder.finish()

    ((cpu, error),) = recorder.failures
    assert (cpu, error.errno) == (0, errno.EIO)
    assert (tmp_path / "cpu0.raw").read_bytes() == b"".join(
        bytes([number]) * PAGE_BYTES for number in range(3)
    )
    assert recorder.cut_bytes == {0: 4}
    assert recorder.unwritten == {0: b"rest"}


def test_what_a_full_disk_leaves_in_the_pipe_is_kept_to_be_counted(tmp_path, recorder):
    pages = Pages()
    (lane,) = recorder._lanes
    limit, at_most = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PAGE_BYTES + 96, at_most))
    try:
        recorder.attach(pages, subbuf_size_bytes=PAGE_BYTES)
        recorder.go()
        for number in range(3):
            os.write(pages.slave, bytes([number]) * PAGE_BYTES)
        assert recorder.failed.wait(timeout=10)
        recorder.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, at_most))
        signal.signal(signal.SIGXFSZ, ignored)

    assert (tmp_path / "cpu0.raw").read_bytes() == bytes(PAGE_BYTES)
    unread = b""
    with contextlib.suppress(BlockingIOError):
        while data := os.read(lane.raw_fd, PAGE_BYTES):
            unread += data
    os.close(pages.slave)
    everything = recorder.unwritten[0] + unread
    assert everything == b"\x01" * PAGE_BYTES + b"\x02" * PAGE_BYTES
