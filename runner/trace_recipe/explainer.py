"""Explainer: one event for a programmer: its fields, a C struct, the same with trace-cmd."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trace_recipe.formats import Field, FieldKind

if TYPE_CHECKING:
    from trace_recipe.formats import EventFormat

__all__ = ["Explanation", "c_struct", "explain_event", "explanation_to_json", "trace_cmd_line"]

_C_WORDS = frozenset(
    {
        *("auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else"),
        *("enum", "extern", "float", "for", "goto", "if", "inline", "int", "long", "register"),
        *("restrict", "return", "short", "signed", "sizeof", "static", "struct", "switch"),
        *("typedef", "union", "unsigned", "void", "volatile", "while"),
    }
)
_WIDTHS = frozenset({1, 2, 4, 8})

# The events of system `ftrace` have no enable file: a tracer or a writer makes them.
_TRACER_EVENTS = {
    "function": "-p function",
    "funcgraph_entry": "-p function_graph",
    "funcgraph_exit": "-p function_graph",
    "funcgraph_retaddr_entry": "-p function_graph -O funcgraph-retaddr",
    "func_repeats": "-p function -O func-no-repeats",
    "context_switch": "-p wakeup",
    "wakeup": "-p wakeup",
    "kernel_stack": "-T -e sched:sched_switch",
    "user_stack": "-O userstacktrace -e sched:sched_switch",
    "branch": "-p branch",
    "hwlat": "-p hwlat",
    "osnoise": "-p osnoise",
    "timerlat": "-p timerlat",
    "mmiotrace_rw": "-p mmiotrace",
    "mmiotrace_map": "-p mmiotrace",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """An event explained; `trace_cmd` is what records it with trace-cmd."""

    event: EventFormat
    struct: str
    trace_cmd: str

    def lines(self) -> list[str]:
        """Return the explanation for a terminal."""
        lines = [f"{self.event.full_name}  (ID {self.event.id})", "", "fields:"]
        lines += _table(self.event)
        if any(one.is_dynamic for one in self.event.all_fields):
            lines += ["", *_DYNAMIC_LINES]
        lines += ["", f"print fmt: {self.event.print_fmt}"]
        lines += ["", "as a C struct:", *(f"  {line}" for line in self.struct.splitlines())]
        return [*lines, "", "with trace-cmd:", f"  {self.trace_cmd}"]


_DYNAMIC_LINES = (
    "  __data_loc: a u32 in the record, length << 16 | offset from the start of the record;",
    "  __rel_loc: the same, offset from the end of the u32; size 0: up to the end of the record",
)


def explain_event(event: EventFormat) -> Explanation:
    """Return everything `explain` shows of an event."""
    return Explanation(event, c_struct(event), trace_cmd_line(event))


def explanation_to_json(explanation: Explanation) -> dict[str, Any]:
    """Return the explanation as JSON data; offsets and sizes are bytes."""
    event = explanation.event
    common = set(event.common_fields)
    return {
        "event": event.full_name,
        "id": event.id,
        "fields": [
            {
                "name": one.name,
                "type": one.type,
                "declaration": one.declaration,
                "offset": one.offset,
                "size": one.size,
                "signed": one.is_signed,
                "kind": one.kind.value,
                "element_size": one.element_size,
                "length": one.length,
                "is_string": one.is_string,
                "common": one in common,
            }
            for one in event.all_fields
        ],
        "print_fmt": event.print_fmt,
        "c_struct": explanation.struct,
        "trace_cmd": explanation.trace_cmd,
    }


def trace_cmd_line(event: EventFormat) -> str:
    """Return the trace-cmd command that records the event."""
    if event.system != "ftrace":
        return f"trace-cmd record -e {event.full_name}"
    words = _TRACER_EVENTS.get(event.name)
    if words is None:  # print, bprint, bputs, raw_data: trace_marker and trace_printk() write them
        return "trace-cmd record -p nop"
    return f"trace-cmd record {words}"


def c_struct(event: EventFormat) -> str:
    """Return a C struct (stdint.h types) whose members lie where the format file says.

    Holes are members of their own, so it needs no pragma; it is packed only when a field lies
    where its type could not (32-bit kernels align a u64 to 4).
    """
    name = re.sub(r"\W", "_", f"{event.system}_{event.name}", flags=re.ASCII)
    members: list[tuple[str, str]] = []
    names: set[str] = set()
    position = 0
    is_packed = False
    fields = sorted(event.all_fields, key=lambda one: (one.offset, one.size == 0))
    for number, one in enumerate(fields):
        comment = f"{one.offset:3}: {_comment(one)}"
        is_last = number == len(fields) - 1
        if one.offset < position or (one.kind is FieldKind.REST and not is_last):
            members.append(("", f"{comment}, shares its bytes with its neighbours"))
            continue
        if one.offset > position:
            hole = one.offset - position
            pad = _member_name(f"pad_{position}", names)
            members.append((f"uint8_t {pad}[{hole}];", f"{position:3}: hole"))
        base, brackets, width = _c_type(one)
        is_packed = is_packed or bool(one.offset % width)
        members.append((f"{base} {_member_name(one.name, names)}{brackets};", comment))
        position = one.offset + one.size
    column = max((len(text) for text, _ in members), default=0)
    body = [f"    {text:{column}}  /* {comment} */" for text, comment in members]
    end = "} __attribute__((packed));" if is_packed else "};"
    return "\n".join([f"struct {name} {{", *body, end])


def _c_type(one: Field) -> tuple[str, str, int]:
    """Return (base type, brackets, alignment in bytes) of a member."""
    match one.kind:
        case FieldKind.DATA_LOC | FieldKind.REL_LOC:
            return _integer(4, is_signed=False), "", 4
        case FieldKind.SCALAR:
            return _integer(one.size, is_signed=one.is_signed), "", one.size
        case FieldKind.ARRAY | FieldKind.REST:
            width = one.element_size if one.element_size in _WIDTHS else 1
            base = "char" if one.is_string else _integer(width, is_signed=one.is_signed)
            length = "" if one.kind is FieldKind.REST else str(one.size // width)
            return base, f"[{length}]", width


def _integer(width: int, *, is_signed: bool) -> str:
    return f"{'int' if is_signed else 'uint'}{width * 8}_t"


def _comment(one: Field) -> str:
    text = one.declaration.replace("*/", "* /").replace("/*", "/ *")
    match one.kind:
        case FieldKind.DATA_LOC:
            return f"{text}: length << 16 | offset from the start of the record"
        case FieldKind.REL_LOC:
            return f"{text}: length << 16 | offset from the end of this member"
        case FieldKind.REST:
            return f"{text}: up to the end of the record"
        case FieldKind.SCALAR | FieldKind.ARRAY:
            return text


def _member_name(name: str, taken: set[str]) -> str:
    found = f"{name}_" if name in _C_WORDS else name
    while found in taken:
        found += "_"
    taken.add(found)
    return found


def _table(event: EventFormat) -> list[str]:
    rows = [("offset", "size", "sign", "field", "type")]
    for one in event.all_fields:
        sign = "-" if one.is_string or one.is_pointer else "signed" if one.is_signed else "unsigned"
        rows.append((str(one.offset), str(one.size), sign, one.name, _type_words(one)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        f"  {row[0]:>{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:{widths[2]}}"
        f"  {row[3]:{widths[3]}}  {row[4]}"
        for row in rows
    ]


def _type_words(one: Field) -> str:
    match one.kind:
        case FieldKind.SCALAR:
            return one.type
        case FieldKind.ARRAY:
            return f"{one.type}[{one.length}]"
        case FieldKind.DATA_LOC:
            return f"__data_loc {one.type}[]"
        case FieldKind.REL_LOC:
            return f"__rel_loc {one.type}[]"
        case FieldKind.REST:
            return f"{one.type}[]"
