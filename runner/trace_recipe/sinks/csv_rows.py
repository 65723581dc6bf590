r"""CSV by RFC 4180: UTF-8, CRLF, quotes where needed; one wide file or one file per event type.

Text comes from the trace, so anybody may have written it: characters that could drive a terminal
become `\x1b` (a line feed stays, quoted), and text that a spreadsheet would take for a formula
(`= + - @` first, full-width or not) gets a leading apostrophe. Numbers never do.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np

from trace_recipe.sinks.columns import Cache, ColumnReader, Shape
from trace_recipe.sinks.layout import with_notes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trace_recipe.drift import Drift
    from trace_recipe.events import Damage, EventColumns, Events, Gap, TraceData
    from trace_recipe.formats import EventFormat
    from trace_recipe.sinks.columns import ShapedField

__all__ = ["EVENT_COLUMNS", "LOST_COLUMNS", "WIDE_COLUMNS", "CsvSink", "cell", "file_name"]

EVENT_COLUMNS = ("timestamp_ns", "wall", "cpu", "comm", "pid", "tgid", "buffer", "flags")
LOST_COLUMNS = ("timestamp_ns", "wall", "cpu", "buffer", "lost", "note")
WIDE_COLUMNS = (
    *("timestamp_ns", "wall", "cpu", "comm", "pid", "event", "tgid", "buffer", "flags"),
    *("lost", "note"),
)
LOST_FILE = "lost.csv"

OpenFile = Callable[[str], IO[bytes]]


class CsvSink:
    """Writes CSV in one of two layouts.

    `wide`: one table on `stream`; a gap is a row whose event is `lost`, a damaged part one whose
    event is `damage`, somebody else's change one whose event is `drift`. `per-event`: `open_file`
    opens `SYSTEM.NAME.csv` when the first such event comes, and lost.csv for gaps, damages and
    drifts; who opened the files closes them.
    """

    takes_events = True

    def __init__(
        self,
        stream: IO[bytes] | None = None,
        *,
        layout: Literal["wide", "per-event"] = "wide",
        open_file: OpenFile | None = None,
    ) -> None:
        if (stream if layout == "wide" else open_file) is None:
            raise TypeError("layout wide needs a stream, layout per-event needs open_file")
        self.layout = layout
        self.stream = stream
        self.open_file = open_file

    def begin(self, data: TraceData) -> None:
        """Take the recording's tables; in the wide layout write the heading."""
        self.data = data
        self.reader = ColumnReader(data)
        self._cells: Cache[str | None, str] = Cache(cell)
        self._comms: Cache[int, str] = Cache(lambda pid: cell(self.reader.comm(pid)))
        self._tgids: Cache[int, str] = Cache(self._tgid)
        self._buffers = [cell(buffer.name) for buffer in data.buffers]
        self._files: dict[str, IO[bytes]] = {}
        self._names: dict[int, str] = {}
        self._slots: dict[str, int] = {}
        if self.layout == "wide":
            for event_format in sorted(data.formats.values(), key=lambda one: one.full_name):
                for name in _column_names(self.reader.fields(event_format), WIDE_COLUMNS):
                    self._slots.setdefault(name, len(self._slots))
            self._put(self.stream, [_row((*WIDE_COLUMNS, *self._slots))])

    def write(self, events: Events) -> None:
        """Write one batch; in the wide layout each gap stands before the event that follows it."""
        # A live view learns command names while it runs, and tasks change theirs.
        self._comms.clear()
        self._tgids.clear()
        if self.layout == "wide":
            self._write_wide(events)
        else:
            self._write_per_event(events)

    def end(self) -> None:
        """Do nothing: every batch is written whole."""

    def _write_wide(self, events: Events) -> None:
        rows = np.empty(events.count, object)
        for columns in events:
            if columns.count:
                rows[columns.position] = self._wide_rows(columns)
        notes = [(gap.before, self._wide_loss(self._gap(gap), "lost")) for gap in events.gaps]
        notes += [
            (mark.before, self._wide_loss(self._drift(mark.drift), "drift"))
            for mark in events.drifts
        ]
        ordered = with_notes(rows.tolist(), notes)
        ordered[:0] = [self._wide_loss(self._damage(one), "damage") for one in events.damages]
        self._put(self.stream, ordered)

    def _write_per_event(self, events: Events) -> None:
        for columns in events:
            if columns.count:
                shaped = self.reader.fields(columns.format)
                heading = (*EVENT_COLUMNS, *_column_names(shaped, EVENT_COLUMNS))
                stream = self._file(self._name(columns.format), heading)
                self._put(stream, self._event_rows(columns))
        losses = [self._damage(one) for one in events.damages]
        losses += [self._gap(one) for one in events.gaps]
        losses += [self._drift(one.drift) for one in events.drifts]
        if losses:
            rows = [_row([loss[name] for name in LOST_COLUMNS]) for loss in losses]
            self._put(self._file(LOST_FILE, LOST_COLUMNS), rows)

    def _wide_rows(self, columns: EventColumns) -> list[str]:
        shaped = self.reader.fields(columns.format)
        slots = [""] * len(self._slots)
        fields: list[tuple[int, Iterable[Any]]] = []
        for name, one in zip(_column_names(shaped, WIDE_COLUMNS), shaped, strict=True):
            slot, column = self._slot(one.shape, self.reader.values(columns, one))
            slots[self._slots[name]] = slot
            fields.append((self._slots[name], column))
        time, wall, cpu, comm, pid, tgid, buffer, flags = self._head(columns)
        event: tuple[str, list[Iterable[Any]]] = (
            cell(columns.format.full_name).replace("%", "%%"),
            [],
        )
        head = (time, wall, cpu, comm, pid, event, tgid, buffer, flags)
        template = ",".join([slot for slot, _ in head] + ["", "", *slots]) + "\r\n"
        values = [column for _, group in head for column in group]
        values += [column for _, column in sorted(fields, key=lambda pair: pair[0])]
        return list(map(template.__mod__, zip(*values, strict=True)))

    def _event_rows(self, columns: EventColumns) -> list[str]:
        head = self._head(columns)
        slots = [slot for slot, _ in head]
        values = [column for _, group in head for column in group]
        for one in self.reader.fields(columns.format):
            slot, column = self._slot(one.shape, self.reader.values(columns, one))
            slots.append(slot)
            values.append(column)
        template = ",".join(slots) + "\r\n"
        return list(map(template.__mod__, zip(*values, strict=True)))

    def _head(self, columns: EventColumns) -> list[tuple[str, list[Iterable[Any]]]]:
        """Return the slot and the values of each of EVENT_COLUMNS."""
        reader = self.reader
        pids = reader.common(columns, "common_pid").tolist()
        walls = reader.walls(columns.timestamp_ns)
        return [
            ("%d", [columns.timestamp_ns.tolist()]),
            ("", []) if walls is None else ("%s.%09dZ", [*walls]),
            ("%d", [columns.cpu.tolist()]),
            ("%s", [[self._comms[pid] for pid in pids]]),
            ("%d", [pids]),
            ("%s", [[self._tgids[pid] for pid in pids]]),
            ("%s", [[self._buffers[index] for index in columns.buffer.tolist()]]),
            ("%s", [reader.irq_infos(columns)]),
        ]

    def _slot(self, shape: Shape, values: list[Any]) -> tuple[str, Iterable[Any]]:
        """Return the template's slot for a field and what goes into it."""
        match shape:
            case Shape.INTEGER:
                return "%d", values
            case Shape.ADDRESS:
                return "0x%x", values
            case Shape.BOOLEAN:
                return "%s", ["true" if value else "false" for value in values]
            case Shape.TEXT:
                cells = self._cells
                return "%s", [cells[value] for value in values]
            case Shape.INTEGERS:
                return "%s", [quoted(str(value)) for value in values]
            case Shape.STACK:
                symbol = self.reader.symbol
                return "%s", [
                    cell(";".join([symbol(one) or f"{one:#x}" for one in stack]))
                    for stack in values
                ]

    def _tgid(self, pid: int) -> str:
        tgid = 0 if pid == 0 and self.data.tgids else self.data.tgids.get(pid)
        return "" if tgid is None else str(tgid)

    def _gap(self, gap: Gap) -> dict[str, str]:
        return {
            "timestamp_ns": str(gap.timestamp_ns),
            "wall": self.reader.wall(gap.timestamp_ns) or "",
            "cpu": str(gap.cpu),
            "buffer": self._buffers[gap.buffer],
            "lost": "" if gap.count is None else str(gap.count),
            "note": "number of lost events not known" if gap.count is None else "",
        }

    def _damage(self, damage: Damage) -> dict[str, str]:
        note = f"damaged at byte {damage.offset_bytes}: {damage.reason}"
        return {
            "timestamp_ns": "",
            "wall": "",
            "cpu": str(damage.cpu),
            "buffer": self._buffers[damage.buffer],
            "lost": "",
            "note": cell(note),
        }

    def _drift(self, drift: Drift) -> dict[str, str]:
        known = drift.trace_ns is not None
        return {
            "timestamp_ns": str(drift.trace_ns) if known else "",
            "wall": self.reader.wall_text(drift.wall_ns),
            "cpu": "",
            "buffer": "",
            "lost": "",
            "note": cell(str(drift)),
        }

    def _wide_loss(self, loss: dict[str, str], event: str) -> str:
        known = loss | {"event": event}
        return _row([*(known.get(name, "") for name in WIDE_COLUMNS), *[""] * len(self._slots)])

    def _name(self, event_format: EventFormat) -> str:
        known = self._names.get(event_format.id)
        if known is None:
            known = file_name(event_format)
            if known in self._names.values():
                known = f"{known.removesuffix('.csv')}.{event_format.id}.csv"
            self._names[event_format.id] = known
        return known

    def _file(self, name: str, heading: Sequence[str]) -> IO[bytes]:
        stream = self._files.get(name)
        if stream is None:
            assert self.open_file is not None
            stream = self._files[name] = self.open_file(name)
            self._put(stream, [_row(heading)])
        return stream

    def _put(self, stream: IO[bytes] | None, rows: list[str]) -> None:
        assert stream is not None
        stream.write("".join(rows).encode())


def cell(text: str | None) -> str:
    """Return text from a trace as one cell, made harmless and quoted; None is an empty cell."""
    if text is None:
        return ""
    if not text.isprintable():
        text = "".join(one if one.isprintable() or one in " \n" else _escaped(one) for one in text)
    return quoted(f"'{text}" if text.startswith(_FORMULA_STARTS) else text)


def quoted(text: str) -> str:
    """Return a cell in quotes if it holds a comma, a quote or a line end (csv.QUOTE_MINIMAL)."""
    if _QUOTE_WHEN.search(text):
        return f'"{text.replace(chr(34), chr(34) * 2)}"'
    return text


def file_name(event_format: EventFormat) -> str:
    """Return `SYSTEM.NAME.csv`; what cannot stand in a plain file name becomes an underscore."""
    return f"{_UNSAFE.sub('_', f'{event_format.system}.{event_format.name}')}.csv"


# The full-width forms too: some spreadsheets take them for the plain ones.
_FORMULA_STARTS = ("=", "+", "-", "@", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_QUOTE_WHEN = re.compile(r'[",\r\n]')
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")


def _escaped(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _row(cells: Iterable[str]) -> str:
    return ",".join(cells) + "\r\n"


def _column_names(shaped_fields: Sequence[ShapedField], taken: Sequence[str]) -> list[str]:
    """Return a column name for each field: `field_pid` where `pid` is one of the fixed columns."""
    names: list[str] = []
    for one in shaped_fields:
        name = one.field.name
        while name in taken or name in names:
            name = f"field_{name}"
        names.append(name)
    return names
