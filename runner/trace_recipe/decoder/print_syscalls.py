"""System calls as kernel/trace/trace_syscalls.c prints them: `sys_close(fd: 3)`, `-> 0x0`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trace_recipe.decoder.print_printf import Template
from trace_recipe.decoder.print_values import MAX_REMEMBERED, Rows, visible
from trace_recipe.decoder.syscall_names import argument_name, has_names, return_name
from trace_recipe.formats import FieldKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from trace_recipe.formats import EventFormat, Field

__all__ = ["syscall_template"]

_ENTER, _EXIT = "sys_enter_", "sys_exit_"


class _Numbers(dict[int, str]):
    """Argument values already turned into text; bounded."""

    def __init__(self, text: Callable[[int], str]) -> None:
        super().__init__()
        self._text = text

    def __missing__(self, number: int) -> str:
        if len(self) >= MAX_REMEMBERED:
            self.clear()
        text = self._text(number)
        self[number] = text
        return text


def syscall_template(event: EventFormat, *, names: bool) -> Template | None:
    """Return the template of a syscalls event, None for any other one.

    `names` adds what flags and errors are called: `-> 0xfffffffffffffffe (ENOENT)`.
    """
    if event.system != "syscalls":
        return None
    if event.name.startswith(_ENTER):
        return _enter(event, event.name.removeprefix(_ENTER), names=names)
    returned = event.find("ret")
    if not event.name.startswith(_EXIT) or returned is None or returned.size not in {4, 8}:
        return None
    template = Template()
    template.literal(f"sys_{visible(event.name.removeprefix(_EXIT))} -> ")
    mask = (1 << returned.size * 8) - 1

    def text(value: int) -> str:
        named = return_name(value) if names else ""
        return f"{value & mask:#x} ({named})" if named else f"{value & mask:#x}"

    texts = _Numbers(text)
    template.add(
        "%s", lambda rows: list(map(texts.__getitem__, rows.spread(rows.integers(returned))))
    )
    return template


def _enter(event: EventFormat, name: str, *, names: bool) -> Template | None:
    template = Template()
    template.literal(f"sys_{visible(name)}(")
    fields = event.fields[1:]  # the first is __syscall_nr
    values = {one.name: one for one in fields if one.kind is FieldKind.DATA_LOC}
    arguments = [one for one in fields if one.name not in values]
    for number, one in enumerate(arguments):
        if one.kind is not FieldKind.SCALAR:
            return None
        template.literal(f"{', ' if number else ''}{visible(one.name)}: ")
        _add_argument(template, name, one, names=names)
        pointed = values.get(f"__{one.name}_val")
        if pointed is not None:  # newer kernels store what some pointers point to
            _add_pointed(template, event, pointed)
    template.literal(")")
    return template


def _add_argument(template: Template, syscall: str, one: Field, *, names: bool) -> None:
    """Add an argument as the kernel prints it: below 10 in decimal, else in hex."""
    unsigned = np.dtype(f"u{one.size}")

    def named(value: int) -> str:
        shown = f"{value}" if value < 10 else hex(value)
        name = argument_name(syscall, one.name, value)
        return f"{shown} ({name})" if name else shown

    def plain(rows: Rows) -> list[str]:
        values = rows.spread(rows.integers(one).astype(unsigned))
        return [hex(value) if value > 9 else f"{value}" for value in values]

    if names and has_names(syscall, one.name):
        texts = _Numbers(named)
        template.add(
            "%s",
            lambda rows: list(
                map(texts.__getitem__, rows.spread(rows.integers(one).astype(unsigned)))
            ),
        )
    else:
        template.add("%s", plain)


def _add_pointed(template: Template, event: EventFormat, pointed: Field) -> None:
    is_text = f"__get_str({pointed.name})" in event.print_fmt
    if is_text:
        template.add(' "%s"', lambda rows: rows.strings(rows.columns.dynamic(pointed.name)))
    else:
        template.add(
            " (%s)",
            lambda rows: [raw.hex(":") for raw in rows.raw(rows.columns.dynamic(pointed.name))],
        )
