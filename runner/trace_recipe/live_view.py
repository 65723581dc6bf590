"""Live view: streams events to standard output while they are recorded."""

from __future__ import annotations

import io
import os
import select
from dataclasses import replace
from functools import partial
from typing import IO, TYPE_CHECKING

from trace_recipe.decoder.live import LiveDecoder
from trace_recipe.kernel_tables import parse_cmdlines
from trace_recipe.outputs import incomplete_output
from trace_recipe.page_files import FilePages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from typing_extensions import Buffer  # in collections.abc from Python 3.12 on

    from trace_recipe.drift import Drift
    from trace_recipe.errors import Problem
    from trace_recipe.events import Damage, Events, TraceData
    from trace_recipe.held_files import HeldFile
    from trace_recipe.sinks import Sink

__all__ = ["LiveView", "Outlet"]


class Outlet(io.RawIOBase):
    """A descriptor whose reader may be slow, also when somebody has made it non-blocking."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._poller = select.poll()
        self._poller.register(fd, select.POLLOUT)

    def writable(self) -> bool:
        """Return that it can be written."""
        return True

    def write(self, data: Buffer, /) -> int:
        """Write all, waiting for the reader; raises OSError."""
        with memoryview(data) as view:
            done = 0
            while done < view.nbytes:
                try:
                    done += os.write(self._fd, view[done:])
                except BlockingIOError:
                    self._poller.poll()
            return done


class LiveView:
    """Streams events to standard output while they are recorded; waits for who reads them."""

    def __init__(
        self,
        data: TraceData,
        files: Mapping[int, HeldFile],
        sink: Sink,
        outlet: IO[bytes],
        *,
        again: str,
    ) -> None:
        """Begin the output; `again` is the command that writes it from the finished recording.

        `files` are each CPU's sub-buffers.
        """
        self._data = data
        self._files = files
        self._sink = sink
        self._outlet = outlet
        self._again = again
        self._decoder = LiveDecoder(data)
        self._marked = 0
        self._is_open = True
        self.damages: list[Damage] = []
        self.problems: list[Problem] = []
        self._try(lambda: sink.begin(data))

    def show(
        self, sizes: Mapping[int, int], horizon: int, cmdlines: str, drifts: Sequence[Drift]
    ) -> None:
        """Show what happened before the horizon, of the whole sub-buffers within these sizes.

        `cmdlines` and `drifts` (changes by others) are those that it was not told before.
        """
        self._learn(parse_cmdlines(cmdlines))
        self._mark(drifts)
        subbuf = self._data.buffers[0].subbuf_size_bytes
        pages = {
            (0, cpu): FilePages(self._files[cpu], subbuf, size_bytes=size - size % subbuf)
            for cpu, size in sizes.items()
        }
        self._show(self._decoder.take(horizon, pages))

    def finish(self, data: TraceData) -> None:
        """Show the rest of the recording, which is finished."""
        self._learn(data.cmdlines)
        self._mark(data.drifts[self._marked :])
        pages = {(0, cpu): one for cpu, one in data.buffers[0].cpus.items()}
        self._show(self._decoder.finish(pages))
        self._try(self._sink.end)
        if data.latency_text:
            self._try(partial(self._sink.begin, data))  # the report is known only now
        self._try(self._outlet.flush)

    def _show(self, batches: Iterable[Events]) -> None:
        for events in batches:
            self.damages += events.damages
            self._try(partial(self._sink.write, events))
            self._try(self._outlet.flush)

    def _mark(self, drifts: Sequence[Drift]) -> None:
        self._decoder.mark(drifts)
        self._marked += len(drifts)

    def _learn(self, cmdlines: Mapping[int, str]) -> None:
        known = self._data.cmdlines
        assert isinstance(known, dict)
        known.update(cmdlines)

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
