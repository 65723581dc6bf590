"""Targets that read bytes: sub-buffers of the ring buffer and trace.dat files."""

from __future__ import annotations

import functools
import io
import json
import os
import struct
import zlib
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zstandard

from tests.fuzz.mutations import HARD_TEXTS, mutated_bytes, mutated_text
from tests.fuzz.text_targets import check_problem, real_formats
from tests.page_builder import UNKNOWN, PageBuilder, Writer
from tests.trace_dat_cases import make_buffer, make_data
from trace_recipe.decoder import decode
from trace_recipe.decoder.live import LiveDecoder
from trace_recipe.errors import DecodeError, OutputError
from trace_recipe.events import ArrayPages, Buffer, Symbols, TickScale, TraceData
from trace_recipe.formats import FieldKind, FormatError, parse_event_format
from trace_recipe.held_files import HeldFile
from trace_recipe.trace_dat import read_trace_dat, write_trace_dat
from trace_recipe.writer import Target as Output
from trace_recipe.writer import write_outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from random import Random

    from trace_recipe.events import Events
    from trace_recipe.formats import EventFormat

__all__ = [
    "make_pages",
    "make_sink_input",
    "make_trace_dat",
    "run_pages",
    "run_sink",
    "run_trace_dat",
]


@functools.cache
def _formats() -> dict[int, EventFormat]:
    found = (parse_event_format(text, system) for system, text in real_formats())
    return {one.id: one for one in found}


# -- sub-buffers


@dataclass(frozen=True, slots=True)
class PagesInput:
    """Sub-buffers of several CPUs and buffers, and how they are handed to the decoder."""

    data: TraceData
    batch_subbufs: int
    horizons: tuple[int, int] | None  # times up to which events are taken live; None: not live


def make_pages(random: Random) -> PagesInput:
    """Return sub-buffers as a kernel writes them, with a few bytes changed."""
    size = random.choice((128, 256, 256, 512, 512, 4096))
    build = PageBuilder(random.choice("<<>"), random.choice((8, 8, 4)), size)
    buffers = []
    for number in range(random.choice((1, 1, 1, 2))):
        cpus: dict[int, Any] = {}
        for cpu in random.sample((0, 1, 2, 300, 65535), random.choice((1, 1, 2, 3))):
            content = _changed_pages(random, build)
            if random.random() < 0.01:
                content *= 70  # enough sub-buffers to go through them in lockstep
            rows = np.frombuffer(content, np.uint8).reshape(-1, size)
            cpus[cpu] = ArrayPages(rows)
        scale = TickScale(random.randrange(1 << 32), random.randrange(64))
        buffers.append(
            Buffer(
                f"b{number}", "local", size, cpus, scale=scale if random.random() < 0.2 else None
            )
        )
    formats = {number: _formats()[number] for number in random.sample(sorted(_formats()), 20)}
    data = TraceData(
        formats, build.byte_order, build.long_size, build.data_offset, tuple(buffers), 4, "", ""
    )
    horizons = None
    if random.random() < 0.3:
        first, second = (random.choice((0, 1 << 20, 1 << 40, 1 << 63)) for _ in range(2))
        horizons = first, second
    count = sum(pages.count for one in buffers for pages in one.cpus.values())
    return PagesInput(data, random.choice((1, 2, 1000)) if count < 500 else 1000, horizons)


def _changed_pages(random: Random, build: PageBuilder) -> bytes:
    writer = Writer(build)
    now = random.choice((0, 1, 1 << 40, (1 << 59) - 50, (1 << 63) + 5, (1 << 64) - 1000))
    ids = random.choices(sorted(_formats()), k=3)
    for _ in range(random.choice((0, 1, 4, 4, 12, 30))):
        now = min(now + random.choice((0, 1, 100, 1 << 28, 1 << 58)), (1 << 64) - 1)
        if random.random() < 0.05:
            writer.lose(random.choice((UNKNOWN, 1, 39061)))
        body = random.randbytes(random.choice((0, 4, 20, 40)))
        payload = build.event(random.choice(ids), random.randrange(100), body)
        writer.write(now, payload, absolute=random.random() < 0.1)
    content = b"".join(writer.close())
    if random.random() < 0.9:
        content = mutated_bytes(random, content)
    if random.random() < 0.1:
        content = random.randbytes(build.subbuf_size)
    return content[: len(content) // build.subbuf_size * build.subbuf_size]


def run_pages(made: PagesInput) -> None:
    """Decode sub-buffers at once and bit by bit, and read the fields."""
    count = _read_all(decode(made.data, batch_subbufs=made.batch_subbufs))
    if made.horizons is None:
        return
    live = LiveDecoder(made.data)
    pages = {
        (index, cpu): pages
        for index, buffer in enumerate(made.data.buffers)
        for cpu, pages in buffer.cpus.items()
    }
    some = {key: ArrayPages(one.read(0, one.count // 2)) for key, one in pages.items()}
    batches = [live.take(made.horizons[0], some), live.take(made.horizons[1], pages)]
    assert _read_all(chain(*batches, live.finish(pages))) == count


@dataclass(frozen=True, slots=True)
class SinkInput:
    """A decoded recording, and the output that is made of it."""

    data: TraceData
    sink: str
    options: dict[str, Any]


def make_sink_input(random: Random) -> SinkInput:
    """Return a recording of hostile records, with names, tasks and symbols to print."""
    data = make_pages(random).data
    tracers = random.choices(("nop", "function_graph", "function"), k=len(data.buffers))
    buffers = tuple(
        replace(one, tracer=tracer, name=_short(random), clock=random.choice(("mono", "counter")))
        for one, tracer in zip(data.buffers, tracers, strict=True)
    )
    choices = ("context-info", "irq-info", "record-tgid", "sym-offset", "sym-addr", "print-parent",
               "funcgraph-abstime", "funcgraph-proc", "funcgraph-irqs", "funcgraph-overrun",
               "funcgraph-tail", "funcgraph-retval", "funcgraph-duration")  # fmt: skip
    data = replace(
        data,
        buffers=buffers,
        cmdlines={pid: _short(random) for pid in range(3)},
        tgids={1: 1, 2: 99999} if random.random() < 0.3 else {},
        symbols=Symbols(np.array([0, 1 << 63], np.uint64), ["zero", _short(random)]),
        printk_formats={number: random.choice(HARD_TEXTS) for number in (0, 1)},
        wall_offset_ns=random.choice((None, 0, 10**18, -(10**18), 1 << 62, -(1 << 80))),
        options={random.choice(choices): random.random() < 0.5 for _ in range(3)},
    )
    sink = random.choice(("text", "text", "jsonl", "csv"))
    options: dict[str, Any] = {"names": random.random() < 0.5}
    if sink == "csv":
        options = {"layout": "wide"}
    return SinkInput(data, sink, options)


def run_sink(made: SinkInput) -> None:
    """Write an output of a recording; what is printed has no control characters."""
    stream = io.BytesIO()
    outputs = [Output(made.sink, "-", made.options, stream)]
    written = write_outputs(made.data, outputs, recording=Path("fuzz"))
    assert not written.problems
    text = stream.getvalue().decode()
    assert not any(char in text for char in "\x1b\0\x7f\u202e")
    if made.sink == "jsonl":
        for line in text.splitlines():
            json.loads(line)


def _read_all(batches: Iterable[Events]) -> int:
    """Read fields of every event; return the number of events."""
    total = 0
    for events in batches:
        positions = np.concatenate([one.position for one in events] or [np.zeros(0, np.int64)])
        assert np.array_equal(np.sort(positions), np.arange(events.count))
        assert all(0 <= gap.before <= events.count for gap in events.gaps)
        for columns in events:
            for field in (*columns.format.fields[:3], *columns.format.fields[-2:]):
                if field.kind in {FieldKind.SCALAR, FieldKind.ARRAY}:
                    columns.column(field.name)
                start, size = columns.dynamic(field.name)
                assert (size >= 0).all()
                assert (start + size <= columns.offset + columns.length).all()
        total += events.count
    return total


# -- trace.dat


@dataclass(frozen=True, slots=True)
class FileInput:
    """A file's content, and the output that is made of it."""

    content: bytes
    sink: str


_PACKERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"zstd\x001.5.4\0": zstandard.ZstdCompressor(write_content_size=False).compress,
    b"zlib\x001.2.13\0": zlib.compress,
}


@functools.cache
def _files() -> tuple[bytes, ...]:
    """Return small files of both versions, byte orders and long sizes."""
    found = []
    for order, long_size in (("<", 8), (">", 8), ("<", 4)):
        layout: dict[str, Any] = {"order": order, "long_size": long_size}
        buffers = (
            make_buffer("", size=256, count=1, **layout),
            make_buffer("one", size=256, cpus=(1,), count=1, **layout),
        )
        data = make_data(
            *buffers,
            **layout,
            raw_options=((1, b"0x3e8\0"), (14, struct.pack(f"{order}IIQ", 9, 3, 0))),
        )
        for options in ({"compression": "none"}, {}, {"version": 6}):
            found.append(_written(data, options))
    return tuple(found)


def _written(data: TraceData, options: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    write_trace_dat(stream, data, **options)
    return stream.getvalue()


def make_trace_dat(random: Random) -> FileInput:
    """Return a file with changed bytes, one made of hostile parts, or both."""
    way = random.random()
    if way < 0.55:
        content = mutated_bytes(random, random.choice(_files()), others=_files())
    elif way < 0.65:
        content = _version7(random)
    else:
        content = _hostile(random)
        if random.random() < 0.2:
            content = mutated_bytes(random, content)
    return FileInput(content, random.choice(("text", "jsonl", "csv", "trace-dat")))


def _hostile(random: Random) -> bytes:
    """Return a file that is whole, but whose parts make no sense."""
    order, long_size = random.choice("<<>"), random.choice((8, 8, 4))
    build = PageBuilder(order, long_size, random.choice((128, 256)))
    buffers = []
    for _ in range(random.choice((1, 1, 2, 3))):
        cpus: dict[int, Any] = {}
        for cpu in random.sample(range(5), random.choice((0, 1, 2))):
            pages = np.frombuffer(_changed_pages(random, build), np.uint8)
            cpus[cpu] = ArrayPages(pages.reshape(-1, build.subbuf_size))
        name, clock = (_short(random) for _ in range(2))
        stats = {random.randrange(3): _short(random)} if random.random() < 0.3 else {}
        buffers.append(Buffer(name, clock or "mono", build.subbuf_size, cpus, stats))
    data = make_data(
        *buffers, order=order, long_size=long_size, raw_options=_options(random, order)
    )
    formats = random.sample(list(_formats().values()), 3)
    formats += [replace(one, text=mutated_text(random, one.text)) for one in formats[:1]]
    data = replace(
        data,
        formats=dict(enumerate(formats)),
        header_page_text=_maybe_changed(random, data.header_page_text),
        kallsyms_text=_maybe_changed(random, data.kallsyms_text),
        printk_text=_maybe_changed(random, data.printk_text),
        cmdlines={random.randrange(1 << 22): _short(random) for _ in range(2)},
        uname=_short(random),
    )
    options: dict[str, Any] = random.choice(({}, {"compression": "none"}, {"version": 6}))
    try:
        return _written(data, options)
    except (OutputError, FormatError, UnicodeEncodeError):  # no such file can be made
        return _files()[0]


def _short(random: Random) -> str:
    """Return a word without NUL, which ends words in the file."""
    if random.random() < 0.7:
        return random.choice(("", "mono", "local", "x86-tsc", "[boot] local", "counter", "a b"))
    return random.choice(HARD_TEXTS).replace("\0", "").encode("utf-8", "replace").decode()


def _maybe_changed(random: Random, text: str) -> str:
    changed = mutated_text(random, text) if random.random() < 0.2 else text
    return changed.encode("utf-8", "replace").decode()


def _options(random: Random, order: str) -> tuple[tuple[int, bytes], ...]:
    found = []
    for _ in range(random.choice((0, 1, 3))):
        number = random.choice((1, 2, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 24, 26, 99, 65535))
        content = random.choice(
            (b"", b"\0", b"0x3e8\0", b"-9223372036854775809\0", b"99999999999999999999\0",
             b"CPU: 0\nentries: 5\n\0", b"\nBuffer: one\n\nCPU: 99999\nx\n\0", b"local [tai]\n\0",
             struct.pack(f"{order}IIQ", random.randrange(1 << 32), random.randrange(70), 1),
             struct.pack(f"{order}I", random.choice((0, 5, 1 << 16, 1 << 31))), random.randbytes(30))
        )  # fmt: skip
        found.append((number, content))
    return tuple(found)


def _version7(random: Random) -> bytes:
    """Return a version 7 file made by hand: sections that overlap, repeat and unpack to much."""
    order = random.choice("<<>")
    base = _written(
        make_data(make_buffer(size=256, order=order), order=order), {"compression": "none"}
    )
    name = random.choice((b"none\0\0", *_PACKERS))
    out = bytearray(base[:18] + name + bytes(8))
    struct.pack_into(f"{order}I", out, 14, random.choice((256, 256, 4096, 1 << 20, 1 << 24)))
    pointer = len(out) - 8
    packer = _PACKERS.get(name)

    def section(number: int, content: bytes) -> int:
        start = len(out)
        is_packed = packer is not None and random.random() < 0.9
        if packer is not None and is_packed:
            packed = packer(content)
            plain = len(content) if random.random() < 0.95 else random.randrange(1 << 32)
            content = struct.pack(f"{order}II", len(packed), plain) + packed
        out.extend(struct.pack(f"{order}HHIQ", number, is_packed, 0, len(content)) + content)
        return start

    page = make_data(order=order).header_page_text.encode()
    header = b"header_page\0" + struct.pack(f"{order}Q", len(page)) + page
    header += b"header_event\0" + bytes(8)
    big = random.choice((0, 0, 1 << 10, 1 << 10, 1 << 20, 1 << 24 if random.random() < 0.1 else 0))
    tables = {16: header, 17: bytes(4), 18: bytes(4)}
    for number in (19, 20):
        text = random.choice((b"1 t a\n", b'0x1 : "a"\n', b"\n", b" ")) * (big // 8)
        tables[number] = struct.pack(f"{order}I", len(text)) + text
    options = [
        (number, struct.pack(f"{order}Q", section(number, content)))
        for number, content in tables.items()
    ]
    pages = random.choice(
        (bytes(256), _changed_pages(random, PageBuilder(order, 8, 256)), bytes(big))
    )
    chunk = packer(pages) if packer is not None else b""
    start = len(out)
    out.extend(struct.pack(f"{order}HHIQ", 3, packer is not None, 0, 0))
    place = len(out)
    if packer is not None:
        count = random.choice((1, 1, 3, 1000))
        out.extend(struct.pack(f"{order}I", count))
        out.extend((struct.pack(f"{order}II", len(chunk), len(pages)) + chunk) * min(count, 3))
    else:
        out.extend(pages)
    size = random.choice((len(out) - place, 1, 256, 1 << 40))
    rows = [
        struct.pack(f"{order}IQQ", cpu, place + random.choice((0, 0, 1, 64)), size)
        for cpu in range(random.choice((0, 1, 2, 2, 300, 3000 if random.random() < 0.1 else 1)))
    ]
    for _ in range(random.choice((1, 1, 1, 2, 300 if random.random() < 0.3 else 1))):
        subbuf_size = random.choice((256, 256, 64, 4096, 1 << 20, 1 << 24))
        content = struct.pack(f"{order}Q", start) + b"\0local\0"
        content += struct.pack(f"{order}II", subbuf_size, len(rows)) + b"".join(rows)
        options.append((3, content))
        if len(options) * len(rows) > 3_000:
            break
    options += random.choices(options, k=random.choice((0, 0, 3, 500 if big < 1 << 20 else 2)))
    listed = b"".join(struct.pack(f"{order}HI", n, len(one)) + one for n, one in options)
    listed += struct.pack(f"{order}HIQ", 0, 8, random.choice((0, 0, len(out))))
    struct.pack_into(f"{order}Q", out, pointer, section(0, listed))
    return bytes(out)


def run_trace_dat(made: FileInput) -> None:
    """Read a file, and write an output of what it holds."""
    held = HeldFile(os.memfd_create("trace.dat"), "trace.dat")
    with open(held.fd, "wb", closefd=False) as stream:
        stream.write(made.content)
    try:
        data = read_trace_dat(held)
        if made.sink == "trace-dat":
            write_trace_dat(io.BytesIO(), data)
        else:
            options = {"layout": "wide"} if made.sink == "csv" else {}
            outputs = [Output(made.sink, "-", options, io.BytesIO())]
            write_outputs(data, outputs, recording=Path("fuzz"))
    except DecodeError as error:
        check_problem(error.problems[0])
