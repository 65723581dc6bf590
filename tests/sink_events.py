"""Batches of events made by hand from real format files, for the tests and benchmarks of sinks."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trace_recipe.events import Buffer, EventColumns, Events, Symbols, TraceData
from trace_recipe.formats import EventFormat, Field, FieldKind, parse_event_format

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMATS = Path(__file__).parent / "golden" / "formats"
FIRST_NS = 3_043_863_582_104
WALL_OFFSET_NS = 1_795_380_300_123_456_789


@functools.cache
def event_format(full_name: str) -> EventFormat:
    """Return a format that was copied from a running 6.18 kernel (x86-64)."""
    system, _, name = full_name.partition(":")
    text = (FORMATS / f"{system}.{name}.format").read_text()
    return parse_event_format(text, system)


def payload(layout: EventFormat, byte_order: str = "<", /, **values: Any) -> bytes:
    """Return a record as the kernel writes it; values are ints, bytes or lists of ints."""
    order = "little" if byte_order == "<" else "big"
    values = {"common_type": layout.id, "common_pid": 4711} | values
    raw = bytearray(layout.fixed_size)

    def put(number: int, size: int) -> bytes:
        return (number % (1 << 8 * size)).to_bytes(size, order)  # type: ignore[arg-type] # one of two

    def pack(one: Field, value: Any) -> bytes:
        if isinstance(value, bytes):
            return value
        numbers = [value] if isinstance(value, int) else value
        return b"".join(put(number, one.element_size) for number in numbers)

    for one in layout.all_fields:
        if one.name not in values:
            continue
        content = pack(one, values[one.name])
        if one.kind in {FieldKind.DATA_LOC, FieldKind.REL_LOC}:
            begin = len(raw)
            origin = one.offset + 4 if one.kind is FieldKind.REL_LOC else 0
            raw[one.offset : one.offset + 4] = put(len(content) << 16 | begin - origin, 4)
            raw += content
            raw += bytes(-len(raw) % 4)
        elif one.kind is FieldKind.REST or one.name == "caller":  # up to the end of the record
            raw[one.offset :] = content
        else:
            raw[one.offset : one.offset + one.size] = content.ljust(one.size, b"\0")[: one.size]
    return bytes(raw) + bytes(-len(raw) % 4)


def batch(
    records: Sequence[tuple[EventFormat, bytes]], byte_order: str = "<", **extra: Any
) -> Events:
    """Return the records as one batch, a microsecond apart, alternating between two CPUs."""
    sizes = [len(raw) for _, raw in records]
    data = np.frombuffer(b"".join(raw for _, raw in records), np.uint8)
    begins = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64) if sizes else None
    layouts: dict[int, EventFormat] = {}
    for layout, _ in records:
        layouts.setdefault(id(layout), layout)
    columns = []
    for layout in layouts.values():
        rows = np.array([i for i, (one, _) in enumerate(records) if one is layout], np.int64)
        assert begins is not None
        columns.append(
            EventColumns(
                layout, byte_order,
                (FIRST_NS + rows * 1000).astype(np.uint64),
                (rows % 2).astype(np.uint16),
                (rows % extra.get("buffers", 1)).astype(np.uint8),
                rows, data, begins[rows], np.array(sizes, np.int64)[rows],
            )
        )  # fmt: skip
    notes = (tuple(extra.get(name, ())) for name in ("gaps", "damages", "drifts"))
    return Events(len(records), tuple(columns), *notes)


def trace_data(*names: str, byte_order: str = "<", **changes: Any) -> TraceData:
    """Return a recording's tables for the named formats."""
    layouts = [event_format(name) for name in names]
    buffer = Buffer(name="", clock="local", subbuf_size_bytes=4096, cpus={})
    known: dict[str, Any] = {
        "formats": {layout.id: layout for layout in layouts},
        "byte_order": byte_order,
        "long_size": 8,
        "data_offset": 16,
        "buffers": (buffer,),
        "cpu_count": 2,
        "header_page_text": "",
        "header_event_text": "",
        "cmdlines": {4711: "mount", 4712: 'a"b\\c\n\x1b[31m\u2028é'},
        "symbols": Symbols(
            np.array([0xFFFFFFFF81000000, 0xFFFFFFFF81000100], np.uint64),
            ["schedule", "btrfs_x\t[btrfs]"],
        ),
        "wall_offset_ns": WALL_OFFSET_NS,
    }
    return TraceData(**(known | changes))
