"""The nested form of the function_graph tracer (kernel/trace/trace_functions_graph.c).

A call is a leaf when the next event of its CPU is its own return; so the last call of each CPU
waits for that event, and the lines behind it wait with it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trace_recipe.decoder.print_values import visible
from trace_recipe.sinks.layout import task_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trace_recipe.decoder.print_symbols import SymbolNames
    from trace_recipe.events import TraceData

__all__ = ["Call", "Comment", "GraphLines", "Item", "Line", "Return"]

INDENT = 2
MAX_DEPTH = 50  # FTRACE_RETFUNC_DEPTH
MAX_WAITING = 100_000  # lines; then a call whose next event is far away counts as nested
_TASK_WIDTH = 14
_SEPARATOR = " ------------------------------------------"
_MARKS = (
    (1_000_000_000, "$"), (100_000_000, "@"), (10_000_000, "*"), (1_000_000, "#"), (100_000, "!"),
    (10_000, "+"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Item:
    """One event: its place in time and where it happened."""

    position: int
    buffer: int
    cpu: int
    pid: int
    timestamp_ns: int


@dataclass(frozen=True, slots=True)
class Call(Item):
    """funcgraph_entry; `return_address` is 0 unless option funcgraph-retaddr recorded it."""

    function: int
    depth: int
    return_address: int = 0


@dataclass(frozen=True, slots=True)
class Return(Item):
    """funcgraph_exit; `value` is None unless the kernel records return values."""

    function: int
    depth: int
    overrun: int
    duration_ns: int
    value: int | None


@dataclass(frozen=True, slots=True)
class Comment(Item):
    """Any other event, shown as `/* text */`."""

    text: str


@dataclass(frozen=True, slots=True)
class Line(Item):
    """A line that is complete: a stack trace, a gap, an event of another instance."""

    text: str


@dataclass(slots=True)
class _Cpu:
    """What the layout remembers of one CPU."""

    pid: int | None = None
    depth: int = 0
    irq_depth: int = -1
    entered: dict[int, int] = field(default_factory=dict)


class GraphLines:
    """Turns items in time order into lines; `ready` hands out those that can no longer change."""

    def __init__(self, data: TraceData, symbols: SymbolNames) -> None:
        self._names = symbols
        self._cmdlines = data.cmdlines
        self._cpu_width = len(str(max(data.cpu_count - 1, 0)))
        get = data.options.get
        self._abstime = get("funcgraph-abstime", False)
        self._cpu_shown = get("funcgraph-cpu", True)
        self._proc = get("funcgraph-proc", False)
        self._duration = get("funcgraph-duration", True)
        self._overhead = get("funcgraph-overhead", True)
        self._overrun = get("funcgraph-overrun", False)
        self._irqs = get("funcgraph-irqs", True)
        self._tail = get("funcgraph-tail", False)
        self._retval = get("funcgraph-retval", False)
        self._retval_hex = get("funcgraph-retval-hex", False)
        self._retaddr = get("funcgraph-retaddr", False)
        self._context = get("context-info", True)
        self._irq_text = (
            symbols.address_of("__irqentry_text_start") or 0,
            symbols.address_of("__irqentry_text_end") or 0,
        )
        self._cpus: dict[tuple[int, int], _Cpu] = {}
        self._lines: deque[str | None] = deque()
        self._first = 0  # number of the first line in _lines
        self._waiting: dict[tuple[int, int], tuple[int, Call]] = {}

    def header(self) -> list[str]:
        """Return the two lines over the columns."""
        if not self._context:
            return []
        top, mark = "#", "#"
        for shown, title, drawn in (
            (self._abstime, "     TIME       ", "      |         "),
            (self._cpu_shown, " CPU", " |  "),
            (self._proc, "  TASK/PID       ", "   |    |        "),
            (self._duration, "  DURATION   ", "   |   |      "),
        ):
            if shown:
                top += title
                mark += drawn
        return [top + "               FUNCTION CALLS", mark + "               |   |   |   |"]

    def add(self, item: Item) -> None:
        """Take the next event."""
        key = (item.buffer, item.cpu)
        if isinstance(item, Line):
            self._lines.append(item.text)
            return
        state = self._cpus.setdefault(key, _Cpu())
        waiting = self._waiting.pop(key, None)
        if waiting is not None:
            slot, call = waiting
            if isinstance(item, Return) and item.pid == call.pid and item.function == call.function:
                self._put(slot, self._leaf(state, call, item))
                return
            self._put(slot, self._nested(state, call))
        if isinstance(item, Call):
            if not self._enters_hidden_irq(state, item):
                self._waiting[key] = (self._first + len(self._lines), item)
                self._lines.append(None)
        elif isinstance(item, Return):
            if not self._leaves_hidden_irq(state, item.depth):
                self._lines.append(self._return(state, item))
        elif isinstance(item, Comment):
            self._lines.append(self._comment(state, item))
        if len(self._lines) > MAX_WAITING:
            self._settle_first()

    def ready(self) -> Iterator[str]:
        """Hand out, and forget, the lines that are final."""
        while self._lines and self._lines[0] is not None:
            self._first += 1
            line = self._lines.popleft()
            assert line is not None
            yield line

    def finish(self) -> None:
        """No event follows: calls that still wait have not returned."""
        while self._waiting:
            self._settle_first()

    def _settle_first(self) -> None:
        if self._waiting:
            key = min(self._waiting, key=lambda one: self._waiting[one][0])
            slot, call = self._waiting.pop(key)
            self._put(slot, self._nested(self._cpus[key], call))

    def _put(self, slot: int, text: str) -> None:
        self._lines[slot - self._first] = text

    def _leaf(self, state: _Cpu, call: Call, returned: Return) -> str:
        text = self._prologue(state, call, call.function)
        state.depth = call.depth - 1
        state.entered[call.depth] = 0
        text += self._duration_column(returned.duration_ns)
        text += f"{self._indent(call.depth)}{self._name(call.function)}();"
        notes = ""
        if self._retaddr and call.return_address:
            notes += f" <-{self._names.with_offset[call.return_address]}"
        if self._retval and returned.value is not None:
            notes += self._value(returned.value)
        if notes:
            text += f" /*{notes} */"
        return text + self._irq_mark(call, returned.function, "<==========")

    def _nested(self, state: _Cpu, call: Call) -> str:
        text = self._prologue(state, call, call.function)
        state.depth = call.depth
        if call.depth < MAX_DEPTH:
            state.entered[call.depth] = call.function
        text += self._empty_duration()
        text += f"{self._indent(call.depth)}{self._name(call.function)}() {{"
        if self._retaddr and call.return_address:
            text += f" /* <-{self._names.with_offset[call.return_address]} */"
        return text

    def _return(self, state: _Cpu, item: Return) -> str:
        state.depth = item.depth - 1
        matches = item.depth >= MAX_DEPTH or state.entered.get(item.depth, 0) == item.function
        state.entered[min(MAX_DEPTH, item.depth)] = 0
        text = self._prologue(state, item, None) + self._duration_column(item.duration_ns)
        text += f"{self._indent(item.depth)}}}"
        if self._retval and item.value is not None:
            text += f" /* {self._name(item.function)}{self._value(item.value)} */"
        elif not matches or self._tail:
            text += f" /* {self._name(item.function)} */"
        if self._overrun:
            text += f"\n (Overruns: {item.overrun})"
        return text + self._irq_mark(item, item.function, "<==========")

    def _comment(self, state: _Cpu, item: Comment) -> str:
        indent = self._indent(state.depth + 1) if state.depth > 0 else ""
        return (
            f"{self._prologue(state, item, None)}{self._empty_duration()}{indent}/* {item.text} */"
        )

    def _prologue(self, state: _Cpu, item: Item, entered: int | None) -> str:
        """Return the task switch, the irq arrow and the columns left of the duration."""
        text = ""
        if state.pid != item.pid:
            if state.pid is not None:
                text = (
                    f"{_SEPARATOR}\n{self._cpu(item.cpu)}{self._task(state.pid)} => "
                    f"{self._task(item.pid)}\n{_SEPARATOR}\n\n"
                )
            state.pid = item.pid
        if entered is not None:
            mark = self._irq_mark(item, entered, "==========>").removeprefix("\n")
            text += f"{mark}\n" if mark else ""
        return text + self._columns(item)

    def _columns(self, item: Item) -> str:
        if not self._context:
            return ""
        text = ""
        if self._abstime:
            seconds, rest = divmod(item.timestamp_ns, 1_000_000_000)
            text += f"{seconds:5d}.{rest // 1000:06d} |  "
        if self._cpu_shown:
            text += self._cpu(item.cpu)
        if self._proc:
            text += f"{self._task(item.pid)} | "
        return text

    def _irq_mark(self, item: Item, function: int, arrow: str) -> str:
        start, end = self._irq_text
        if not start <= function < end:
            return ""
        has_column = self._duration and self._context
        filled = f"  {arrow} |" if has_column else arrow
        return f"\n{self._columns(item)}{filled}"

    def _cpu(self, cpu: int) -> str:
        return f" {cpu:{self._cpu_width}d}) "

    def _task(self, pid: int) -> str:
        text = f"{task_name(self._cmdlines, pid)[:7]}-{pid}"
        spaces = max(_TASK_WIDTH - len(text), 0)
        return " " * (spaces // 2) + text + " " * (spaces - spaces // 2)

    def _duration_column(self, duration_ns: int) -> str:
        if not (self._duration and self._context):
            return ""
        mark = next((sign for limit, sign in _MARKS if duration_ns > limit), " ")
        usecs, rest = divmod(duration_ns, 1000)
        text = f"{usecs}"
        if len(text) < 7:
            text += f".{rest:03d}"[: 8 - len(text)]
        return f"{mark if self._overhead else ' '} {text} us {' ' * (8 - len(text))}|  "

    def _empty_duration(self) -> str:
        return "              |  " if self._duration and self._context else ""

    @staticmethod
    def _indent(depth: int) -> str:
        return " " * (min(max(depth, 0), 1000) * INDENT)

    def _name(self, address: int) -> str:
        return visible(self._names.plain[address])

    def _value(self, value: int) -> str:
        """Return ` ret=` as hex, or signed when it is an error number."""
        wide = value
        if value >> 32 == 0 and value >> 31:
            wide = value | 0xFFFFFFFF << 32
        if not self._retval_hex and wide >= (1 << 64) - 4095:
            return f" ret={wide - (1 << 64)}"
        return f" ret={value:#x}"

    def _enters_hidden_irq(self, state: _Cpu, call: Call) -> bool:
        if self._irqs:
            return False
        if state.irq_depth >= 0:
            return True
        start, end = self._irq_text
        if not start <= call.function < end:
            return False
        state.irq_depth = call.depth
        return True

    def _leaves_hidden_irq(self, state: _Cpu, depth: int) -> bool:
        if self._irqs or state.irq_depth == -1:
            return False
        if state.irq_depth >= depth:
            state.irq_depth = -1
        return True
