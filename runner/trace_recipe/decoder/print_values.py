"""What print fmt expressions evaluate to: whole columns of values, with C's types.

Integers are numpy arrays of the exact C width; an array of one element stands for a constant.
Pointers into the record are (start, size) places in the batch's data, so that no expression can
reach outside its own record.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from trace_recipe.decoder.print_fmt import Number, PrintFmtError, TypeName
from trace_recipe.formats import Field, FieldKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from trace_recipe.events import EventColumns

__all__ = [
    "INT",
    "NO_ROWS",
    "U8",
    "Array",
    "CInteger",
    "IntegerValue",
    "Place",
    "PointerValue",
    "Rows",
    "StringValue",
    "Typing",
    "Value",
    "as_string",
    "constant",
    "constant_string",
    "visible",
]

Array: TypeAlias = "NDArray[Any]"
Place: TypeAlias = "tuple[NDArray[np.int64], NDArray[np.int64]]"
MAX_REMEMBERED = 1 << 16

# Controls, line ends, what changes the direction of text, and bytes that are no text.
_HIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_HIDDEN_BYTE = 0xDC00  # surrogateescape's base: bytes that are not UTF-8


def visible(text: str) -> str:
    r"""Replace control characters other than tab by \xNN: text of a trace cannot drive a terminal.

    The kernel prints them raw.
    """
    if text.isascii() and text.isprintable():
        return text
    return _HIDDEN.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if _HIDDEN_BYTE <= code < _HIDDEN_BYTE + 0x100:
        code -= _HIDDEN_BYTE
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class _Strings(dict[bytes, str]):
    """Bytes up to the first NUL as visible text, remembered: command names repeat."""

    def __missing__(self, raw: bytes) -> str:
        if len(self) >= MAX_REMEMBERED:
            self.clear()
        text = visible(raw.partition(b"\0")[0].decode("utf-8", "surrogateescape"))
        self[raw] = text
        return text


_STRINGS = _Strings()


@dataclass(frozen=True, slots=True)
class CInteger:
    """A C integer type."""

    bits: int
    signed: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return numpy's type of the same width and sign."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.bits // 8}")

    def promoted(self) -> CInteger:
        """Return the type after C's integer promotion."""
        return INT if self.bits < 32 else self

    def wrap(self, value: int) -> int:
        """Return the value as it reads in this type."""
        value &= (1 << self.bits) - 1
        return value - (1 << self.bits) if self.signed and value >> (self.bits - 1) else value


INT = CInteger(32, signed=True)
UINT = CInteger(32, signed=False)
U64 = CInteger(64, signed=False)
S64 = CInteger(64, signed=True)
U8 = CInteger(8, signed=False)


class Rows:
    """The rows of one batch of one event type: where evaluation takes its bytes from."""

    __slots__ = ("_bytes", "columns", "count")

    def __init__(self, columns: EventColumns) -> None:
        self.columns = columns
        self.count = columns.count
        self._bytes: memoryview | None = None

    def integers(self, field: Field, index: int | None = None) -> Array:
        """Return a scalar field, or one element of an array of fixed length."""
        values = self.columns.column(field.name)
        return values if index is None else values.reshape(self.count, -1)[:, index]

    def fixed_strings(self, field: Field) -> list[str]:
        """Return a char array of fixed size as texts."""
        letters = np.ascontiguousarray(self.columns.column(field.name))
        raw = letters.view(f"S{field.size}").reshape(self.count).tolist()
        return list(map(_STRINGS.__getitem__, raw))

    def integers_at(self, start: Array, inside: Array, ctype: CInteger) -> Array:
        """Return the integers at absolute places; 0 where `inside` is false."""
        data = self.columns.data
        width = ctype.bits // 8
        if not len(data):
            return np.zeros(self.count, ctype.dtype)
        reach = start[:, None] + np.arange(width, dtype=np.int64)[None, :]
        raw = data[np.clip(reach, 0, len(data) - 1)]
        raw[~inside] = 0
        order = self.columns.byte_order
        words = np.ascontiguousarray(raw).view(f"{order}{ctype.dtype.str[1:]}")[:, 0]
        return words.astype(ctype.dtype)

    def raw(self, place: Place) -> list[bytes]:
        """Return the bytes of every row's place."""
        start, size = place
        if self._bytes is None:
            self._bytes = np.ascontiguousarray(self.columns.data).data
        view = self._bytes
        return [
            bytes(view[first:last])
            for first, last in zip(start.tolist(), (start + size).tolist(), strict=True)
        ]

    def strings(self, place: Place) -> list[str]:
        """Return the text at every row's place, up to its first NUL."""
        return list(map(_STRINGS.__getitem__, self.raw(place)))

    def spread(self, values: Array) -> list[int]:
        """Return an integer array as a list with one entry per row."""
        listed: list[int] = values.tolist()
        return listed * self.count if len(listed) == 1 and self.count != 1 else listed


@dataclass(frozen=True, slots=True)
class IntegerValue:
    """An integer per row; `constant` when it is the same for every row of every batch."""

    ctype: CInteger
    evaluate: Callable[[Rows], Array]
    constant: int | None = None

    def as_type(self, ctype: CInteger) -> IntegerValue:
        """Return it converted as C converts an integer."""
        if ctype == self.ctype:
            return self
        if self.constant is not None:
            return constant(ctype.wrap(self.constant), ctype)
        dtype, inner = ctype.dtype, self.evaluate
        return IntegerValue(ctype, lambda rows: inner(rows).astype(dtype))


@dataclass(frozen=True, slots=True)
class StringValue:
    """A text per row; `constant` when it is the same for every row."""

    evaluate: Callable[[Rows], list[str]]
    constant: str | None = None


@dataclass(frozen=True, slots=True)
class PointerValue:
    """A pointer into the record: `locate` gives start and size in bytes of every row."""

    element: CInteger
    locate: Callable[[Rows], Place]
    field: Field | None = None  # set while it still points at the start of this field


Value: TypeAlias = IntegerValue | StringValue | PointerValue


def constant(value: int, ctype: CInteger) -> IntegerValue:
    """Return the same integer for every row."""
    array = np.array([ctype.wrap(value)], dtype=ctype.dtype)
    return IntegerValue(ctype, lambda _: array, ctype.wrap(value))


def constant_string(text: str) -> StringValue:
    """Return the same text for every row."""
    return StringValue(lambda rows: [text] * rows.count, text)


_WORDS = {
    "char": (8, True), "s8": (8, True), "__s8": (8, True), "int8_t": (8, True),
    "u8": (8, False), "__u8": (8, False), "uint8_t": (8, False), "uchar": (8, False),
    "short": (16, True), "s16": (16, True), "__s16": (16, True), "int16_t": (16, True),
    "u16": (16, False), "__u16": (16, False), "uint16_t": (16, False), "ushort": (16, False),
    "__le16": (16, False), "__be16": (16, False), "umode_t": (16, False),
    "int": (32, True), "s32": (32, True), "__s32": (32, True), "int32_t": (32, True),
    "pid_t": (32, True), "__kernel_rwf_t": (32, True), "key_serial_t": (32, True),
    "u32": (32, False), "__u32": (32, False), "uint32_t": (32, False), "uint": (32, False),
    "__le32": (32, False), "__be32": (32, False), "gfp_t": (32, False), "dev_t": (32, False),
    "uid_t": (32, False), "gid_t": (32, False), "fmode_t": (32, False), "blk_opf_t": (32, False),
    "__poll_t": (32, False), "vm_fault_t": (32, False), "unsigned": (32, False),
    "s64": (64, True), "__s64": (64, True), "int64_t": (64, True), "loff_t": (64, True),
    "ktime_t": (64, True), "time64_t": (64, True),
    "u64": (64, False), "__u64": (64, False), "uint64_t": (64, False), "sector_t": (64, False),
    "__le64": (64, False), "__be64": (64, False), "blkcnt_t": (64, False),
    "dma_addr_t": (64, False), "phys_addr_t": (64, False), "resource_size_t": (64, False),
}  # fmt: skip
_LONG_WORDS = {
    "size_t": False, "ssize_t": True, "ulong": False, "uintptr_t": False, "intptr_t": True,
    "ino_t": False, "pgoff_t": False, "off_t": True, "ptrdiff_t": True,
}  # fmt: skip
_PLAIN = {"signed", "unsigned", "char", "short", "int", "long"}


class Typing:
    """The C types of one kernel: its `long` is `long_size` bytes."""

    def __init__(self, long_size: int) -> None:
        self.long = CInteger(long_size * 8, signed=True)
        self.ulong = CInteger(long_size * 8, signed=False)

    def of(self, type_name: TypeName) -> CInteger | None:
        """Return the integer type, None for a struct or a typedef of unknown width."""
        if type_name.pointers:
            return self.ulong
        words = type_name.name.split()
        if len(words) == 1 and words[0] in _WORDS:
            bits, signed = _WORDS[words[0]]
            return CInteger(bits, signed)
        if len(words) == 1 and words[0] in _LONG_WORDS:
            return CInteger(self.long.bits, _LONG_WORDS[words[0]])
        if words[0] == "enum":
            return UINT
        if not all(word in _PLAIN for word in words):
            return None
        signed = "unsigned" not in words
        if words.count("long") > 1:
            return CInteger(64, signed)
        if "long" in words:
            return CInteger(self.long.bits, signed)
        if "short" in words:
            return CInteger(16, signed)
        return CInteger(8 if "char" in words else 32, signed)

    def of_number(self, number: Number) -> CInteger:
        """Return the type C gives a literal: the first that holds it."""
        unsigned = "u" in number.suffix
        longs = number.suffix.count("l")
        kinds = [
            INT if longs == 0 else None,
            UINT if longs == 0 else None,
            self.long if longs < 2 else None,
            self.ulong if longs < 2 else None,
            S64,
            U64,
        ]
        for kind in kinds:
            if kind is None or (unsigned and kind.signed):
                continue
            if not unsigned and not kind.signed and number.is_decimal and kind is not U64:
                continue
            if kind.wrap(number.value) == number.value:
                return kind
        return U64

    def common(self, left: CInteger, right: CInteger) -> CInteger:
        """Return the type of the usual arithmetic conversions."""
        left, right = left.promoted(), right.promoted()
        bits = max(left.bits, right.bits)
        signed = all(one.signed or one.bits < bits for one in (left, right))
        return CInteger(bits, signed)


def as_string(value: Value) -> StringValue:
    """Return a char pointer into the record, or a string, as text."""
    if isinstance(value, StringValue):
        return value
    if isinstance(value, PointerValue):
        field, locate = value.field, value.locate
        if field is not None and field.kind is FieldKind.ARRAY:
            return StringValue(lambda rows: rows.fixed_strings(field))
        return StringValue(lambda rows: rows.strings(locate(rows)))
    if value.constant == 0:
        return constant_string("(null)")
    raise PrintFmtError("an integer where a string is needed")


class _NoRows(Rows):
    """One row without bytes, for expressions of constants alone."""

    __slots__ = ()

    def __init__(self) -> None:
        self.count = 1


NO_ROWS = _NoRows()
