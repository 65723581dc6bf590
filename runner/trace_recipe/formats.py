"""The kernel's `format` and `header_page` texts as values: where each field of an event lies.

Offsets and sizes are bytes from the start of the event's payload. The widths and signs come from
the file, never from the type's name (include/trace/stages/stage4_event_fields.h writes them).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain

__all__ = [
    "EventFormat",
    "Field",
    "FieldKind",
    "FormatError",
    "HeaderPage",
    "parse_event_format",
    "parse_header_page",
]


class FormatError(ValueError):
    """A format text cannot be read; the message says which line."""


class FieldKind(StrEnum):
    """How the bytes of a field are found."""

    SCALAR = "scalar"
    ARRAY = "array"  # fixed number of elements
    DATA_LOC = "data_loc"  # u32: length << 16 | offset from the start of the payload
    REL_LOC = "rel_loc"  # the same, offset from the end of the u32
    REST = "rest"  # size 0: everything up to the end of the record


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an event.

    `type` is the C type without name and brackets; `element_size` is the bytes of one element
    (for DATA_LOC and REL_LOC the stride of the dynamic array, 1 for char), `length` the number of
    elements of a fixed ARRAY (1 for scalars, 0 when it varies).
    """

    name: str
    type: str
    declaration: str
    offset: int
    size: int
    is_signed: bool
    kind: FieldKind
    element_size: int
    length: int

    @property
    def is_string(self) -> bool:
        """Whether the kernel treats the bytes as text: char arrays, fixed or dynamic."""
        return (
            self.kind is not FieldKind.SCALAR
            and self.element_size == 1
            and _STRING_TYPE.fullmatch(self.type) is not None
        )

    @property
    def is_pointer(self) -> bool:
        """Whether it holds an address."""
        return self.kind is FieldKind.SCALAR and self.type.rstrip().endswith("*")

    @property
    def is_dynamic(self) -> bool:
        """Whether the bytes lie outside the fixed part of the record."""
        return self.kind in {FieldKind.DATA_LOC, FieldKind.REL_LOC, FieldKind.REST}


@dataclass(frozen=True, slots=True)
class EventFormat:
    """What one `events/SYSTEM/NAME/format` file says."""

    system: str
    name: str
    id: int
    common_fields: tuple[Field, ...]
    fields: tuple[Field, ...]
    print_fmt: str
    text: str = field(repr=False, compare=False, default="")

    @property
    def full_name(self) -> str:
        """`system:name`, as in available_events."""
        return f"{self.system}:{self.name}"

    @property
    def all_fields(self) -> tuple[Field, ...]:
        """Common fields first, then the event's own."""
        return self.common_fields + self.fields

    @property
    def fixed_size(self) -> int:
        """Bytes of the fixed part of a record, common fields included."""
        return max((one.offset + one.size for one in self.all_fields), default=0)

    def find(self, name: str) -> Field | None:
        """Return the field called `name`, own fields before common ones, or None."""
        for one in (*self.fields, *self.common_fields):
            if one.name == name:
                return one
        return None


@dataclass(frozen=True, slots=True)
class HeaderPage:
    """What `events/header_page` says about a sub-buffer of one instance."""

    long_size: int  # bytes of the commit word: the kernel's `long`
    data_offset: int  # where records start: 16 on 64-bit kernels, 12 on 32-bit ones
    data_size: int  # bytes for records in one sub-buffer
    text: str = field(repr=False, compare=False, default="")

    @property
    def subbuf_size_bytes(self) -> int:
        """Bytes of one whole sub-buffer."""
        return self.data_offset + self.data_size


_FIELD_LINE = re.compile(
    r"^\tfield:(?P<declaration>.*);\toffset:(?P<offset>-?\d{1,9});\tsize:(?P<size>\d{1,9});"
    r"(?:\tsigned:(?P<signed>-?\d{1,9});)?\s*$"
)
_LOC = re.compile(r"^__(?P<kind>data|rel)_loc\s+(?P<type>.*?)\s*(?:\[\s*\])?\s+(?P<name>\w+)$")
_ARRAY = re.compile(r"^(?P<type>.*?)\s*\b(?P<name>\w+)\[(?P<length>[^\]]*)\]$")
_SCALAR = re.compile(r"^(?P<type>.*?[\s*])(?P<name>\w+)$")
_MAX_BYTES = 1 << 20  # the largest sub-buffer
_STRING_TYPE = re.compile(r"(?:const\s+|unsigned\s+|signed\s+)?char")
_SIZES = {
    "char": 1, "unsigned char": 1, "signed char": 1, "u8": 1, "__u8": 1, "s8": 1, "uint8_t": 1,
    "bool": 1, "short": 2, "unsigned short": 2, "u16": 2, "__u16": 2, "s16": 2, "__s16": 2,
    "uint16_t": 2, "__be16": 2, "int": 4, "unsigned int": 4, "unsigned": 4, "u32": 4, "__u32": 4,
    "s32": 4, "__s32": 4, "uint32_t": 4, "__be32": 4, "u64": 8, "__u64": 8, "s64": 8, "__s64": 8,
    "uint64_t": 8, "long long": 8, "unsigned long long": 8, "__be64": 8, "__le64": 8,
}  # fmt: skip


def parse_event_format(text: str, system: str, *, long_size: int = 8) -> EventFormat:
    """Parse a `format` file; `long_size` is the kernel's, for dynamic arrays of longs.

    Of fields with one name, which synthetic events may have, the second is called `name_2`. Raises
    FormatError when name, ID or a field line is missing or malformed, or a common field is no
    integer.
    """
    head, _, rest = text.partition("\nprint fmt: ")
    name = ""
    event_id = -1
    groups: list[list[Field]] = [[]]
    for line in head.splitlines():
        if line.startswith("name: "):
            name = line[6:].strip()
        elif line.startswith("ID: "):
            event_id = _integer(line[4:].strip(), line)
        elif line.startswith("\tfield:"):
            groups[-1].append(_parse_field(line, long_size))
        elif not line.strip() and groups[-1]:
            groups.append([])
    if not name or event_id < 0:
        raise FormatError(f"no name or no ID in a format file of {system!r}")
    for one in chain.from_iterable(groups):
        if one.name.startswith("common_") and one.kind is not FieldKind.SCALAR:
            raise FormatError(f"a common field that is no integer: {one.declaration!r}")
    groups = _with_unique_names(groups)
    own = [one for group in groups[1:] for one in group]
    common = groups[0]
    if not own and not all(one.name.startswith("common_") for one in common):
        own = [one for one in common if not one.name.startswith("common_")]
        common = [one for one in common if one.name.startswith("common_")]
    return EventFormat(system, name, event_id, tuple(common), tuple(own), rest.rstrip("\n"), text)


def parse_header_page(text: str) -> HeaderPage:
    """Parse `events/header_page`; raises FormatError when commit or data is missing."""
    fields = {one.name: one for one in (_parse_field(line, 8) for line in _field_lines(text))}
    try:
        commit, data = fields["commit"], fields["data"]
    except KeyError as error:
        raise FormatError(f"header_page has no field {error}") from None
    return HeaderPage(commit.size, data.offset, data.size, text)


def _with_unique_names(groups: list[list[Field]]) -> list[list[Field]]:
    """Return the fields with other names where one is taken: fields are looked up by them."""
    taken: set[str] = set()
    numbers: dict[str, int] = {}  # the last one that was put behind a name

    def unique(one: Field) -> Field:
        name = one.name
        while name in taken:
            numbers[one.name] = numbers.get(one.name, 1) + 1
            name = f"{one.name}_{numbers[one.name]}"
        taken.add(name)
        return one if name == one.name else replace(one, name=name)

    return [[unique(one) for one in group] for group in groups]


def _field_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("\tfield:")]


def _parse_field(line: str, long_size: int) -> Field:
    match = _FIELD_LINE.match(line)
    if match is None:
        raise FormatError(f"malformed field line {line!r}")
    declaration = " ".join(match["declaration"].split())
    offset, size = int(match["offset"]), int(match["size"])
    if not (0 <= offset <= _MAX_BYTES and size <= _MAX_BYTES):
        raise FormatError(f"a field lies outside any sub-buffer: {line!r}")
    is_signed = bool(int(match["signed"] or 0))
    loc = _LOC.match(declaration)
    if loc:
        kind = FieldKind.DATA_LOC if loc["kind"] == "data" else FieldKind.REL_LOC
        stride = _size_of(loc["type"], long_size)
        return Field(
            loc["name"], loc["type"], declaration, offset, size, is_signed, kind, stride, 0
        )
    array = _ARRAY.match(declaration)
    if array:
        type_name = array["type"].strip()
        if size == 0:
            stride = _size_of(type_name, long_size)
            kind = FieldKind.REST
            return Field(
                array["name"], type_name, declaration, offset, 0, is_signed, kind, stride, 0
            )
        try:
            length = int(array["length"], 0)
        except ValueError:  # old kernels print an expression or an enum name here
            length = size // _size_of(type_name, long_size)
        length = length if length > 0 and size % length == 0 else size
        return Field(
            array["name"], type_name, declaration, offset, size, is_signed, FieldKind.ARRAY,
            size // length, length,
        )  # fmt: skip
    scalar = _SCALAR.match(declaration)
    if scalar is None:
        raise FormatError(f"malformed declaration {declaration!r}")
    kind = FieldKind.SCALAR if size in {1, 2, 4, 8} else FieldKind.ARRAY
    kind = FieldKind.REST if size == 0 else kind
    element, length = (size, 1) if kind is FieldKind.SCALAR else (1, size)
    return Field(
        scalar["name"], scalar["type"].strip(), declaration, offset, size, is_signed, kind,
        element, length,
    )  # fmt: skip


def _size_of(type_name: str, long_size: int) -> int:
    words = " ".join(word for word in type_name.split() if word not in {"const", "volatile"})
    if words.endswith("*") or "long" in words.split() or words in {"cpumask_t", "size_t"}:
        return _SIZES.get(words, long_size)
    return _SIZES.get(words, 1)


def _integer(text: str, line: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise FormatError(f"malformed line {line!r}") from None
