"""Occupancy: whether somebody uses the top level of tracefs, or what all instances share."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from trace_recipe.errors import TracefsError
from trace_recipe.plan import PRIVATE_PREFIX
from trace_recipe.suggestions import listed
from trace_recipe.tracers import users_of_shared_file

if TYPE_CHECKING:
    from trace_recipe.plan import Plan
    from trace_recipe.tracefs import Tracefs

__all__ = ["affected", "occupancy"]

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


def affected(plan: Plan, tracefs: Tracefs) -> tuple[str, ...]:
    """Return, in words, which tracers of others look at what a plan changes for all instances.

    Among runs of recipes their claims decide.
    """
    names = plan.shared_names
    if not names:
        return ()
    found = []
    instances: tuple[str, ...] = ()
    with contextlib.suppress(TracefsError):  # a user may not see whose there are
        instances = tracefs.list("instances")
    for instance in ("", *instances):
        if instance.startswith(PRIVATE_PREFIX) or (instance and instance == plan.instance):
            continue
        try:
            tracer = tracefs.instance(instance).read("current_tracer").strip()
        except TracefsError:  # gone meanwhile, or not for this user
            continue
        if touched := [name for name in names if tracer in users_of_shared_file(name)]:
            where = f"instance '{instance}'" if instance else "the top level"
            found.append(f"tracer '{tracer}' of {where} looks at {listed(touched)}")
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
