"""Leftovers: what a killed run leaves outside of tracefs: raw pages, and outputs without a name.

Until the journal tells of them a note does, written before the first of them is made.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from trace_recipe.invoker import Invoker, acting_as
from trace_recipe.journal import Leftovers, journals
from trace_recipe.outputs import unnamed_outputs
from trace_recipe.spool import RESERVE_FILE, give_away, identity, remove_pages
from trace_recipe.state_directory import create_locked, prepare

__all__ = ["LeftoversNote", "clear_leftovers", "clear_noted_leftovers"]

_SUFFIX = ".leftovers"


@dataclass(frozen=True, slots=True)
class LeftoversNote:
    """The note of a living run, locked by it."""

    path: Path
    fd: int

    @classmethod
    def write(cls, directory: Path, run_id: str, leftovers: Leftovers) -> LeftoversNote:
        """Write it; raises KernelLacksError."""
        prepare(directory)
        path = directory / f"{run_id}{_SUFFIX}"
        return cls(path, create_locked(path, asdict(leftovers)))

    def discard(self) -> None:
        """Remove it: nothing is left that it could tell of."""
        self.path.unlink(missing_ok=True)
        os.close(self.fd)


def clear_noted_leftovers(directory: Path) -> dict[str, Path | None]:
    """Clear up after dead runs that left no journal; return where the pages of each are."""
    cleared: dict[str, Path | None] = {}
    told = {state.run_id for state in journals(directory)}
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        if path.stem in told:
            continue
        with contextlib.suppress(OSError), path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused: its run lives
            leftovers = Leftovers.from_json(json.loads(stream.read()))
            cleared[path.stem] = clear_leftovers(leftovers, directory, path.stem)
    return cleared


def clear_leftovers(leftovers: Leftovers, directory: Path, run_id: str) -> Path | None:
    """Remove what nobody can use, and the note of it; return where raw pages are, if any.

    The pages go to who started the run, as they would have at its end.
    """
    pages = _clear(leftovers)
    with contextlib.suppress(OSError):
        (directory / f"{run_id}{_SUFFIX}").unlink()
    return pages


def _clear(leftovers: Leftovers) -> Path | None:
    invoker = Invoker(leftovers.uid, leftovers.gid, "", "", leftovers.groups)
    with acting_as(invoker):
        for folder in leftovers.folders:
            with contextlib.suppress(OSError):
                for part in unnamed_outputs(Path(folder), leftovers.token):
                    part.unlink()
    if not leftovers.spool:
        return None
    spool = Path(leftovers.spool)
    try:
        fd = os.open(spool, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        is_it = leftovers.spool_identity in {None, identity(fd)}
        return _settle(spool, fd, invoker) if is_it else None
    finally:
        os.close(fd)


def _settle(spool: Path, fd: int, invoker: Invoker) -> Path | None:
    if os.fstat(fd).st_uid != os.geteuid():  # given away already, or somebody else's of that name
        return None
    inside = Path(f"/proc/self/fd/{fd}")
    (inside / RESERVE_FILE).unlink(missing_ok=True)
    if not any(path.stat().st_size for path in inside.glob("cpu*.raw")):
        remove_pages(fd, spool, invoker)
        return None
    give_away(fd, invoker)
    return spool
