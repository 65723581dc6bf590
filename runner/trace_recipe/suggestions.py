"""Did you mean: the names closest to a mistyped one."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["closest", "did_you_mean", "either", "listed"]

_LONGEST_LIST = 12


def closest(word: str, known: Iterable[str], *, limit: int = 3, cutoff: float = 0.6) -> list[str]:
    """Return up to `limit` of the known names that look most like `word`, best first."""
    folded: dict[str, str] = {}
    for name in known:
        folded.setdefault(name.casefold(), name)
    found = difflib.get_close_matches(word.casefold(), folded, n=limit, cutoff=cutoff)
    return [folded[one] for one in found]


def did_you_mean(word: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """Return `did you mean 'x' or 'y'?` for the closest names, or `otherwise`."""
    return either(closest(word, known)) or otherwise


def either(names: Iterable[str]) -> str:
    """Return `did you mean 'x' or 'y'?`, or nothing when there are no names."""
    quoted = " or ".join(repr(one) for one in names)
    return f"did you mean {quoted}?" if quoted else ""


def listed(names: Iterable[str], *, longest: int = _LONGEST_LIST) -> str:
    """Return names joined by commas, cut after `longest` with the number left out."""
    every = list(names)
    more = len(every) - longest
    shown = ", ".join(every[:longest])
    return f"{shown} and {more} others" if more > 0 else shown
