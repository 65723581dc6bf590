"""Decoded events: one batch holds columns per event type and the time order over all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from trace_recipe.formats import EventFormat

__all__ = ["Buffer", "Damage", "EventColumns", "Events", "Gap", "Pages", "Symbols", "TraceData"]


class Pages(Protocol):
    """The sub-buffers of one CPU of one instance, oldest first."""

    @property
    def count(self) -> int:
        """Number of whole sub-buffers."""

    def read(self, first: int, count: int) -> NDArray[np.uint8]:
        """Return sub-buffers `first` up to `first + count` as uint8[count, subbuf_size_bytes]."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """The ring buffer of one instance: `name` is "" for the top level."""

    name: str
    clock: str
    subbuf_size_bytes: int
    cpus: Mapping[int, Pages]
    stats: Mapping[int, str] = field(default_factory=dict)  # per_cpu/cpuN/stats texts
    tracer: str = "nop"


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
    stamp of an ns clock gives nanoseconds since the epoch, None when unknown. `cpu_count` is the
    number of possible CPUs. Texts are the kernel's files, verbatim.
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
    buffer: NDArray[np.uint8]
    position: NDArray[np.int64]
    data: NDArray[np.uint8]
    offset: NDArray[np.int64]
    length: NDArray[np.int64]

    @property
    def count(self) -> int:
        """Number of events."""
        return len(self.timestamp_ns)

    def column(self, name: str) -> NDArray[np.generic]:
        """Return a scalar field as an integer array, a fixed array as [count, length].

        Scalars have the field's width and sign. A char array gives uint8[count, length]. Raises
        KeyError for an unknown name and TypeError for a field with dynamic length.
        """
        one = self.format.find(name)
        if one is None:
            raise KeyError(name)
        if one.is_dynamic:
            raise TypeError(f"{name} has no fixed length")
        kind = "i" if one.is_signed else "u"
        width = one.element_size if one.element_size in {1, 2, 4, 8} else 1
        count = one.size // width
        reach = self.offset[:, None] + one.offset + np.arange(one.size, dtype=np.int64)[None, :]
        inside = (one.offset + one.size) <= self.length
        raw = self.data[np.minimum(reach, len(self.data) - 1)] if len(self.data) else None
        if raw is None:
            raw = np.zeros((self.count, one.size), np.uint8)
        if not inside.all():
            raw = np.where(inside[:, None], raw, np.uint8(0))
        values = np.ascontiguousarray(raw).view(f"{self.byte_order}{kind}{width}")
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        return values[:, 0] if count == 1 and one.length == 1 else values

    def dynamic(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (start, size in bytes) into `data` of a dynamic field, clipped to the record.

        For a fixed field it returns the field's own place, so that every field has bytes.
        """
        one = self.format.find(name)
        if one is None:
            raise KeyError(name)
        from trace_recipe.formats import FieldKind  # noqa: PLC0415 - a value module; no cycle

        start = self.offset + one.offset
        end = self.offset + self.length
        if one.kind is FieldKind.REST:
            return start, np.maximum(end - start, 0)
        if one.kind not in {FieldKind.DATA_LOC, FieldKind.REL_LOC}:
            return start, np.clip(end - start, 0, one.size)
        width = one.size if one.size in {2, 4} else 4
        reach = start[:, None] + np.arange(width, dtype=np.int64)[None, :]
        raw = self.data[np.minimum(reach, len(self.data) - 1)]
        word = np.ascontiguousarray(raw).view(f"{self.byte_order}u{width}")[:, 0].astype(np.int64)
        offset, size = word & 0xFFFF, word >> 16
        origin = start + width if one.kind is FieldKind.REL_LOC else self.offset
        begin = np.minimum(origin + offset, end)
        if width == 2:
            size = end - begin
        return begin, np.clip(size, 0, np.maximum(end - begin, 0))


@dataclass(frozen=True, slots=True)
class Events:
    """One batch in time order over all CPUs and buffers: `count` events in columns by type."""

    count: int
    columns: tuple[EventColumns, ...]
    gaps: tuple[Gap, ...] = ()
    damages: tuple[Damage, ...] = ()

    def __iter__(self) -> Iterator[EventColumns]:
        return iter(self.columns)
