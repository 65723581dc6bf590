"""Drift: what a control file read while a run recorded, when it was not what the run had set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

__all__ = ["Drift"]

_WIDTH = 60


@dataclass(frozen=True, slots=True)
class Drift:
    """Somebody else's change of one file, as it was seen; also when it was taken back."""

    file: Annotated[str, Field(description="Path below the tracefs mount.")]
    applied: Annotated[
        str,
        Field(
            description="What it read after the run had set it; of set_event just the events that"
            " are not as before."
        ),
    ]
    found: Annotated[
        str | None,
        Field(description="What it read then; null: gone; as `applied`: put back meanwhile."),
    ]
    trace_ns: Annotated[
        int | None,
        Field(ge=0, description="Trace clock when it was seen; null when it cannot be read."),
    ]
    wall_ns: Annotated[int, Field(ge=0, lt=1 << 63, description="Wall clock then, ns since 1970.")]

    @property
    def is_back(self) -> bool:
        """Whether the file reads again as the run had set it."""
        return self.found == self.applied

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.file} is gone"
        if self.is_back:
            return f"{self.file} reads {_short(self.applied)} again"
        return f"{self.file} reads {_short(self.found)}, not {_short(self.applied)}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= _WIDTH else f"{line[:_WIDTH]}…")
