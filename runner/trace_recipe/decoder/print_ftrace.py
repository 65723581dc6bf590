"""Events that the kernel prints in code instead of through their print fmt.

ftrace's own (kernel/trace/trace_output.c and the tracers), kprobes' and the system calls'.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from trace_recipe.decoder.print_fmt import PrintFmtError
from trace_recipe.decoder.print_printf import (
    Conversion,
    Template,
    Words,
    build_template,
    scan_format,
)
from trace_recipe.decoder.print_values import (
    NO_ROWS,
    CInteger,
    Rows,
    Value,
    constant,
    constant_string,
    visible,
)
from trace_recipe.formats import FieldKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trace_recipe.events import TickScale
    from trace_recipe.formats import EventFormat

__all__ = ["FtraceTexts", "time_text"]

_TASK_STATES = "RSDTtXZPI"
_TIMERLAT_CONTEXTS = ("irq", "thread", "user-ret")
_TRAMPOLINE_MARKER = (1 << 31) - 1  # FTRACE_TRAMPOLINE_MARKER
_USER_STACK_ENTRIES = 8
_MAX_SCANNED = 4096
_STORED_POINTERS = frozenset(("", *"sSfFBxKe"))  # first letter after %p


def time_text(timestamp_ns: int, *, in_ns: bool) -> str:
    """Return a time stamp as the `trace` file shows it: seconds to the µs, or clock ticks."""
    if not in_ns:
        return f" {timestamp_ns:12d}"
    usec = (timestamp_ns + 500) // 1000
    return f" {usec // 1_000_000:5d}.{usec % 1_000_000:06d}"


class FtraceTexts:
    """Makes the templates of the events that have no usable print fmt."""

    def __init__(
        self,
        words: Words,
        options: Mapping[str, bool],
        cmdlines: Mapping[int, str],
        *,
        in_ns: bool,
        scale: TickScale | None,
    ) -> None:
        self._words = words
        self._options = options
        self._cmdlines = cmdlines
        self._in_ns = in_ns
        self._scale = scale
        self._scanned: dict[str, list[str | Conversion]] = {}
        self._makers: dict[str, Callable[[EventFormat], Template]] = {
            "print": self._print,
            "bprint": self._bprint,
            "bputs": self._bputs,
            "kernel_stack": self._kernel_stack,
            "user_stack": self._user_stack,
            "raw_data": self._raw_data,
            "function": self._function,
            "func_repeats": self._func_repeats,
            "wakeup": lambda event: self._switch(event, "  +"),
            "context_switch": lambda event: self._switch(event, "==>"),
            "hwlat": self._hwlat,
            "osnoise": self._osnoise,
            "timerlat": self._timerlat,
            "branch": self._branch,
            "mmiotrace_rw": self._mmio_access,
            "mmiotrace_map": self._mmio_map,
        }

    def template(self, event: EventFormat) -> Template | None:
        """Return the template of one of ftrace's own events; None when it has no special one."""
        maker = self._makers.get(event.name) if event.system == "ftrace" else None
        return None if maker is None else maker(event)

    def symbol(self, address: int) -> str:
        """Return an address as seq_print_ip_sym() does, with options sym-offset and sym-addr."""
        if not address:
            return "0"
        symbols = self._words.symbols
        names = symbols.with_offset if self._options.get("sym-offset") else symbols.plain
        text = names[address]
        if text.startswith("0x"):
            text = f"0x{address:08x}"
        return f"{text} <{address:016x}>" if self._options.get("sym-addr") else text

    def _integers(self, rows: Rows, event: EventFormat, name: str) -> list[int]:
        field = event.find(name)
        if field is None or field.kind is not FieldKind.SCALAR:
            return [0] * rows.count
        return rows.spread(rows.integers(field))

    def _records(self, rows: Rows, event: EventFormat, *names: str) -> zip[tuple[Any, ...]]:
        return zip(*(self._integers(rows, event, name) for name in names), strict=True)

    def _rest(self, rows: Rows, event: EventFormat, name: str) -> list[bytes]:
        """Return the bytes from a field's start to the end of the record."""
        field = event.find(name)
        if field is None:
            return [b""] * rows.count
        start = rows.columns.offset + field.offset
        end = rows.columns.offset + rows.columns.length
        return rows.raw((start, np.maximum(end - start, 0)))

    def _one_column(self, texts: Callable[[Rows], list[str]]) -> Template:
        template = Template()
        template.add("%s", texts)
        return template

    def _print(self, event: EventFormat) -> Template:
        """Return tracing_mark_write's and trace_printk's `function: text`."""
        template = Template()
        template.add("%s: ", lambda rows: self._symbols(rows, event, "ip"))
        template.add("%s", lambda rows: [_line(raw) for raw in self._rest(rows, event, "buf")])
        return template

    def _symbols(self, rows: Rows, event: EventFormat, name: str) -> list[str]:
        return [self.symbol(address) for address in self._integers(rows, event, name)]

    def _bputs(self, event: EventFormat) -> Template:
        strings = self._words.strings

        def texts(rows: Rows) -> list[str]:
            return [
                _printable(strings.get(address, f"{address:#x}"))
                for address in self._integers(rows, event, "str")
            ]

        template = Template()
        template.add("%s: ", lambda rows: self._symbols(rows, event, "ip"))
        template.add("%s", texts)
        return template

    def _bprint(self, event: EventFormat) -> Template:
        strings = self._words.strings

        def texts(rows: Rows) -> list[str]:
            found = zip(
                self._integers(rows, event, "fmt"), self._rest(rows, event, "buf"), strict=True
            )
            return [
                f"[unknown format {address:#x}]"
                if address not in strings
                else self._formatted(strings[address], raw)
                for address, raw in found
            ]

        template = Template()
        template.add("%s: ", lambda rows: self._symbols(rows, event, "ip"))
        template.add("%s", texts)
        return template

    def _formatted(self, text: str, raw: bytes) -> str:
        """Return trace_printk's text: `raw` holds its arguments as vbin_printf() packs them."""
        try:
            parts = self._scanned.get(text)
            if parts is None:
                if len(self._scanned) >= _MAX_SCANNED:
                    self._scanned.clear()
                parts = [_inlined(part) for part in scan_format(text)]
                self._scanned[text] = parts
            reader = _Packed(raw, self._words)
            values: list[Value] = []
            for part in parts:
                if isinstance(part, Conversion):
                    values.extend(reader.values(part))
            template = build_template(parts, values, self._words)
            row = tuple(column(NO_ROWS)[0] for column in template.columns)
            return _printable(template.text % row)
        except (PrintFmtError, struct.error) as error:
            return f"{_printable(text)} [arguments unreadable: {error}]"

    def _kernel_stack(self, event: EventFormat) -> Template:
        size = self._words.typing.long.bits // 8
        end = (1 << size * 8) - 1
        code = self._words.byte_order + ("Q" if size == 8 else "I")

        def stack(raw: bytes) -> str:
            lines = ["<stack trace>"]
            for (address,) in struct.iter_unpack(code, raw[: len(raw) // size * size]):
                if address == end:
                    break
                if address == _TRAMPOLINE_MARKER:
                    lines.append(" => [FTRACE TRAMPOLINE]")
                else:
                    lines.append(f" => {self.symbol(address)}")
            return "\n".join(lines)

        return self._one_column(lambda rows: [stack(r) for r in self._rest(rows, event, "caller")])

    def _user_stack(self, event: EventFormat) -> Template:
        size = self._words.typing.long.bits // 8
        code = self._words.byte_order + ("Q" if size == 8 else "I")

        def stack(raw: bytes) -> str:
            lines = ["<user stack trace>"]
            raw = raw[: min(len(raw) // size, _USER_STACK_ENTRIES) * size]
            for (address,) in struct.iter_unpack(code, raw):
                if not address:
                    break
                lines.append(f" =>  <{address:0{size * 2}x}>")
            return "\n".join(lines)

        return self._one_column(lambda rows: [stack(r) for r in self._rest(rows, event, "caller")])

    def _raw_data(self, event: EventFormat) -> Template:
        template = Template()
        template.add("# %x buf:", lambda rows: self._integers(rows, event, "id"))
        template.add(
            "%s",
            lambda rows: [
                f" {raw.hex(' ')}" if raw else "" for raw in self._rest(rows, event, "buf")
            ],
        )
        return template

    def _function(self, event: EventFormat) -> Template:
        template = Template()
        template.add("%s", lambda rows: self._symbols(rows, event, "ip"))
        if self._options.get("print-parent", True):
            template.add("%s", lambda rows: self._parents(rows, event))
        return template

    def _parents(self, rows: Rows, event: EventFormat) -> list[str]:
        return [
            f" <-{self.symbol(address)}" if address else ""
            for address in self._integers(rows, event, "parent_ip")
        ]

    def _func_repeats(self, event: EventFormat) -> Template:
        def tails(rows: Rows) -> list[str]:
            times = rows.columns.timestamp_ns.tolist()
            counts = self._integers(rows, event, "count")
            parts = self._records(rows, event, "top_delta_ts", "bottom_delta_ts")
            ticks = np.array([(top << 32 | bottom) for top, bottom in parts], np.uint64)
            deltas = ticks if self._scale is None else self._scale.nanoseconds(ticks)
            return [
                f" (repeats: {count}, last_ts:{time_text(max(time - delta, 0), in_ns=self._in_ns)})"
                for time, count, delta in zip(times, counts, deltas.tolist(), strict=True)
            ]

        template = self._function(event)
        template.add("%s", tails)
        return template

    def _switch(self, event: EventFormat, arrow: str) -> Template:
        def text(row: tuple[int, ...]) -> str:
            prev_pid, prev_prio, prev_state, cpu, pid, prio, state = row
            return (
                f" {prev_pid:7d}:{prev_prio:3d}:{_state(prev_state)} {arrow} [{cpu:03d}] "
                f"{pid:7d}:{prio:3d}:{_state(state)} {visible(self._comm(pid))}"
            )

        names = (
            "prev_pid", "prev_prio", "prev_state", "next_cpu", "next_pid", "next_prio",
            "next_state",
        )  # fmt: skip
        return self._one_column(
            lambda rows: [text(row) for row in self._records(rows, event, *names)]
        )

    def _comm(self, pid: int) -> str:
        return self._cmdlines.get(pid, "<...>") if pid else "<idle>"

    def _hwlat(self, event: EventFormat) -> Template:
        def text(row: tuple[int, ...]) -> str:
            seqnum, inner, outer, seconds, nanoseconds, count, nmi_count = row
            line = (
                f"#{seqnum:<5d} inner/outer(us): {inner:4d}/{outer:<5d} "
                f"ts:{seconds}.{nanoseconds:09d} count:{count}"
            )
            return f"{line} nmi-count:{nmi_count}" if nmi_count else line

        names = ("seqnum", "duration", "outer_duration", "tv_sec", "tv_nsec", "count", "nmi_count")
        return self._one_column(
            lambda rows: [text(row) for row in self._records(rows, event, *names)]
        )

    def _osnoise(self, event: EventFormat) -> Template:
        def text(row: tuple[int, ...]) -> str:
            runtime, noise, max_sample, *counts = row
            ratio = (runtime - noise) * 10_000_000 // runtime if runtime else 0
            line = (
                f"{runtime} {noise:10d} {ratio // 100_000:3d}.{ratio % 100_000:05d} {max_sample:7d}"
            )
            return line + "".join(f" {count:6d}" for count in counts)

        names = (
            "runtime", "noise", "max_sample", "hw_count", "nmi_count", "irq_count",
            "softirq_count", "thread_count",
        )  # fmt: skip
        return self._one_column(
            lambda rows: [text(row) for row in self._records(rows, event, *names)]
        )

    def _timerlat(self, event: EventFormat) -> Template:
        def text(row: tuple[int, ...]) -> str:
            seqnum, context, latency = row
            known = 0 <= context < len(_TIMERLAT_CONTEXTS)
            where = _TIMERLAT_CONTEXTS[context] if known else f"{context}"
            return f"#{seqnum:<5d} context {where:>6s} timer_latency {latency:9d} ns"

        return self._one_column(
            lambda rows: [
                text(row)
                for row in self._records(rows, event, "seqnum", "context", "timer_latency")
            ]
        )

    def _branch(self, event: EventFormat) -> Template:
        function, file = event.find("func"), event.find("file")
        if function is None or file is None:
            raise PrintFmtError("a branch event without func or file")
        template = Template()
        template.add(
            "[%s] ",
            lambda rows: [
                "  ok  " if correct else " MISS "
                for correct in self._integers(rows, event, "correct")
            ],
        )
        template.add("%s:", lambda rows: rows.fixed_strings(function))
        template.add("%s:", lambda rows: rows.fixed_strings(file))
        template.add("%d", lambda rows: self._integers(rows, event, "line"))
        return template

    def _mmio_access(self, event: EventFormat) -> Template:
        def text(time: int, row: tuple[int, ...]) -> str:
            phys, value, pc, map_id, opcode, width = row
            when = time_text(time, in_ns=True).strip()
            if opcode in {1, 2}:
                kind = "R" if opcode == 1 else "W"
                return f"{kind} {width} {when} {map_id} {phys:#x} {value:#x} {pc:#x} 0"
            if opcode == 5:
                code = ",".join(f"{value >> shift & 0xFF:02x}" for shift in (16, 8, 0))
                return f"UNKNOWN {when} {map_id} {phys:#x} {code} {pc:#x} 0"
            return "rw what?"

        return self._timed(event, text, ("phys", "value", "pc", "map_id", "opcode", "width"))

    def _mmio_map(self, event: EventFormat) -> Template:
        def text(time: int, row: tuple[int, ...]) -> str:
            phys, virt, length, map_id, opcode = row
            when = time_text(time, in_ns=True).strip()
            if opcode == 3:
                return f"MAP {when} {map_id} {phys:#x} {virt:#x} {length:#x} 0x0 0"
            return f"UNMAP {when} {map_id} 0x0 0" if opcode == 4 else "map what?"

        return self._timed(event, text, ("phys", "virt", "len", "map_id", "opcode"))

    def _timed(
        self,
        event: EventFormat,
        text: Callable[[int, tuple[int, ...]], str],
        names: tuple[str, ...],
    ) -> Template:
        return self._one_column(
            lambda rows: [
                text(time, row)
                for time, row in zip(
                    rows.columns.timestamp_ns.tolist(),
                    self._records(rows, event, *names),
                    strict=True,
                )
            ]
        )


def _state(number: int) -> str:
    return _TASK_STATES[number] if number < len(_TASK_STATES) else "?"


def _line(raw: bytes) -> str:
    """Return trace_marker's text: up to the NUL, without its last newline."""
    return _printable(raw.partition(b"\0")[0].decode("utf-8", "surrogateescape"))


def _printable(text: str) -> str:
    return visible(text.removesuffix("\n"))


def _inlined(part: str | Conversion) -> str | Conversion:
    """Return a pointer whose text, not whose value, vbin_printf() stores as a %s."""
    if isinstance(part, str) or part.type != "p" or part.suffix[:1] in _STORED_POINTERS:
        return part
    return replace(part, type="s", suffix="")


class _Packed:
    """Reads arguments packed by vbin_printf(): 4-byte words, strings in place."""

    def __init__(self, raw: bytes, words: Words) -> None:
        self._raw = raw
        self._at = 0
        self._order = words.byte_order
        self._long = words.typing.long.bits // 8

    def values(self, conversion: Conversion) -> list[Value]:
        """Return the conversion's arguments, those of its stars first."""
        values: list[Value] = [
            constant(self._number(4), CInteger(32, signed=True))
            for star in (conversion.width, conversion.precision)
            if star == "*"
        ]
        if conversion.type == "s":
            return [*values, constant_string(self._string())]
        if conversion.type == "c":
            return [*values, constant(self._number(1), CInteger(8, signed=False))]
        size = 8 if conversion.length in {"ll", "L", "q", "j"} else 4
        if conversion.type == "p" or conversion.length in {"l", "z", "Z", "t"}:
            size = self._long
        return [*values, constant(self._number(size), CInteger(size * 8, signed=False))]

    def _number(self, size: int) -> int:
        if size > 1:
            self._at = (self._at + 3) & ~3
        (number,) = struct.unpack_from(
            self._order + {1: "B", 4: "I", 8: "Q"}[size], self._raw, self._at
        )
        self._at += size
        return int(number)

    def _string(self) -> str:
        text, _, _ = self._raw[self._at :].partition(b"\0")
        self._at += len(text) + 1
        return visible(text.decode("utf-8", "surrogateescape"))
