"""The JSON Schema of one line of the jsonl output (published as schema/event.v1.schema.json)."""

from __future__ import annotations

from typing import Any

__all__ = ["event_schema"]

SCHEMA_ID = "https://trace-recipe.dev/schema/event.v1.schema.json"


def event_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12) of every record kind: event, gap and damage."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "trace-recipe event record, version 1",
        "description": (
            "One line of the jsonl output. Which kind it is shows by its key: 'event' (something "
            "that the kernel traced), 'lost' (a gap: events are missing here), 'damage' (a part of "
            "the recording could not be decoded) or 'drift' (somebody else changed a control file "
            "meanwhile). Lines are in time order over all CPUs and buffers; a gap stands before "
            "the first event after it, a drift where it was seen, a damage record before the batch "
            "in which it was found."
        ),
        "oneOf": [{"$ref": f"#/$defs/{kind}"} for kind in ("event", "gap", "damage", "drift")],
        "$defs": {
            "event": _event(),
            "gap": _gap(),
            "damage": _damage(),
            "drift": _drift(),
            "value": _value(),
        },
    }


def _event() -> dict[str, Any]:
    return _record(
        "One event.",
        required=("ts", "cpu", "comm", "pid", "event", "flags", "fields"),
        properties={
            "ts": _TS,
            "wall": _WALL,
            "cpu": _CPU,
            "comm": {
                "description": (
                    "Command name of the task, '<idle>' for pid 0, null when it is not known. Text "
                    "is cut at its first NUL; a byte that is not UTF-8 stands as \\xNN."
                ),
                "type": ["string", "null"],
                "examples": ["mount", "<idle>", None],
            },
            "pid": {
                "description": "Task (thread) id in the initial pid namespace; 0 is the idle task.",
                "type": "integer",
                "minimum": -(1 << 31),
                "maximum": (1 << 31) - 1,
                "examples": [4711],
            },
            "tgid": {
                "description": (
                    "Process id (thread group) of the task, null when not known; absent when the "
                    "recording has no such table (option record-tgid)."
                ),
                "type": ["integer", "null"],
                "examples": [4700, None],
            },
            "event": {
                "description": "System and name, as in available_events.",
                "type": "string",
                "pattern": "^[^:]+:.+$",
                "examples": ["sched:sched_switch", "syscalls:sys_enter_mount"],
            },
            "buffer": _BUFFER,
            "flags": {
                "description": (
                    "The five characters of the kernel's own trace file. 1: d irqs off, b bottom "
                    "halves off, D both. 2: reschedule wanted: n need, l lazy, b both, p preempt, "
                    "N L B the same with preempt. 3: h hardirq, s softirq, H hardirq in softirq, "
                    "z NMI, Z NMI in hardirq. 4: preempt-disable depth. 5: migrate-disable depth "
                    "(both in hexadecimal). '.' stands for none."
                ),
                "type": "string",
                "pattern": "^[.dbD][.nlbpNLB][.hsHzZ][.0-9a-f]{2}$",
                "examples": [".....", "d.h1."],
            },
            "fields": {
                "description": (
                    "The event's own fields under the names of its format file. A field has the "
                    "same type in every record of that event."
                ),
                "type": "object",
                "additionalProperties": {"$ref": "#/$defs/value"},
                "examples": [{"irq": 24, "name": "nvme0q1"}],
            },
            "text": {
                "description": (
                    "Only for ftrace:bprint and ftrace:bputs: the text of the trace_printk(), as "
                    "in the kernel's trace file."
                ),
                "type": "string",
                "examples": ["schedule: took 12 us"],
            },
            "names": {
                "description": (
                    "Only on request: names of numbers and addresses in 'fields', under the same "
                    "keys: symbols of functions, flags of system calls, the errno of a failed one. "
                    "What has no name is left out."
                ),
                "type": "object",
                "additionalProperties": {"type": "string"},
                "examples": [{"ret": "ENOENT"}, {"function": "process_timeout"}],
            },
        },
    )


def _gap() -> dict[str, Any]:
    return _record(
        "Events were lost on one CPU of one buffer before the next event of that CPU.",
        required=("ts", "cpu", "lost"),
        properties={
            "ts": _TS | {"description": "Trace clock time, ns, of the first event after the gap."},
            "wall": _WALL,
            "cpu": _CPU,
            "buffer": _BUFFER,
            "lost": {
                "description": "Number of lost events, null when the kernel did not say how many.",
                "type": ["integer", "null"],
                "minimum": 0,
                "examples": [39061, None],
            },
        },
    )


def _damage() -> dict[str, Any]:
    return _record(
        "A part of the recording that could not be decoded; decoding goes on behind it.",
        required=("cpu", "damage", "offset"),
        properties={
            "cpu": _CPU,
            "buffer": _BUFFER,
            "damage": {
                "description": "What is wrong there.",
                "type": "string",
                "examples": ["a record reaches beyond its sub-buffer"],
            },
            "offset": {
                "description": "Bytes from the start of that CPU's data.",
                "type": "integer",
                "minimum": 0,
                "examples": [4096],
            },
        },
    )


def _drift() -> dict[str, Any]:
    return _record(
        "Somebody else changed a control file of the recording's instance, or took it back.",
        required=("ts", "wall", "drift", "applied", "found"),
        properties={
            "ts": _TS
            | {
                "description": (
                    "Trace clock time when it was seen, up to about a second after it happened; "
                    "null when the clock could not be read."
                ),
                "type": ["integer", "null"],
            },
            "wall": _WALL,
            "drift": {
                "description": "The file, as a path below the tracefs mount.",
                "type": "string",
                "examples": ["instances/mount-audit/trace_clock"],
            },
            "applied": {
                "description": "What it read after the run had set it.",
                "type": "string",
                "examples": ["local"],
            },
            "found": {
                "description": "What it read now; null: gone; as 'applied': put back meanwhile.",
                "type": ["string", "null"],
                "examples": ["mono", None],
            },
        },
    )


def _value() -> dict[str, Any]:
    return {
        "description": (
            "The value of a field. Integers have the field's sign and all its digits (64-bit "
            "values beyond 2^53 too). A pointer, and an integer that the kernel prints as a "
            "symbol, is hexadecimal text. char arrays are text up to the first NUL; a byte that is "
            "not UTF-8 stands as \\xNN. What the kernel prints as an IP address, socket address, "
            "MAC or UUID is such text. Other arrays are lists of integers; a cpumask or bitmask is "
            "the list of its set bits. A stack is a list of return addresses with symbols."
        ),
        "examples": [
            -2,
            18446744073709551615,
            True,
            "0xffffffff81000000",
            "bash",
            "10.0.0.1:443",
            [0, 1, 5],
            [{"address": "0xffffffff81000010", "symbol": "schedule+0x10"}],
        ],
        "oneOf": [
            {"type": "integer"},
            {"type": "boolean"},
            {"type": "string"},
            {"type": "array", "items": {"type": "integer"}, "minItems": 1},
            {"type": "array", "items": _caller()},
        ],
    }


def _caller() -> dict[str, Any]:
    return _record(
        "One return address of a stack, innermost first.",
        required=("address", "symbol"),
        properties={
            "address": {
                "description": "The address.",
                "type": "string",
                "pattern": "^0x[0-9a-f]+$",
                "examples": ["0xffffffff81000010"],
            },
            "symbol": {
                "description": "Function and offset into it, null when symbols are not known.",
                "type": ["string", "null"],
                "examples": ["schedule+0x10", None],
            },
        },
    )


def _record(
    description: str, *, required: tuple[str, ...], properties: dict[str, Any]
) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "required": list(required),
        "properties": properties,
        "additionalProperties": False,
    }


_TS: dict[str, Any] = {
    "description": (
        "Time stamp of the trace clock: nanoseconds for the ns clocks and for ticks whose worth a "
        "trace.dat tells, else the clock's own unit."
    ),
    "type": "integer",
    "minimum": 0,
    "examples": [3043863582104],
}
_WALL: dict[str, Any] = {
    "description": (
        "The same moment as wall-clock time in UTC, RFC 3339 with nine digits; absent when the "
        "recording cannot tell (no clock pair, or a clock that does not count nanoseconds)."
    ),
    "type": "string",
    "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{9}Z$",
    "examples": ["2026-11-22T20:45:00.123456789Z"],
}
_CPU: dict[str, Any] = {
    "description": "CPU on which it happened.",
    "type": "integer",
    "minimum": 0,
    "examples": [0],
}
_BUFFER: dict[str, Any] = {
    "description": (
        "Instance whose buffer holds it, '' for the top level; absent when the recording has one "
        "buffer only."
    ),
    "type": "string",
    "examples": ["mount-audit"],
}
