"""The `text` sink: the layout of the kernel's own `trace` file, header included.

Left out on purpose: `##### CPU 1 buffer started ####` (option annotate), whose place depends on
what the kernel had overwritten. With several instances each line starts with the name of its own.
After a latency tracer the kernel's `trace` file is its report of the longest latency, made of what
it set aside: that is written then, and nothing of the running buffer.
"""

from __future__ import annotations

from dataclasses import replace
from operator import itemgetter
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from trace_recipe.decoder.print_text import PrintContext, Printer, compile_format
from trace_recipe.decoder.print_values import visible
from trace_recipe.sinks.function_graph import Call, Comment, GraphLines, Item, Line, Return
from trace_recipe.sinks.layout import Context, common, header_lines, with_notes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trace_recipe.drift import Drift
    from trace_recipe.events import Damage, EventColumns, Events, Gap, TickScale, TraceData

    _Unit = tuple[bool, TickScale | None]  # of an instance's times: whether in ns, and made by what

__all__ = ["TextSink"]

_GRAPH_TRACER = "function_graph"
_MESSAGES = frozenset(("print", "bprint", "bputs"))
_NEVER_COMMENTS = frozenset(("kernel_stack", "function"))


class TextSink:
    """Writes events as lines of text; `names` adds the names of known flags and errors."""

    takes_events = True

    def __init__(self, stream: IO[bytes], *, names: bool = False) -> None:
        self._stream = stream
        self._names = names
        self._data: TraceData | None = None
        self._printers: dict[tuple[int, _Unit], Printer] = {}
        self._contexts: dict[_Unit, PrintContext] = {}
        self._layouts: list[_Layout] = []
        self._graph: GraphLines | None = None

    def begin(self, data: TraceData) -> None:
        """Write the header, or the whole of a latency tracer's report."""
        self._data = data
        if data.latency_text:
            self._put([visible(line) for line in data.latency_text.splitlines()])
            return
        width = max((len(visible(one.name)) for one in data.buffers), default=0)
        lines: list[str] = []
        for unit in {(one.in_ns, one.scale) for one in data.buffers} or {(True, None)}:
            in_ns, scale = unit
            context = PrintContext.of(data, names=self._names, in_ns=in_ns, scale=scale)
            self._contexts[unit] = context
        symbols = next(iter(self._contexts.values())).symbol_names
        if any(one.tracer == _GRAPH_TRACER for one in data.buffers):
            self._graph = GraphLines(data, symbols)
        for buffer in data.buffers:
            unit = (buffer.in_ns, buffer.scale)
            prefix = ""
            if len(data.buffers) > 1:
                name = visible(buffer.name)
                prefix = f"{name:>{width}s}{':' if name else ' '} "
            self._layouts.append(
                _Layout(
                    Context(data, in_ns=buffer.in_ns), unit, prefix, buffer.tracer == _GRAPH_TRACER
                )
            )
            where = f" ({visible(buffer.name)})" if len(data.buffers) > 1 and buffer.name else ""
            lines += [f"# tracer: {visible(buffer.tracer)}{where}", "#"]
        if self._graph is not None and all(one.graph for one in self._layouts):
            lines += self._graph.header()
        elif data.buffers:
            lines += header_lines(data, data.buffers[0])
        self._put(lines)

    def write(self, events: Events) -> None:
        """Write one batch and hand it to the reader of the stream."""
        if self._data is not None and self._data.latency_text:
            return
        for layout in self._layouts:
            layout.context.begin_batch()
        if self._graph is not None:
            self._write_graph(events, self._graph)
        else:
            placed = np.empty(events.count, object)
            for columns in events:
                for layout, rows in self._by_layout(columns):
                    placed[rows.position] = self._lines(rows, layout)
            lines = with_notes(placed.tolist(), self._notes(events))
            self._put([*lines, *map(_damage_line, events.damages)])
        self._stream.flush()

    def end(self) -> None:
        """Write the calls that have not returned."""
        if self._graph is not None:
            self._graph.finish()
            self._put(list(self._graph.ready()))
        self._stream.flush()

    def _put(self, lines: Sequence[str]) -> None:
        if lines:
            text = "\n".join(lines) + "\n"
            self._stream.write(text.encode("utf-8", "backslashreplace"))

    def _by_layout(self, columns: EventColumns) -> Iterable[tuple[_Layout, EventColumns]]:
        if len(self._layouts) == 1:
            return [(self._layouts[0], columns)]
        return [
            (self._layouts[buffer], _selected(columns, columns.buffer == buffer))
            for buffer in np.unique(columns.buffer).tolist()
        ]

    def _printer(self, columns: EventColumns, layout: _Layout) -> Printer:
        key = (columns.format.id, layout.unit)
        printer = self._printers.get(key)
        if printer is None:
            printer = compile_format(columns.format, self._contexts[layout.unit])
            self._printers[key] = printer
        return printer

    def _lines(self, columns: EventColumns, layout: _Layout) -> list[str]:
        printer = self._printer(columns, layout)
        label = (layout.prefix.replace("%", "%%"), printer.label.replace("%", "%%"))
        template = f"{label[0]}{layout.context.template}{label[1]}"
        return printer.lines(columns, template, layout.context.arguments(columns))

    def _notes(self, events: Events) -> list[tuple[int, str]]:
        notes = [(gap.before, self._gap_line(gap)) for gap in events.gaps]
        return notes + [(mark.before, self._drift_line(mark.drift)) for mark in events.drifts]

    def _drift_line(self, drift: Drift) -> str:
        time = "" if drift.trace_ns is None else self._layouts[0].context.time(drift.trace_ns)
        return f"# {time}DRIFT {visible(str(drift))}"

    def _gap_line(self, gap: Gap) -> str:
        count = "" if gap.count is None else f"{gap.count} "
        return f"{self._layouts[gap.buffer].prefix}CPU:{gap.cpu} [LOST {count}EVENTS]"

    def _write_graph(self, events: Events, graph: GraphLines) -> None:
        items: list[Item] = []
        for columns in events:
            for layout, rows in self._by_layout(columns):
                items += self._items(rows, layout)
        items.sort(key=lambda item: item.position)
        notes = sorted(self._notes(events), key=itemgetter(0))
        for item in items:
            while notes and notes[0][0] <= item.position:
                graph.add(_line_of(notes.pop(0)[1]))
            graph.add(item)
        for _, note in notes:
            graph.add(_line_of(note))
        for damage in events.damages:
            graph.add(_line_of(_damage_line(damage)))
        self._put(list(graph.ready()))

    def _items(self, columns: EventColumns, layout: _Layout) -> list[Item]:
        name = columns.format.name if columns.format.system == "ftrace" else ""
        places = list(
            zip(
                columns.position.tolist(),
                columns.buffer.tolist(),
                columns.cpu.tolist(),
                common(columns, "common_pid").tolist(),
                columns.timestamp_ns.tolist(),
                strict=True,
            )
        )
        if not layout.graph or name in _NEVER_COMMENTS:
            texts = self._lines(columns, layout)
            return [Line(*place, text) for place, text in zip(places, texts, strict=True)]
        if name in {"funcgraph_entry", "fgraph_retaddr_entry"}:
            fields = (_numbers(columns, one) for one in ("func", "depth", "retaddr"))
            return [Call(*place, *row) for place, *row in zip(places, *fields, strict=True)]
        if name == "funcgraph_exit":
            return _returns(columns, places)
        printer = self._printer(columns, layout)
        texts = printer.lines(columns, printer.label.replace("%", "%%"), [])
        if name in _MESSAGES:
            texts = [text.partition(": ")[2] for text in texts]
        return [Comment(*place, text) for place, text in zip(places, texts, strict=True)]


class _Layout:
    """How the lines of one instance begin."""

    __slots__ = ("context", "graph", "prefix", "unit")

    def __init__(self, context: Context, unit: _Unit, prefix: str, graph: bool) -> None:  # noqa: FBT001 - private
        self.context = context
        self.unit = unit
        self.prefix = prefix
        self.graph = graph


def _selected(columns: EventColumns, mask: Any) -> EventColumns:
    return replace(
        columns,
        timestamp_ns=columns.timestamp_ns[mask],
        cpu=columns.cpu[mask],
        buffer=columns.buffer[mask],
        position=columns.position[mask],
        offset=columns.offset[mask],
        length=columns.length[mask],
    )


def _numbers(columns: EventColumns, name: str) -> list[int]:
    if columns.format.find(name) is None:
        return [0] * columns.count
    numbers: list[int] = columns.column(name).tolist()
    return numbers


def _returns(columns: EventColumns, places: list[tuple[int, int, int, int, int]]) -> list[Item]:
    has_value = columns.format.find("retval") is not None
    names = ("func", "depth", "overrun", "calltime", "rettime", "retval")
    functions, depths, overruns, starts, ends, values = (_numbers(columns, one) for one in names)
    return [
        Return(
            *place,
            functions[row],
            depths[row],
            overruns[row],
            max(ends[row] - starts[row], 0),
            values[row] if has_value else None,
        )
        for row, place in enumerate(places)
    ]


def _line_of(text: str) -> Line:
    return Line(0, 0, 0, 0, 0, text)


def _damage_line(damage: Damage) -> str:
    return f"# CPU:{damage.cpu} damaged at byte {damage.offset_bytes}: {visible(damage.reason)}"
