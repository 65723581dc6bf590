"""Decoded events: one batch holds columns per event type and the time order over all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from trace_recipe.formats import FieldKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from trace_recipe.drift import Drift
    from trace_recipe.formats import EventFormat, Field

__all__ = [
    "ArrayPages",
    "Buffer",
    "Damage",
    "DriftMark",
    "EventColumns",
    "Events",
    "Gap",
    "Pages",
    "Symbols",
    "TickScale",
    "TraceData",
]

# trace_clocks[] in kernel/trace/trace.c; every other clock counts something else than ns.
_NS_CLOCKS = frozenset({"local", "global", "perf", "mono", "mono_raw", "boot", "tai"})
_LOW_WORD = np.uint64(0xFFFF_FFFF)


class Pages(Protocol):
    """The sub-buffers of one CPU of one instance, oldest first."""

    @property
    def count(self) -> int:
        """Number of whole sub-buffers."""

    def read(self, first: int, count: int) -> NDArray[np.uint8]:
        """Return sub-buffers `first` up to `first + count` as uint8[count, subbuf_size_bytes]."""


@dataclass(frozen=True, slots=True, eq=False)
class ArrayPages:
    """Sub-buffers that are in memory: uint8[count, subbuf_size_bytes]."""

    pages: NDArray[np.uint8]

    @property
    def count(self) -> int:
        """Number of sub-buffers."""
        return len(self.pages)

    def read(self, first: int, count: int) -> NDArray[np.uint8]:
        """Return sub-buffers without copying them."""
        return self.pages[first : first + count]


@dataclass(frozen=True, slots=True)
class TickScale:
    """What a tick of a clock that counts no nanoseconds is worth: `mult / 2**shift` ns.

    `mult` has 32 bits, `shift` is 0 to 63, as perf_event_open(2) gives them as time_mult and
    time_shift.
    """

    mult: int
    shift: int

    def nanoseconds(self, ticks: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return `ticks * mult >> shift` of 128 bits, to the last bit, modulo 2**64."""
        mult = np.uint64(self.mult)
        low = (ticks & _LOW_WORD) * mult
        high = (ticks >> np.uint64(32)) * mult + (low >> np.uint64(32))  # fits: 2**64 - 2**32
        if self.shift > 32:
            return high >> np.uint64(self.shift - 32)
        return (high << np.uint64(32 - self.shift)) + ((low & _LOW_WORD) >> np.uint64(self.shift))


@dataclass(frozen=True, slots=True)
class Buffer:
    """The ring buffer of one instance: `name` is "" for the top level.

    `scale` turns the time stamps of a clock of ticks into nanoseconds, when it is known.
    """

    name: str
    clock: str
    subbuf_size_bytes: int
    cpus: Mapping[int, Pages]
    stats: Mapping[int, str] = field(default_factory=dict)  # per_cpu/cpuN/stats texts
    tracer: str = "nop"
    scale: TickScale | None = None

    @property
    def in_ns(self) -> bool:
        """Whether the decoded time stamps are nanoseconds, so that they are shown as seconds."""
        return self.scale is not None or self.clock in _NS_CLOCKS


@dataclass(frozen=True, slots=True)
class Symbols:
    """Kernel symbols: `addresses` ascending uint64, `names` beside them."""

    addresses: NDArray[np.uint64]
    names: Sequence[str]

    def find(self, address: int) -> tuple[str, int] | None:
        """Return the symbol at or below `address` and the offset into it, or None."""
        index = int(np.searchsorted(self.addresses, np.uint64(address), side="right")) - 1
        if index < 0:
            return None
        return self.names[index], address - int(self.addresses[index])


@dataclass(frozen=True, slots=True)
class TraceData:
    """Everything a decoder or a trace.dat writer needs, from a Recording or a trace.dat file.

    `byte_order` is numpy's "<" or ">"; `long_size` the kernel's. `wall_offset_ns` added to a time
    stamp in ns gives nanoseconds since the epoch, None when unknown. `cpu_count` is the
    number of possible CPUs. Texts are the kernel's files, verbatim. `raw_options` are those of the
    trace.dat that it came from, (id, content), without the ones that hold file offsets.
    `latency_text` is the kernel's own report of the longest latency, when a latency tracer ran.
    `drifts` are changes by others while it was recorded, in the order in which they were seen.
    """

    formats: Mapping[int, EventFormat]
    byte_order: str
    long_size: int
    data_offset: int
    buffers: tuple[Buffer, ...]
    cpu_count: int
    header_page_text: str
    header_event_text: str
    cmdlines: Mapping[int, str] = field(default_factory=dict)
    tgids: Mapping[int, int] = field(default_factory=dict)
    printk_formats: Mapping[int, str] = field(default_factory=dict)
    symbols: Symbols | None = None
    kallsyms_text: str = ""
    printk_text: str = ""
    uname: str = ""
    wall_offset_ns: int | None = None
    options: Mapping[str, bool] = field(default_factory=dict)
    latency_text: str = ""
    drifts: tuple[Drift, ...] = ()
    raw_options: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Gap:
    """Events were lost on `cpu` of buffer `buffer` before the batch's event number `before`.

    `count` is None when the kernel did not say how many; `timestamp_ns` is that of the first event
    after the gap.
    """

    buffer: int
    cpu: int
    timestamp_ns: int
    count: int | None
    before: int


@dataclass(frozen=True, slots=True)
class DriftMark:
    """Somebody else's change, seen before the batch's event number `before`."""

    drift: Drift
    before: int


@dataclass(frozen=True, slots=True)
class Damage:
    """A part of the recording that cannot be decoded; decoding goes on behind it."""

    buffer: int
    cpu: int
    offset_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class EventColumns:
    """All events of one type in a batch, in time order; every array has one entry per event.

    `position` is the row's place in the batch's time order. `data` holds all payload bytes of the
    batch's events (shared between types); event i occupies data[offset[i] : offset[i]+length[i]].
    """

    format: EventFormat
    byte_order: str
    timestamp_ns: NDArray[np.uint64]
    cpu: NDArray[np.uint16]
    buffer: NDArray[np.uint16]
    position: NDArray[np.int64]
    data: NDArray[np.uint8]
    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    _gathered: list[NDArray[np.uint8]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    @property
    def count(self) -> int:
        """Number of events."""
        return len(self.timestamp_ns)

    def column(self, name: str) -> NDArray[np.generic]:
        """Return a scalar field as an integer array, a fixed array as [count, length].

        Scalars have the field's width and sign. A char array gives uint8[count, length]. What a
        short record does not hold is 0. Raises KeyError for an unknown name and TypeError for a
        field with dynamic length.
        """
        one = self._field(name)
        if one.is_dynamic:
            raise TypeError(f"{name} has no fixed length")
        kind = "i" if one.is_signed else "u"
        width = one.element_size if one.element_size in {1, 2, 4, 8} else 1
        values = self._values(one.offset, one.size // width, f"{kind}{width}")
        return values[:, 0] if one.size == width and one.length == 1 else values

    def dynamic(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (start, size in bytes) into `data` of a dynamic field, clipped to the record.

        For a fixed field it returns the field's own place, so that every field has bytes.
        """
        one = self._field(name)
        end = self.offset + self.length
        start = np.minimum(self.offset + one.offset, end)
        if one.kind is FieldKind.REST:
            return start, end - start
        if one.kind not in {FieldKind.DATA_LOC, FieldKind.REL_LOC}:
            return start, np.minimum(end - start, one.size)
        width = 2 if one.size == 2 else 4  # 2 bytes: the ancient form without a length
        word = self._values(one.offset, 1, f"u{width}")[:, 0].astype(np.int64)
        origin = start + width if one.kind is FieldKind.REL_LOC else self.offset
        begin = np.minimum(origin + (word & 0xFFFF), end)
        return begin, end - begin if width == 2 else np.minimum(word >> 16, end - begin)

    def _field(self, name: str) -> Field:
        one = self.format.find(name)
        if one is None:
            raise KeyError(name)
        return one

    def _values(self, offset: int, count: int, kind: str) -> NDArray[np.generic]:
        """Return `count` elements at `offset` of every payload in native byte order."""
        stored = np.dtype(f"{self.byte_order}{kind}")
        size = count * stored.itemsize
        rows = self._rows()
        part = rows[:, offset : offset + size]
        if part.shape[1] < size:  # no record of this batch is that long
            part = np.zeros((self.count, size), np.uint8)
            part[:, : max(rows.shape[1] - offset, 0)] = rows[:, offset : offset + size]
        values = part.view(stored).astype(stored.newbyteorder("="), order="C")
        if self.count and int(self.length.min()) < offset + size:
            held = (self.length - offset) // stored.itemsize
            values[np.arange(count) >= held[:, None]] = 0
        return values

    def _rows(self) -> NDArray[np.uint8]:
        """Return the fixed parts of all records as bytes[count, width], gathered on first use.

        One gather of whole records costs about as much as one of a single field: payloads are
        only 4-aligned, so a field cannot be viewed in place.
        """
        if self._gathered:
            return self._gathered[0]
        longest = int(self.length.max()) if self.count else 0
        # A multiple of 8 keeps 8-byte fields aligned in the gathered rows.
        width = (min(self.format.fixed_size, longest) + 7) & ~7
        last = len(self.data) - width
        if width and self.count and last >= 0:
            windows = np.ndarray((last + 1,), f"V{width}", self.data, strides=(1,))
            chosen = windows[np.minimum(self.offset, last)]
            rows = chosen.view(np.uint8).reshape(self.count, width)
        else:
            rows = np.zeros((self.count, width), np.uint8)
        for row in np.flatnonzero(self.offset > last).tolist():
            start = int(self.offset[row])
            there = self.data[start : start + width]
            rows[row] = 0
            rows[row, : len(there)] = there
        self._gathered.append(rows)
        return rows


@dataclass(frozen=True, slots=True)
class Events:
    """One batch in time order over all CPUs and buffers: `count` events in columns by type."""

    count: int
    columns: tuple[EventColumns, ...]
    gaps: tuple[Gap, ...] = ()
    damages: tuple[Damage, ...] = ()
    drifts: tuple[DriftMark, ...] = ()

    def __iter__(self) -> Iterator[EventColumns]:
        return iter(self.columns)
