"""Events as text: each print fmt is compiled once, then rendered for whole columns.

The goal is the text of the kernel's own `trace` file with option hash-ptr off.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from trace_recipe.decoder.print_bytes import array_text
from trace_recipe.decoder.print_calls import compile_call
from trace_recipe.decoder.print_expressions import Expressions
from trace_recipe.decoder.print_fmt import PrintFmtError, parse_print_fmt
from trace_recipe.decoder.print_ftrace import FtraceTexts
from trace_recipe.decoder.print_printf import (
    Conversion,
    Template,
    Words,
    build_template,
    scan_format,
)
from trace_recipe.decoder.print_symbols import SymbolNames
from trace_recipe.decoder.print_syscalls import syscall_template
from trace_recipe.decoder.print_values import Rows, Typing, visible
from trace_recipe.formats import FieldKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trace_recipe.decoder.print_values import Value
    from trace_recipe.events import EventColumns, Symbols, TickScale, TraceData
    from trace_recipe.formats import EventFormat, Field

__all__ = ["PrintContext", "Printer", "compile_format"]

# What /sys/kernel/tracing/README's kprobe events print in code: `symbol+0x12/0x34` for `%lx`.
_PROBE_ADDRESSES = ("__probe_ip", "__probe_ret_ip")


@dataclass(frozen=True, slots=True)
class PrintContext:
    """What printing needs from a recording beside the format: symbols, strings, byte order.

    `names` adds the names of known flags and errors to system calls. `options` are the trace
    options (sym-offset, sym-addr, print-parent); `in_ns` says that times are shown as seconds, and
    `scale` what the ticks in a record are worth.
    """

    symbols: Symbols | None = None
    printk_formats: Mapping[int, str] = field(default_factory=dict)
    byte_order: str = "<"
    long_size: int = 8
    names: bool = False
    cmdlines: Mapping[int, str] = field(default_factory=dict)
    options: Mapping[str, bool] = field(default_factory=dict)
    in_ns: bool = True
    scale: TickScale | None = None
    symbol_names: SymbolNames = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "symbol_names", SymbolNames(self.symbols))

    @classmethod
    def of(
        cls,
        data: TraceData,
        *,
        names: bool = False,
        in_ns: bool = True,
        scale: TickScale | None = None,
    ) -> PrintContext:
        """Return the context of a recording."""
        return cls(
            symbols=data.symbols,
            printk_formats=data.printk_formats,
            byte_order=data.byte_order,
            long_size=data.long_size,
            names=names,
            cmdlines=data.cmdlines,
            options=data.options,
            in_ns=in_ns,
            scale=scale,
        )


class Printer:
    """Renders the events of one format.

    `label` is what the kernel puts before the text: `name: `, nothing for system calls and
    ftrace's own events. `failure` says why the print fmt is not used and the fields are listed
    instead; it is "" when it is used.
    """

    def __init__(self, label: str, template: Template, spare: Template, failure: str = "") -> None:
        self.label = label
        self.template = template.text
        self.failure = failure
        self._columns = tuple(template.columns)
        self._spare = spare

    def arguments(self, columns: EventColumns) -> list[list[Any]]:
        """Return one list per conversion of `template`, one entry per event.

        Raises whatever damaged data makes of it; render() and lines() do not.
        """
        rows = Rows(columns)
        with np.errstate(all="ignore"):
            return [column(rows) for column in self._columns]

    def render(self, columns: EventColumns) -> list[str]:
        """Return the text of each event, without task, time and `label`; never raises."""
        return self.lines(columns, "", [])

    def lines(
        self, columns: EventColumns, prefix: str, leading: list[list[Any]], suffix: str = ""
    ) -> list[str]:
        """Return `prefix + text + suffix`; prefix is a `%` template that takes `leading`."""
        for text, arguments in (
            (self.template, self.arguments),
            (self._spare.text, self._spare_arguments),
        ):
            try:
                lists = leading + arguments(columns)
                template = prefix + text + suffix
                if not lists:
                    return [template % ()] * columns.count
                return [template % row for row in zip(*lists, strict=True)]
            except Exception:  # noqa: BLE001, S112 - hostile data must cost a text, no more
                continue
        rows = zip(*leading, strict=True) if leading else [()] * columns.count
        return [prefix % row + "?" + suffix for row in rows]

    def _spare_arguments(self, columns: EventColumns) -> list[list[Any]]:
        rows = Rows(columns)
        return [column(rows) for column in self._spare.columns]


def compile_format(event: EventFormat, context: PrintContext) -> Printer:
    """Return the printer of an event type; what cannot be evaluated lists its fields instead."""
    words = Words(
        Typing(context.long_size), context.symbol_names, context.printk_formats, context.byte_order
    )
    spare = _field_list(event, context.byte_order)
    label = f"{visible(event.name)}: "
    try:
        special = FtraceTexts(
            words, context.options, context.cmdlines, in_ns=context.in_ns, scale=context.scale
        ).template(event)
        if special is None:
            special = syscall_template(event, names=context.names)
        if special is not None:
            return Printer("", special, spare)
        return Printer(label, _compile(event, words), spare)
    except (PrintFmtError, RecursionError, KeyError, TypeError) as error:
        failure = str(error) or type(error).__name__
        return Printer(label, spare, spare, failure)


def _compile(event: EventFormat, words: Words) -> Template:
    parsed = parse_print_fmt(event.print_fmt)
    expressions = Expressions(event, words.typing, words.byte_order, compile_call)
    with np.errstate(all="ignore"):
        values = [expressions.compile(node) for node in parsed.arguments]
    parts = scan_format(parsed.format)
    if any(event.find(name) for name in _PROBE_ADDRESSES):
        parts, values = _as_probe(event, parts, values)
    return build_template(parts, values, words)


def _as_probe(
    event: EventFormat, parts: list[str | Conversion], values: list[Value]
) -> tuple[list[str | Conversion], list[Value]]:
    """Print a probe's addresses as print_kprobe_event() does: symbols, the return address first."""
    returns = event.find("__probe_ret_ip") is not None
    places = [n for n, part in enumerate(parts) if isinstance(part, Conversion)][: 1 + returns]
    suffixes = ["S", "s"] if returns else ["S"]
    for place, suffix in zip(places, suffixes, strict=False):
        part = parts[place]
        assert isinstance(part, Conversion)
        parts[place] = replace(part, type="p", length="", flags="", suffix=suffix)
    if returns and len(values) > 1:
        values[0], values[1] = values[1], values[0]
    return parts, values


def _field_list(event: EventFormat, byte_order: str) -> Template:
    """Return ` field=value` for each own field, without the first blank."""
    template = Template()
    for number, one in enumerate(event.fields):
        template.literal(f"{' ' if number else ''}{visible(one.name)}=")
        _add_field(template, one, byte_order)
    return template


def _add_field(template: Template, one: Field, byte_order: str) -> None:
    if one.kind is FieldKind.SCALAR:
        template.add(
            "%#x" if one.is_pointer else "%d", lambda rows: rows.spread(rows.integers(one))
        )
    elif one.is_string:
        template.add("%s", lambda rows: rows.strings(rows.columns.dynamic(one.name)))
    else:
        size = one.element_size if one.element_size in {1, 2, 4, 8} else 1
        template.add(
            "%s",
            lambda rows: [
                array_text(raw, size, byte_order)
                for raw in rows.raw(rows.columns.dynamic(one.name))
            ],
        )
