"""Public claims: which files of the whole machine root's runs have, where every user can read it.

Users can neither read root's journals nor lock them. So there is a file for each run of root that
has such files, in a directory that only root can write, for as long as the run has its journal.
Root reads nothing that a user could have written: no user can make a command of root's fail or
wait. Where root overtakes a user's run, that one waits until root's has put everything back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trace_recipe.state_directory import state_directory

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["PublicClaim", "claims_of_root", "publish", "withdraw"]

_PLACE = Path("/run/trace-recipe-claims")
_ROOT = 0


@dataclass(frozen=True, slots=True)
class PublicClaim:
    """The files, relative to the mount, that a run of root may change."""

    recipe: str
    files: frozenset[str]


def publish(journal: Path, recipe: str, files: Collection[str]) -> None:
    """Tell everybody which files a run of root has, if its journal is where root's are.

    Whom it does not reach, because /run cannot be written, knows as little as without it.
    """
    if not (files and _is_of_root(journal)):
        return
    with contextlib.suppress(OSError):
        _PLACE.mkdir(exist_ok=True)
        _PLACE.chmod(0o755)  # whatever the umask says
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(_file(journal), flags, 0o644)
        try:
            os.fchmod(fd, 0o644)
            os.write(fd, json.dumps({"recipe": recipe, "files": sorted(files)}).encode())
        finally:
            os.close(fd)


def withdraw(journal: Path) -> None:
    """Take back what was published; before the journal goes, so that none stays without one."""
    if _is_of_root(journal):
        with contextlib.suppress(OSError):
            _file(journal).unlink()


def claims_of_root() -> tuple[PublicClaim, ...]:
    """Return what a user has to leave alone; nothing to root, who has the journals."""
    if os.geteuid() == _ROOT:
        return ()
    found = []
    with contextlib.suppress(FileNotFoundError):
        status = _PLACE.lstat()
        if status.st_uid != _ROOT or status.st_mode & 0o022:
            return ()
        for path in _PLACE.iterdir():
            with contextlib.suppress(OSError, ValueError):  # withdrawn, or not written yet
                data = json.loads(path.read_bytes())
                found.append(PublicClaim(data["recipe"], frozenset(data["files"])))
    return tuple(found)


def _is_of_root(journal: Path) -> bool:
    return os.geteuid() == _ROOT and journal.parent == state_directory(_ROOT, {})


def _file(journal: Path) -> Path:
    # The id of a run is in the name of its instance, which nobody is to know before it is made.
    return _PLACE / hashlib.sha256(journal.stem.encode()).hexdigest()[:16]
