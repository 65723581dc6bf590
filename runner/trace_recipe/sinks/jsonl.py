"""JSON lines: one object per event, gap, damage and drift, in time order.

What they hold says schema/event.v1.schema.json.

Objects are made per event type with one `%` template over its columns, which is several times
faster than `json.dumps` per row. Everything but integers and their lists goes through `json`.
"""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from trace_recipe.decoder.print_text import PrintContext, Printer, compile_format
from trace_recipe.decoder.syscall_names import argument_name, return_name
from trace_recipe.sinks.columns import Cache, ColumnReader, Shape, ShapedField
from trace_recipe.sinks.layout import with_notes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trace_recipe.drift import Drift
    from trace_recipe.events import Damage, EventColumns, Events, Gap, TraceData
    from trace_recipe.formats import EventFormat

__all__ = ["JsonlSink"]

_TEXT_EVENTS = frozenset({"ftrace:bprint", "ftrace:bputs"})


class JsonlSink:
    """Writes JSON lines; `names` adds an object with the names of numbers and addresses."""

    takes_events = True

    def __init__(self, stream: IO[bytes], *, names: bool = False) -> None:
        self.stream = stream
        self.names = names

    def begin(self, data: TraceData) -> None:
        """Take the recording's tables; nothing is written yet."""
        self.data = data
        self.reader = ColumnReader(data)
        self._quoted: Cache[str | None, str] = Cache(_quote)
        self._comms: Cache[int, str] = Cache(lambda pid: _quote(self.reader.comm(pid)))
        self._tgids: Cache[int, str] = Cache(self._tgid)
        self._names: dict[tuple[int, str], Cache[Any, str] | None] = {}
        self._printers: dict[int, Printer] = {}
        self._callers: Cache[int, str] = Cache(self._caller)
        self._buffers = [_quote(buffer.name) for buffer in data.buffers]

    def write(self, events: Events) -> None:
        """Write one batch, each gap and drift before the event that follows it."""
        # A live view learns command names while it runs, and tasks change theirs.
        self._comms.clear()
        self._tgids.clear()
        lines = np.empty(events.count, object)
        for columns in events:
            if columns.count:
                lines[columns.position] = self._lines(columns)
        notes = [(gap.before, self._gap(gap)) for gap in events.gaps]
        notes += [(mark.before, self._drift(mark.drift)) for mark in events.drifts]
        ordered = with_notes(lines.tolist(), notes)
        ordered[:0] = [self._damage(damage) for damage in events.damages]
        self.stream.write("".join(ordered).encode("ascii"))

    def end(self) -> None:
        """Do nothing: every batch is written whole."""

    def _lines(self, columns: EventColumns) -> list[str]:
        reader = self.reader
        pids = reader.common(columns, "common_pid").tolist()
        parts: list[str] = ['"ts":%d']
        values: list[Iterable[Any]] = [columns.timestamp_ns.tolist()]
        walls = reader.walls(columns.timestamp_ns)
        if walls is not None:
            parts.append('"wall":"%s.%09dZ"')
            values += walls
        parts.append('"cpu":%d,"comm":%s,"pid":%d')
        values += [columns.cpu.tolist(), [self._comms[pid] for pid in pids], pids]
        if self.data.tgids:
            parts.append('"tgid":%s')
            values.append([self._tgids[pid] for pid in pids])
        parts.append(f'"event":{_literal(columns.format.full_name)}')
        if len(self._buffers) > 1:
            parts.append('"buffer":%s')
            values.append([self._buffers[index] for index in columns.buffer.tolist()])
        parts.append('"flags":"%s"')
        values.append(reader.irq_infos(columns))
        fields: list[str] = []
        names: list[list[str]] = []
        for shaped in reader.fields(columns.format):
            column = reader.values(columns, shaped)
            slot, shown = self._slot(shaped.shape, column)
            fields.append(f"{_literal(shaped.field.name)}:{slot}")
            values.append(shown)
            cache = self._name_cache(columns.format, shaped) if self.names else None
            if cache is not None:
                names.append([cache[value] for value in column])
        parts.append(f'"fields":{{{",".join(fields)}}}')
        texts = self._texts(columns)
        if texts is not None:
            parts.append('"text":%s')
            values.append(texts)
        if self.names:
            parts.append('"names":{%s}' if names else '"names":{}')
            if names:
                values.append([",".join(filter(None, row)) for row in zip(*names, strict=True)])
        template = f"{{{','.join(parts)}}}\n"
        return list(map(template.__mod__, zip(*values, strict=True)))

    def _slot(self, shape: Shape, values: list[Any]) -> tuple[str, Iterable[Any]]:
        """Return the template's slot for a field and what goes into it."""
        match shape:
            case Shape.INTEGER:
                return "%d", values
            case Shape.ADDRESS:
                return '"0x%x"', values
            case Shape.BOOLEAN:
                return "%s", ["true" if value else "false" for value in values]
            case Shape.TEXT:
                quoted = self._quoted
                return "%s", [quoted[value] for value in values]
            case Shape.INTEGERS:
                return "%s", values
            case Shape.STACK:
                callers = self._callers
                return "[%s]", [",".join([callers[one] for one in stack]) for stack in values]

    def _name_cache(self, event_format: EventFormat, shaped: ShapedField) -> Cache[Any, str] | None:
        """Return the names of a field's values as `"field":"name"` ("" when a value has none)."""
        key = (id(event_format), shaped.field.name)
        if key not in self._names:
            name_of = self._namer(event_format, shaped)
            start = f"{_quote(shaped.field.name)}:"

            def named(value: Any) -> str:
                name = name_of(value) if name_of is not None else ""
                return start + _quote(name) if name else ""

            self._names[key] = None if name_of is None else Cache(named)
        return self._names[key]

    def _namer(
        self, event_format: EventFormat, shaped: ShapedField
    ) -> Callable[[int], str | None] | None:
        if shaped.is_symbol:
            return self.reader.symbol if self.data.symbols is not None else None
        name, field = event_format.name, shaped.field
        if event_format.system in {"syscalls", "raw_syscalls"} and shaped.shape is Shape.INTEGER:
            if name.startswith("sys_exit") and field.name == "ret":
                return return_name
            if name.startswith("sys_enter_") and field.name != "__syscall_nr":
                syscall, mask = name.removeprefix("sys_enter_"), (1 << 8 * field.size) - 1
                return lambda value: argument_name(syscall, field.name, value & mask)
        return None

    def _texts(self, columns: EventColumns) -> list[str] | None:
        """Return what trace_printk() wrote, whose format and strings lie outside the record."""
        if columns.format.full_name not in _TEXT_EVENTS:
            return None
        printer = self._printers.get(id(columns.format))
        if printer is None:
            printer = compile_format(columns.format, PrintContext.of(self.data))
            self._printers[id(columns.format)] = printer
        return [_quote(text) for text in printer.render(columns)]

    def _tgid(self, pid: int) -> str:
        return json.dumps(0 if pid == 0 else self.data.tgids.get(pid))

    def _caller(self, address: int) -> str:
        return json.dumps({"address": f"{address:#x}", "symbol": self.reader.symbol(address)})

    def _gap(self, gap: Gap) -> str:
        record: dict[str, Any] = {"ts": gap.timestamp_ns}
        wall = self.reader.wall(gap.timestamp_ns)
        if wall is not None:
            record["wall"] = wall
        record |= {"cpu": gap.cpu, **self._buffer(gap.buffer), "lost": gap.count}
        return f"{json.dumps(record)}\n"

    def _damage(self, damage: Damage) -> str:
        record = {
            "cpu": damage.cpu,
            **self._buffer(damage.buffer),
            "damage": _plain(damage.reason),
            "offset": damage.offset_bytes,
        }
        return f"{json.dumps(record)}\n"

    def _drift(self, drift: Drift) -> str:
        record = {
            "ts": drift.trace_ns,
            "wall": self.reader.wall_text(drift.wall_ns),
            "drift": _plain(drift.file),
            "applied": _plain(drift.applied),
            "found": None if drift.found is None else _plain(drift.found),
        }
        return f"{json.dumps(record)}\n"

    def _buffer(self, index: int) -> dict[str, str]:
        buffers = self.data.buffers
        return {"buffer": _plain(buffers[index].name)} if len(buffers) > 1 else {}


def _quote(text: str | None) -> str:
    return json.dumps(text and _plain(text))


def _plain(text: str) -> str:
    """Escape what UTF-8 cannot hold (half a surrogate pair): many JSON readers refuse it."""
    return text.encode("utf-8", "backslashreplace").decode()


def _literal(text: str) -> str:
    """Return a JSON string for use inside a `%` template."""
    return _quote(text).replace("%", "%%")
