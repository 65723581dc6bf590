"""Processes: what a command has started, found by its parents and by a mark in its environment.

A process whose parent has ended has another one (init's), but it still has the environment that it
was started with, unless it was given a new one.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
    from collections.abc import Collection, Iterable

__all__ = ["Process", "family", "process", "running", "send"]

_PROC = Path("/proc")
_ENDED = frozenset("ZXx")


@dataclass(frozen=True, slots=True)
class Process:
    """A pid may be given again; together with the start time (in clock ticks) it is not."""

    pid: int
    started_ticks: int


def process(pid: int) -> Process | None:
    """Return the running process with this pid, or None."""
    found = _look(pid)
    return found[0] if found else None


def running(processes: Iterable[Process]) -> set[Process]:
    """Return those that have not ended; a zombie has."""
    return {one for one in processes if process(one.pid) == one}


def family(roots: Collection[Process], mark: bytes) -> set[Process]:
    """Return what runs of `roots`, their descendants, and all with `mark` in the environment.

    Neither this process nor its ancestors are ever among them.
    """
    known: dict[int, tuple[Process, int]] = {}
    for path in _PROC.iterdir():
        if path.name.isdigit() and (found := _look(int(path.name))):
            known[found[0].pid] = found
    own = set()
    pid = os.getpid()
    while pid in known and pid not in own:
        own.add(pid)
        pid = known[pid][1]
    children: dict[int, list[int]] = {}
    for pid, (_, parent) in known.items():
        children.setdefault(parent, []).append(pid)
    waiting = [one.pid for one in roots if one.pid in known and known[one.pid][0] == one]
    waiting += [pid for pid in known if _has_mark(pid, mark)]
    members: set[int] = set()
    while waiting:
        pid = waiting.pop()
        if pid not in members and pid not in own:
            members.add(pid)
            waiting += children.get(pid, ())
    return {known[pid][0] for pid in members}


def send(number: signal.Signals, processes: Iterable[Process]) -> None:
    """Signal those that still run and may be signalled."""
    for one in running(processes):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(one.pid, number)


def _look(pid: int) -> tuple[Process, int] | None:
    """Return a process and its parent's pid (proc(5), `stat`: the name may hold anything)."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    state, parent, *rest = text.rpartition(")")[2].split()
    return None if state in _ENDED else (Process(pid, int(rest[17])), int(parent))


def _has_mark(pid: int, mark: bytes) -> bool:
    try:
        variables = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return mark in variables
