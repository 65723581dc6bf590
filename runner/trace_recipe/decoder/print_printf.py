"""The kernel's printf conversions (lib/vsprintf.c) as Python `%` templates over columns.

A compiled format is one template and one list per `%s`, `%d` ... in it; rows are then joined by
Python's own `%`, which is what makes text fast.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from trace_recipe.decoder.print_bytes import (
    bitmap_list,
    bitmask_text,
    hex_bytes,
    ip4_text,
    ip6_text,
    mac_text,
    sockaddr_text,
    uuid_text,
)
from trace_recipe.decoder.print_fmt import PrintFmtError
from trace_recipe.decoder.print_values import (
    CInteger,
    IntegerValue,
    PointerValue,
    Rows,
    StringValue,
    Typing,
    Value,
    as_string,
    visible,
)

if TYPE_CHECKING:
    from trace_recipe.decoder.print_symbols import SymbolNames

__all__ = ["Conversion", "Template", "Words", "build_template", "scan_format"]

Column: TypeAlias = Callable[[Rows], list[Any]]
MAX_WIDTH = 1024  # a damaged format must not ask for gigabytes of blanks

_CONVERSION = re.compile(
    r"%(?P<flags>[-+ #0]*)(?P<width>\*|\d{1,9})?(?:\.(?P<precision>\*|\d{0,9}))?"
    r"(?P<length>hh|h|ll|l|L|q|z|Z|t|j)?(?P<type>[a-zA-Z%])",
)
_POINTER_SUFFIX = re.compile(r"[A-Za-z0-9]*")
_INTEGERS = frozenset("diuxXoc")


@dataclass(frozen=True, slots=True)
class Conversion:
    """One conversion as written; `suffix` is what follows the p of a pointer."""

    flags: str
    width: str
    precision: str | None
    length: str
    type: str
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Words:
    """What conversions need from the recording: C types, symbol names, constant strings."""

    typing: Typing
    symbols: SymbolNames
    strings: Mapping[int, str]
    byte_order: str


@dataclass(slots=True)
class Template:
    """A Python `%` template under construction and the columns that it takes."""

    text: str = ""
    columns: list[Column] = field(default_factory=list)

    def literal(self, text: str) -> None:
        """Append text that stands for itself."""
        self.text += text.replace("%", "%%")

    def add(self, spec: str, column: Column) -> None:
        """Append one conversion in Python's notation and its column."""
        self.text += spec
        self.columns.append(column)


def scan_format(text: str) -> list[str | Conversion]:
    """Split a printf format into literal texts and conversions; raises PrintFmtError."""
    parts: list[str | Conversion] = []
    position = 0
    while position < len(text):
        percent = text.find("%", position)
        if percent < 0:
            parts.append(text[position:])
            break
        if percent > position:
            parts.append(text[position:percent])
        match = _CONVERSION.match(text, percent)
        if match is None:
            raise PrintFmtError(f"conversion {text[percent : percent + 8]!r}")
        position = match.end()
        kind = match["type"]
        if kind == "%":
            parts.append("%")
            continue
        suffix = ""
        if kind == "p":
            suffix = _POINTER_SUFFIX.match(text, position)[0]  # type: ignore[index]  # matches ""
            position += len(suffix)
        elif kind not in _INTEGERS and kind != "s":
            raise PrintFmtError(f"conversion '%{kind}'")
        parts.append(
            Conversion(
                match["flags"], match["width"] or "", match["precision"], match["length"] or "",
                kind, suffix,
            )
        )  # fmt: skip
    return parts


def build_template(
    parts: Sequence[str | Conversion], values: Sequence[Value], words: Words
) -> Template:
    """Return the template for a scanned printf format and its compiled arguments.

    Raises PrintFmtError when an argument is missing or does not fit its conversion.
    """
    template = Template()
    waiting = iter(values)
    for number, part in enumerate(parts):
        if isinstance(part, str):
            literal = part.removesuffix("\n") if number == len(parts) - 1 else part
            template.literal("\n".join(visible(line) for line in literal.split("\n")))
            continue
        stars = [
            _next_integer(waiting) if one == "*" else None for one in (part.width, part.precision)
        ]
        value = next(waiting, None)
        if value is None:
            raise PrintFmtError("fewer arguments than conversions")
        _Converter(template, part, stars[0], stars[1], words).add(value)
    return template


def _next_integer(waiting: Iterator[Value]) -> IntegerValue:
    value = next(waiting, None)
    if not isinstance(value, IntegerValue):
        raise PrintFmtError("a '*' without an integer")
    return value.as_type(CInteger(32, signed=True))


class _Converter:
    """Adds one conversion to a template."""

    def __init__(
        self,
        template: Template,
        conversion: Conversion,
        width: IntegerValue | None,
        precision: IntegerValue | None,
        words: Words,
    ) -> None:
        self._template = template
        self._conversion = conversion
        self._width = width
        self._precision = precision
        self._words = words

    def add(self, value: Value) -> None:
        kind = self._conversion.type
        if kind == "s":
            self._add_string(value)
        elif kind == "p":
            self._add_pointer(value)
        elif isinstance(value, IntegerValue):
            self._add_integer(kind, value)
        elif isinstance(value, PointerValue) and value.field is not None:
            raise PrintFmtError(f"'%{kind}' of the array '{value.field.name}'")
        else:
            raise PrintFmtError(f"'%{kind}' of a string")

    def _spec(self, kind: str, *, flags: str | None = None, precision: bool = True) -> str:
        """Return the conversion for Python; adds the columns that its stars take."""
        text = "%" + (self._conversion.flags if flags is None else flags)
        if self._width is not None:
            text += "*"
            self._template.columns.append(_limited(self._width))
        elif self._conversion.width:
            text += str(min(int(self._conversion.width), MAX_WIDTH))
        if precision and self._precision is not None:
            text += ".*"
            self._template.columns.append(_limited(self._precision))
        elif precision and self._conversion.precision is not None:
            text += f".{min(int(self._conversion.precision or 0), MAX_WIDTH)}"
        return text + kind

    def _add_integer(self, kind: str, value: IntegerValue) -> None:
        if kind == "c":
            narrowed = value.as_type(CInteger(8, signed=False)).evaluate
            self._template.add(
                self._spec("s", precision=False),
                lambda rows: [visible(chr(code)) for code in rows.spread(narrowed(rows))],
            )
            return
        ctype = CInteger(self._bits(), signed=kind in "di")
        evaluate = value.as_type(ctype).evaluate
        if kind == "o" and "#" in self._conversion.flags:
            self._template.add(
                self._spec("s", flags=self._conversion.flags.replace("#", "").replace("0", "")),
                lambda rows: [f"0{one:o}" if one else "0" for one in rows.spread(evaluate(rows))],
            )
            return
        python_kind = "d" if kind in "diu" else kind
        self._template.add(self._spec(python_kind), lambda rows: rows.spread(evaluate(rows)))

    def _bits(self) -> int:
        match self._conversion.length:
            case "hh":
                return 8
            case "h":
                return 16
            case "":
                return 32
            case "l" | "z" | "Z" | "t":
                return self._words.typing.long.bits
            case _:
                return 64

    def _add_string(self, value: Value) -> None:
        spec = self._spec("s", flags=self._conversion.flags.replace("0", ""), precision=False)
        column = self._string_column(value)
        precision, literal = self._precision, self._conversion.precision
        if precision is not None:
            limit = precision.evaluate
            self._template.add(
                spec,
                lambda rows: [
                    text if length < 0 else text[:length]
                    for text, length in zip(column(rows), rows.spread(limit(rows)), strict=True)
                ],
            )
        elif literal is not None:
            length = int(literal or 0)
            self._template.add(spec, lambda rows: [text[:length] for text in column(rows)])
        else:
            self._template.add(spec, column)

    def _string_column(self, value: Value) -> Column:
        if isinstance(value, StringValue | PointerValue) or value.constant == 0:
            return as_string(value).evaluate
        # A pointer to a constant string: its text is known only from printk_formats.
        strings, evaluate = self._words.strings, value.as_type(_U64).evaluate
        return lambda rows: [
            _constant_string(address, strings) for address in rows.spread(evaluate(rows))
        ]

    def _add_pointer(self, value: Value) -> None:
        suffix = self._conversion.suffix
        if isinstance(value, StringValue):
            raise PrintFmtError(f"'%p{suffix}' of a string")
        if isinstance(value, PointerValue):
            self._add_bytes(suffix, value)
            return
        address = value.as_type(self._words.typing.ulong).evaluate
        names = self._names(suffix)
        if names is not None:
            self._template.add(
                self._spec("s", precision=False),
                lambda rows: [names[one] for one in rows.spread(address(rows))],
            )
        elif suffix[:1] == "e":
            self._template.add(
                self._spec("s", precision=False),
                lambda rows: [_error_name(one) for one in rows.spread(address(rows))],
            )
        else:
            # The kernel hashes %p unless option hash-ptr is off; here is the recorded address.
            has_width = self._conversion.width or self._width is not None
            digits = self._words.typing.ulong.bits // 4
            spec = self._spec("x", precision=False) if has_width else f"%0{digits}x"
            self._template.add(spec, lambda rows: rows.spread(address(rows)))

    def _names(self, suffix: str) -> Mapping[int, str] | None:
        symbols = self._words.symbols
        match suffix[:1]:
            case "s" | "f":
                return symbols.plain
            case "S" | "F":
                return symbols.return_address if suffix[1:2] == "B" else symbols.with_offset
            case "B":
                return symbols.return_address
            case _:
                return None

    def _add_bytes(self, suffix: str, value: PointerValue) -> None:
        """Add a %p that the kernel reads bytes through."""
        if suffix[:1] == "h" or suffix[:1] == "b":
            self._add_counted(suffix, value)
            return
        convert = self._bytes_converter(suffix)
        locate = value.locate
        self._template.add(
            self._spec("s", precision=False),
            lambda rows: [convert(raw) for raw in rows.raw(locate(rows))],
        )

    def _bytes_converter(self, suffix: str) -> Callable[[bytes], str]:
        order = self._words.byte_order
        bits = {"a": self._words.typing.ulong.bits}.get(suffix[:1], 0)
        if suffix[:2] in {"I4", "i4"}:
            return lambda raw: ip4_text(raw, suffix)
        if suffix[:2] in {"I6", "i6"}:
            return lambda raw: ip6_text(raw, suffix)
        if suffix[:2] in {"IS", "iS"}:
            return lambda raw: sockaddr_text(raw, suffix, order)
        if suffix[:1] in {"M", "m"}:
            return lambda raw: mac_text(raw, suffix)
        if suffix[:1] == "U":
            return lambda raw: uuid_text(raw, suffix)
        if bits:
            return lambda raw: _physical(raw[: bits // 8], order, bits)
        raise PrintFmtError(f"'%p{suffix}' of a field")

    def _add_counted(self, suffix: str, value: PointerValue) -> None:
        """Add %*ph (bytes) or %*pb (bits), whose field width is the length of the data."""
        locate, order = value.locate, self._words.byte_order
        long_size = self._words.typing.long.bits // 8
        width = self._width
        fixed = 1 if width is not None else min(int(self._conversion.width or 1), MAX_WIDTH)

        def counts(rows: Rows) -> list[int]:
            return [fixed] * rows.count if width is None else rows.spread(width.evaluate(rows))

        def convert(raw: bytes, count: int) -> str:
            if suffix[0] == "h":
                return hex_bytes(raw, count, suffix)
            if suffix[1:2] == "l":
                return bitmap_list(raw, long_size, order, count)
            return bitmask_text(raw, long_size, order)

        self._template.add(
            "%s",
            lambda rows: [
                convert(raw, count)
                for raw, count in zip(rows.raw(locate(rows)), counts(rows), strict=True)
            ],
        )


_U64 = CInteger(64, signed=False)


def _limited(value: IntegerValue) -> Column:
    evaluate = value.evaluate
    return lambda rows: rows.spread(np.clip(evaluate(rows), -MAX_WIDTH, MAX_WIDTH))


def _constant_string(address: int, strings: Mapping[int, str]) -> str:
    if not address:
        return "(null)"
    text = strings.get(address)
    return f"{address:#x}" if text is None else visible(text)


def _error_name(value: int) -> str:
    """Return %pe: the name of an errno in a pointer."""
    number = (1 << 64) - value
    name = errno.errorcode.get(number)
    return f"{value:016x}" if name is None else f"-{name}"


def _physical(raw: bytes, byte_order: str, bits: int) -> str:
    """Return %pa: a physical address that the argument points to."""
    number = int.from_bytes(raw, "little" if byte_order == "<" else "big")
    return f"0x{number:0{bits // 4}x}"
