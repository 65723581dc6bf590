"""State directory: files of runs, each locked for as long as the process that made it lives.

So a free lock means a dead owner, and what the file says is left to whoever finds it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shlex
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trace_recipe.errors import KernelLacksError, Problem, errno_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "append",
    "check_safe",
    "command_line",
    "create_locked",
    "is_locked",
    "prepare",
    "shared_lock",
    "state_directory",
    "unwritable",
]

_NAME = "trace-recipe"
_LOCK_FILE = ".lock"


def state_directory(uid: int, environment: Mapping[str, str]) -> Path:
    """Return where a user's runs keep their journals unless told otherwise: gone with the boot."""
    if uid == 0:
        return Path("/run") / _NAME
    return Path(environment.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}") / _NAME


def command_line(word: str, directory: Path, run_id: str = "") -> str:
    """Return what to type to do something with the runs, or one run, of a state directory."""
    words = ["trace-recipe", word, run_id]
    if directory.absolute() != state_directory(os.geteuid(), os.environ):
        words += ["--state-dir", shlex.quote(str(directory.absolute()))]
    return " ".join(filter(None, words))


def prepare(directory: Path) -> None:
    """Make the directory, or see that nobody else can write it; raises KernelLacksError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_safe(directory)
    except OSError as error:
        raise KernelLacksError(unwritable(directory, error)) from error


def check_safe(directory: Path) -> None:
    """See that nobody else can write the directory; raises KernelLacksError and OSError."""
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise KernelLacksError(
            Problem(
                f"the state directory '{directory}' is not safe to use",
                why="it must be a directory of the user who runs the recipe, writable by no other",
                fix=f"look who made it, then remove it: rm -r {directory}",
            )
        )


def create_locked(path: Path, entry: Mapping[str, Any]) -> int:
    """Make a file with its first line, locked and synced; raises KernelLacksError.

    It has no name until it is all that: a run that is killed before leaves no file, and nobody
    finds one that says nothing.
    """
    try:
        flags = os.O_RDWR | os.O_TMPFILE | os.O_APPEND | os.O_CLOEXEC
        fd = os.open(path.parent, flags, 0o600)
    except OSError as error:
        raise KernelLacksError(unwritable(path, error)) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        append(fd, entry)
        os.fsync(fd)
        _name(fd, path)
    except OSError as error:
        os.close(fd)
        raise KernelLacksError(unwritable(path, error)) from error
    return fd


def append(fd: int, entry: Mapping[str, Any]) -> None:
    """Write one line; raises OSError."""
    data = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
    while data:
        data = data[os.write(fd, data) :]


def is_locked(fd: int) -> bool:
    """Whether the process that made an open file still lives."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


@contextlib.contextmanager
def shared_lock(directory: Path) -> Iterator[None]:
    """Hold what any run holds while it looks at the claims of others and acts on what it saw.

    Raises KernelLacksError when the directory cannot be written or is not safe to use.
    """
    prepare(directory)
    path = directory / _LOCK_FILE
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise KernelLacksError(unwritable(path, error)) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def unwritable(path: Path, error: OSError) -> Problem:
    """Return what to say when a file there cannot be written."""
    return Problem(
        f"cannot write the journal '{path}': {errno_text(error.errno or 0)}",
        why="nothing is changed in the kernel before the way back is on disk",
        fix="free space there, or name another place with --state-dir"
        if error.errno == errno.ENOSPC
        else "run as root, or name another place with --state-dir",
    )


def _name(fd: int, path: Path) -> None:
    """Give a file without a name one that nobody has, and sync that too."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.link(f"/proc/self/fd/{fd}", path.name, dst_dir_fd=directory)
        try:
            os.fsync(directory)
        except OSError:
            os.unlink(path.name, dir_fd=directory)
            raise
    finally:
        os.close(directory)
