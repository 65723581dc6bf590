"""Recorder: moves finished sub-buffers from the kernel to one spool file per CPU by splice(2).

Nothing is decoded here: a sub-buffer goes by page reference from trace_pipe_raw into a pipe and is
copied once into the page cache. Descriptors are non-blocking, since Python restarts a blocked
splice after a signal (PEP 475), and poll waits instead.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import select
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from trace_recipe.errors import TracefsError
from trace_recipe.interrupts import for_this_thread

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trace_recipe.tracefs import Tracefs

__all__ = ["CpuStats", "Recorder", "parse_stats", "trace_clock_now"]

_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031
_POLL_MS = 250
_SPIN_S = 0.002
_STAT_LINE = re.compile(r"^([a-z ]+): (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class CpuStats:
    """The `per_cpu/cpuN/stats` file: all counts are events but `bytes`."""

    cpu: int
    entries: int
    overrun: int
    commit_overrun: int
    dropped_events: int
    read_events: int
    text: str = field(repr=False)

    @property
    def lost(self) -> int:
        """Events lost on this CPU: overwritten, dropped, or interrupted in a full buffer."""
        return self.overrun + self.commit_overrun + self.dropped_events

    @property
    def seen(self) -> int:
        """Events read so far and those still in the buffer."""
        return self.entries + self.read_events


@dataclass(slots=True)
class _Lane:
    """One CPU's way: descriptor in, pipe between, spool file out."""

    cpu: int
    raw_fd: int
    spool_fd: int
    spool: Path
    wake_read: int
    wake_write: int
    thread: threading.Thread | None = None
    thread_id: int = 0
    spooled_bytes: int = 0
    flushed: int = 0
    failure: OSError | None = None
    cut_bytes: int = 0
    unwritten: bytes = b""


class Recorder:
    """Records one instance into `directory/cpuN.raw` from `go` until `finish`.

    The threads exist before the instance is set up, so that their ids can be taken out of the
    trace: `prepare`, then `attach`, then `go`.
    """

    def __init__(self, directory: Path, cpus: Sequence[int]) -> None:
        self._directory = directory
        self._cpus = sorted(cpus)
        self._instance: Tracefs | None = None
        self._subbuf_size_bytes = 0
        self._lanes: list[_Lane] = []
        self._counted: dict[int, CpuStats] = {}
        self._gate = threading.Event()
        self._ending = threading.Event()
        self._aborted = False
        self._is_closed = False
        self._wanted_flush = 0
        self.failed = threading.Event()

    def prepare(self) -> tuple[int, ...]:
        """Open spool files and start the waiting threads; return their thread ids."""
        for cpu in self._cpus:
            spool = self._directory / f"cpu{cpu}.raw"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            lane = _Lane(cpu, -1, os.open(spool, flags, 0o600), spool, wake_read, wake_write)
            self._lanes.append(lane)
        started = threading.Barrier(len(self._lanes) + 1)
        for lane in self._lanes:
            lane.thread = threading.Thread(
                target=self._run, args=(lane, started), name=f"record-cpu{lane.cpu}", daemon=True
            )
            with for_this_thread():
                lane.thread.start()
        started.wait()
        return tuple(lane.thread_id for lane in self._lanes)

    def attach(self, instance: Tracefs, *, subbuf_size_bytes: int) -> None:
        """Open every CPU's trace_pipe_raw; raises TracefsError."""
        self._instance = instance
        self._subbuf_size_bytes = subbuf_size_bytes
        for lane in self._lanes:
            lane.raw_fd = instance.open_raw(lane.cpu)

    def discard_old(self) -> int:
        """Consume what the buffer already holds (an existing instance); return the bytes.

        What the instance has counted so far is left out of `stats` from now on.
        """
        size = sum(self._skim(lane) for lane in self._lanes)
        self._counted = {one.cpu: one for one in self.stats()}
        return size

    def go(self) -> None:
        """Let the threads record."""
        self._gate.set()

    def request_flush(self) -> None:
        """Ask every thread to take the unfinished sub-buffer too, for live text."""
        self._wanted_flush += 1
        self._wake()

    @property
    def is_flushed(self) -> bool:
        """Whether every thread has answered the last request."""
        return all(lane.flushed >= self._wanted_flush or lane.failure for lane in self._lanes)

    def finish(self) -> None:
        """Take everything that is left and end the threads; call it after tracing_on=0."""
        self._ending.set()
        self._gate.set()
        self._wake()
        for lane in self._lanes:
            if lane.thread is not None:
                lane.thread.join()

    def close(self) -> None:
        """Close what is open; safe to call at any time, more than once."""
        if self._is_closed:
            return
        self._is_closed = True
        self._aborted = not self._gate.is_set()
        self.finish()
        for lane in self._lanes:
            for name in ("raw_fd", "spool_fd", "wake_read", "wake_write"):
                fd = getattr(lane, name)
                if fd >= 0:
                    os.close(fd)
                setattr(lane, name, -1)

    @property
    def spooled_bytes(self) -> int:
        """Bytes in all spool files."""
        return sum(lane.spooled_bytes for lane in self._lanes)

    @property
    def spools(self) -> tuple[tuple[int, Path, int], ...]:
        """(cpu, file, bytes) of every CPU."""
        return tuple((lane.cpu, lane.spool, lane.spooled_bytes) for lane in self._lanes)

    @property
    def failures(self) -> tuple[tuple[int, OSError], ...]:
        """(cpu, error) of every CPU whose recording broke off."""
        return tuple((lane.cpu, lane.failure) for lane in self._lanes if lane.failure)

    @property
    def unwritten(self) -> dict[int, bytes]:
        """The sub-buffers of each failed CPU that were read and could not be written."""
        return {lane.cpu: lane.unwritten for lane in self._lanes if lane.failure}

    @property
    def cut_bytes(self) -> dict[int, int]:
        """Bytes per CPU that a failed write left behind the last whole sub-buffer."""
        return {lane.cpu: lane.cut_bytes for lane in self._lanes}

    def stats(self) -> tuple[CpuStats, ...]:
        """Read every CPU's stats since the start; a CPU whose file is refused is left out."""
        found: list[CpuStats] = []
        if self._instance is None:
            return ()
        for lane in self._lanes:
            with contextlib.suppress(TracefsError):
                text = self._instance.read(f"per_cpu/cpu{lane.cpu}/stats")
                found.append(_since(self._counted.get(lane.cpu), parse_stats(lane.cpu, text)))
        return tuple(found)

    # -- the threads --------------------------------------------------------------------------

    def _wake(self) -> None:
        for lane in self._lanes:
            with contextlib.suppress(BlockingIOError):
                os.write(lane.wake_write, b"x")

    def _run(self, lane: _Lane, started: threading.Barrier) -> None:
        lane.thread_id = threading.get_native_id()
        started.wait()
        self._gate.wait()
        if self._aborted or lane.raw_fd < 0:
            return
        pipe_read, pipe_write = os.pipe2(os.O_CLOEXEC)
        try:
            with contextlib.suppress(OSError):  # an unprivileged user may be refused: smaller steps
                fcntl.fcntl(pipe_write, _F_SETPIPE_SZ, _PIPE_BYTES)
            self._record(lane, pipe_read, pipe_write)
        except OSError as error:
            lane.failure = error
            self._cut(lane, pipe_read)
            self.failed.set()
        finally:
            os.close(pipe_read)
            os.close(pipe_write)

    def _record(self, lane: _Lane, pipe_read: int, pipe_write: int) -> None:
        poller = select.poll()
        poller.register(lane.raw_fd, select.POLLIN)
        poller.register(lane.wake_read, select.POLLIN)
        while True:
            is_ending = self._ending.is_set()
            wanted = self._wanted_flush
            moved = self._drain(lane, pipe_read, pipe_write)
            if is_ending:
                self._take_rest(lane)
                return
            if lane.flushed < wanted:
                self._take_rest(lane)
                lane.flushed = wanted
            ready = dict(poller.poll(_POLL_MS))
            if lane.wake_read in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(lane.wake_read, 4096)
            elif ready and not moved:
                time.sleep(_SPIN_S)  # over the watermark, yet no sub-buffer is finished

    def _drain(self, lane: _Lane, pipe_read: int, pipe_write: int) -> int:
        """Splice finished sub-buffers until there is none; return the bytes moved."""
        moved = 0
        while True:
            try:
                size = os.splice(lane.raw_fd, pipe_write, _PIPE_BYTES, flags=_SPLICE_FLAGS)
            except BlockingIOError:
                return moved
            except OSError as error:
                if error.errno == errno.ENODEV:  # the instance is gone
                    return moved
                raise
            if size == 0:
                return moved
            moved += size
            while size:
                size -= (taken := os.splice(pipe_read, lane.spool_fd, size))
                lane.spooled_bytes += taken

    def _take_rest(self, lane: _Lane) -> None:
        """Read the sub-buffers that splice does not give, the unfinished one last."""
        while True:
            try:
                page = os.read(lane.raw_fd, self._subbuf_size_bytes)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                raise
            if not page:
                return
            lane.unwritten = page.ljust(self._subbuf_size_bytes, b"\0")
            while lane.unwritten:
                taken = os.write(lane.spool_fd, lane.unwritten)
                lane.spooled_bytes += taken
                lane.unwritten = lane.unwritten[taken:]

    def _cut(self, lane: _Lane, pipe_read: int) -> None:
        """After a full disk: keep the whole sub-buffers, and what else was read, to be counted."""
        lane.cut_bytes = lane.spooled_bytes % self._subbuf_size_bytes
        lane.spooled_bytes -= lane.cut_bytes
        os.set_blocking(pipe_read, False)
        with contextlib.suppress(OSError):  # BlockingIOError: the pipe is empty
            while data := os.read(pipe_read, _PIPE_BYTES):
                lane.unwritten += data
        with contextlib.suppress(OSError):
            begun = os.pread(lane.spool_fd, lane.cut_bytes, lane.spooled_bytes)
            lane.unwritten = begun + lane.unwritten
        with contextlib.suppress(OSError):
            os.ftruncate(lane.spool_fd, lane.spooled_bytes)

    def _skim(self, lane: _Lane) -> int:
        size = 0
        while True:
            try:
                page = os.read(lane.raw_fd, self._subbuf_size_bytes)
            except BlockingIOError:
                return size
            if not page:
                return size
            size += len(page)


_SPLICE_FLAGS = 1 | 2  # SPLICE_F_MOVE | SPLICE_F_NONBLOCK; os.SPLICE_F_* came with Python 3.10


def parse_stats(cpu: int, text: str) -> CpuStats:
    """Parse a stats file; counts that a kernel does not print are 0."""
    values = dict(_STAT_LINE.findall(text))

    def number(name: str) -> int:
        word = values.get(name, "0")
        return int(word) if word.isdigit() else 0

    return CpuStats(
        cpu=cpu,
        entries=number("entries"),
        overrun=number("overrun"),
        commit_overrun=number("commit overrun"),
        dropped_events=number("dropped events"),
        read_events=number("read events"),
        text=text,
    )


def _since(start: CpuStats | None, now: CpuStats) -> CpuStats:
    if start is None or now.read_events < start.read_events:  # somebody has reset the buffer
        return now
    return replace(
        now,
        overrun=max(0, now.overrun - start.overrun),
        commit_overrun=max(0, now.commit_overrun - start.commit_overrun),
        dropped_events=max(0, now.dropped_events - start.dropped_events),
        read_events=now.read_events - start.read_events,
    )


def trace_clock_now(instance: Tracefs) -> int | None:
    """Return the trace clock's time: ns for clocks in ns (to the microsecond), else its ticks."""
    try:
        text = instance.read("per_cpu/cpu0/stats")
    except TracefsError:
        return None
    match = re.search(r"^now ts:\s*(\d+)(?:\.(\d{6}))?$", text, re.MULTILINE)
    if match is None:
        return None
    if match[2] is None:
        return int(match[1])
    return int(match[1]) * 1_000_000_000 + int(match[2]) * 1000
