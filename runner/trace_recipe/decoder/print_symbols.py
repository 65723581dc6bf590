"""Kernel addresses as the names that %ps, %pS, %pB and function lines print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trace_recipe.events import Symbols

__all__ = ["SymbolNames"]

MAX_REMEMBERED = 1 << 16
# An address further above the last symbol is not in the kernel's image or a module.
MAX_OFFSET = 1 << 24


class _Remembered(dict[int, str]):
    """Addresses already named; bounded."""

    def __init__(self, namer: SymbolNames, *, offset: bool, back: int) -> None:
        super().__init__()
        self._namer = namer
        self._offset = offset
        self._back = back

    def __missing__(self, address: int) -> str:
        if len(self) >= MAX_REMEMBERED:
            self.clear()
        text = self._namer.describe(address, offset=self._offset, back=self._back)
        self[address] = text
        return text


class SymbolNames:
    """Names addresses the way kernel/kallsyms.c does; an unknown one is printed in hex."""

    def __init__(self, symbols: Symbols | None) -> None:
        self._symbols = symbols
        self.plain: Mapping[int, str] = _Remembered(self, offset=False, back=0)
        self.with_offset: Mapping[int, str] = _Remembered(self, offset=True, back=0)
        self.return_address: Mapping[int, str] = _Remembered(self, offset=True, back=1)

    def describe(self, address: int, *, offset: bool, back: int = 0) -> str:
        """Return `name`, or `name+0xoffset/0xsize`; `back` is 1 for a return address (%pB)."""
        found = self.locate(address - back)
        if found is None:
            return f"{address:#x}"
        name, distance, size = found
        name, _, module = name.partition("\t")  # as kallsyms writes it
        module = f" {module}" if module else ""
        if not offset:
            return name + module
        return f"{name}+{distance + back:#x}/{size:#x}{module}"

    def locate(self, address: int) -> tuple[str, int, int] | None:
        """Return the symbol's name, the distance from its start, and its size."""
        symbols = self._symbols
        if symbols is None or not 0 < address < 1 << 64:
            return None
        addresses = symbols.addresses
        last = int(np.searchsorted(addresses, np.uint64(address), side="right"))
        if last == 0:
            return None
        start = int(addresses[last - 1])
        # Of several names for one address the kernel takes the first.
        first = int(np.searchsorted(addresses, np.uint64(start), side="left"))
        if start == 0 or address - start > MAX_OFFSET:
            return None
        end = int(addresses[last]) if last < len(addresses) else start
        return symbols.names[first], address - start, max(end - start, 0)

    def address_of(self, name: str) -> int | None:
        """Return the address of the first symbol with exactly this name."""
        if self._symbols is None:
            return None
        try:
            return int(self._symbols.addresses[list(self._symbols.names).index(name)])
        except ValueError:
            return None
