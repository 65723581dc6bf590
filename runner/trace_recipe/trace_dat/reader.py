"""Reads trace.dat files of versions 6 and 7. No number in the file is trusted.

What stands in the header and the formats must be readable; a damaged symbol, printk or command
line table is left out with a warning in the log; sub-buffers that are missing or do not unpack are
told by the pages themselves (`damages`).
"""

from __future__ import annotations

import io
import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from trace_recipe.errors import DecodeError, errno_text
from trace_recipe.events import Buffer, TraceData
from trace_recipe.formats import FormatError, HeaderPage, parse_event_format, parse_header_page
from trace_recipe.kernel_tables import KernelSymbols, parse_cmdlines, parse_printk_formats
from trace_recipe.trace_dat.layout import (
    FLYRECORD,
    LATENCY,
    MAGIC,
    OPTIONS,
    SECTION_COMPRESSED,
    SECTION_OPTIONS,
    Option,
    Structs,
    is_nanosecond_clock,
)
from trace_recipe.trace_dat.pages import (
    Chunk,
    ChunkedPages,
    CompressionError,
    PlainPages,
    decompress,
    is_plausible,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from trace_recipe.events import Pages
    from trace_recipe.formats import EventFormat

__all__ = ["read_trace_dat"]

_log = logging.getLogger(__name__)

_TABLE_LIMIT_BYTES = 256 << 20  # a kernel's whole kallsyms has about ten million bytes
_CHUNK_LIMIT_BYTES = 64 << 20  # trace-cmd takes ten sub-buffers, of at most 1 MiB
_SUBBUF_LIMIT_BYTES = 16 << 20
_CPU_LIMIT = 1 << 16
_WORD_LIMIT_BYTES = 4096
_FILE_OPTIONS = frozenset(
    {
        Option.BUFFER, Option.HEADER_INFO, Option.FTRACE_EVENTS, Option.EVENT_FORMATS,
        Option.KALLSYMS, Option.PRINTK, Option.CMDLINES, Option.BUFFER_TEXT, Option.BTF_FILE,
        Option.MODULES_FILE,
    }
)  # fmt: skip


def read_trace_dat(path: Path) -> TraceData:
    """Read a trace.dat; its sub-buffers stay in the file, which must not change meanwhile.

    Times are left as recorded: TIME_SHIFT (a guest's clock) and OFFSET are not applied, DATE and
    OFFSET become `wall_offset_ns`. Raises DecodeError when the file is not a trace.dat, its header
    or formats are unreadable, it holds only a latency tracer's text, or its times are processor
    ticks to be converted (TSC2NSEC).
    """
    path = path.absolute()
    try:
        with path.open("rb") as stream:
            end = stream.seek(0, 2)
            stream.seek(0)
            return _Reader(path, _Cursor(stream, end, str(path))).read()
    except OSError as error:
        reason = errno_text(error.errno or 0)
        raise DecodeError(f"cannot be read: {reason}", file=str(path)) from error


class _Cursor:
    """Takes numbers and texts off a stream that ends at `end`; `origin` is where it is in the file.

    Every length is checked before it is read, so nothing larger than the file is ever allocated.
    """

    def __init__(self, stream: BinaryIO, end: int, file: str, origin: int | None = None) -> None:
        self.stream = stream
        self.end = end
        self.file = file
        self.origin = origin
        self.structs = Structs("<")

    @property
    def position(self) -> int:
        return self.stream.tell()

    def fail(self, what: str, offset: int | None = None) -> NoReturn:
        place = self.position if offset is None else offset
        raise DecodeError(
            what, file=self.file, offset_bytes=place if self.origin is None else self.origin
        )

    def seek(self, offset: int, what: str) -> None:
        if offset > self.end:
            self.fail(f"{what} lies at {offset}, behind the end of the file ({self.end} bytes)")
        self.stream.seek(offset)

    def take(self, size: int, what: str) -> bytes:
        start = self.position
        content = self.stream.read(size) if size <= self.end - start else b""
        if len(content) != size:
            self.fail(f"{what} needs {size} bytes, {max(0, self.end - start)} are left", start)
        return content

    def u8(self, what: str) -> int:
        return self.take(1, what)[0]

    def u16(self, what: str) -> int:
        return int(self.structs.u16.unpack(self.take(2, what))[0])

    def u32(self, what: str) -> int:
        return int(self.structs.u32.unpack(self.take(4, what))[0])

    def u64(self, what: str) -> int:
        return int(self.structs.u64.unpack(self.take(8, what))[0])

    def word(self, what: str) -> str:
        """Take a text that ends with NUL."""
        start = self.position
        content = self.stream.read(min(_WORD_LIMIT_BYTES, self.end - start))
        word, nul, _ = content.partition(b"\0")
        if not nul:
            self.fail(f"{what} has no end", start)
        self.stream.seek(start + len(word) + 1)
        return _text(word)

    def sized_text(self, size: int, what: str) -> str:
        if size > _TABLE_LIMIT_BYTES:
            self.fail(f"{what} has {size} bytes")
        return _text(self.take(size, what))


@dataclass
class _Found:
    """What was read so far."""

    page: HeaderPage | None = None
    event_text: str = ""
    formats: dict[int, EventFormat] = field(default_factory=dict)
    kallsyms_text: str = ""
    printk_text: str = ""
    cmdlines_text: str = ""
    options: list[tuple[int, bytes]] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    cpu_count: int = 0
    has_text: bool = False


class _Reader:
    """Reads one file from its cursor; `found` collects."""

    def __init__(self, path: Path, cursor: _Cursor) -> None:
        self.path = path
        self.cursor = cursor
        self.found = _Found()
        self.byte_order = "<"
        self.subbuf_size_bytes = 0
        self.method = "none"

    def read(self) -> TraceData:
        cursor = self.cursor
        if cursor.end < len(MAGIC) or cursor.take(len(MAGIC), "the magic") != MAGIC:
            cursor.fail("not a trace.dat file", 0)
        number = cursor.word("the version")
        if number not in {"6", "7"}:
            cursor.fail(f"version {number!r} of trace.dat, but only 6 and 7 are known", len(MAGIC))
        big = cursor.u8("the byte order")
        if big > 1:
            cursor.fail(f"byte order {big}, but it is 0 or 1", cursor.position - 1)
        self.byte_order = ">" if big else "<"
        cursor.structs = Structs(self.byte_order)
        cursor.u8("the size of long")  # of user space; the kernel's is in header_page
        self.subbuf_size_bytes = self.subbuf_size(cursor)
        if number == "6":
            self.read_version6()
        else:
            self.read_version7()
        return self.result()

    def subbuf_size(self, cursor: _Cursor) -> int:
        start = cursor.position
        size = cursor.u32("the sub-buffer size")
        if not 64 <= size <= _SUBBUF_LIMIT_BYTES or size % 4:
            cursor.fail(f"a sub-buffer size of {size} bytes", start)
        return size

    # ---- the six tables, the same in both versions

    def header_info(self, cursor: _Cursor) -> None:
        start = cursor.position
        if cursor.take(12, "header_page") != b"header_page\0":
            cursor.fail("no header_page", start)
        text = cursor.sized_text(cursor.u64("header_page"), "header_page")
        try:
            self.found.page = parse_header_page(text)
        except FormatError as error:
            cursor.fail(str(error), start)
        if self.found.page.long_size not in {4, 8} or not 8 <= self.found.page.data_offset <= 64:
            cursor.fail("header_page has impossible offsets", start)
        start = cursor.position
        if cursor.take(13, "header_event") != b"header_event\0":
            cursor.fail("no header_event", start)
        size = cursor.u64("header_event")
        self.found.event_text = cursor.sized_text(size, "header_event")

    def formats(self, cursor: _Cursor, system: str) -> None:
        page = self.found.page
        long_size = page.long_size if page else 8
        for _ in range(cursor.u32(f"the formats of {system!r}")):
            start = cursor.position
            what = f"a format of {system!r}"
            text = cursor.sized_text(cursor.u64(what), what)
            try:
                one = parse_event_format(text, system, long_size=long_size)
            except FormatError as error:
                cursor.fail(str(error), start)
            self.found.formats[one.id] = one

    def ftrace_formats(self, cursor: _Cursor) -> None:
        self.formats(cursor, "ftrace")

    def event_formats(self, cursor: _Cursor) -> None:
        for _ in range(cursor.u32("the number of systems")):
            self.formats(cursor, cursor.word("the name of a system"))

    def kallsyms(self, cursor: _Cursor) -> None:
        self.found.kallsyms_text = cursor.sized_text(cursor.u32("kallsyms"), "kallsyms")

    def printk(self, cursor: _Cursor) -> None:
        self.found.printk_text = cursor.sized_text(cursor.u32("printk_formats"), "printk_formats")

    def cmdlines(self, cursor: _Cursor) -> None:
        self.found.cmdlines_text = cursor.sized_text(cursor.u64("saved_cmdlines"), "saved_cmdlines")

    # ---- version 7

    def read_version7(self) -> None:
        cursor = self.cursor
        self.method = cursor.word("the compression")
        cursor.word("the version of the compression")
        if self.method not in {"zstd", "zlib", "none"}:
            cursor.fail(f"compression {self.method!r}, but only zstd, zlib and none are known")
        options = self.options7(cursor.u64("the place of the options"))
        # The sections may come in any order, but the formats need what header_page says.
        tables: tuple[tuple[Option, Callable[[_Cursor], None], bool], ...] = (
            (Option.HEADER_INFO, self.header_info, True),
            (Option.FTRACE_EVENTS, self.ftrace_formats, True),
            (Option.EVENT_FORMATS, self.event_formats, True),
            (Option.KALLSYMS, self.kallsyms, False),
            (Option.PRINTK, self.printk, False),
            (Option.CMDLINES, self.cmdlines, False),
        )
        for table, read, needed in tables:
            for place in (content for one, content in options if one == table):
                try:
                    _, section = self.section(self.cursor_of(place).u64("a section"), table)
                    read(section)
                except DecodeError as error:
                    if needed:
                        raise
                    _log.warning("%s; without it names are missing", error)
        for option, content in options:
            if option == Option.BUFFER:
                self.buffer7(self.cursor_of(content))
            elif option == Option.BUFFER_TEXT:
                self.found.has_text = True
            elif option not in _FILE_OPTIONS:
                self.found.options.append((option, content))

    def cursor_of(self, content: bytes, origin: int = 0) -> _Cursor:
        cursor = _Cursor(io.BytesIO(content), len(content), str(self.path), origin)
        cursor.structs = self.cursor.structs
        return cursor

    def options7(self, offset: int) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        visited: set[int] = set()
        while offset and offset not in visited:
            visited.add(offset)
            _, section = self.section(offset, SECTION_OPTIONS)
            while True:
                option = section.u16("an option")
                content = section.take(section.u32("an option"), f"option {option}")
                if option == Option.DONE:
                    break
                found.append((option, content))
            offset = self.cursor_of(content).u64("the next options") if len(content) >= 8 else 0
        return found

    def section(self, offset: int, wanted: int) -> tuple[int, _Cursor]:
        """Return the flags of the section at `offset`, and its content unpacked."""
        cursor = self.cursor
        cursor.seek(offset, f"section {wanted}")
        header = cursor.take(cursor.structs.section.size, f"section {wanted}")
        section, flags, _, size = cursor.structs.section.unpack(header)
        if section != wanted:
            cursor.fail(f"section {section} instead of {wanted}", offset)
        if wanted == Option.BUFFER:
            return flags, cursor
        size = min(size, cursor.end - cursor.position)
        if not flags & SECTION_COMPRESSED:
            if size > _TABLE_LIMIT_BYTES:
                cursor.fail(f"section {wanted} has {size} bytes", offset)
            return flags, self.cursor_of(cursor.take(size, f"section {wanted}"), offset)
        packed, plain = cursor.structs.chunk.unpack(cursor.take(8, f"section {wanted}"))
        if not is_plausible(packed, plain, _TABLE_LIMIT_BYTES):
            cursor.fail(f"{packed} compressed bytes cannot hold {plain} bytes", offset)
        if self.method == "none":
            cursor.fail(f"section {wanted} is compressed, but the file says it is not", offset)
        try:
            content = decompress(self.method, cursor.take(packed, f"section {wanted}"), plain)
        except CompressionError as error:
            cursor.fail(f"section {wanted} does not unpack: {error}", offset)
        return flags, self.cursor_of(content, offset)

    def buffer7(self, option: _Cursor) -> None:
        offset = option.u64("a buffer")
        option.origin = offset
        name = option.word("the name of a buffer")
        clock = _clock(option.word("the clock of a buffer"))
        size = self.subbuf_size(option)
        flags, _ = self.section(offset, Option.BUFFER)
        if flags & SECTION_COMPRESSED and self.method == "none":
            option.fail("a buffer is compressed, but the file says it is not")
        cpus: dict[int, Pages] = {}
        for _ in range(option.u32("the CPUs of a buffer")):
            cpu, start, length = option.structs.cpu.unpack(
                option.take(option.structs.cpu.size, "a CPU of a buffer")
            )
            if cpu >= _CPU_LIMIT:
                option.fail(f"CPU {cpu}")
            pages = self.chunked if flags & SECTION_COMPRESSED else self.plain
            cpus[cpu] = pages(start, length, size)
        self.found.buffers.append(Buffer(name, clock, size, cpus))

    def plain(self, offset: int, length: int, size: int) -> PlainPages:
        there = max(0, min(length, self.cursor.end - offset))
        damages = () if there == length else ((offset + there, _missing(length - there)),)
        return PlainPages(str(self.path), size, offset, there, damages=damages)

    def chunked(self, offset: int, length: int, size: int) -> ChunkedPages:
        """Find the chunks of one CPU, up to the first whose header cannot be true."""
        # The length does not count the number of chunks that stands first.
        stream, end = self.cursor.stream, min(offset + 4 + length, self.cursor.end)
        header = self.cursor.structs.chunk
        chunks: list[Chunk] = []
        damages = []
        place = offset + 4
        announced = 0
        if place <= end:
            stream.seek(offset)
            announced = self.cursor.u32("the number of chunks")
        elif length:
            damages.append((offset, _missing(length)))
        while len(chunks) < announced:
            if place + header.size > end:
                damages.append((place, _missing(offset + 4 + length - place)))
                break
            stream.seek(place)
            packed, plain = header.unpack(stream.read(header.size))
            start = place + header.size
            if plain % size or not is_plausible(packed, plain, _CHUNK_LIMIT_BYTES):
                damages.append((place, f"a chunk of {packed} bytes for {plain}; the rest is lost"))
                break
            if packed > end - start:
                damages.append((place, _missing(offset + 4 + length - place)))
                break
            chunks.append(Chunk(start, packed, plain))
            place = start + packed
        return ChunkedPages(self.path, size, self.method, chunks, damages)

    # ---- version 6

    def read_version6(self) -> None:
        cursor = self.cursor
        self.header_info(cursor)
        self.ftrace_formats(cursor)
        self.event_formats(cursor)
        self.kallsyms(cursor)
        self.printk(cursor)
        self.cmdlines(cursor)
        cpu_count = cursor.u32("the number of CPUs")
        blocks: list[tuple[str, int | None, int]] = []  # name, offset, CPUs
        tag = cursor.take(len(OPTIONS), "what follows the tables")
        if tag == OPTIONS:
            cpu_count, blocks = self.options6(cpu_count)
            tag = cursor.take(len(FLYRECORD), "what follows the options")
        if tag == LATENCY:
            self.found.has_text = True
            return
        if tag != FLYRECORD:
            cursor.fail(f"neither options nor buffers but {tag!r}", cursor.position - len(tag))
        self.found.cpu_count = cpu_count
        self.block6("", cpu_count)
        for name, offset, count in blocks:
            try:
                cursor.seek(offset or 0, f"buffer {name!r}")
                if cursor.take(len(FLYRECORD), f"buffer {name!r}") != FLYRECORD:
                    cursor.fail(f"buffer {name!r} does not start here", offset)
                self.block6(name, count)
            except DecodeError as error:
                _log.warning("%s; this buffer is left out", error)
        self.join_tops()

    def join_tops(self) -> None:
        """Drop what repeats the top buffer: trace-cmd may list it among the options as well."""
        top, *others = self.found.buffers
        for other in [one for one in others if not one.name]:
            if not top.cpus or not other.cpus or other.cpus == top.cpus:
                others.remove(other)
                top = top if top.cpus else other
        self.found.buffers = [top, *others]

    def options6(self, cpu_count: int) -> tuple[int, list[tuple[str, int | None, int]]]:
        """Read the options; a CPUCOUNT behind a buffer is that buffer's."""
        cursor = self.cursor
        blocks: list[tuple[str, int | None, int]] = []
        while (option := cursor.u16("an option")) != Option.DONE:
            content = cursor.take(cursor.u32("an option"), f"option {option}")
            if option == Option.BUFFER:
                one = self.cursor_of(content, cursor.position - len(content))
                offset = one.u64("a buffer")
                blocks.append((one.word("the name of a buffer"), offset, cpu_count))
            elif option == Option.CPUCOUNT and len(content) >= 4:
                count = self.cursor_of(content).u32("the number of CPUs")
                if blocks:
                    blocks[-1] = (*blocks[-1][:2], count)
                else:
                    cpu_count = count
            elif option not in _FILE_OPTIONS:
                self.found.options.append((option, content))
        return cpu_count, blocks

    def block6(self, name: str, cpu_count: int) -> None:
        cursor = self.cursor
        size = cursor.structs.place.size
        if cpu_count > _CPU_LIMIT:
            cursor.fail(f"{cpu_count} CPUs")
        rows = cursor.structs.place.iter_unpack(cursor.take(size * cpu_count, "the table of CPUs"))
        cpus: dict[int, Pages] = {
            cpu: self.plain(offset, length, self.subbuf_size_bytes)
            for cpu, (offset, length) in enumerate(rows)
            if length
        }
        clock = "local"
        if any(option == Option.TRACECLOCK for option, _ in self.found.options):
            try:
                clock = _clock(cursor.sized_text(cursor.u64("trace_clock"), "trace_clock"))
            except DecodeError:  # old trace-cmd left rubbish here; its reader takes "local" too
                clock = "local"
        self.found.buffers.append(Buffer(name, clock, self.subbuf_size_bytes, cpus))

    # ---- both

    def result(self) -> TraceData:
        found, page = self.found, self.found.page
        if page is None:
            self.cursor.fail("no header_page", 0)
        if not found.buffers:
            self.cursor.fail(
                "only the text of a latency tracer, no sub-buffers"
                if found.has_text
                else "no buffer",
                0,
            )
        for buffer in found.buffers:
            if buffer.subbuf_size_bytes <= page.data_offset:
                self.cursor.fail(f"a sub-buffer size of {buffer.subbuf_size_bytes} bytes", 14)
        options = dict(found.options)
        if Option.TSC2NSEC in options:
            raise DecodeError(
                "times are processor ticks (option TSC2NSEC), which are not converted here",
                file=str(self.path),
                fix="use 'trace-cmd report', or record with another clock",
            )
        stats = _stats(_text(content) for one, content in found.options if one == Option.CPUSTAT)
        buffers = tuple(
            Buffer(one.name, one.clock, one.subbuf_size_bytes, one.cpus, stats.get(one.name, {}))
            for one in found.buffers
        )
        seen = max((cpu + 1 for one in buffers for cpu in one.cpus), default=1)
        count = options.get(Option.CPUCOUNT, b"")
        if len(count) >= 4:
            found.cpu_count = self.cursor_of(count).u32("the number of CPUs")
        return TraceData(
            formats=found.formats,
            byte_order=self.byte_order,
            long_size=page.long_size,
            data_offset=page.data_offset,
            buffers=buffers,
            cpu_count=max(seen, found.cpu_count if found.cpu_count <= _CPU_LIMIT else 0),
            header_page_text=page.text,
            header_event_text=found.event_text,
            cmdlines=parse_cmdlines(found.cmdlines_text),
            printk_formats=parse_printk_formats(found.printk_text),
            symbols=KernelSymbols(found.kallsyms_text) if found.kallsyms_text else None,
            kallsyms_text=found.kallsyms_text,
            printk_text=found.printk_text,
            uname=_text(options.get(Option.UNAME, b"")),
            wall_offset_ns=_wall_offset_ns(options, buffers[0].clock),
            raw_options=tuple(found.options),
        )


def _text(content: bytes) -> str:
    return content.rstrip(b"\0").decode("utf-8", "surrogateescape")


def _missing(size: int) -> str:
    return f"{size} bytes of sub-buffers are missing"


def _clock(text: str) -> str:
    """Return the chosen one of `[local] global counter`, or the text itself."""
    chosen = re.search(r"\[(\S+?)\]", text)
    return chosen[1] if chosen else text.strip() or "local"


def _wall_offset_ns(options: dict[int, bytes], clock: str) -> int | None:
    """DATE holds microseconds as a C number, OFFSET nanoseconds to be added as well."""
    date = _number(options.get(Option.DATE, b""))
    if date is None or not is_nanosecond_clock(clock):
        return None
    return date * 1000 + (_number(options.get(Option.OFFSET, b"")) or 0)


def _number(content: bytes) -> int | None:
    match = re.match(rb"\s*([+-]?)(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,19})", content)
    if match is None:
        return None
    return int(match[2], 16 if match[2][:2].lower() == b"0x" else 10) * (
        -1 if match[1] == b"-" else 1
    )


def _stats(texts: Iterable[str]) -> dict[str, dict[int, str]]:
    """Sort the CPUSTAT texts by buffer and CPU; `Buffer: NAME` is before an instance's first."""
    found: dict[str, dict[int, str]] = {}
    name = ""
    for text in texts:
        head = re.match(r"\s*Buffer: (.*)\n\s*", text)
        name = head[1] if head else name
        cpu, newline, body = text[head.end() if head else 0 :].partition("\n")
        number = re.fullmatch(r"\s*CPU: (\d{1,5})\s*", cpu)
        if number and newline:
            found.setdefault(name, {})[int(number[1])] = body
    return found
