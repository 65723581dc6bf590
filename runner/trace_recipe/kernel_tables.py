"""The kernel's tables that name numbers: kallsyms, printk_formats, saved_cmdlines."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from trace_recipe.events import Symbols

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "KernelSymbols",
    "cmdlines_text",
    "parse_cmdlines",
    "parse_kallsyms",
    "parse_printk_formats",
]

_ADDRESS_LIMIT = 1 << 64
_PRINTK_LINE = re.compile(r'^0x([0-9a-fA-F]{1,16})\s*:\s*"(.*)"\s*$')
# Only these are escaped by the kernel (t_show in kernel/trace/trace_printk.c); a backslash is not.
_ESCAPE = re.compile(r'\\([nt"])')
_BLANKS = " \t\v\f\r"  # what isspace(3) takes of a line
_UNESCAPED = {"n": "\n", "t": "\t", '"': '"'}


class KernelSymbols(Symbols):
    """The symbols of a kallsyms text, parsed when the first one is asked for.

    Most recordings hold no address that is shown by name, and parsing 200 000 lines takes longer
    than the rest of a short run.
    """

    def __init__(self, text: str) -> None:
        self.__dict__["text"] = text

    @cached_property
    def _parsed(self) -> Symbols:
        found = parse_kallsyms(self.__dict__["text"])
        return found or Symbols(np.zeros(0, np.uint64), [])

    @property
    def addresses(self) -> NDArray[np.uint64]:
        """Ascending addresses."""
        return self._parsed.addresses

    @property
    def names(self) -> Sequence[str]:
        """Names beside the addresses."""
        return self._parsed.names


def parse_kallsyms(text: str) -> Symbols | None:
    """Return the symbols of /proc/kallsyms; None when there are none or all addresses are hidden.

    Absolute symbols (type a, A) and mapping symbols ($x) name no code. Of several names for one
    address the first stays, which is the one that the kernel prints. A name is followed by a
    tab and its `[module]` if it has one.
    """
    found: dict[int, str] = {}
    for line in text.split("\n"):
        parts = line.split(None, 3)
        if len(parts) < 3 or parts[1] in {"a", "A"} or parts[2].startswith("$"):
            continue
        try:
            address = int(parts[0], 16)
        except ValueError:
            continue
        if 0 < address < _ADDRESS_LIMIT:
            found.setdefault(address, "\t".join(parts[2:]))
    if not found:
        return None
    addresses = np.fromiter(found, np.uint64, len(found))
    names = list(found.values())
    if bool((addresses[1:] < addresses[:-1]).any()):
        order = np.argsort(addresses, kind="stable")
        addresses, names = addresses[order], [names[index] for index in order]
    return Symbols(addresses, names)


def parse_printk_formats(text: str) -> dict[int, str]:
    """Return the strings of `printk_formats` by address, escapes undone; other lines are left."""
    found = {}
    for line in text.split("\n"):
        match = _PRINTK_LINE.match(line)
        if match:
            found[int(match[1], 16)] = _ESCAPE.sub(lambda one: _UNESCAPED[one[1]], match[2])
    return found


def parse_cmdlines(text: str) -> dict[int, str]:
    """Return the comm of each pid of `saved_cmdlines`; lines that are not `PID COMM` are left.

    The kernel lists a pid once, but a comm may hold a line end, and a second line of its own making
    behind it: a pid that has two names has none. Nor has one whose name is blank: in a trace.dat
    trace-cmd 3.1 would take no name from there on.
    """
    found: dict[int, str] = {}
    forged = set()
    for line in text.rstrip("\0").split("\n"):
        pid, _, comm = line.strip("\0").partition(" ")
        if pid.isascii() and pid.isdigit() and len(pid) <= 10 and comm.strip(_BLANKS):
            number = int(pid)
            if found.setdefault(number, comm) != comm:
                forged.add(number)
    return {pid: comm for pid, comm in found.items() if pid not in forged}


def cmdlines_text(cmdlines: Mapping[int, str]) -> str:
    """Return the table as `saved_cmdlines` shows it."""
    return "".join(f"{pid} {comm}\n" for pid, comm in sorted(cmdlines.items()))
