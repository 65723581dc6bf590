"""Live view: streams events to standard output while they are recorded."""

from __future__ import annotations

import contextlib
import io
import os
import select
import stat
import time
from dataclasses import replace
from functools import partial
from typing import IO, TYPE_CHECKING

from trace_recipe.decoder.live import LiveDecoder
from trace_recipe.errors import Problem, TracefsError
from trace_recipe.kernel_tables import parse_cmdlines
from trace_recipe.outputs import incomplete_output
from trace_recipe.page_files import FilePages
from trace_recipe.recorder import trace_clock_now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from trace_recipe.drift import Drift
    from trace_recipe.events import Damage, Events, TraceData
    from trace_recipe.recorder import Recorder
    from trace_recipe.sinks import Sink
    from trace_recipe.tracefs import Tracefs

__all__ = ["LiveView", "Outlet"]

_OUTLET_WAIT_MS = 250
_TURN_S = 0.1  # how long a tick shows events before the run is looked after again


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
        self,
        tracefs: Tracefs,
        instance: Tracefs,
        data: TraceData,
        sink: Sink,
        outlet: Outlet,
        *,
        again: str,
    ) -> None:
        """Begin the output; `again` is the command that writes it from the finished recording."""
        self._tracefs = tracefs
        self._instance = instance
        self._data = data
        self._sink = sink
        self._outlet = outlet
        self._again = again
        self._decoder = LiveDecoder(data)
        self._horizon: int | None = None
        self._is_open = True
        self.damages: list[Damage] = []
        self.problems: list[Problem] = []
        self._try(lambda: sink.begin(data))

    def tick(self, recorder: Recorder) -> None:
        """Show what is complete: all that happened before the last flush that all CPUs answered."""
        if not recorder.is_flushed or not self._push():
            return  # what comes meanwhile waits in the spool files
        if self._horizon is not None and not self._show_up_to(self._horizon, recorder):
            return  # the rest has its turn at the next tick
        self._horizon = trace_clock_now(self._instance)
        recorder.request_flush()

    def mark(self, drifts: Sequence[Drift]) -> None:
        """Show changes by others among the events of their time."""
        self._decoder.mark(drifts)

    def finish(self, directory: Path, data: TraceData, should_stop: Callable[[], bool]) -> None:
        """Show the rest from the finished recording, waiting for the reader unless told to stop."""
        self._learn(parse_cmdlines((directory / "saved_cmdlines").read_text(errors="replace")))
        pages = {(0, cpu): one for cpu, one in data.buffers[0].cpus.items()}
        for events in self._decoder.finish(pages):
            if should_stop():
                self._leave("you interrupted a second time")
                return
            self._show(events)
            if not self._wait_for_reader(should_stop):
                return
        self._try(self._sink.end)
        if data.latency_text:
            self._try(partial(self._sink.begin, data))  # the report is known only now
        self._wait_for_reader(should_stop)

    def _show_up_to(self, horizon: int, recorder: Recorder) -> bool:
        """Return whether all of it was shown: the reader took it, and in good time."""
        size = self._data.buffers[0].subbuf_size_bytes
        pages = {
            (0, cpu): FilePages(path, size, size_bytes=count - count % size)
            for cpu, path, count in recorder.spools
        }
        ends_at = time.monotonic() + _TURN_S
        for events in self._decoder.take(horizon, pages):
            self._show(events)
            if not self._push() or time.monotonic() >= ends_at:
                return False
        return True

    def _wait_for_reader(self, should_stop: Callable[[], bool]) -> bool:
        """Return whether all is written, or nobody reads it; not when told to stop."""
        while not self._push(_OUTLET_WAIT_MS):
            if should_stop():
                self._leave("its reader took no more, and you interrupted a second time")
                return False
        return True

    def _leave(self, why: str) -> None:
        fix = f"write it again from the recording: {self._again}"
        self.problems.append(Problem("standard output is incomplete", why, fix))

    def _show(self, events: Events) -> None:
        self.damages += events.damages
        pids: set[int] = set()
        for columns in events:
            pids.update(columns.column("common_pid").tolist())
        if pids.difference(self._data.cmdlines):
            with contextlib.suppress(TracefsError):
                self._learn(parse_cmdlines(self._tracefs.read("saved_cmdlines")))
        self._try(lambda: self._sink.write(events))

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
            problem = incomplete_output("standard output", error, again=self._again)
            self.problems.append(replace(problem, why=f"{problem.why}; the recording went on"))
