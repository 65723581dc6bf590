"""Occupancy: whether somebody uses the top level of tracefs, which a recipe would share."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trace_recipe.errors import TracefsError

if TYPE_CHECKING:
    from trace_recipe.tracefs import Tracefs

__all__ = ["occupancy"]

_ENTRIES = re.compile(r"^entries: (\d+)$", re.MULTILINE)


def occupancy(tracefs: Tracefs) -> tuple[str, ...]:
    """Return what is in use at the top level, in words; empty when nothing is."""
    found = []
    tracer = tracefs.read("current_tracer").strip()
    if tracer != "nop":
        found.append(f"tracer '{tracer}' runs")
    if events := tracefs.read("set_event").split():
        found.append(f"{len(events)} event{'s' * (len(events) != 1)} enabled")
    if recorded := _recorded(tracefs):
        found.append(f"{recorded} recorded event{'s' * (recorded != 1)} unread")
    return tuple(found)


def _recorded(tracefs: Tracefs) -> int:
    count = 0
    for cpu in tracefs.list("per_cpu"):
        try:
            match = _ENTRIES.search(tracefs.read(f"per_cpu/{cpu}/stats"))
        except TracefsError:  # the CPU went away meanwhile
            continue
        count += int(match[1]) if match else 0
    return count
