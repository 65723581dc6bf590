"""Writes trace.dat: the raw sub-buffers as they are, and what a reader needs to decode them."""

from __future__ import annotations

from dataclasses import replace
from typing import IO, TYPE_CHECKING, Literal

import numpy as np
import zstandard

from trace_recipe.errors import OutputError, Problem
from trace_recipe.events import Buffer
from trace_recipe.formats import parse_header_page
from trace_recipe.kernel_tables import cmdlines_text
from trace_recipe.trace_dat.drift_pages import drift_buffer
from trace_recipe.trace_dat.layout import (
    FLYRECORD,
    MAGIC,
    NO_STRING,
    OPTIONS,
    SECTION_COMPRESSED,
    SECTION_OPTIONS,
    Option,
    Structs,
)
from trace_recipe.version import tool_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from trace_recipe.events import Pages, TraceData

__all__ = ["write_trace_dat"]

_LEVEL = 3
_TABLE_LEVEL = 1  # kallsyms, by far the largest, gets no smaller by 3 and takes three times as long
_CHUNK_BYTES = 256 << 10  # trace-cmd takes ten sub-buffers; more pack better and faster
_COPY_BYTES = 4 << 20


def write_trace_dat(
    stream: IO[bytes],
    data: TraceData,
    *,
    version: Literal[6, 7] = 7,
    compression: Literal["zstd", "none"] = "zstd",
) -> None:
    """Write `data` to an empty seekable stream, in bounded memory; version 6 is never compressed.

    A single buffer becomes the top one whatever its instance, so that reports carry no prefix.
    What others changed meanwhile gets a buffer of its own, `drift`.
    Times stay those of the trace clock: a DATE option is only copied, never made. Raises
    OutputError when version 6 cannot hold the data, and OSError.
    """
    if version == 6:
        _Version6(stream, data).write()
    else:
        _Version7(stream, data, compression).write()


class _File:
    """What both versions have in common: the start, the tables and the simple options."""

    def __init__(self, stream: IO[bytes], data: TraceData) -> None:
        self.stream = stream
        self.data = data
        self.structs = Structs(data.byte_order)
        self.buffers = _named(data)
        self.cpu_count = max([data.cpu_count, *(cpu + 1 for b in data.buffers for cpu in b.cpus)])

    def write_start(self, number: int) -> None:
        big = b"\1" if self.data.byte_order == ">" else b"\0"
        self.stream.write(MAGIC + b"%d\0" % number + big + bytes([self.data.long_size]))
        self.stream.write(self.structs.u32.pack(self.buffers[0][1].subbuf_size_bytes))

    def tables(self) -> Iterator[tuple[Option, bytes]]:
        """Yield the six tables in the order of a version 6 file."""
        u32, u64 = self.structs.u32, self.structs.u64
        page, event = _bytes(self.data.header_page_text), _bytes(self.data.header_event_text)
        yield (
            Option.HEADER_INFO,
            b"header_page\0" + u64.pack(len(page)) + page
            + b"header_event\0" + u64.pack(len(event)) + event,
        )  # fmt: skip
        systems: dict[str, list[bytes]] = {}
        for one in self.data.formats.values():
            systems.setdefault(one.system, []).append(_bytes(one.text))
        yield Option.FTRACE_EVENTS, self._formats(systems.pop("ftrace", []))
        named = [_bytes(name) + b"\0" + self._formats(texts) for name, texts in systems.items()]
        yield Option.EVENT_FORMATS, u32.pack(len(named)) + b"".join(named)
        for option, size, text in (
            (Option.KALLSYMS, u32, self.data.kallsyms_text),
            (Option.PRINTK, u32, self.data.printk_text),
            (Option.CMDLINES, u64, cmdlines_text(self.data.cmdlines)),
        ):
            table = _bytes(text)
            yield option, size.pack(len(table)) + table

    def _formats(self, texts: list[bytes]) -> bytes:
        sized = (self.structs.u64.pack(len(text)) + text for text in texts)
        return self.structs.u32.pack(len(texts)) + b"".join(sized)

    def simple_options(self) -> list[tuple[int, bytes]]:
        """Return the options of the file that the data came from, and those that it lacked."""
        made: list[tuple[int, bytes]] = [
            (Option.TRACECLOCK, _bytes(f"[{self.buffers[0][1].clock}]\n") + b"\0"),
            (Option.UNAME, _bytes(self.data.uname) + b"\0"),
            (Option.VERSION, _bytes(tool_version()) + b"\0"),
        ]
        for name, buffer in self.buffers:
            head = f"\nBuffer: {name}\n\n" if name and buffer.stats else ""
            for cpu, text in sorted(buffer.stats.items()):
                made.append((Option.CPUSTAT, _bytes(f"{head}CPU: {cpu}\n{text}") + b"\0"))
                head = ""
        present = {option for option, _ in self.data.raw_options}
        return [*self.data.raw_options, *(one for one in made if one[0] not in present)]

    def write_options(self, options: Iterable[tuple[int, bytes]]) -> None:
        for option, content in options:
            self.stream.write(self.structs.option.pack(option, len(content)) + content)

    def align(self, size: int) -> int:
        """Fill up with zeros to a multiple of `size` and return the offset."""
        offset = self.stream.tell()
        padding = -offset % size
        self.stream.write(bytes(padding))
        return offset + padding

    def patch(self, offset: int, content: bytes) -> None:
        self.stream.seek(offset)
        self.stream.write(content)
        self.stream.seek(0, 2)

    def write_plain(self, pages: Pages, buffer: Buffer) -> int:
        for block in _blocks(pages, max(1, _COPY_BYTES // buffer.subbuf_size_bytes)):
            self.stream.write(block.data)
        return pages.count * buffer.subbuf_size_bytes


class _Version7(_File):
    def __init__(self, stream: IO[bytes], data: TraceData, compression: str) -> None:
        super().__init__(stream, data)
        self.is_packed = compression == "zstd"
        # trace-cmd up to 3.4 unpacks all buffers by the top one's sub-buffer size.
        sizes = {buffer.subbuf_size_bytes for _, buffer in self.buffers}
        self.is_buffer_packed = self.is_packed and len(sizes) == 1

    def write(self) -> None:
        self.write_start(7)
        if self.is_packed:
            number = ".".join(map(str, zstandard.ZSTD_VERSION))
            self.stream.write(b"zstd\0" + number.encode() + b"\0")
        else:
            self.stream.write(b"none\0\0")
        first_options = self.stream.tell()
        self.stream.write(self.structs.u64.pack(0))
        options = self.simple_options()
        if Option.CPUCOUNT not in {option for option, _ in options}:
            options.append((Option.CPUCOUNT, self.structs.u32.pack(self.cpu_count)))
        for section, table in self.tables():
            offset = self.write_section(section, table, is_packed=self.is_packed)
            options.append((section, self.structs.u64.pack(offset)))
        options.extend((Option.BUFFER, self.write_buffer(*named)) for named in self.buffers)
        options.append((Option.DONE, self.structs.u64.pack(0)))
        content = b"".join(self.structs.option.pack(o, len(c)) + c for o, c in options)
        offset = self.write_section(SECTION_OPTIONS, content, is_packed=False)
        self.patch(first_options, self.structs.u64.pack(offset))

    def write_section(self, section: int, content: bytes, *, is_packed: bool) -> int:
        """Write a section and return its offset; `trace-cmd dump` wants the options plain."""
        flags = 0
        if is_packed:
            packed = zstandard.ZstdCompressor(level=_TABLE_LEVEL).compress(content)
            content = self.structs.chunk.pack(len(packed), len(content)) + packed
            flags = SECTION_COMPRESSED
        offset = self.stream.tell()
        self.stream.write(self.structs.section.pack(section, flags, NO_STRING, len(content)))
        self.stream.write(content)
        return offset

    def write_buffer(self, name: str, buffer: Buffer) -> bytes:
        """Write the section of one buffer and return the content of its option."""
        pack = self.structs.section.pack
        flags = SECTION_COMPRESSED if self.is_buffer_packed else 0
        start = self.stream.tell()
        self.stream.write(pack(Option.BUFFER, flags, NO_STRING, 0))
        places = []
        for cpu, pages in sorted(buffer.cpus.items()):
            if pages.count:
                start_of_cpu = self.align(buffer.subbuf_size_bytes)
                write = self.write_chunks if self.is_buffer_packed else self.write_plain
                size = write(pages, buffer)
                places.append(self.structs.cpu.pack(cpu, start_of_cpu, size))
        size = self.stream.tell() - start - self.structs.section.size
        self.patch(start, pack(Option.BUFFER, flags, NO_STRING, size))
        return (
            self.structs.u64.pack(start) + _bytes(name) + b"\0" + _bytes(buffer.clock) + b"\0"
            + self.structs.u32.pack(buffer.subbuf_size_bytes)
            + self.structs.u32.pack(len(places)) + b"".join(places)
        )  # fmt: skip

    def write_chunks(self, pages: Pages, buffer: Buffer) -> int:
        """Write the chunks of one CPU; their size is without the number of them before."""
        compressor = zstandard.ZstdCompressor(level=_LEVEL)
        count = max(1, _CHUNK_BYTES // buffer.subbuf_size_bytes)
        self.stream.write(self.structs.u32.pack(-(-pages.count // count)))
        start = self.stream.tell()
        for block in _blocks(pages, max(count, _COPY_BYTES // _CHUNK_BYTES * count)):
            for first in range(0, len(block), count):
                plain = block[first : first + count]
                packed = compressor.compress(plain.data)
                self.stream.write(self.structs.chunk.pack(len(packed), plain.nbytes) + packed)
        return self.stream.tell() - start


class _Version6(_File):
    def write(self) -> None:
        sizes = {name: buffer.subbuf_size_bytes for name, buffer in self.buffers}
        if len(set(sizes.values())) > 1:
            listed = ", ".join(f"'{name}' {size}" for name, size in sizes.items())
            raise OutputError(
                Problem(
                    "trace.dat version 6 has one sub-buffer size for all instances",
                    why=f"sub-buffer sizes in bytes: {listed}",
                    fix="write version 7",
                )
            )
        self.write_start(6)
        for _, table in self.tables():
            self.stream.write(table)
        self.stream.write(self.structs.u32.pack(self.cpu_count) + OPTIONS)
        # The table of CPUs has as many rows as the number before the options; CPUCOUNT repeats it.
        self.write_options(one for one in self.simple_options() if one[0] != Option.CPUCOUNT)
        blocks = []
        for name, _ in self.buffers[1:]:
            blocks.append(self.stream.tell() + self.structs.option.size)
            self.write_options([(Option.BUFFER, self.structs.u64.pack(0) + _bytes(name) + b"\0")])
        self.stream.write(self.structs.u16.pack(Option.DONE))
        self.write_block(self.buffers[0][1])
        for offset, (_, buffer) in zip(blocks, self.buffers[1:], strict=True):
            self.patch(offset, self.structs.u64.pack(self.stream.tell()))
            self.write_block(buffer)

    def write_block(self, buffer: Buffer) -> None:
        """Write one buffer: the table of its CPUs, its clock, and the sub-buffers."""
        self.stream.write(FLYRECORD)
        table = self.stream.tell()
        self.stream.write(bytes(self.structs.place.size * self.cpu_count))
        clock = _bytes(f"[{buffer.clock}]\n")
        self.stream.write(self.structs.u64.pack(len(clock)) + clock)
        places = []
        for cpu in range(self.cpu_count):
            pages = buffer.cpus.get(cpu)
            offset, size = self.align(buffer.subbuf_size_bytes), 0
            if pages is not None:
                size = self.write_plain(pages, buffer)
            places.append(self.structs.place.pack(offset, size))
        self.patch(table, b"".join(places))


def _named(data: TraceData) -> list[tuple[str, Buffer]]:
    """Return the buffers with the names they get, the top one first, drifts last."""
    if len(data.buffers) == 1:
        named = [("", data.buffers[0])]
    else:
        named = sorted(((one.name, one) for one in data.buffers), key=lambda one: one[0] != "")
        if not named or named[0][0]:
            named.insert(0, ("", _empty_top(data)))
    drifts = drift_buffer(data) if data.buffers else None
    return [*named, *([(drifts.name, drifts)] if drifts else [])]


def _empty_top(data: TraceData) -> Buffer:
    if data.buffers:
        return replace(data.buffers[0], name="", cpus={}, stats={})
    return Buffer("", "local", parse_header_page(data.header_page_text).subbuf_size_bytes, {})


def _blocks(pages: Pages, count: int) -> Iterator[NDArray[np.uint8]]:
    for first in range(0, pages.count, count):
        yield np.ascontiguousarray(pages.read(first, min(count, pages.count - first)))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
