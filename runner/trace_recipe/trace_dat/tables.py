"""The six tables of a trace.dat: the same bytes in both versions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trace_recipe.formats import FormatError, HeaderPage, parse_event_format, parse_header_page

if TYPE_CHECKING:
    from trace_recipe.formats import EventFormat
    from trace_recipe.trace_dat.cursor import Cursor

__all__ = ["Tables"]

_KALLSYMS_LIMIT_BYTES = 32 << 20  # a kernel's, with all its modules, has about ten million bytes
_LIMIT_BYTES = 8 << 20  # a hundred thousand names of tasks


@dataclass
class Tables:
    """What was read so far; each method takes one table and raises DecodeError when it is broken.

    header_info comes first: the formats need the size of a long.
    """

    page: HeaderPage | None = None
    event_text: str = ""
    formats: dict[int, EventFormat] = field(default_factory=dict)
    kallsyms_text: str = ""
    printk_text: str = ""
    cmdlines_text: str = ""

    def header_info(self, cursor: Cursor) -> None:
        """Take header_page and header_event."""
        start = cursor.position
        if cursor.take(12, "header_page") != b"header_page\0":
            cursor.fail("no header_page", start)
        text = cursor.sized_text(cursor.u64("header_page"), "header_page")
        try:
            self.page = parse_header_page(text)
        except FormatError as error:
            cursor.fail(str(error), start)
        if self.page.long_size not in {4, 8} or not 8 <= self.page.data_offset <= 64:
            cursor.fail("header_page has impossible offsets", start)
        start = cursor.position
        if cursor.take(13, "header_event") != b"header_event\0":
            cursor.fail("no header_event", start)
        size = cursor.u64("header_event")
        self.event_text = cursor.sized_text(size, "header_event")

    def ftrace_formats(self, cursor: Cursor) -> None:
        """Take the formats of the system ftrace."""
        self._formats(cursor, "ftrace")

    def event_formats(self, cursor: Cursor) -> None:
        """Take the formats of all other systems."""
        for _ in range(cursor.u32("the number of systems")):
            self._formats(cursor, cursor.word("the name of a system"))

    def kallsyms(self, cursor: Cursor) -> None:
        """Take the kernel's symbols."""
        size = cursor.u32("kallsyms")
        self.kallsyms_text = cursor.sized_text(size, "kallsyms", limit_bytes=_KALLSYMS_LIMIT_BYTES)

    def printk(self, cursor: Cursor) -> None:
        """Take printk_formats."""
        size = cursor.u32("printk_formats")
        self.printk_text = cursor.sized_text(size, "printk_formats", limit_bytes=_LIMIT_BYTES)

    def cmdlines(self, cursor: Cursor) -> None:
        """Take saved_cmdlines."""
        size = cursor.u64("saved_cmdlines")
        self.cmdlines_text = cursor.sized_text(size, "saved_cmdlines", limit_bytes=_LIMIT_BYTES)

    def _formats(self, cursor: Cursor, system: str) -> None:
        page = self.page
        long_size = page.long_size if page else 8
        for _ in range(cursor.u32(f"the formats of {system!r}")):
            start = cursor.position
            what = f"a format of {system!r}"
            text = cursor.sized_text(cursor.u64(what), what)
            try:
                one = parse_event_format(text, system, long_size=long_size)
            except FormatError as error:
                cursor.fail(str(error), start)
            self.formats[one.id] = one
