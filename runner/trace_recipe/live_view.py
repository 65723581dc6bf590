"""Live view: streams events to standard output while they are recorded."""

from __future__ import annotations

import contextlib
import io
import os
import select
import stat
from functools import partial
from typing import IO, TYPE_CHECKING

import numpy as np

from trace_recipe.decoder.live import LiveDecoder
from trace_recipe.errors import Problem, TracefsError, errno_text
from trace_recipe.kernel_tables import parse_cmdlines
from trace_recipe.recorder import trace_clock_now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from trace_recipe.events import Events, TraceData
    from trace_recipe.recorder import Recorder
    from trace_recipe.sinks import Sink
    from trace_recipe.tracefs import Tracefs

__all__ = ["LiveView", "Outlet"]

_OUTLET_WAIT_MS = 250


class Outlet:
    """Standard output whose reader may stop reading: nothing waits for it unless told to."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = io.BytesIO()
        """Takes what `push` is to write."""
        self._fd = stream.fileno()
        self._waiting = bytearray()
        self._poller = select.poll()
        self._poller.register(self._fd, select.POLLOUT)
        is_file = stat.S_ISREG(os.fstat(self._fd).st_mode)
        # A pipe that polls as writable takes this much without blocking.
        self._step_bytes = 1 << 20 if is_file else select.PIPE_BUF

    def push(self, wait_ms: int = 0) -> bool:
        """Write until the reader takes no more for that long; return whether all is written.

        Raises OSError.
        """
        self._waiting += self.stream.getvalue()
        self.stream.seek(0)
        self.stream.truncate()
        while self._waiting:
            if not self._poller.poll(wait_ms):
                return False
            with memoryview(self._waiting) as view:
                taken = os.write(self._fd, view[: self._step_bytes])
            del self._waiting[:taken]
        return True


class LiveView:
    """Streams events to standard output while they are recorded."""

    def __init__(
        self, tracefs: Tracefs, instance: Tracefs, data: TraceData, sink: Sink, outlet: Outlet
    ) -> None:
        self._tracefs = tracefs
        self._instance = instance
        self._data = data
        self._sink = sink
        self._outlet = outlet
        self._decoder = LiveDecoder(data)
        self._offsets: dict[int, int] = {}
        self._horizon: int | None = None
        self._is_open = True
        self.counts: dict[str, int] = {}
        self.problems: list[Problem] = []
        self._try(lambda: sink.begin(data))

    def tick(self, recorder: Recorder) -> None:
        """Show what is complete: all that happened before the last flush that all CPUs answered."""
        if not recorder.is_flushed or not self._push():
            return  # what comes meanwhile waits in the spool files
        self._feed(recorder.read_new(self._offsets))
        if self._horizon is not None:
            self._show(self._decoder.take(self._horizon))
        self._horizon = trace_clock_now(self._instance)
        recorder.request_flush()

    def finish(self, directory: Path, data: TraceData, should_stop: Callable[[], bool]) -> None:
        """Show the rest from the finished recording, waiting for the reader unless told to stop."""
        self._learn(parse_cmdlines((directory / "saved_cmdlines").read_text(errors="replace")))
        for cpu, pages in data.buffers[0].cpus.items():
            size = data.buffers[0].subbuf_size_bytes
            first = self._offsets.get(cpu, 0) // size
            while first < pages.count:
                count = min(256, pages.count - first)
                self._decoder.feed(0, cpu, pages.read(first, count))
                first += count
        self._show(self._decoder.finish())
        self._try(self._sink.end)
        if data.latency_text:
            self._try(partial(self._sink.begin, data))  # the report is known only now
        while not self._push(_OUTLET_WAIT_MS):
            if should_stop():
                self.problems.append(
                    Problem(
                        "standard output is incomplete",
                        why="its reader took no more, and you interrupted a second time",
                    )
                )
                return

    def _feed(self, fresh: list[tuple[int, bytes]]) -> None:
        size = self._data.buffers[0].subbuf_size_bytes
        for cpu, data in fresh:
            self._decoder.feed(0, cpu, np.frombuffer(data, np.uint8).reshape(-1, size))

    def _show(self, events: Events | None) -> None:
        if events is None:
            return
        pids: set[int] = set()
        for columns in events:
            name = columns.format.full_name
            self.counts[name] = self.counts.get(name, 0) + columns.count
            pids.update(columns.column("common_pid").tolist())
        if pids.difference(self._data.cmdlines):
            with contextlib.suppress(TracefsError):
                self._learn(parse_cmdlines(self._tracefs.read("saved_cmdlines")))
        self._try(lambda: self._sink.write(events))
        self._push()

    def _learn(self, cmdlines: Mapping[int, str]) -> None:
        known = self._data.cmdlines
        assert isinstance(known, dict)
        known.update(cmdlines)

    def _push(self, wait_ms: int = 0) -> bool:
        """Return whether nothing waits any more, because it is written or nobody reads it."""
        is_empty = True

        def push() -> None:
            nonlocal is_empty
            is_empty = self._outlet.push(wait_ms)

        self._try(push)
        return is_empty or not self._is_open

    def _try(self, action: Callable[[], None]) -> None:
        """Write to standard output; when it is gone the recording goes on without it."""
        if not self._is_open:
            return
        try:
            action()
        except OSError as error:
            self._is_open = False
            self.problems.append(
                Problem(
                    f"standard output broke off: {errno_text(error.errno or 0)}",
                    why="whoever read it has gone; the recording went on",
                )
            )
