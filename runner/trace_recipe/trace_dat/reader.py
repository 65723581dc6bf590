"""Reads trace.dat files of versions 6 and 7. No number in the file is trusted.

What stands in the header and the formats must be readable; a damaged symbol, printk or command
line table is left out with a warning in the log; sub-buffers that are missing or do not unpack are
told by the pages themselves (`damages`).
"""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from trace_recipe.errors import DecodeError, errno_text
from trace_recipe.events import Buffer, TraceData
from trace_recipe.kernel_tables import KernelSymbols, parse_cmdlines, parse_printk_formats
from trace_recipe.trace_dat.cursor import Cursor, file_text
from trace_recipe.trace_dat.layout import (
    FLYRECORD,
    LATENCY,
    MAGIC,
    OPTIONS,
    SECTION_COMPRESSED,
    SECTION_OPTIONS,
    Option,
    Structs,
)
from trace_recipe.trace_dat.options import chosen_clock, cpu_stats, tick_scale, wall_offset_ns
from trace_recipe.trace_dat.pages import CompressionError, decompress, is_plausible
from trace_recipe.trace_dat.regions import BufferRegions, Region, Regions
from trace_recipe.trace_dat.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from trace_recipe.held_files import HeldFile

__all__ = ["read_trace_dat"]

_log = logging.getLogger(__name__)

_SUBBUF_LIMIT_BYTES = 1 << 20  # the kernel's (RB_WRITE_MASK in kernel/trace/ring_buffer.c)
_CPU_LIMIT = 1 << 16
_CPUS_LIMIT = 1 << 15  # of all buffers together
_BLOCK_LIMIT = 1 << 12
_OPTION_LIMIT = 1 << 17
_SECTION_LIMIT_BYTES = 64 << 20
_SECTIONS_LIMIT_BYTES = 256 << 20  # all that are read: one may be named many times
_FILE_OPTIONS = frozenset(
    {
        Option.BUFFER, Option.HEADER_INFO, Option.FTRACE_EVENTS, Option.EVENT_FORMATS,
        Option.KALLSYMS, Option.PRINTK, Option.CMDLINES, Option.BUFFER_TEXT, Option.BTF_FILE,
        Option.MODULES_FILE,
    }
)  # fmt: skip


def read_trace_dat(file: HeldFile) -> TraceData:
    """Read a trace.dat; its sub-buffers stay in the file, which must not change meanwhile.

    Times are left as recorded: TIME_SHIFT (a guest's clock) and OFFSET are not applied, DATE and
    OFFSET become `wall_offset_ns`, TSC2NSEC the scale of the buffers whose clock counts ticks.
    Raises DecodeError when the file is not a trace.dat, its header, formats or scale are
    unreadable, or it holds only a latency tracer's text.
    """
    try:
        with file.stream() as stream:
            return _Reader(file, Cursor(stream, file.size_bytes, file.name)).read()
    except OSError as error:
        reason = errno_text(error.errno or 0)
        raise DecodeError(f"cannot be read: {reason}", file=file.name) from error


@dataclass
class _Found:
    """What was read so far, besides the tables."""

    options: list[tuple[int, bytes]] = field(default_factory=list)
    buffers: list[BufferRegions] = field(default_factory=list)
    cpu_count: int = 0
    cpu_rows: int = 0
    has_text: bool = False


class _Reader:
    """Reads one file from its cursor; `tables` and `found` collect."""

    def __init__(self, file: HeldFile, cursor: Cursor) -> None:
        self.file = file
        self.cursor = cursor
        self.tables = Tables()
        self.found = _Found()
        self.byte_order = "<"
        self.subbuf_size_bytes = 0
        self.method = "none"
        self.sections_bytes = 0

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

    def subbuf_size(self, cursor: Cursor) -> int:
        start = cursor.position
        size = cursor.u32("the sub-buffer size")
        if not 64 <= size <= _SUBBUF_LIMIT_BYTES or size % 4:
            cursor.fail(f"a sub-buffer size of {size} bytes", start)
        return size

    # ---- version 7

    def read_version7(self) -> None:
        cursor = self.cursor
        self.method = cursor.word("the compression")
        cursor.word("the version of the compression")
        if self.method not in {"zstd", "zlib", "none"}:
            cursor.fail(f"compression {self.method!r}, but only zstd, zlib and none are known")
        options = self.options7(cursor.u64("the place of the options"))
        # The sections may come in any order, but the formats need what header_page says.
        sections: tuple[tuple[Option, Callable[[Cursor], None], bool], ...] = (
            (Option.HEADER_INFO, self.tables.header_info, True),
            (Option.FTRACE_EVENTS, self.tables.ftrace_formats, True),
            (Option.EVENT_FORMATS, self.tables.event_formats, True),
            (Option.KALLSYMS, self.tables.kallsyms, False),
            (Option.PRINTK, self.tables.printk, False),
            (Option.CMDLINES, self.tables.cmdlines, False),
        )
        for table, read, needed in sections:
            # A section that is named twice is read once.
            for place in dict.fromkeys(content for one, content in options if one == table):
                try:
                    _, section = self.section(self.cursor_of(place).u64("a section"), table)
                    read(section)
                except DecodeError as error:
                    if needed:
                        raise
                    _log.warning("%s; without it names are missing", error)
                    break
        for option, content in options:
            if option == Option.BUFFER:
                self.buffer7(self.cursor_of(content))
            elif option == Option.BUFFER_TEXT:
                self.found.has_text = True
            elif option not in _FILE_OPTIONS:
                self.found.options.append((option, content))

    def cursor_of(self, content: bytes, origin: int = 0) -> Cursor:
        cursor = Cursor(io.BytesIO(content), len(content), self.file.name, origin)
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
                if len(found) > _OPTION_LIMIT:
                    section.fail(f"more than {_OPTION_LIMIT} options")
            offset = self.cursor_of(content).u64("the next options") if len(content) >= 8 else 0
        return found

    def section(self, offset: int, wanted: int) -> tuple[int, Cursor]:
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
            self.allow(size, wanted, offset)
            return flags, self.cursor_of(cursor.take(size, f"section {wanted}"), offset)
        packed, plain = cursor.structs.chunk.unpack(cursor.take(8, f"section {wanted}"))
        self.allow(plain, wanted, offset)
        if not is_plausible(packed, plain, _SECTION_LIMIT_BYTES):
            cursor.fail(f"{packed} compressed bytes cannot hold {plain} bytes", offset)
        if self.method == "none":
            cursor.fail(f"section {wanted} is compressed, but the file says it is not", offset)
        try:
            content = decompress(self.method, cursor.take(packed, f"section {wanted}"), plain)
        except CompressionError as error:
            cursor.fail(f"section {wanted} does not unpack: {error}", offset)
        return flags, self.cursor_of(content, offset)

    def allow(self, size: int, section: int, offset: int) -> None:
        """Refuse what makes the sections that are read too large together."""
        self.sections_bytes += size
        if size > _SECTION_LIMIT_BYTES or self.sections_bytes > _SECTIONS_LIMIT_BYTES:
            self.cursor.fail(f"section {section} has {size} bytes, which is too much", offset)

    def buffer7(self, option: Cursor) -> None:
        offset = option.u64("a buffer")
        option.origin = offset
        name = option.word("the name of a buffer")
        clock = chosen_clock(option.word("the clock of a buffer"))
        size = self.subbuf_size(option)
        flags, _ = self.section(offset, Option.BUFFER)
        if flags & SECTION_COMPRESSED and self.method == "none":
            option.fail("a buffer is compressed, but the file says it is not")
        cpus: dict[int, Region] = {}
        for _ in range(option.u32("the CPUs of a buffer")):
            cpu, start, length = option.structs.cpu.unpack(
                option.take(option.structs.cpu.size, "a CPU of a buffer")
            )
            if cpu >= _CPU_LIMIT:
                option.fail(f"CPU {cpu}")
            cpus[cpu] = Region(start, length)
        is_packed = bool(flags & SECTION_COMPRESSED)
        self.add_buffer(BufferRegions(name, clock, size, is_packed, cpus))

    def add_buffer(self, buffer: BufferRegions) -> None:
        self.found.buffers.append(buffer)
        self.found.cpu_rows += 1 + len(buffer.cpus)
        self.allow_cpus(0)

    def allow_cpus(self, count: int) -> None:
        """Refuse so many more CPUs when they are more than there are in any machine."""
        if self.found.cpu_rows + count > _CPUS_LIMIT:
            self.cursor.fail(f"more than {_CPUS_LIMIT} CPUs in all buffers")

    # ---- version 6

    def read_version6(self) -> None:
        cursor = self.cursor
        self.tables.header_info(cursor)
        self.tables.ftrace_formats(cursor)
        self.tables.event_formats(cursor)
        self.tables.kallsyms(cursor)
        self.tables.printk(cursor)
        self.tables.cmdlines(cursor)
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
                if len(blocks) > _BLOCK_LIMIT:
                    cursor.fail(f"more than {_BLOCK_LIMIT} buffers")
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
        self.allow_cpus(cpu_count)
        rows = cursor.structs.place.iter_unpack(cursor.take(size * cpu_count, "the table of CPUs"))
        cpus = {cpu: Region(*row) for cpu, row in enumerate(rows) if row[1]}
        clock = "local"
        if any(option == Option.TRACECLOCK for option, _ in self.found.options):
            try:
                clock = chosen_clock(cursor.sized_text(cursor.u64("trace_clock"), "trace_clock"))
            except DecodeError:  # old trace-cmd left rubbish here; its reader takes "local" too
                clock = "local"
        self.add_buffer(
            BufferRegions(name, clock, self.subbuf_size_bytes, is_packed=False, cpus=cpus)
        )

    # ---- both

    def result(self) -> TraceData:
        found, tables, page = self.found, self.tables, self.tables.page
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
        scale = None
        if Option.TSC2NSEC in options:
            scale = tick_scale(self.cursor_of(options[Option.TSC2NSEC]))
        stats = cpu_stats(
            file_text(content) for one, content in found.options if one == Option.CPUSTAT
        )
        regions = Regions(self.file, self.cursor, self.method)
        buffers = tuple(
            Buffer(
                one.name,
                one.clock,
                one.subbuf_size_bytes,
                regions.pages(one),
                stats.get(one.name, {}),
            )
            for one in found.buffers
        )
        buffers = tuple(one if one.in_ns else replace(one, scale=scale) for one in buffers)
        seen = max((cpu + 1 for one in buffers for cpu in one.cpus), default=1)
        count = options.get(Option.CPUCOUNT, b"")
        if len(count) >= 4:
            found.cpu_count = self.cursor_of(count).u32("the number of CPUs")
        return TraceData(
            formats=tables.formats,
            byte_order=self.byte_order,
            long_size=page.long_size,
            data_offset=page.data_offset,
            buffers=buffers,
            cpu_count=max(seen, found.cpu_count if found.cpu_count <= _CPU_LIMIT else 0),
            header_page_text=page.text,
            header_event_text=tables.event_text,
            cmdlines=parse_cmdlines(tables.cmdlines_text),
            printk_formats=parse_printk_formats(tables.printk_text),
            symbols=KernelSymbols(tables.kallsyms_text) if tables.kallsyms_text else None,
            kallsyms_text=tables.kallsyms_text,
            printk_text=tables.printk_text,
            uname=file_text(options.get(Option.UNAME, b"")),
            wall_offset_ns=wall_offset_ns(options) if buffers[0].in_ns else None,
            raw_options=tuple(found.options),
        )
