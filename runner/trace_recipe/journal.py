"""Journal: what a run is about to change, on disk and synced before it is changed.

One file per run in a directory that only root can enter. The first line is the whole pre-image; it
is synced once, before the first write. The lines after it need no sync: a killed process loses
nothing that reached the page cache, and after a power cut the kernel's state is gone as well. The
runner holds a lock on the file for as long as it lives, so a free lock means a dead owner.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trace_recipe.errors import InstanceBusyError, KernelLacksError, Problem, errno_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = [
    "STATE_DIRECTORY",
    "Journal",
    "JournalState",
    "journals",
    "new_run_id",
    "read_journal",
]

STATE_DIRECTORY = Path("/run/trace-recipe")
_SUFFIX = ".journal"
_VERSION = "v1"
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class JournalState:
    """What a journal says: who made it, what was there before, and how far the run came."""

    path: Path
    run_id: str
    boot_id: str
    pid: int
    started_at: float
    recipe: str
    recipe_path: str
    mount: str
    instance: str
    makes_instance: bool
    inode: int | None
    before: Mapping[str, str]
    applied: Mapping[str, str] = field(default_factory=dict)
    intended: frozenset[str] = frozenset()
    restoring: frozenset[str] = frozenset()
    claims: frozenset[str] = frozenset()
    is_making: bool = False
    is_live: bool = False
    is_this_boot: bool = True


class Journal:
    """The open journal of a running recipe; lines are appended before and after each write."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    @classmethod
    def begin(
        cls,
        directory: Path,
        *,
        run_id: str,
        recipe: str,
        recipe_path: str,
        mount: str,
        instance: str,
        makes_instance: bool,
        inode: int | None,
        before: Mapping[str, str],
        claims: Sequence[str] = (),
    ) -> Journal:
        """Write and sync the pre-image; nothing of the kernel may be changed before it returns.

        `claims` are the files that no other run may change until this one has put them back.
        Raises KernelLacksError when the directory cannot be written or is not safe to use.
        """
        _prepare(directory)
        path = directory / f"{run_id}{_SUFFIX}"
        header = {
            "journal": _VERSION,
            "run_id": run_id,
            "boot_id": _boot_id(),
            "pid": os.getpid(),
            "started_at": time.time(),
            "recipe": recipe,
            "recipe_path": recipe_path,
            "mount": mount,
            "instance": instance,
            "makes_instance": makes_instance,
            "inode": inode,
            "before": dict(before),
            "claims": list(claims),
        }
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise KernelLacksError(_unwritable(path, error)) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # `status` may hold it for a moment
            _append(fd, header)
            os.fsync(fd)
            _sync_directory(directory)
        except OSError as error:
            path.unlink(missing_ok=True)
            os.close(fd)
            raise KernelLacksError(_unwritable(path, error)) from error
        return cls(path, fd)

    @classmethod
    def adopt(cls, state: JournalState) -> Journal:
        """Take over a dead run's journal; raises InstanceBusyError while its owner lives.

        Raises KernelLacksError when it is gone or may not be written.
        """
        try:
            fd = os.open(state.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError as error:
            raise KernelLacksError(
                Problem(
                    f"the journal of run {state.run_id} is gone",
                    why="somebody else has just put its files back",
                    fix="see `trace-recipe status`",
                )
            ) from error
        except OSError as error:
            raise KernelLacksError(_unwritable(state.path, error)) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise InstanceBusyError(
                Problem(
                    f"run {state.run_id} is still alive (pid {state.pid})",
                    why="its journal is locked by the process that runs the recipe",
                    fix=f"stop it with: kill {state.pid}",
                )
            ) from None
        return cls(state.path, fd)

    def making(self) -> None:
        """Note that the instance is about to be made."""
        _append(self._fd, {"making": True})

    def not_made(self) -> None:
        """Note that the kernel refused to make it: one of that name is somebody else's."""
        _append(self._fd, {"making": False})

    def made(self, inode: int) -> None:
        """Note the identity of the instance that was made."""
        _append(self._fd, {"made": inode})

    def intend(self, file: str) -> None:
        """Note that `file` is about to be written; a refused write may still change it."""
        _append(self._fd, {"intend": file})

    def applied(self, file: str, text: str) -> None:
        """Note what `file` reads after our write."""
        _append(self._fd, {"applied": file, "text": text})

    def restoring(self, file: str) -> None:
        """Note that `file` is about to be put back: what it reads from now on is our doing.

        A full disk does not stop the restore; only a second restore would have missed the note.
        """
        with contextlib.suppress(OSError):
            _append(self._fd, {"restoring": file})

    def state(self) -> JournalState:
        """Read it back through its own descriptor: its name may be gone, or somebody else's."""
        data = b""
        while chunk := os.pread(self._fd, _READ_BYTES, len(data)):
            data += chunk
        state = _parse(self.path, data, is_live=True)
        assert state is not None
        return state

    def discard(self) -> None:
        """Remove the journal: everything is back."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Give up the lock; the journal stays for `recover`."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def new_run_id() -> str:
    """Return 12 hex digits that nobody can guess."""
    return secrets.token_hex(6)


def journals(directory: Path) -> Iterator[JournalState]:
    """Yield every journal in the directory, oldest first.

    Raises KernelLacksError when the directory is there but may not be read.
    """
    try:
        paths = [
            path for path in directory.iterdir() if path.suffix == _SUFFIX and not path.is_dir()
        ]
    except (FileNotFoundError, NotADirectoryError):  # no run can have left one there
        return
    except OSError as error:
        raise KernelLacksError(
            Problem(
                f"cannot read the state directory '{directory}': {errno_text(error.errno or 0)}",
                why="the journals of running recipes belong to the user who runs them",
                fix="run it as that user, or as root",
            )
        ) from error
    states = [read_journal(path) for path in paths]
    yield from sorted(
        (state for state in states if state is not None), key=lambda state: state.started_at
    )


def read_journal(path: Path) -> JournalState | None:
    """Read one journal; None when it is gone or its first line was never completed.

    A torn line is ignored: it describes a write that had not begun.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ELOOP}:
            return None
        raise
    try:
        is_live = _is_locked(fd)
        with os.fdopen(os.dup(fd), "rb") as stream:
            return _parse(path, stream.read(), is_live=is_live)
    finally:
        os.close(fd)


def _parse(path: Path, data: bytes, *, is_live: bool) -> JournalState | None:
    lines = data.split(b"\n")[:-1]
    entries = [_entry(line) for line in lines]
    if not entries or entries[0].get("journal") != _VERSION:
        return None
    head, rest = entries[0], entries[1:]
    applied: dict[str, str] = {}
    intended: set[str] = set()
    restoring: set[str] = set()
    inode, is_making = head["inode"], False
    for entry in rest:
        if "applied" in entry:
            applied[entry["applied"]] = entry["text"]
        elif "intend" in entry:
            intended.add(entry["intend"])
            applied.pop(entry["intend"], None)  # a second write may have been cut short
        elif "restoring" in entry:
            restoring.add(entry["restoring"])
        elif "made" in entry:
            inode = entry["made"]
        elif "making" in entry:
            is_making = entry["making"]
    return JournalState(
        path=path,
        run_id=head["run_id"],
        boot_id=head["boot_id"],
        pid=head["pid"],
        started_at=head["started_at"],
        recipe=head["recipe"],
        recipe_path=head["recipe_path"],
        mount=head["mount"],
        instance=head["instance"],
        makes_instance=head["makes_instance"],
        inode=inode,
        before=head["before"],
        applied=applied,
        intended=frozenset(intended),
        restoring=frozenset(restoring),
        claims=frozenset(head.get("claims", ())),
        is_making=is_making,
        is_live=is_live,
        is_this_boot=head["boot_id"] == _boot_id(),
    )


def _entry(line: bytes) -> dict[str, Any]:
    # After a torn line (a full disk) the next one stands right behind it.
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _prepare(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        raise KernelLacksError(_unwritable(directory, error)) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise KernelLacksError(
            Problem(
                f"the state directory '{directory}' is not safe to use",
                why="it must be a directory of the user who runs the recipe, writable by no other",
                fix=f"look who made it, then remove it: rm -r {directory}",
            )
        )


def _unwritable(path: Path, error: OSError) -> Problem:
    return Problem(
        f"cannot write the journal '{path}': {errno_text(error.errno or 0)}",
        why="nothing is changed in the kernel before the way back is on disk",
        fix="run as root, or name another place with --state-dir",
    )


def _append(fd: int, entry: Mapping[str, Any]) -> None:
    data = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
    while data:
        data = data[os.write(fd, data) :]


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
