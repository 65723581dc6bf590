"""The sub-buffers of all CPUs that are being merged: hand out what is older than a bound.

Memory holds waiting sub-buffers only, never decoded events: a sub-buffer with events on both sides
of a bound is scanned again for the next one.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

import numpy as np

from trace_recipe.decoder.pages import LOST_UNKNOWN, PageLayout, read_headers, scan
from trace_recipe.errors import DecodeError
from trace_recipe.events import Damage, DriftMark, EventColumns, Events, Gap
from trace_recipe.formats import EventFormat, Field, FieldKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from numpy.typing import NDArray

    from trace_recipe.decoder.pages import PageRecords
    from trace_recipe.drift import Drift
    from trace_recipe.events import TraceData

__all__ = ["END", "Bound", "Stream", "Window"]

_LAST_KEY = 0xFFFF_FFFF_FFFF_FFFF
_NO_PAGE = 1 << 62  # behind all that a stream can have
# include/linux/trace_events.h, struct trace_entry: for a trace that brings no format at all.
_COMMON_FIELDS = tuple(
    Field(name, kind, f"{kind} {name}", offset, size, is_signed, FieldKind.SCALAR, size, 1)
    for name, kind, offset, size, is_signed in (
        ("common_type", "unsigned short", 0, 2, False),
        ("common_flags", "unsigned char", 2, 1, False),
        ("common_preempt_count", "unsigned char", 3, 1, False),
        ("common_pid", "int", 4, 4, True),
    )
)


@dataclass(frozen=True, slots=True, order=True)
class Bound:
    """A place in the merged order: events at `key` count only for streams up to `stream`."""

    key: int
    stream: int


END = Bound(_LAST_KEY, 1 << 40)


@dataclass(slots=True)
class _OpenGap:
    """A gap whose next event is not handed out yet; no time stamp when its page had no event."""

    page: int
    count: int | None
    timestamp_ns: int | None
    page_timestamp_ns: int


@dataclass(frozen=True, slots=True)
class _Block:
    """Scanned sub-buffers of one size that start at byte `offset` of the batch's data."""

    records: PageRecords
    offset: int


@dataclass(frozen=True, slots=True)
class _Part:
    """What one stream contributes to a batch; `closed` are gaps, each with its next event."""

    stream: Stream
    keys: NDArray[np.uint64]
    event_id: NDArray[np.uint16]
    timestamp: NDArray[np.uint64]
    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    closed: list[tuple[_OpenGap, int]]

    @property
    def count(self) -> int:
        return len(self.keys)


class Stream:
    """The waiting sub-buffers of one CPU; `order` says who comes first at equal times.

    Events are merged by their key: the time stamp, but never less than that of an earlier
    sub-buffer nor more than that of the next one. So a clock that goes backwards, or one damaged
    record, keeps the order within the CPU and disturbs one sub-buffer at most.
    """

    def __init__(self, buffer: int, cpu: int, subbuf_size_bytes: int, layout: PageLayout) -> None:
        self.buffer = buffer
        self.cpu = cpu
        self.order = buffer << 16 | cpu
        self.subbuf_size_bytes = subbuf_size_bytes
        self.layout = layout
        self.last_key = 0  # no event of a later sub-buffer has a smaller key
        self.open_gaps: list[_OpenGap] = []
        self.damages: list[Damage] = []
        self.lost_in_all = 0  # 0: no more than the sub-buffers tell
        self._lost = 0  # by what they have told
        self._waiting = np.zeros((0, subbuf_size_bytes), np.uint8)
        self._keys = np.zeros(0, np.uint64)  # of each waiting sub-buffer, ascending
        self._first_page = 0  # number of the first waiting one since the start
        self._noted_pages = 0  # gaps and damages of those before are noted already
        self._handed_out = 0  # events of the first waiting one that are out already

    def append(self, pages: NDArray[np.uint8]) -> None:
        """Add the next sub-buffers; they are kept, not copied."""
        if not len(pages):
            return
        headers = read_headers(pages, self.layout)
        # An empty sub-buffer was never stamped, or long ago.
        keys = np.where(headers.length > 0, headers.timestamp, np.uint64(0))
        keys[0] = max(int(keys[0]), self.last_key)
        keys = np.maximum.accumulate(keys)
        self.last_key = int(keys[-1])
        if len(self._waiting):
            self._waiting = np.concatenate([self._waiting, pages])
            self._keys = np.concatenate([self._keys, keys])
        else:
            self._waiting, self._keys = np.ascontiguousarray(pages), keys

    def waiting(self, bound: Bound) -> NDArray[np.uint8]:
        """Return the sub-buffers that can hold events up to `bound`."""
        if not len(self._keys):  # most of a thousand CPUs at the end of a recording
            return self._waiting
        return self._waiting[: _count_up_to(self._keys, bound, self.order)]

    def take(
        self,
        block: _Block,
        first: int,
        count: int,
        *,
        bound: Bound,
        wanted: NDArray[np.bool_] | None,
    ) -> _Part:
        """Hand out the events up to `bound` of `count` sub-buffers from `first` of a block.

        They are this stream's first `count` waiting ones; those that are done with are forgotten.
        """
        records = block.records
        begin, end = np.searchsorted(records.page, [first, first + count]).tolist()
        page = records.page[begin:end] - first
        keys = self._event_keys(records.timestamp[begin:end], page, count)
        stop = max(_count_up_to(keys, bound, self.order), self._handed_out)
        self._note(records, first, count, page=page, begin=begin)
        chosen: slice | NDArray[np.int64] = slice(self._handed_out, stop)
        if wanted is not None:
            ids = records.event_id[begin + self._handed_out : begin + stop]
            chosen = np.flatnonzero(wanted[ids]) + self._handed_out
        part = _Part(
            stream=self,
            keys=keys[chosen],
            event_id=records.event_id[begin:end][chosen],
            timestamp=records.timestamp[begin:end][chosen],
            offset=records.offset[begin:end][chosen] + block.offset,
            length=records.length[begin:end][chosen],
            closed=self._close_gaps(page[chosen] + self._first_page),
        )
        if stop < len(page):
            done = int(page[stop])
            self._handed_out = stop - int(np.searchsorted(page, done))
        else:
            done, self._handed_out = count, 0
        self._waiting, self._keys = self._waiting[done:], self._keys[done:]
        self._first_page += done
        return part

    def end(self) -> None:
        """Take note of the events that are missing behind the last sub-buffer."""
        if self.lost_in_all > self._lost:
            count = self.lost_in_all - self._lost
            self.open_gaps.append(_OpenGap(_NO_PAGE, count, None, self.last_key))
            self._lost = self.lost_in_all

    def _event_keys(
        self, timestamp: NDArray[np.uint64], page: NDArray[np.int64], count: int
    ) -> NDArray[np.uint64]:
        keys = timestamp
        if (timestamp[1:] < timestamp[:-1]).any():
            keys = timestamp.copy()
            starts = np.flatnonzero(np.diff(page, prepend=-1)).tolist()
            for begin, end in zip(starts, [*starts[1:], len(page)], strict=True):
                np.maximum.accumulate(keys[begin:end], out=keys[begin:end])
        following = np.append(self._keys[1 : count + 1], np.uint64(_LAST_KEY))[:count]
        per_page = np.bincount(page, minlength=count)
        return np.clip(
            keys, np.repeat(self._keys[:count], per_page), np.repeat(following, per_page)
        )

    def _note(
        self, records: PageRecords, first: int, count: int, *, page: NDArray[np.int64], begin: int
    ) -> None:
        """Take note of gaps and damages, once per sub-buffer."""
        fresh = max(self._noted_pages - self._first_page, 0)
        self._noted_pages = max(self._noted_pages, self._first_page + count)
        for damage in records.damages:
            number = damage.page - first
            if fresh <= number < count:
                place = (self._first_page + number) * self.subbuf_size_bytes + damage.offset_bytes
                self.damages.append(Damage(self.buffer, self.cpu, place, damage.reason))
        lost = records.headers.lost[first : first + count]
        for number in (np.flatnonzero(lost[fresh:]) + fresh).tolist():
            row = int(np.searchsorted(page, number))
            timestamp = int(records.timestamp[begin + row]) if row < len(page) else None
            how_many = None if lost[number] == LOST_UNKNOWN else int(lost[number])
            self._lost += how_many or 0
            opened = int(records.headers.timestamp[first + number])
            self.open_gaps.append(_OpenGap(self._first_page + number, how_many, timestamp, opened))

    def _close_gaps(self, pages: NDArray[np.int64]) -> list[tuple[_OpenGap, int]]:
        """Return the gaps that one of the events of these sub-buffers follows."""
        closed = []
        while self.open_gaps:
            row = int(np.searchsorted(pages, self.open_gaps[0].page))
            if row == len(pages):
                break
            closed.append((self.open_gaps.pop(0), row))
        return closed


class Window:
    """All streams of one trace and what is needed to make Events of them."""

    def __init__(self, data: TraceData, select: Collection[int] | None) -> None:
        """Raise DecodeError when the data's layout is none that a kernel has."""
        self._formats: dict[int, EventFormat] = dict(data.formats)
        self._layout = PageLayout(data.byte_order, data.long_size, data.data_offset)
        self._subbufs = [
            (buffer.subbuf_size_bytes, replace(self._layout, scale=buffer.scale))
            for buffer in data.buffers
        ]
        _check_layout(self._layout, [size for size, _ in self._subbufs])
        self._common_fields = next(
            (one.common_fields for one in data.formats.values()), _COMMON_FIELDS
        )
        self._wanted: NDArray[np.bool_] | None = None
        if select is not None:
            self._wanted = np.zeros(1 << 16, np.bool_)
            self._wanted[[one for one in select if 0 <= one < 1 << 16]] = True
        self._streams: dict[tuple[int, int], Stream] = {}
        self._is_sorted = True
        self._drifts: list[Drift] = []
        self.mark(data.drifts)

    def mark(self, drifts: Iterable[Drift]) -> None:
        """Add changes by others, to be handed out at their time."""
        self._drifts = sorted([*self._drifts, *drifts], key=_drift_key)

    def stream(self, buffer: int, cpu: int) -> Stream:
        """Return the stream of one CPU of one buffer."""
        known = self._streams.get((buffer, cpu))
        if known is None:
            known = Stream(buffer, cpu, *self._subbufs[buffer])
            self._streams[buffer, cpu] = known
            self._is_sorted = False
        return known

    def append(self, stream: Stream, pages: NDArray[np.uint8]) -> None:
        """Add the next sub-buffers of one stream."""
        stream.append(pages)

    def hand_out(self, bound: Bound) -> Events | None:
        """Return all events up to `bound` in time order, or None when there is nothing to say."""
        parts, data = self._scan(bound)
        parts = [part for part in parts if part.count]
        count = sum(part.count for part in parts)
        order = np.arange(count)
        if len(parts) > 1:
            order = np.argsort(np.concatenate([part.keys for part in parts]), kind="stable")
        gaps = self._gaps(parts, order, is_last=bound == END)
        damages = self._damages()
        drifts = self._marks(parts, order, bound)
        if not (count or gaps or damages or drifts):
            return None
        return Events(count, self._columns(parts, order, data), gaps, damages, drifts)

    def _scan(self, bound: Bound) -> tuple[list[_Part], NDArray[np.uint8]]:
        """Scan all sub-buffers up to `bound` as one block per sub-buffer size and layout."""
        if not self._is_sorted:  # once, not for each of what may be ten thousand CPUs
            self._streams = dict(sorted(self._streams.items()))
            self._is_sorted = True
        taken = [(stream, stream.waiting(bound)) for stream in self._streams.values()]
        taken = [(stream, pages) for stream, pages in taken if len(pages)]
        if len(taken) == 1:
            data = taken[0][1].reshape(-1)
        else:
            data = np.empty(sum(pages.size for _, pages in taken), np.uint8)
        parts = []
        block_offset = 0
        for (size, layout), group in groupby(
            taken, key=lambda one: (one[0].subbuf_size_bytes, one[0].layout)
        ):
            members = list(group)
            count = sum(len(pages) for _, pages in members)
            block = data[block_offset : block_offset + count * size].reshape(count, size)
            if len(taken) > 1:
                np.concatenate([pages for _, pages in members], out=block)
            scanned = _Block(scan(block, layout), block_offset)
            first = 0
            for stream, pages in members:
                part = stream.take(scanned, first, len(pages), bound=bound, wanted=self._wanted)
                parts.append(part)
                first += len(pages)
            block_offset += block.size
        return parts, data

    def _columns(
        self, parts: list[_Part], order: NDArray[np.int64], data: NDArray[np.uint8]
    ) -> tuple[EventColumns, ...]:
        if not parts:
            return ()
        event_id = np.concatenate([part.event_id for part in parts])[order]
        position = np.argsort(event_id, kind="stable")  # time order within each type
        event_id = event_id[position]
        rows = order[position]
        counts = [part.count for part in parts]
        timestamp = np.concatenate([part.timestamp for part in parts])[rows]
        offset = np.concatenate([part.offset for part in parts])[rows]
        length = np.concatenate([part.length for part in parts])[rows]
        cpu = np.repeat(np.array([part.stream.cpu for part in parts], np.uint16), counts)[rows]
        buffer = np.repeat(np.array([part.stream.buffer for part in parts], np.uint16), counts)[
            rows
        ]
        starts = np.flatnonzero(np.diff(event_id, prepend=-1, append=-1)).tolist()
        return tuple(
            EventColumns(
                format=self._format(int(event_id[begin])),
                byte_order=self._layout.byte_order,
                timestamp_ns=timestamp[begin:end],
                cpu=cpu[begin:end],
                buffer=buffer[begin:end],
                position=position[begin:end],
                data=data,
                offset=offset[begin:end],
                length=length[begin:end],
            )
            for begin, end in pairwise(starts)
        )

    def _format(self, event_id: int) -> EventFormat:
        """Return an event's format; an unknown one gets a name, so that its events are seen."""
        known = self._formats.get(event_id)
        if known is None:
            name = f"unknown_{event_id}"
            known = EventFormat("unknown", name, event_id, self._common_fields, (), '""')
            self._formats[event_id] = known
        return known

    def _gaps(
        self, parts: list[_Part], order: NDArray[np.int64], *, is_last: bool
    ) -> tuple[Gap, ...]:
        gaps = []
        if any(part.closed for part in parts):
            place = np.empty(len(order), np.int64)
            place[order] = np.arange(len(order))
            begin = 0
            for part in parts:
                for gap, row in part.closed:
                    if gap.timestamp_ns is None:
                        gap.timestamp_ns = int(part.timestamp[row])
                    gaps.append(_gap(part.stream, gap, int(place[begin + row])))
                begin += part.count
        if is_last:
            for stream in self._streams.values():
                stream.end()
                gaps.extend(_gap(stream, gap, len(order)) for gap in stream.open_gaps)
                stream.open_gaps.clear()
        return tuple(sorted(gaps, key=lambda gap: gap.before))

    def _marks(
        self, parts: list[_Part], order: NDArray[np.int64], bound: Bound
    ) -> tuple[DriftMark, ...]:
        count = bisect_right(self._drifts, bound.key, key=_drift_key)
        if not count:
            return ()
        due, self._drifts = self._drifts[:count], self._drifts[count:]
        keys = np.concatenate([part.keys for part in parts])[order] if parts else order
        places = np.searchsorted(keys, [np.uint64(_drift_key(one)) for one in due], side="right")
        return tuple(map(DriftMark, due, places.tolist()))

    def _damages(self) -> tuple[Damage, ...]:
        damages = tuple(one for stream in self._streams.values() for one in stream.damages)
        for stream in self._streams.values():
            stream.damages.clear()
        return damages


def _gap(stream: Stream, gap: _OpenGap, before: int) -> Gap:
    timestamp = gap.page_timestamp_ns if gap.timestamp_ns is None else gap.timestamp_ns
    return Gap(stream.buffer, stream.cpu, timestamp, gap.count, before)


def _drift_key(drift: Drift) -> int:
    """Return its place in time; one whose time is not known comes last."""
    return _LAST_KEY if drift.trace_ns is None else min(drift.trace_ns, _LAST_KEY)


def _count_up_to(keys: NDArray[np.uint64], bound: Bound, order: int) -> int:
    key = np.uint64(bound.key)
    if order <= bound.stream:
        return int(np.searchsorted(keys, key, side="right"))
    return int(np.searchsorted(keys, key))


def _check_layout(layout: PageLayout, subbuf_sizes: list[int]) -> None:
    if layout.byte_order not in {"<", ">"} or layout.long_size not in {4, 8}:
        raise DecodeError(
            f"no kernel has byte order {layout.byte_order!r} and longs of {layout.long_size} bytes"
        )
    offset = layout.data_offset
    if offset < 8 + layout.long_size or offset % 4:
        raise DecodeError(f"records cannot start at byte {offset} of a sub-buffer")
    for size in subbuf_sizes:
        if size <= offset or size % 8:
            raise DecodeError(f"a sub-buffer cannot have {size} bytes")
