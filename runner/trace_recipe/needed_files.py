"""Needed files: what a run needs of tracefs, what a user lacks of it, and the commands to grant it.

What is read before a run is noted while it is planned; what is written stands in the plan; what
recording reads beside that stands here, and a test compares it with what a run opens.
"""

from __future__ import annotations

import errno
import grp
import os
import shlex
import stat
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from trace_recipe.collector import STRING_TABLE, TASK_TABLES, ftrace_events
from trace_recipe.errors import KernelLacksError, Problem, TracefsError
from trace_recipe.plan import HoldFile, MakeInstance, SetFile
from trace_recipe.suggestions import listed
from trace_recipe.tracefs import Access
from trace_recipe.tracers import LATENCY_TRACERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from trace_recipe.invoker import Invoker
    from trace_recipe.plan import Plan
    from trace_recipe.tracefs import Tracefs

__all__ = ["OF_ROOT", "NeededFile", "grants", "look_at_files", "needed_files", "refuse_lacking"]

OF_ROOT = "tracefs belongs to root, until root gives others rights"
_INSTANCE_FILES = (
    "events/header_event",
    "events/header_page",
    "current_tracer",
    "set_event",
    "trace_clock",
    "trace_options",
)
_LATENCY_FILES = ("trace", "tracing_max_latency")
_BITS = {Access.ENTER: 1, Access.READ: 4, Access.LIST: 5, Access.WRITE: 6, Access.OWN: 7}
_WRITE_BIT = 2
_MOST_SHOWN = 8
_WIDEST_COMMAND = 100
_FEW_DIRECTORIES = 3


@dataclass(frozen=True, slots=True)
class NeededFile:
    """A file that a run needs; `stand_in` exists now where `file` is made by the run."""

    file: str
    stand_in: str
    access: Access
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the file as JSON data."""
        return {
            "file": self.file,
            "access": self.access.value,
            "ok": not self.error,
            "error": self.error,
        }


def needed_files(
    plan: Plan, tracefs: Tracefs, noted: Mapping[str, Access], *, writes_markers: bool = False
) -> tuple[NeededFile, ...]:
    """Return what a run of the plan reads, writes, lists and makes; `noted` was read to plan it.

    Of its own instance all belongs to who may make it: a new directory of tracefs and what is in it
    take owner and group from the directory that it is in (seen on 6.1 and 6.12).
    """
    found: dict[str, Access] = {}
    for file, access in _every_access(plan, tracefs, writes_markers=writes_markers):
        found[file] = _stronger(found.get(file), access)
    for file, access in noted.items():
        found[file] = _stronger(found.get(file), access)
    made = plan.prefix if plan.makes_instance else ""
    for file in [name for name in found if not (made and name.startswith(made))]:
        for parent in _parents(file):
            found[parent] = _stronger(found.get(parent), Access.ENTER)
    return tuple(
        NeededFile(file, file.removeprefix(made) if made else file, access)
        for file, access in found.items()
    )


def look_at_files(
    tracefs: Tracefs, needs: Iterable[NeededFile], who: Invoker
) -> tuple[NeededFile, ...]:
    """Return the same files with `error` told, as they are for a user; nothing is written."""
    return tuple(replace(one, error=_error(tracefs, one, who)) for one in needs)


def refuse_lacking(tracefs: Tracefs, needs: Iterable[NeededFile], who: Invoker) -> None:
    """Raise KernelLacksError with what the user may not do of all this."""
    lacking = [one for one in look_at_files(tracefs, needs, who) if one.error]
    if lacking:
        words = listed((f"{one.file} ({one.access})" for one in lacking), longest=_MOST_SHOWN)
        raise KernelLacksError(
            Problem(
                f"{who.name} lacks rights on {len(lacking)} files of tracefs: {words}",
                why=OF_ROOT,
                fix="`sudo trace-recipe doctor --for RECIPE` prints the commands that give just"
                " those; or run it with sudo",
            )
        )


def grants(tracefs: Tracefs, lacking: Iterable[NeededFile], who: Invoker) -> list[str]:
    """Return the commands with which root gives a user, by their group, just what is lacking."""
    user, group = shlex.quote(who.name), shlex.quote(_group_name(who.gid))
    regroup: list[str] = []
    reown: list[str] = []
    bits: dict[str, list[str]] = {}
    for one in lacking:
        if one.error != errno.errorcode[errno.EACCES]:
            continue
        found = tracefs.status(one.file)
        wanted = _bits(found, one.access)
        if one.access is Access.OWN or found.st_uid == who.uid:
            reown += [one.file] if found.st_uid != who.uid else []
            missing, whose = wanted & ~(found.st_mode >> 6), "u"
        else:
            regroup += [one.file] if found.st_gid not in {who.gid, *who.groups} else []
            missing, whose = wanted & ~(found.st_mode >> 3), "g"
        if missing:
            letters = "".join(
                letter for letter, bit in (("r", 4), ("w", 2), ("x", 1)) if missing & bit
            )
            bits.setdefault(f"chmod {whose}+{letters}", []).append(one.file)
    every = [(f"chown {user}", reown), (f"chgrp {group}", regroup), *bits.items()]
    commands = [
        line for words, files in every if files for line in _lines(words, _globbed(tracefs, files))
    ]
    return [f"cd {shlex.quote(str(tracefs.root))}", *commands] if commands else []


def _every_access(
    plan: Plan, tracefs: Tracefs, *, writes_markers: bool
) -> Iterator[tuple[str, Access]]:
    """Yield what applying, recording and putting back do, most of it inside of the instance."""
    prefix = plan.prefix
    for step in plan.steps:
        match step:
            case MakeInstance():
                yield "instances", Access.OWN
            case HoldFile():
                yield step.file, Access.WRITE
            case SetFile():
                yield step.file, Access.WRITE
                # The top level's buffer_size_kb, which the start expands, is never put back.
                access = Access.READ if step.name == "tracing_on" else Access.WRITE
                yield from ((file, access) for file in step.sides)
    yield f"{prefix}tracing_on", Access.WRITE
    if writes_markers:
        yield f"{prefix}trace_marker", Access.WRITE
    names = _INSTANCE_FILES + (_LATENCY_FILES if plan.tracer in LATENCY_TRACERS else ())
    for name in names:
        yield f"{prefix}{name}", Access.READ
    yield "per_cpu", Access.LIST
    for cpu in tracefs.list("per_cpu"):
        yield f"{prefix}per_cpu/{cpu}/stats", Access.READ
        yield f"{prefix}per_cpu/{cpu}/trace_pipe_raw", Access.READ
    yield "events/ftrace", Access.LIST
    events = dict.fromkeys((*plan.events, *plan.trigger_targets))
    events |= dict.fromkeys(f"ftrace:{name}" for name in ftrace_events(tracefs, plan.tracer))
    for event in events:
        yield f"events/{event.replace(':', '/')}/format", Access.READ
    for name in (STRING_TABLE, *TASK_TABLES):
        if tracefs.exists(name):
            yield name, Access.READ


def _stronger(known: Access | None, new: Access) -> Access:
    return new if known is None or _BITS[new] > _BITS[known] else known


def _parents(file: str) -> list[str]:
    parts = file.split("/")[:-1] if file != "." else []
    return [".", *("/".join(parts[: count + 1]) for count in range(len(parts)))]


def _error(tracefs: Tracefs, need: NeededFile, who: Invoker) -> str:
    if need.stand_in != "." and not tracefs.exists(need.stand_in):
        # Some files are in instances only, or at the top level only; the run will tell.
        return "" if need.stand_in != need.file else "ENOENT"
    is_made = need.stand_in != need.file
    found = tracefs.status(need.stand_in)
    if who.uid != 0 and not is_made and not _permits(found, need.access, who):
        return "EACCES"
    if need.access is not Access.WRITE or not found.st_mode & stat.S_IRUSR:
        return ""  # nothing to be tried: opening trace_marker for writing is no question
    # Lockdown refuses at open, whatever the mode bits say.
    try:
        os.close(tracefs.open_file(need.stand_in, os.O_RDONLY))
    except TracefsError as error:
        # Not even looking at it is for this process, which says nothing of its own instance.
        is_unknown = is_made and error.errno == errno.EACCES
        return "" if is_unknown else errno.errorcode.get(error.errno, str(error.errno))
    return ""


def _permits(found: os.stat_result, access: Access, who: Invoker) -> bool:
    """Whether the mode gives a user the access: tracefs has no other access lists."""
    if access is Access.OWN and found.st_uid != who.uid:
        return False
    shift = 6 if found.st_uid == who.uid else 3 if found.st_gid in {who.gid, *who.groups} else 0
    wanted = _bits(found, access)
    return (found.st_mode >> shift) & wanted == wanted


def _bits(found: os.stat_result, access: Access) -> int:
    is_write_only = access is Access.WRITE and not found.st_mode & stat.S_IRUSR
    return _WRITE_BIT if is_write_only else _BITS[access]


def _globbed(tracefs: Tracefs, files: Sequence[str]) -> list[str]:
    """Return the files with `events/*/` in place of every directory in events/."""
    below: dict[str, list[str]] = {}
    for file in files:
        below.setdefault(file.rpartition("/")[0], []).append(file)
    shown: list[str] = []
    for parent, names in below.items():
        if parent and len(names) > _FEW_DIRECTORIES:
            every = {f"{parent}/{name}" for name in tracefs.list(parent)}
            directories = {one for one in every if tracefs.is_directory(one)}
            if directories and directories <= set(names):
                shown.append(f"{parent}/*/")
                names = [one for one in names if one not in directories]  # noqa: PLW2901 - the rest
        shown += names
    return shown


def _lines(words: str, files: Sequence[str]) -> list[str]:
    lines = [words]
    for file in files:
        if len(lines[-1]) + len(file) >= _WIDEST_COMMAND and lines[-1] != words:
            lines.append(words)
        lines[-1] += f" {file}"
    return lines


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
