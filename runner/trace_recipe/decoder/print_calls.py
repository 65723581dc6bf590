"""The helpers that print fmt texts call: __print_flags, __get_str and their like."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from trace_recipe.decoder.print_bytes import (
    array_text,
    bitmap_list,
    bitmask_text,
    hex_dump,
    hex_text,
)
from trace_recipe.decoder.print_fmt import Call, FieldRef, Name, PrintFmtError, Table, Text
from trace_recipe.decoder.print_values import (
    MAX_REMEMBERED,
    CInteger,
    IntegerValue,
    PointerValue,
    Rows,
    StringValue,
    Value,
    as_string,
    constant,
    visible,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from trace_recipe.decoder.print_expressions import Expressions
    from trace_recipe.decoder.print_fmt import Node

__all__ = ["compile_call"]

_INT = CInteger(32, signed=True)
_UINT = CInteger(32, signed=False)
_U64 = CInteger(64, signed=False)
_NS_PER_S = 1_000_000_000
MS_PER_JIFFY = 4  # CONFIG_HZ is not in the trace; 250 is what distributions use


class _Named(dict[int, str]):
    """Numbers already turned into names; bounded."""

    def __init__(self, name: Callable[[int], str]) -> None:
        super().__init__()
        self._name = name

    def __missing__(self, number: int) -> str:
        if len(self) >= MAX_REMEMBERED:
            self.clear()
        text = self._name(number)
        self[number] = text
        return text


def compile_call(expressions: Expressions, call: Call) -> Value:
    """Return what evaluates a call; raises PrintFmtError for a function that is not known."""
    helper = _HELPERS.get(call.function)
    if helper is None:
        raise PrintFmtError(f"'{call.function}' runs in the kernel only")
    least, build = helper
    if len(call.arguments) < least:
        raise PrintFmtError(f"'{call.function}' with {len(call.arguments)} arguments")
    return build(expressions, call.arguments)


_Arguments: TypeAlias = "tuple[Node, ...]"


def _by_number(value: IntegerValue, name: Callable[[int], str]) -> StringValue:
    evaluate, named = value.evaluate, _Named(name)
    return StringValue(
        lambda rows: list(map(named.__getitem__, rows.spread(evaluate(rows)))),
        None if value.constant is None else named[value.constant],
    )


def _table(expressions: Expressions, node: Node, ctype: CInteger) -> list[tuple[int, str]]:
    """Return the entries whose value is known."""
    if not isinstance(node, Table):
        raise PrintFmtError("a table is missing")
    entries = []
    for value, name in node.entries:
        number = expressions.constant_integer(value)
        if number is not None:
            entries.append((number & ((1 << ctype.bits) - 1), visible(name)))
    return entries


def _flags(expressions: Expressions, arguments: _Arguments, ctype: CInteger) -> Value:
    """Build __print_flags: names of the set bits, what is left in hex, nothing for 0."""
    value = expressions.integer(arguments[0]).as_type(ctype)
    delimiter = visible(arguments[1].text) if isinstance(arguments[1], Text) else ""
    entries = _table(expressions, arguments[2], ctype) if len(arguments) > 2 else []

    def name(flags: int) -> str:
        names = []
        for mask, text in entries:
            if not flags:
                break
            if flags & mask == mask:
                names.append(text)
                flags &= ~mask
        if flags:
            names.append(f"{flags:#x}")
        return delimiter.join(names)

    return _by_number(value, name)


def _symbolic(expressions: Expressions, arguments: _Arguments, ctype: CInteger) -> Value:
    """Build __print_symbolic: the first equal entry's name, else the number in hex."""
    value = expressions.integer(arguments[0]).as_type(ctype)
    names: dict[int, str] = {}
    for number, text in _table(expressions, arguments[1], ctype) if len(arguments) > 1 else ():
        names.setdefault(number, text)
    return _by_number(value, lambda number: names.get(number) or f"{number:#x}")


def _field_name(node: Node) -> str:
    if isinstance(node, Name | FieldRef):
        return node.name
    raise PrintFmtError("the name of a field is missing")


def _dynamic(expressions: Expressions, arguments: _Arguments) -> PointerValue:
    return expressions.pointer(expressions.field(_field_name(arguments[0])))


def _dynamic_bytes(expressions: Expressions, arguments: _Arguments) -> PointerValue:
    pointer = _dynamic(expressions, arguments)
    return PointerValue(CInteger(8, signed=False), pointer.locate, pointer.field)


def _dynamic_length(expressions: Expressions, arguments: _Arguments) -> Value:
    locate = _dynamic(expressions, arguments).locate
    return IntegerValue(_UINT, lambda rows: locate(rows)[1].astype(np.uint32))


def _string(expressions: Expressions, arguments: _Arguments) -> Value:
    return as_string(_dynamic(expressions, arguments))


def _converted(pointer: PointerValue, convert: Callable[[bytes], str]) -> StringValue:
    locate = pointer.locate
    return StringValue(lambda rows: [convert(raw) for raw in rows.raw(locate(rows))])


def _bitmask(expressions: Expressions, arguments: _Arguments) -> Value:
    size = expressions.typing.long.bits // 8
    order = expressions.byte_order
    return _converted(_dynamic(expressions, arguments), lambda raw: bitmask_text(raw, size, order))


def _cpumask(expressions: Expressions, arguments: _Arguments) -> Value:
    size = expressions.typing.long.bits // 8
    order = expressions.byte_order
    return _converted(_dynamic(expressions, arguments), lambda raw: bitmap_list(raw, size, order))


def _pointer(expressions: Expressions, node: Node) -> PointerValue:
    value = expressions.compile(node)
    if not isinstance(value, PointerValue):
        raise PrintFmtError("memory outside the record")
    return value


def _sized(
    pointer: PointerValue, length: IntegerValue, convert: Callable[[bytes], str]
) -> StringValue:
    """Convert the first `length` bytes behind a pointer, never more than the record holds."""
    locate, count = pointer.locate, length.evaluate

    def texts(rows: Rows) -> list[str]:
        start, size = locate(rows)
        wanted = np.clip(count(rows).astype(np.int64), 0, size)
        return [convert(raw) for raw in rows.raw((start, wanted))]

    return StringValue(texts)


def _array(expressions: Expressions, arguments: _Arguments) -> Value:
    pointer = _pointer(expressions, arguments[0])
    size = expressions.constant_integer(arguments[2])
    if size not in {1, 2, 4, 8}:
        raise PrintFmtError(f"array elements of {size} bytes")
    count = expressions.integer(arguments[1]).as_type(CInteger(64, signed=True))
    evaluate = count.evaluate
    length = IntegerValue(
        count.ctype, lambda rows: np.clip(evaluate(rows), 0, 1 << 20) * np.int64(size)
    )
    order = expressions.byte_order
    return _sized(pointer, length, lambda raw: array_text(raw, size, order))


def _dynamic_array(expressions: Expressions, arguments: _Arguments) -> Value:
    size = expressions.constant_integer(arguments[1])
    if size not in {1, 2, 4, 8}:
        raise PrintFmtError(f"array elements of {size} bytes")
    order = expressions.byte_order
    return _converted(_dynamic(expressions, arguments), lambda raw: array_text(raw, size, order))


def _hex(expressions: Expressions, arguments: _Arguments, separator: str) -> Value:
    return _sized(
        _pointer(expressions, arguments[0]),
        expressions.integer(arguments[1]),
        lambda raw: hex_text(raw, separator),
    )


def _hex_dump(expressions: Expressions, arguments: _Arguments) -> Value:
    prefix = visible(arguments[0].text) if isinstance(arguments[0], Text) else ""
    kind, row, group, ascii_ = (
        _dump_option(expressions, arguments[place]) for place in (1, 2, 3, 6)
    )
    return _sized(
        _pointer(expressions, arguments[4]),
        expressions.integer(arguments[5]),
        lambda raw: hex_dump(raw, prefix, kind, row, group, ascii_=bool(ascii_)),
    )


def _dump_option(expressions: Expressions, node: Node) -> int:
    if isinstance(node, Name) and node.name.startswith("DUMP_PREFIX_"):
        return {"DUMP_PREFIX_NONE": 0, "DUMP_PREFIX_ADDRESS": 1}.get(node.name, 2)
    return expressions.constant_integer(node) or 0


def _seconds(expressions: Expressions, arguments: _Arguments) -> Value:
    evaluate = expressions.integer(arguments[0]).as_type(_U64).evaluate
    return IntegerValue(_U64, lambda rows: evaluate(rows) // np.uint64(_NS_PER_S))


def _nanoseconds(expressions: Expressions, arguments: _Arguments) -> Value:
    evaluate = expressions.integer(arguments[0]).as_type(_U64).evaluate
    return IntegerValue(
        _UINT, lambda rows: (evaluate(rows) % np.uint64(_NS_PER_S)).astype(np.uint32)
    )


def _milliseconds(expressions: Expressions, arguments: _Arguments) -> Value:
    ulong = expressions.typing.ulong
    evaluate = expressions.integer(arguments[0]).as_type(ulong).evaluate
    factor = np.array([MS_PER_JIFFY], ulong.dtype)
    return IntegerValue(_UINT, lambda rows: (evaluate(rows) * factor).astype(np.uint32))


def _sizeof(expressions: Expressions, arguments: _Arguments) -> Value:
    value = expressions.compile(arguments[0])
    if isinstance(value, IntegerValue):
        size = value.ctype.bits // 8
    elif isinstance(value, PointerValue) and value.field is not None and value.field.size:
        size = value.field.size
    else:
        raise PrintFmtError("the size of something that is not in the record")
    return constant(size, expressions.typing.ulong)


def _first(expressions: Expressions, arguments: _Arguments) -> Value:
    return expressions.compile(arguments[0])


_HELPERS: dict[str, tuple[int, Callable[[Expressions, _Arguments], Value]]] = {
    "__print_flags": (2, lambda e, a: _flags(e, a, e.typing.ulong)),
    "__print_flags_u64": (2, lambda e, a: _flags(e, a, _U64)),
    "__print_symbolic": (1, lambda e, a: _symbolic(e, a, e.typing.ulong)),
    "__print_symbolic_u64": (1, lambda e, a: _symbolic(e, a, _U64)),
    "__get_str": (1, _string),
    "__get_rel_str": (1, _string),
    "__get_dynamic_array": (1, _dynamic_bytes),
    "__get_rel_dynamic_array": (1, _dynamic_bytes),
    "__get_dynamic_array_len": (1, _dynamic_length),
    "__get_rel_dynamic_array_len": (1, _dynamic_length),
    "__get_sockaddr": (1, _dynamic_bytes),
    "__get_rel_sockaddr": (1, _dynamic_bytes),
    "__get_bitmask": (1, _bitmask),
    "__get_rel_bitmask": (1, _bitmask),
    "__get_cpumask": (1, _cpumask),
    "__get_rel_cpumask": (1, _cpumask),
    "__print_array": (3, _array),
    "__print_dynamic_array": (2, _dynamic_array),
    "__print_hex": (2, lambda e, a: _hex(e, a, " ")),
    "__print_hex_str": (2, lambda e, a: _hex(e, a, "")),
    "__print_hex_dump": (7, _hex_dump),
    "__print_ns_to_secs": (1, _seconds),
    "__print_ns_without_secs": (1, _nanoseconds),
    "jiffies_to_msecs": (1, _milliseconds),
    "sizeof": (1, _sizeof),
    "__builtin_expect": (1, _first),
    "__builtin_constant_p": (1, lambda _e, _a: constant(0, _INT)),
}
