"""What the options of a trace.dat say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trace_recipe.events import TickScale
from trace_recipe.trace_dat.layout import Option

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trace_recipe.trace_dat.cursor import Cursor

__all__ = ["chosen_clock", "cpu_stats", "tick_scale", "wall_offset_ns"]


def chosen_clock(text: str) -> str:
    """Return the chosen one of `[local] global counter`, or the text itself."""
    chosen = re.search(r"\[(\S+?)\]", text)
    return chosen[1] if chosen else text.strip() or "local"


def wall_offset_ns(options: Mapping[int, bytes]) -> int | None:
    """DATE holds microseconds as a C number, OFFSET nanoseconds to be added as well."""
    date = _number(options.get(Option.DATE, b""))
    return None if date is None else date * 1000 + (_number(options.get(Option.OFFSET, b"")) or 0)


def tick_scale(option: Cursor) -> TickScale | None:
    """Return what TSC2NSEC says of the processor's ticks; a factor of 0 means as they are.

    An offset in nanoseconds follows, which trace-cmd up to 3.4 writes as 0 and does not read.
    Raises DecodeError when the option is too short, or shifts more bits than there are.
    """
    mult, shift = option.u32("TSC2NSEC"), option.u32("TSC2NSEC")
    if shift > 63:
        option.fail(f"option TSC2NSEC shifts times by {shift} bits, they have 64")
    return TickScale(mult, shift) if mult else None


def cpu_stats(texts: Iterable[str]) -> dict[str, dict[int, str]]:
    """Sort the CPUSTAT texts by buffer and CPU; `Buffer: NAME` is before an instance's first."""
    found: dict[str, dict[int, str]] = {}
    name = ""
    for text in texts:
        head = re.match(r"\s*Buffer: (.*)\n\s*", text)
        name = head[1] if head else name
        cpu, newline, body = text[head.end() if head else 0 :].partition("\n")
        number = re.fullmatch(r"\s*CPU: (\d{1,5})\s*", cpu)
        if number and newline:
            found.setdefault(name, {})[int(number[1])] = body
    return found


def _number(content: bytes) -> int | None:
    match = re.match(rb"\s*([+-]?)(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,19})", content)
    if match is None:
        return None
    return int(match[2], 16 if match[2][:2].lower() == b"0x" else 10) * (
        -1 if match[1] == b"-" else 1
    )
