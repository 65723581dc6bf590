"""Columns of events as Python values: what the row formats (jsonl, csv) have in common.

How a field is shown follows from its format file alone, so that every value of one field has the
same type: `__u8 saddr[4]` is an address because the event's print fmt shows it with `%pI4`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from trace_recipe.decoder.print_bytes import ip4_text, ip6_text, mac_text, sockaddr_text, uuid_text
from trace_recipe.decoder.print_fmt import MAX_CHARACTERS
from trace_recipe.decoder.print_symbols import SymbolNames
from trace_recipe.formats import FieldKind
from trace_recipe.sinks.layout import latency_flags

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from trace_recipe.events import EventColumns, TraceData
    from trace_recipe.formats import EventFormat, Field

__all__ = [
    "Cache",
    "ColumnReader",
    "Shape",
    "ShapedField",
    "shape_fields",
    "text_of",
]

IDLE_COMM = "<idle>"
CACHE_ENTRIES = 1 << 16
NS_PER_SECOND = 1_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

K = TypeVar("K")
V = TypeVar("V")


class Shape(StrEnum):
    """What the Python values of a field are."""

    INTEGER = "integer"  # int
    ADDRESS = "address"  # int, to be shown in hexadecimal
    BOOLEAN = "boolean"  # bool
    TEXT = "text"  # str
    INTEGERS = "integers"  # list of int: fixed and dynamic arrays, set bits of a bitmask or cpumask
    STACK = "stack"  # list of int, each a return address


@dataclass(frozen=True, slots=True)
class ShapedField:
    """A field, the shape of its values, and how its bytes become one where numpy cannot do it.

    `is_symbol` says that the print fmt shows the address as a symbol (`%ps`, `%pS`).
    """

    field: Field
    shape: Shape
    convert: Callable[[bytes], Any] | None = None
    is_symbol: bool = False


class Cache(dict[K, V], Generic[K, V]):
    """A dict that makes a missing value with `make` and forgets all when it has grown large."""

    def __init__(self, make: Callable[[K], V], known: Mapping[K, V] | None = None) -> None:
        super().__init__(known or {})
        self.make = make

    def __missing__(self, key: K) -> V:
        if len(self) >= CACHE_ENTRIES:
            self.clear()
        value = self[key] = self.make(key)
        return value


class ColumnReader:
    """Gives the columns of one recording as lists of Python values, one per event."""

    def __init__(self, data: TraceData) -> None:
        self.data = data
        offset = data.wall_offset_ns
        fits = offset is not None and -(1 << 63) <= offset < 1 << 63
        self.wall_offset_ns = offset if fits else None
        self._seconds = Cache(_second_text)
        self._irq_info = Cache(_irq_info_of_word)
        self._symbol_names = SymbolNames(data.symbols)
        self._symbols: Cache[int, str | None] = Cache(self._find_symbol)
        self._shaped: dict[int, tuple[EventFormat, tuple[ShapedField, ...]]] = {}
        self._converted: dict[tuple[int, str], Cache[bytes, Any]] = {}
        self._batch: tuple[NDArray[np.uint8], bytes] | None = None

    def fields(self, event_format: EventFormat) -> tuple[ShapedField, ...]:
        """Return the event's own fields with their shapes."""
        known = self._shaped.get(id(event_format))
        if known is None:
            data = self.data
            shaped = shape_fields(event_format, data.byte_order, data.long_size)
            known = self._shaped[id(event_format)] = (event_format, shaped)
        return known[1]

    def values(self, columns: EventColumns, shaped: ShapedField) -> list[Any]:
        """Return one field of every event; a field beyond the end of its record reads as zero."""
        one = shaped.field
        if not columns.count:
            return []
        if shaped.convert is not None:
            key = (id(columns.format), one.name)
            cache = self._converted.get(key)
            if cache is None:
                cache = self._converted[key] = Cache(shaped.convert)
            return [cache[raw] for raw in self._bytes_of(columns, shaped)]
        array = columns.column(one.name)
        match shaped.shape:
            case Shape.ADDRESS:
                return list(array.view(f"u{array.dtype.itemsize}").tolist())
            case Shape.BOOLEAN:
                return list((array != 0).tolist())
            case _ if one.kind is FieldKind.SCALAR:
                return list(array.tolist())
            case _:
                return list(array.reshape(columns.count, -1).tolist())

    def common(self, columns: EventColumns, name: str) -> NDArray[np.int64]:
        """Return a common field, zeros when this kernel has none of that name."""
        if all(one.name != name for one in columns.format.common_fields):
            return np.zeros(columns.count, np.int64)
        return columns.column(name).astype(np.int64)

    def irq_infos(self, columns: EventColumns) -> list[str]:
        """Return the five latency characters of every event."""
        flags = self.common(columns, "common_flags") & 0xFF
        preempt_count = self.common(columns, "common_preempt_count") & 0xFF
        cache = self._irq_info
        return [cache[word] for word in (flags << 8 | preempt_count).tolist()]

    def walls(self, timestamp_ns: NDArray[np.uint64]) -> tuple[list[str], list[int]] | None:
        """Return wall times as (`2026-11-22T20:45:00`, nanoseconds), or None when unknown."""
        if self.wall_offset_ns is None:
            return None
        wall_ns = timestamp_ns.astype(np.int64) + np.int64(self.wall_offset_ns)
        seconds, nanoseconds = np.divmod(wall_ns, NS_PER_SECOND)
        cache = self._seconds
        return [cache[second] for second in seconds.tolist()], nanoseconds.tolist()

    def wall(self, timestamp_ns: int) -> str | None:
        """Return one wall time as text, or None when unknown."""
        walls = self.walls(np.array([timestamp_ns], np.uint64))
        return None if walls is None else f"{walls[0][0]}.{walls[1][0]:09d}Z"

    def wall_text(self, wall_ns: int) -> str:
        """Return nanoseconds since the epoch as text."""
        second, nanosecond = divmod(wall_ns, NS_PER_SECOND)
        return f"{self._seconds[second]}.{nanosecond:09d}Z"

    def comm(self, pid: int) -> str | None:
        """Return the command name of a task, `<idle>` for pid 0, None when unknown."""
        return IDLE_COMM if pid == 0 else self.data.cmdlines.get(pid)

    def symbol(self, address: int) -> str | None:
        """Return `name+0xoffset` (`name` at offset 0, ` [module]` behind), None when unknown."""
        return self._symbols[address]

    def _find_symbol(self, address: int) -> str | None:
        found = self._symbol_names.locate(address)
        if found is None:
            return None
        name, _, module = found[0].partition("\t")  # /proc/kallsyms: name, tab, [module]
        offset = f"+{found[1]:#x}" if found[1] else ""
        return f"{name}{offset}{module and ' '}{module}"

    def _bytes_of(self, columns: EventColumns, shaped: ShapedField) -> list[bytes]:
        """Return the bytes of a field, of every event."""
        one = shaped.field
        if shaped.shape is Shape.STACK:
            begin = np.minimum(columns.offset + one.offset, columns.offset + columns.length)
            end = columns.offset + columns.length
        elif one.kind is FieldKind.ARRAY and one.element_size == 1:
            array = np.ascontiguousarray(columns.column(one.name)).reshape(columns.count, -1)
            return list(array.view(f"V{one.size}")[:, 0].tolist())
        else:
            begin, size = columns.dynamic(one.name)
            end = begin + size
        if self._batch is None or self._batch[0] is not columns.data:
            self._batch = (columns.data, columns.data.tobytes())
        blob = self._batch[1]
        return [blob[i:k] for i, k in zip(begin.tolist(), end.tolist(), strict=True)]


def shape_fields(
    event_format: EventFormat, byte_order: str, long_size: int
) -> tuple[ShapedField, ...]:
    """Return how each own field of an event is shown; pure, from the format file alone."""
    shown = _conversions(event_format.print_fmt)
    shown.update((name, kind) for kind, name in _GETTER.findall(event_format.print_fmt))
    is_stack = event_format.full_name in {"ftrace:kernel_stack", "ftrace:user_stack"}
    return tuple(
        _shape_stack(one, byte_order, long_size)
        if is_stack and one.name == "caller"
        else _shape_field(event_format, one, shown.get(one.name, ""), byte_order, long_size)
        for one in event_format.fields
    )


def text_of(raw: bytes) -> str:
    r"""Return the text up to the first NUL; a byte that is not UTF-8 becomes `\xNN`."""
    return raw.partition(b"\0")[0].decode("utf-8", "backslashreplace")


# Where a kprobe hit, as kernel/trace/trace_kprobe.c calls it; its print fmt shows plain `%lx`.
_PROBE_ADDRESSES = frozenset({"__probe_ip", "__probe_func", "__probe_ret_ip"})
_LITERAL = re.compile(r'\s*"((?:[^"\\]|\\.)*)"')
_CONVERSION = re.compile(
    r"%(?P<flags>[-+ #0]*)(?P<width>\d+|\*)?(?:\.(?P<precision>\d+|\*))?(?:hh?|ll?|[Lqjzt])?"
    r"(?P<letter>p(?:I[46]c?|i[46]|IS[pfschnbl]*|MR|MF|M|m|U[bBlL]?|[sSfFB])?|[a-oq-zA-Z%])"
)
_ARGUMENT = re.compile(
    r"\(*\s*(?:\((?:const |struct |unsigned )*\w+\s*\*\s*\)\s*)?\(*\s*&?"
    r"(?:REC->(\w+)|__get_(?:rel_)?dynamic_array\((\w+)\))[)\s]*"
)
_GETTER = re.compile(r"__get_(?:rel_)?(sockaddr|cpumask|bitmask)\(\s*(\w+)\s*\)")


def _conversions(print_fmt: str) -> dict[str, str]:
    """Map each field that the print fmt shows as it is to its conversion letter: `pI4`, `ps`."""
    if len(print_fmt) > MAX_CHARACTERS:
        return {}
    position, template = 0, ""
    while match := _LITERAL.match(print_fmt, position):
        template += match[1]
        position = match.end()
    arguments = _split_arguments(print_fmt[position:])
    shown: dict[str, str] = {}
    index = 0
    for match in _CONVERSION.finditer(template):
        if match["letter"] == "%":
            continue
        index += (match["width"] == "*") + (match["precision"] == "*")
        # The pattern backtracks; what shows a field as it is is short.
        if index < len(arguments) and len(arguments[index]) < 200:
            name = _ARGUMENT.fullmatch(arguments[index].strip())
            if name is not None:
                shown.setdefault(name[1] or name[2], match["letter"])
        index += 1
    return shown


def _split_arguments(text: str) -> list[str]:
    """Split `, a, f(b, c)` at its outer commas, strings and brackets respected."""
    arguments: list[list[str]] = []
    depth = 0
    for part in re.findall(r'"(?:[^"\\]|\\.)*"|[][(){},]|[^][(){},"]+|"', text):
        if part == "," and depth == 0:
            arguments.append([])
            continue
        depth += (part in {"(", "[", "{"}) - (part in {")", "]", "}"})
        if arguments:
            arguments[-1].append(part)
    return ["".join(parts) for parts in arguments]


def _shape_field(
    event_format: EventFormat, one: Field, shown: str, byte_order: str, long_size: int
) -> ShapedField:
    if one.kind is FieldKind.SCALAR:
        is_symbol = shown in {"ps", "pS", "pf", "pF", "pB"} or one.name in _PROBE_ADDRESSES
        if one.is_pointer or is_symbol:
            return ShapedField(one, Shape.ADDRESS, is_symbol=is_symbol)
        is_bool = one.size == 1 and one.type.split()[-1:] in (["bool"], ["_Bool"])
        return ShapedField(one, Shape.BOOLEAN if is_bool else Shape.INTEGER)
    if shown in {"cpumask", "bitmask"} or one.type == "cpumask_t":
        word = long_size if one.is_dynamic else one.element_size
        return ShapedField(one, Shape.INTEGERS, lambda raw: _bits_of(raw, byte_order, word))
    show = _text_converter(one, shown, byte_order)
    if show is not None:
        return ShapedField(one, Shape.TEXT, show)
    # raw_data.buf is `char`, but holds what a program wrote to trace_marker_raw.
    is_binary = event_format.full_name == "ftrace:raw_data"
    if one.is_string and "signed" not in one.type and not is_binary:
        if event_format.full_name == "ftrace:print":
            return ShapedField(one, Shape.TEXT, _marker_text)
        return ShapedField(one, Shape.TEXT, text_of)
    if one.is_dynamic:
        width = one.element_size if one.element_size in {1, 2, 4, 8} else 1
        dtype = np.dtype(f"{byte_order}{'i' if _is_signed(one) else 'u'}{width}")
        return ShapedField(one, Shape.INTEGERS, lambda raw: _integers_of(raw, dtype))
    return ShapedField(one, Shape.INTEGERS)


def _is_signed(one: Field) -> bool:
    # `signed` of a __data_loc line is that of the u32 word; the element's comes from its type.
    words = set(one.type.split())
    if words & {"unsigned", "size_t", "bool"} or "*" in one.type:
        return False
    return bool(words & {"int", "long", "short", "signed", "ssize_t"}) or any(
        re.fullmatch(r"(?:__)?s(?:8|16|32|64)|int(?:8|16|32|64)_t", word) for word in words
    )


def _shape_stack(one: Field, byte_order: str, long_size: int) -> ShapedField:
    dtype = np.dtype(f"{byte_order}u{long_size}")
    return ShapedField(one, Shape.STACK, lambda raw: _stack_of(raw, dtype))


def _text_converter(one: Field, shown: str, byte_order: str) -> Callable[[bytes], str] | None:
    if shown.startswith("pIS") or shown == "sockaddr":
        return lambda raw: _sockaddr(raw, byte_order)
    size = one.size if one.kind is FieldKind.ARRAY and one.element_size == 1 else None
    match shown, size:
        case ("pI4", 4):
            return ip4_text
        case ("pI6" | "pI6c", 16):
            return lambda raw: ip6_text(raw, "I6c")
        case ("pM", 6):
            return lambda raw: mac_text(raw, "M")
        case ("pU" | "pUb" | "pUB" | "pUl" | "pUL", 16):
            return lambda raw: uuid_text(raw, shown[1:].lower())
        case _:
            return None


def _marker_text(raw: bytes) -> str:
    # The kernel itself ends what was written to trace_marker with a line feed.
    return text_of(raw).removesuffix("\n")


def _sockaddr(raw: bytes, byte_order: str) -> str:
    """Return `1.2.3.4:80`, `[::1]:80`, `unix:/path` (`unix:@abstract`), or else the bytes in hex.

    The family is in the kernel's byte order (struct sockaddr); 1 is AF_UNIX.
    """
    family = int.from_bytes(raw[:2], "little" if byte_order == "<" else "big")
    if (family == 2 and len(raw) >= 8) or (family == 10 and len(raw) >= 28):
        return sockaddr_text(raw, "ISpc", byte_order)
    if family == 1:
        path = raw[2:]
        return f"unix:@{text_of(path[1:])}" if path[:1] == b"\0" else f"unix:{text_of(path)}"
    return f"0x{raw.hex()}" if raw else ""


def _bits_of(raw: bytes, byte_order: str, word_bytes: int) -> list[int]:
    """Return the numbers of the set bits; the words are longs, the lowest first."""
    whole = len(raw) - len(raw) % word_bytes
    words = np.frombuffer(raw[:whole], f"{byte_order}u{word_bytes}").astype(f"<u{word_bytes}")
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")
    return [int(bit) for bit in np.flatnonzero(bits)]


def _integers_of(raw: bytes, dtype: np.dtype[Any]) -> list[int]:
    return list(np.frombuffer(raw, dtype, len(raw) // dtype.itemsize).tolist())


def _stack_of(raw: bytes, dtype: np.dtype[Any]) -> list[int]:
    """Return the addresses up to the kernel's end mark (all ones) or the zeros of a short stack."""
    end = (1 << 8 * dtype.itemsize) - 1
    addresses: list[int] = []
    for address in _integers_of(raw, dtype):
        if address in {0, end}:
            break
        addresses.append(address)
    return addresses


def _irq_info_of_word(word: int) -> str:
    return latency_flags(word >> 8, word & 0xFF)


def _second_text(second: int) -> str:
    return (EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")
