"""Merge the CPUs of all buffers by time, in batches of bounded size."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from trace_recipe.decoder.window import END, Bound, Window
from trace_recipe.errors import DecodeError
from trace_recipe.events import Damage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from trace_recipe.decoder.window import Stream
    from trace_recipe.drift import Drift
    from trace_recipe.events import Events, Pages, TraceData

__all__ = ["Merge", "decode"]

_BATCH_SUBBUFS = 1000
_BATCH_BYTES = 16 << 20  # keeps a batch of large sub-buffers small too


def decode(
    data: TraceData,
    *,
    batch_subbufs: int = _BATCH_SUBBUFS,
    select: Collection[int] | None = None,
) -> Iterator[Events]:
    """Yield all events (of the ids in `select`, or all) in order of time, buffer and CPU.

    A batch holds the events of about `batch_subbufs` sub-buffers, fewer when they are large; the
    size changes nothing but the cuts. What cannot be read becomes a Damage. Raises DecodeError
    when the layout in `data` is impossible.
    """
    pages = {
        (index, cpu): pages
        for index, buffer in enumerate(data.buffers)
        for cpu, pages in buffer.cpus.items()
    }
    return Merge(data, batch_subbufs=batch_subbufs, select=select).up_to(END, pages)


class Merge:
    """The streams of one trace, read in pieces as they are needed; goes on where it was left."""

    def __init__(
        self,
        data: TraceData,
        *,
        batch_subbufs: int = _BATCH_SUBBUFS,
        select: Collection[int] | None = None,
    ) -> None:
        """Raise DecodeError when the layout in `data` is impossible."""
        self._window = Window(data, select)
        largest = max((buffer.subbuf_size_bytes for buffer in data.buffers), default=1)
        self._budget = max(min(batch_subbufs, _BATCH_BYTES // largest), 1)
        self._sources: dict[int, _Source] = {}

    def mark(self, drifts: Iterable[Drift]) -> None:
        """Add changes by others, to be handed out at their time."""
        self._window.mark(drifts)

    def up_to(self, bound: Bound, pages: Mapping[tuple[int, int], Pages]) -> Iterator[Events]:
        """Yield the events up to `bound` that were not handed out yet, batch by batch.

        `pages` are all sub-buffers of each (buffer, cpu) so far, those read before included.
        """
        for place, one in sorted(pages.items()):
            stream = self._window.stream(*place)
            source = self._sources.setdefault(stream.order, _Source(self._window, stream))
            source.offer(one)
        chunk = max(self._budget // max(len(self._sources), 1), 1)
        # Nobody knows what a stream with unread sub-buffers holds behind its last waiting one, so
        # the smallest of those bounds what can be handed out, and that stream is the one to read.
        heap = [source.next_bound for source in self._sources.values() if source.has_more]
        heapq.heapify(heap)
        is_behind = True
        while is_behind:
            read = 0
            while heap and heap[0] <= bound and read < self._budget:
                source = self._sources[heapq.heappop(heap).stream]
                read += source.read(chunk)
                if source.has_more:
                    heapq.heappush(heap, source.next_bound)
            is_behind = bool(heap) and heap[0] <= bound
            events = self._window.hand_out(heap[0] if is_behind else bound)
            if events is not None:
                yield events


class _Source:
    """Reads the sub-buffers of one stream in chunks."""

    def __init__(self, window: Window, stream: Stream) -> None:
        self._window = window
        self._stream = stream
        self._next = 0
        self._count = 0
        self._is_broken = False

    def offer(self, pages: Pages) -> None:
        """Take what there is of the stream now; it begins with what was read already."""
        if self._is_broken:
            return
        self._pages = pages
        self._count = pages.count
        if not self.has_more:
            self._note_damages()

    @property
    def has_more(self) -> bool:
        """Whether there are unread sub-buffers."""
        return self._next < self._count

    @property
    def next_bound(self) -> Bound:
        """No unread event comes before this place."""
        return Bound(self._stream.last_key, self._stream.order)

    def read(self, count: int) -> int:
        """Read up to `count` sub-buffers into the window and return how many they were."""
        count = min(count, self._count - self._next)
        try:
            pages = self._pages.read(self._next, count)
        except DecodeError as error:
            if count > 1:  # some of them may be readable
                return self.read(count // 2)
            self._damage(self._next * self._stream.subbuf_size_bytes, error.problems[0].what)
            self._break_off()
            return 0
        self._window.append(self._stream, pages)
        self._next += len(pages)
        if len(pages) < count:
            self._break_off()
        if not self.has_more:
            self._note_damages()
        return len(pages)

    def _break_off(self) -> None:
        self._count = self._next
        self._is_broken = True

    def _note_damages(self) -> None:
        """Report what only the pages know: what is broken, ends too early, or was lost behind."""
        truncated = getattr(self._pages, "truncated_bytes", 0)
        if truncated:
            place = (self._next - 1) * self._stream.subbuf_size_bytes
            self._damage(place, f"the file ends after {truncated} bytes of a sub-buffer")
        for place, reason in getattr(self._pages, "damages", ()):
            self._damage(place, reason)
        self._stream.lost_in_all = getattr(self._pages, "lost", 0)

    def _damage(self, offset_bytes: int, reason: str) -> None:
        stream = self._stream
        stream.damages.append(Damage(stream.buffer, stream.cpu, offset_bytes, reason))
