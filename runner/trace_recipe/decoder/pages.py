"""Sub-buffers of the ring buffer to arrays of records: pure on bytes, never raises on bad ones.

Layout: include/linux/ring_buffer.h (struct ring_buffer_event) and events/header_page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trace_recipe.events import TickScale

__all__ = ["PageDamage", "PageHeaders", "PageLayout", "PageRecords", "read_headers", "scan"]

LOST_UNKNOWN = -1

_LENGTH_MASK = 0x07FF_FFFF
_LOST_STORED = 1 << 30
_LOST_EVENTS = 1 << 31
_PADDING, _TIME_EXTEND, _TIME_STAMP = 29, 30, 31
_DELTA_BITS = 27
_SHORTEST_EVENT = 6  # a type 0 record counts its own length word; then at least common_type
# Linux kernel: absolute time stamps carry 59 bits, the rest comes from the running time.
_STAMP_BITS = 59
_STAMP_TOP = np.uint64(0xF8 << 56)
# Below this many sub-buffers a plain loop over the records beats advancing all in lockstep.
_LOCKSTEP_PAGES = 64


@dataclass(frozen=True, slots=True)
class PageLayout:
    """How one kernel lays out sub-buffers: numpy byte order, bytes of a long, start of data.

    `scale` says what the ticks of their clock are in nanoseconds, if they are to be converted.
    """

    byte_order: str
    long_size: int
    data_offset: int
    scale: TickScale | None = None

    def times(self, ticks: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return recorded times as they are handed out."""
        return ticks if self.scale is None else self.scale.nanoseconds(ticks)


@dataclass(frozen=True, slots=True)
class PageDamage:
    """Sub-buffer `page` is undecodable from byte `offset_bytes` of it on."""

    page: int
    offset_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class PageHeaders:
    """One entry per sub-buffer.

    `ticks` is the time as recorded, `timestamp` as it is handed out. `length` is the bytes of
    records, clipped to the sub-buffer; `lost` is 0, the number of events lost before the
    sub-buffer, or LOST_UNKNOWN.
    """

    ticks: NDArray[np.uint64]
    timestamp: NDArray[np.uint64]
    length: NDArray[np.int64]
    lost: NDArray[np.int64]
    damages: tuple[PageDamage, ...]


@dataclass(frozen=True, slots=True)
class PageRecords:
    """The events of a block of sub-buffers, one entry per event, in the order of the bytes.

    `offset` is where the payload starts in the flattened block, `length` its bytes (rounded up to
    4 by the kernel), `event_id` its common_type.
    """

    page: NDArray[np.int64]
    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    timestamp: NDArray[np.uint64]
    event_id: NDArray[np.uint16]
    headers: PageHeaders
    damages: tuple[PageDamage, ...]

    @property
    def count(self) -> int:
        """Number of events."""
        return len(self.timestamp)


def read_headers(pages: NDArray[np.uint8], layout: PageLayout) -> PageHeaders:
    """Read time stamp, commit word and lost mark of every sub-buffer of uint8[count, size]."""
    count, size = pages.shape
    room = size - layout.data_offset
    ticks = pages[:, :8].view(f"{layout.byte_order}u8")[:, 0].astype(np.uint64)
    long_type = f"{layout.byte_order}u{layout.long_size}"
    commit = pages[:, 8 : 8 + layout.long_size].view(long_type)[:, 0].astype(np.uint64)
    length = (commit & np.uint64(_LENGTH_MASK)).astype(np.int64)
    damages = [
        PageDamage(
            int(page), 8, f"sub-buffer claims {length[page]} bytes of records, has room for {room}"
        )
        for page in np.flatnonzero(length > room)
    ]
    np.minimum(length, room, out=length)
    damages.extend(
        PageDamage(int(page), 8, f"{length[page]} bytes of records, not a multiple of 4")
        for page in np.flatnonzero(length & 3)
    )
    lost = np.zeros(count, np.int64)
    marked = np.flatnonzero(commit & np.uint64(_LOST_EVENTS))
    for page in marked.tolist():
        lost[page] = LOST_UNKNOWN
        start = layout.data_offset + int(length[page])
        end = start + layout.long_size
        if int(commit[page]) & _LOST_STORED and end <= size:
            stored = int(pages[page, start:end].view(long_type)[0])
            lost[page] = stored if 0 < stored < 1 << 62 else LOST_UNKNOWN
    return PageHeaders(ticks, layout.times(ticks), length & ~3, lost, tuple(damages))


def scan(pages: NDArray[np.uint8], layout: PageLayout) -> PageRecords:
    """Find every event in the C-contiguous sub-buffers uint8[count, size].

    A broken record ends its sub-buffer with a PageDamage; the others are not affected.
    """
    count, size = pages.shape
    headers = read_headers(pages, layout)
    words = pages.reshape(-1).view(f"{layout.byte_order}u4")
    if not words.dtype.isnative:
        words = words.astype(np.uint32)
    is_big = layout.byte_order == ">"
    words_per_page = size // 4
    start = np.arange(count, dtype=np.int64) * words_per_page + layout.data_offset // 4
    end = start + headers.length // 4
    first_bytes = pages.reshape(-1)[::4]
    walk = _Walk(words, first_bytes, words_per_page, is_big=is_big)
    holding = np.flatnonzero(end > start)
    if len(holding) < _LOCKSTEP_PAGES:
        found = walk.one_by_one(start[holding], end[holding])
    else:
        found = walk.in_lockstep(start[holding], end[holding])
    damages = sorted(
        (*headers.damages, *walk.damages), key=lambda one: (one.page, one.offset_bytes)
    )

    head = words[found]
    kind, delta = _split(head, is_big=is_big)
    page = found // words_per_page
    timestamp = layout.times(_timestamps(words, found, (kind, delta), page, headers.ticks))
    is_event = kind < _PADDING
    if not is_event.all():
        found, kind, page = found[is_event], kind[is_event], page[is_event]
        timestamp = timestamp[is_event]
    length = kind.astype(np.int64) * 4
    first = found + 1
    long_form = np.flatnonzero(kind == 0)
    if len(long_form):
        length[long_form] = words[first[long_form]].astype(np.int64) - 4
        first[long_form] += 1
    common = words[first]
    event_id = (common >> np.uint32(16) if is_big else common).astype(np.uint16)
    return PageRecords(page, first * 4, length, timestamp, event_id, headers, tuple(damages))


class _Walk:
    """Find the words at which records start; broken ones become damages."""

    def __init__(
        self,
        words: NDArray[np.uint32],
        first_bytes: NDArray[np.uint8],
        words_per_page: int,
        *,
        is_big: bool,
    ) -> None:
        self.words = words
        self.first_bytes = first_bytes  # type_len is in the first one of a header
        self.sizes = _record_sizes(is_big=is_big)
        self.words_per_page = words_per_page
        self.is_big = is_big
        self.damages: list[PageDamage] = []

    def in_lockstep(self, start: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
        """Advance all sub-buffers together: step k looks at the k-th record of each."""
        # Records ascend within a sub-buffer, so a mark per word puts them in order for free.
        marks = np.zeros(len(self.words), np.bool_)
        at = start
        while len(at):
            size: NDArray[np.integer] = self.sizes[self.first_bytes[at]]
            if not size.all():
                at, end, size = self._long_forms(at, end, size)
            after = at + size
            left = end - after
            if len(left) and left.min() > 0:
                marks[at] = True
                at = after
                continue
            over = left < 0
            if over.any():
                for one in np.flatnonzero(over).tolist():
                    self._check_end(int(at[one]), int(after[one]), int(end[one]))
                marks[at[~over]] = True
            else:
                marks[at] = True
            more = left > 0
            at, end = after[more], end[more]
        return np.flatnonzero(marks)

    def one_by_one(self, start: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
        """Walk sub-buffer after sub-buffer: for few or very large ones."""
        found: list[int] = []
        add = found.append
        sizes = self.first_bytes.tobytes().translate(self.sizes.tobytes())
        for at, stop in zip(start.tolist(), end.tolist(), strict=True):
            while at < stop:
                size = sizes[at] or self._long_form(at, stop)
                after = at + size
                if after > stop or not size:
                    if size:
                        self._check_end(at, after, stop)
                    break
                add(at)
                at = after  # noqa: PLW2901 - the walk is the loop variable's purpose
        return np.array(found, np.int64)

    def _long_forms(
        self, at: NDArray[np.int64], end: NDArray[np.int64], size: NDArray[np.integer]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Fill in the sizes that stand in the record's second word; drop what ends here."""
        words = size.astype(np.int64)
        special = np.flatnonzero(words == 0)
        here = at[special]
        kind, delta = _split(self.words[here], is_big=self.is_big)
        is_padding = kind == _PADDING
        stated = self.words[np.minimum(here + 1, len(self.words) - 1)].astype(np.int64)
        whole = (here + 2 <= end[special]) & (stated >= np.where(is_padding, 4, _SHORTEST_EVENT))
        words[special] = np.where(whole, 1 + (stated + 3) // 4, 0)
        for one in np.flatnonzero(~whole & ~(is_padding & (delta == 0))).tolist():
            self._damage(int(here[one]), "record without a valid length")
        words[special[is_padding & (delta == 0)]] = 0
        keep = words > 0
        return at[keep], end[keep], words[keep]

    def _long_form(self, at: int, end: int) -> int:
        """Return the size in words of one type 0 or padding record; 0 ends the sub-buffer."""
        head = int(self.words[at])
        kind, delta = (head >> _DELTA_BITS, head & 0x07FF_FFFF) if self.is_big else (
            head & 31, head >> 5,
        )  # fmt: skip
        if kind == _PADDING and delta == 0:
            return 0
        stated = int(self.words[at + 1]) if at + 2 <= end else 0
        if stated < (4 if kind == _PADDING else _SHORTEST_EVENT):
            self._damage(at, "record without a valid length")
            return 0
        return 1 + (stated + 3) // 4

    def _check_end(self, at: int, after: int, end: int) -> None:
        """Report a record that ends behind the data, unless it only fills the sub-buffer up."""
        kind, _ = _split(self.words[at : at + 1], is_big=self.is_big)
        page_end = (at // self.words_per_page + 1) * self.words_per_page
        if kind[0] == _PADDING and after <= page_end:
            return
        self._damage(at, f"record of {4 * (after - at)} bytes, only {4 * (end - at)} are left")

    def _damage(self, at: int, reason: str) -> None:
        page, word = divmod(at, self.words_per_page)
        self.damages.append(PageDamage(page, word * 4, reason))


def _record_sizes(*, is_big: bool) -> NDArray[np.uint8]:
    """Return a record's size in words by the first byte of its header, 0 when it stands behind."""
    sizes = np.arange(1, 33, dtype=np.uint8)
    sizes[[0, _PADDING]] = 0
    sizes[[_TIME_EXTEND, _TIME_STAMP]] = 2
    byte = np.arange(256)
    by_byte: NDArray[np.uint8] = sizes[byte >> 3 if is_big else byte & 31]
    return by_byte


def _split(
    head: NDArray[np.uint32], *, is_big: bool
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Return type_len and time delta of record headers; C bit fields follow the byte order."""
    if is_big:
        return head >> np.uint32(_DELTA_BITS), head & np.uint32((1 << _DELTA_BITS) - 1)
    return head & np.uint32(31), head >> np.uint32(5)


def _timestamps(
    words: NDArray[np.uint32],
    found: NDArray[np.int64],
    heads: tuple[NDArray[np.uint32], NDArray[np.uint32]],
    page: NDArray[np.int64],
    page_timestamp: NDArray[np.uint64],
) -> NDArray[np.uint64]:
    """Return the time after each record: a running sum that restarts at pages and stamps."""
    if not len(found):
        return np.zeros(0, np.uint64)
    kind, delta = heads
    step = delta.astype(np.uint64)
    stamps = np.zeros(0, np.int64)
    if (kind >= _PADDING).any():
        extends = np.flatnonzero(kind == _TIME_EXTEND)
        step[extends] += words[found[extends] + 1].astype(np.uint64) << np.uint64(_DELTA_BITS)
        # The writer puts 1 where a discarded event's delta must not be 0 (ring_buffer.c).
        step[(kind == _PADDING) & (delta == 1)] = 0
        stamps = np.flatnonzero(kind == _TIME_STAMP)
    firsts = np.flatnonzero(np.diff(page, prepend=-1))
    raw = step[stamps] + (words[found[stamps] + 1].astype(np.uint64) << np.uint64(_DELTA_BITS))
    step[stamps] = 0
    total = np.cumsum(step)
    base = page_timestamp[page[firsts]] - (total[firsts] - step[firsts])
    if not len(stamps):
        running: NDArray[np.uint64] = total + np.repeat(base, np.diff(firsts, append=len(found)))
        return running
    top = page_timestamp[page[stamps]] & _STAMP_TOP
    value = raw | top
    restarts = np.zeros(len(found), np.bool_)
    bases = np.zeros(len(found), np.uint64)
    restarts[firsts], bases[firsts] = True, base
    restarts[stamps], bases[stamps] = True, value - total[stamps]
    places = np.flatnonzero(restarts)
    timestamp: NDArray[np.uint64] = total + np.repeat(
        bases[places], np.diff(places, append=len(found))
    )
    before = np.where(
        np.isin(stamps, firsts), page_timestamp[page[stamps]], timestamp[np.maximum(stamps - 1, 0)]
    )
    wrong = ((before & _STAMP_TOP) != top) | ((top != 0) & (value < before))
    for one in np.unique(page[stamps[wrong]]).tolist():
        begin, end = np.searchsorted(page, [one, one + 1])
        absolute = dict(zip(stamps.tolist(), raw.tolist(), strict=True))
        now = int(page_timestamp[one])
        for index in range(begin, end):
            now = _advance(now, int(step[index]), absolute.get(index))
            timestamp[index] = now
    return timestamp


def _advance(now: int, step: int, stamp: int | None) -> int:
    """Return the running time after one record; the slow and exact form of the 59-bit rule."""
    if stamp is None:
        return (now + step) & 0xFFFF_FFFF_FFFF_FFFF
    top = now & int(_STAMP_TOP)
    value = stamp | top
    if top and value < now:
        value += 1 << _STAMP_BITS
    return value & 0xFFFF_FFFF_FFFF_FFFF
