"""Evaluate parsed print fmt expressions over whole columns, with C's types and conversions.

Integers are numpy arrays of the exact C width; an array of one element stands for a constant.
Pointers into the record are (start, size) places in the batch's data, so that no expression can
reach outside its own record.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from trace_recipe.decoder.print_fmt import (
    Binary,
    Call,
    Cast,
    Dereference,
    FieldRef,
    Index,
    Name,
    Node,
    Number,
    PrintFmtError,
    SizeOf,
    Table,
    Ternary,
    Text,
    TypeName,
    Unary,
)
from trace_recipe.decoder.print_names import enum_values
from trace_recipe.formats import Field, FieldKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trace_recipe.events import EventColumns
    from trace_recipe.formats import EventFormat

__all__ = [
    "NO_ROWS",
    "CInteger",
    "Expressions",
    "IntegerValue",
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


_Operation: TypeAlias = Callable[[Array, Array], Array]


def _quotient(left: Array, right: Array) -> Array:
    """C's division: towards zero; a zero divisor gives 0 instead of a trap."""
    safe = np.where(right == 0, np.ones_like(right), right)
    result: Array = np.floor_divide(left, safe)
    if left.dtype.kind == "i":
        result = result + ((result < 0) & (result * safe != left))
    return np.where(right == 0, np.zeros_like(result), result)


def _remainder(left: Array, right: Array) -> Array:
    safe = np.where(right == 0, np.ones_like(right), right)
    result: Array = np.where(right == 0, np.zeros_like(left), np.fmod(left, safe))
    return result


_ARITHMETIC: dict[str, _Operation] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": _quotient, "%": _remainder,
    "&": np.bitwise_and, "|": np.bitwise_or, "^": np.bitwise_xor,
}  # fmt: skip
_COMPARISONS: dict[str, _Operation] = {
    "==": np.equal, "!=": np.not_equal, "<": np.less, ">": np.greater, "<=": np.less_equal,
    ">=": np.greater_equal,
}  # fmt: skip


class Expressions:
    """Compiles the expressions of one event; the helpers' calls are handed to `call`."""

    def __init__(
        self,
        event: EventFormat,
        typing: Typing,
        byte_order: str,
        call: Callable[[Expressions, Call], Value],
    ) -> None:
        self.event = event
        self.typing = typing
        self.byte_order = byte_order
        self._names = enum_values(event.print_fmt)
        self._call = call

    def compile(self, node: Node) -> Value:
        """Return what evaluates the node; raises PrintFmtError when the trace cannot tell."""
        match node:
            case Number():
                return constant(node.value, self.typing.of_number(node))
            case Text(text):
                return constant_string("\n".join(visible(line) for line in text.split("\n")))
            case FieldRef(name):
                return self._field(name)
            case Name(name):
                # Its value is not in the trace unless it is one of the well-known enums.
                return constant(self._names.get(name, 0), self.typing.long)
            case Unary("&", operand):
                return self._address(operand)
            case Unary(operator, operand):
                return self._unary(operator, self.integer(operand))
            case Binary(operator, left, right):
                return self._binary(operator, left, right)
            case Ternary():
                return self._ternary(node)
            case Cast(type_name, operand):
                return self._cast(type_name, self.compile(operand))
            case Dereference(operand):
                return self._element(self.compile(operand), constant(0, INT))
            case Index(base, index):
                return self._element(self.compile(base), self.integer(index))
            case SizeOf(type_name):
                ctype = self.typing.of(type_name)
                if ctype is None:
                    raise PrintFmtError(f"the size of '{type_name.name}' is not known")
                return constant(ctype.bits // 8, self.typing.ulong)
            case Call():
                return self._call(self, node)
            case Table():
                raise PrintFmtError("a table outside __print_flags and __print_symbolic")

    def integer(self, node: Node) -> IntegerValue:
        """Compile a node that must be an integer."""
        value = self.compile(node)
        if not isinstance(value, IntegerValue):
            raise PrintFmtError("a string or an array where an integer is needed")
        return value

    def constant_integer(self, node: Node) -> int | None:
        """Return the value of a constant expression, None when it needs the trace or is unknown.

        Unlike everywhere else an unknown identifier is unknown, not 0: a table entry of unknown
        value must never match.
        """
        if self._has_unknown(node):
            return None
        value = self.compile(node)
        return value.constant if isinstance(value, IntegerValue) else None

    def _has_unknown(self, node: Node) -> bool:
        match node:
            case Name(name):
                return name not in self._names
            case Unary(_, operand) | Cast(_, operand) | Dereference(operand):
                return self._has_unknown(operand)
            case Binary(_, left, right):
                return self._has_unknown(left) or self._has_unknown(right)
            case Ternary(condition, yes, no):
                inner = [condition, no] + ([yes] if yes is not None else [])
                return any(map(self._has_unknown, inner))
            case _:
                return False

    def field(self, name: str) -> Field:
        """Return the field; raises PrintFmtError when the event has none of that name."""
        found = self.event.find(name)
        if found is None:
            raise PrintFmtError(f"no field '{name}'")
        return found

    def pointer(self, field: Field) -> PointerValue:
        """Return a pointer to the first byte of the field's data."""
        name = field.name
        width = field.element_size if field.element_size in {1, 2, 4, 8} else 1
        element = CInteger(width * 8, field.is_signed and not field.is_string)
        return PointerValue(element, lambda rows: rows.columns.dynamic(name), field)

    def _field(self, name: str) -> Value:
        field = self.field(name)
        if field.kind is not FieldKind.SCALAR:
            return self.pointer(field)
        ctype = CInteger(field.size * 8, field.is_signed)
        return IntegerValue(ctype, lambda rows: rows.integers(field))

    def _address(self, operand: Node) -> Value:
        if isinstance(operand, FieldRef):
            return self.pointer(self.field(operand.name))
        if isinstance(operand, Index):
            base = self.compile(operand.base)
            if isinstance(base, PointerValue):
                return self._advance(base, self.integer(operand.index))
        raise PrintFmtError("the address of something that is not in the record")

    @staticmethod
    def _unary(operator: str, operand: IntegerValue) -> Value:
        inner = operand.evaluate
        if operator == "!":
            return _folded(INT, lambda rows: (inner(rows) == 0).astype(np.int32), operand)
        wide = operand.as_type(operand.ctype.promoted())
        inner = wide.evaluate
        if operator == "-":
            return _folded(wide.ctype, lambda rows: np.negative(inner(rows)), wide)
        if operator == "~":
            return _folded(wide.ctype, lambda rows: np.invert(inner(rows)), wide)
        return wide

    def _binary(self, operator: str, left_node: Node, right_node: Node) -> Value:
        if operator in {"&&", "||"}:
            return self._logical(operator, left_node, right_node)
        left, right = self.compile(left_node), self.compile(right_node)
        if isinstance(left, PointerValue) and isinstance(right, IntegerValue) and operator == "+":
            return self._advance(left, right)
        if not isinstance(left, IntegerValue) or not isinstance(right, IntegerValue):
            raise PrintFmtError(f"'{operator}' between things that are not integers")
        if operator in {"<<", ">>"}:
            return self._shift(operator, left, right)
        ctype = self.typing.common(left.ctype, right.ctype)
        one, two = left.as_type(ctype).evaluate, right.as_type(ctype).evaluate
        if operator in _COMPARISONS:
            compare = _COMPARISONS[operator]
            return _folded(
                INT, lambda rows: compare(one(rows), two(rows)).astype(np.int32), left, right
            )
        operation = _ARITHMETIC[operator]
        return _folded(ctype, lambda rows: operation(one(rows), two(rows)), left, right)

    @staticmethod
    def _shift(operator: str, left: IntegerValue, right: IntegerValue) -> Value:
        ctype = left.ctype.promoted()
        one, two = left.as_type(ctype).evaluate, right.evaluate
        mask, dtype = ctype.bits - 1, ctype.dtype
        shift = np.left_shift if operator == "<<" else np.right_shift

        def shifted(rows: Rows) -> Array:
            # The count is taken modulo the width, as x86 and arm64 do where C says nothing.
            result: Array = shift(one(rows), (two(rows) & mask).astype(dtype))
            return result

        return _folded(ctype, shifted, left, right)

    def _logical(self, operator: str, left_node: Node, right_node: Node) -> Value:
        left, right = self._truth(left_node), self._truth(right_node)
        one, two = left.evaluate, right.evaluate
        both = np.logical_and if operator == "&&" else np.logical_or
        return _folded(INT, lambda rows: both(one(rows), two(rows)).astype(np.int32), left, right)

    def _truth(self, node: Node) -> IntegerValue:
        value = self.compile(node)
        if isinstance(value, IntegerValue):
            return value
        return constant(1, INT)  # a pointer into the record is never NULL

    def _ternary(self, node: Ternary) -> Value:
        condition = self._truth(node.condition)
        yes = self.compile(node.yes) if node.yes is not None else condition
        no = self.compile(node.no)
        if condition.constant is not None:
            return yes if condition.constant else no
        test = condition.evaluate
        if isinstance(yes, IntegerValue) and isinstance(no, IntegerValue):
            ctype = self.typing.common(yes.ctype, no.ctype)
            one, two = yes.as_type(ctype).evaluate, no.as_type(ctype).evaluate
            return IntegerValue(ctype, lambda rows: np.where(test(rows) != 0, one(rows), two(rows)))
        first, second = as_string(yes).evaluate, as_string(no).evaluate

        def chosen(rows: Rows) -> list[str]:
            truth = test(rows) != 0
            if truth.all():
                return first(rows)
            if not truth.any():
                return second(rows)
            return [
                a if pick else b
                for pick, a, b in zip(truth.tolist(), first(rows), second(rows), strict=True)
            ]

        return StringValue(chosen)

    def _cast(self, type_name: TypeName, value: Value) -> Value:
        if isinstance(value, StringValue):
            return value
        if isinstance(value, PointerValue):
            if not type_name.pointers:
                raise PrintFmtError("the address of the record as a number")
            element = self.typing.of(TypeName(type_name.name, type_name.pointers - 1)) or U8
            return PointerValue(element, value.locate, value.field)
        if type_name == TypeName("bool") or type_name == TypeName("_Bool"):
            inner = value.evaluate
            return _folded(U8, lambda rows: (inner(rows) != 0).astype(np.uint8), value)
        ctype = self.typing.of(type_name)
        return value if ctype is None else value.as_type(ctype)

    @staticmethod
    def _advance(base: PointerValue, steps: IntegerValue) -> PointerValue:
        width, locate, count = base.element.bits // 8, base.locate, steps.evaluate

        def located(rows: Rows) -> Place:
            start, size = locate(rows)
            moved = np.clip(count(rows).astype(np.int64) * width, 0, size)
            return start + moved, size - moved

        return PointerValue(base.element, located)

    def _element(self, base: Value, index: IntegerValue) -> Value:
        if not isinstance(base, PointerValue):
            raise PrintFmtError("memory outside the record")
        element, locate = base.element, base.locate
        width = element.bits // 8
        field = base.field
        place = index.constant
        if (
            field is not None
            and field.kind is FieldKind.ARRAY
            and width == field.element_size
            and place is not None
        ):
            if not 0 <= place < field.length:
                raise PrintFmtError(f"index {place} outside '{field.name}'")
            dtype = element.dtype
            return IntegerValue(element, lambda rows: rows.integers(field, place).astype(dtype))
        number = index.evaluate

        def loaded(rows: Rows) -> Array:
            start, size = locate(rows)
            step = number(rows).astype(np.int64)
            limit = size // width
            inside = (step >= 0) & (step < limit)
            reach = start + np.where(inside, step, 0) * width
            return rows.integers_at(reach, np.broadcast_to(inside, reach.shape), element)

        return IntegerValue(element, loaded)


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


def _folded(
    ctype: CInteger, evaluate: Callable[[Rows], Array], *operands: IntegerValue
) -> IntegerValue:
    """Return the operation's value, worked out now when all operands are constants."""
    if all(one.constant is not None for one in operands):
        with np.errstate(all="ignore"):
            return constant(int(evaluate(NO_ROWS)[0]), ctype)
    return IntegerValue(ctype, evaluate)


class _NoRows(Rows):
    """One row without bytes, for expressions of constants alone."""

    __slots__ = ()

    def __init__(self) -> None:
        self.count = 1


NO_ROWS = _NoRows()
