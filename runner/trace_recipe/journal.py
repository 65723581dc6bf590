"""Journal: what a run is about to change, on disk and synced before it is changed.

One file per run in a directory that only root can enter. The first line is the header, with the
whole pre-image; it is synced once, before the first write. The lines after it need no sync: a
killed process loses nothing that reached the page cache, and after a power cut the kernel's state
is gone as well. The runner holds a lock on the file for as long as it lives, so a free lock means a
dead owner; boot id, pid and start time say which process that was.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import signal
import stat
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trace_recipe.errors import InstanceBusyError, KernelLacksError, Problem, errno_text
from trace_recipe.public_claims import publish, withdraw
from trace_recipe.state_directory import (
    append,
    check_safe,
    command_line,
    create_locked,
    is_locked,
    prepare,
    unwritable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "Intent",
    "Journal",
    "JournalState",
    "Leftovers",
    "boot_time_ns",
    "change_time",
    "journal_path",
    "journals",
    "new_run_id",
    "read_journal",
    "start_ticks",
]

_SUFFIX = ".journal"
_ARCHIVED = ".archived"
_VERSION = "v1"
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """Files that a killed run leaves outside of tracefs, and on whose behalf they were made."""

    spool: str = ""
    """The directory of raw pages; kept when it can be read."""
    spool_identity: tuple[int, int] | None = None
    """Its device and inode, where others could give its name to another directory."""
    folders: tuple[str, ...] = ()
    token: str = ""
    """Where outputs lie that never got their names, and what they bear until then; removed."""
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Leftovers:
        """Return what `asdict` and JSON made of one."""
        identity = data["spool_identity"]
        return cls(
            spool=data["spool"],
            spool_identity=None if identity is None else (identity[0], identity[1]),
            folders=tuple(data["folders"]),
            token=data["token"],
            uid=data["uid"],
            gid=data["gid"],
            groups=tuple(data["groups"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What a run is going to do, known before it changes anything."""

    run_id: str
    recipe: str
    recipe_path: str
    mount: str
    instance: str
    makes_instance: bool
    inode: int | None
    before: Mapping[str, str]
    claims: Mapping[str, str | None] = field(default_factory=dict)
    """Files that no other run may change meanwhile; with a text one may who wishes the same."""
    inherited: Mapping[str, str | None] = field(default_factory=dict)
    """Files of another run with the same wish, and what they read since it set them; None: it has
    still to do that."""
    leftovers: Leftovers = field(default_factory=Leftovers)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalState(Intent):
    """What a journal says: who made it, what was there before, and how far the run came."""

    path: Path
    boot_id: str
    pid: int
    start_ticks: int
    started_at: float
    applied: Mapping[str, str] = field(default_factory=dict)
    intended: frozenset[str] = frozenset()
    restoring: frozenset[str] = frozenset()
    is_making: bool = False
    pinned: str = ""
    """Who kept the instance from being removed when that was tried last."""
    is_tried: bool = False
    """Applied by `try`: nothing records into files, and it stays until its time is up."""
    until_ns: int | None = None
    is_live: bool = False
    is_this_boot: bool = True


class Journal:
    """The open journal of a running recipe; lines are appended before and after each write."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    @classmethod
    def begin(cls, directory: Path, intent: Intent) -> Journal:
        """Write and sync the pre-image; nothing of the kernel may be changed before it returns.

        Raises KernelLacksError when the directory cannot be written or is not safe to use.
        """
        prepare(directory)
        path = journal_path(directory, intent.run_id)
        header = {
            "journal": _VERSION,
            "boot_id": _boot_id(),
            "pid": os.getpid(),
            "start_ticks": start_ticks(os.getpid()),
            "started_at": time.time(),
            **asdict(intent),
        }
        fd = create_locked(path, header)
        own = f"instances/{intent.instance}" if intent.makes_instance else ""
        publish(path, intent.recipe, [file for file in intent.claims if file != own])
        return cls(path, fd)

    @classmethod
    def adopt(cls, state: JournalState) -> Journal:
        """Take over a dead run's journal; raises InstanceBusyError while its owner lives.

        Raises KernelLacksError when it is gone or may not be written.
        """
        try:
            fd = os.open(state.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError as error:
            raise _gone(state) from error
        except OSError as error:
            raise KernelLacksError(unwritable(state.path, error)) from error
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
        if os.fstat(fd).st_nlink == 0:  # its guardian was faster, between our open and our lock
            os.close(fd)
            raise _gone(state)
        return cls(state.path, fd)

    def making(self) -> None:
        """Note that the instance is about to be made."""
        append(self._fd, {"making": True})

    def not_made(self) -> None:
        """Note that the kernel refused to make it: one of that name is somebody else's."""
        append(self._fd, {"making": False})

    def made(self, inode: int) -> None:
        """Note the identity of the instance that was made."""
        append(self._fd, {"made": inode})

    def intend(self, file: str) -> None:
        """Note that `file` is about to be written; a refused write may still change it."""
        append(self._fd, {"intend": file})

    def applied(self, file: str, text: str) -> None:
        """Note what `file` reads after our write."""
        append(self._fd, {"applied": file, "text": text})

    def restoring(self, file: str) -> None:
        """Note that `file` is about to be put back: what it reads from now on is our doing.

        A full disk does not stop the restore; only a second restore would have missed the note.
        """
        with contextlib.suppress(OSError):
            append(self._fd, {"restoring": file})

    def state(self) -> JournalState:
        """Read it back through its own descriptor: its name may be gone, or somebody else's."""
        data = b""
        while chunk := os.pread(self._fd, _READ_BYTES, len(data)):
            data += chunk
        state = _parse(self.path, data, is_live=True)
        assert state is not None
        return state

    def keep_until(self, until_ns: int | None) -> None:
        """Note when a tried recipe reverts by itself, by `boot_time_ns`; None: never.

        Raises OSError.
        """
        append(self._fd, {"until": until_ns})

    def owned(self) -> None:
        """Note that this process has it now. Raises OSError."""
        append(self._fd, {"owner": os.getpid(), "start_ticks": start_ticks(os.getpid())})

    def pinned(self, by: str) -> None:
        """Note who keeps the instance from being removed; empty: nobody any more."""
        with contextlib.suppress(OSError):
            append(self._fd, {"pinned": by})

    def archive(self) -> None:
        """Keep it under another name: the kernel that it tells of is gone."""
        withdraw(self.path)
        with contextlib.suppress(OSError):
            self.path.rename(self.path.with_suffix(_ARCHIVED))
        self.close()

    def discard(self) -> None:
        """Remove the journal: everything is back, as `recover` finds where it cannot be removed."""
        withdraw(self.path)
        with contextlib.suppress(OSError):
            self.path.unlink()
        self.close()

    def close(self) -> None:
        """Give up the lock; the journal stays for `recover`."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def change_time(state: JournalState, until_ns: int | None) -> bool:
    """Tell the process that keeps a tried recipe when to revert it; None: not by itself.

    Return whether that process is there. Raises KernelLacksError when the journal is gone.
    """
    try:
        fd = os.open(state.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise _gone(state) from error
    try:
        append(fd, {"until": until_ns})
    finally:
        os.close(fd)
    if start_ticks(state.pid) != state.start_ticks:
        return False
    os.kill(state.pid, signal.SIGUSR1)
    return True


def boot_time_ns() -> int:
    """Return the time since boot, suspended time included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def new_run_id() -> str:
    """Return 12 hex digits that nobody can guess."""
    return secrets.token_hex(6)


def journal_path(directory: Path, run_id: str) -> Path:
    """Return where the journal of a run is while it has one."""
    return directory / f"{run_id}{_SUFFIX}"


def journals(directory: Path) -> Iterator[JournalState]:
    """Yield every journal in the directory, oldest first.

    Raises KernelLacksError when the directory is there but may not be read, or is not safe to use:
    a journal says what root is to write and remove.
    """
    try:
        paths = [
            path for path in directory.iterdir() if path.suffix == _SUFFIX and not path.is_dir()
        ]
        check_safe(directory)
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
    """Read one journal; None when it is gone, somebody else's, or its first line not complete.

    A torn line is ignored: it describes a write that had not begun.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ELOOP}:
            return None
        raise
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            return None
        is_live = is_locked(fd)
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
    head["leftovers"] = Leftovers.from_json(head["leftovers"])
    inherited: dict[str, str | None] = head["inherited"]
    applied = {file: text for file, text in inherited.items() if text is not None}
    intended = set(inherited)
    restoring: set[str] = set()
    is_making, pinned = False, ""
    is_tried, until_ns = False, None
    for entry in rest:
        if "applied" in entry:
            applied[entry["applied"]] = entry["text"]
        elif "intend" in entry:
            intended.add(entry["intend"])
            applied.pop(entry["intend"], None)  # a second write may have been cut short
        elif "restoring" in entry:
            restoring.add(entry["restoring"])
        elif "made" in entry:
            head["inode"] = entry["made"]
        elif "making" in entry:
            is_making = entry["making"]
        elif "pinned" in entry:
            pinned = entry["pinned"]
        elif "until" in entry:
            is_tried, until_ns = True, entry["until"]
        elif "owner" in entry:
            head["pid"], head["start_ticks"] = entry["owner"], entry["start_ticks"]
    return JournalState(
        **{one.name: head[one.name] for one in fields(JournalState) if one.name in head},
        path=path,
        applied=applied,
        intended=frozenset(intended),
        restoring=frozenset(restoring),
        is_making=is_making,
        pinned=pinned,
        is_tried=is_tried,
        until_ns=until_ns,
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


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot (proc(5)); None: there is none."""
    try:
        stat_text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat_text.rpartition(")")[2].split()[19])


def _gone(state: JournalState) -> KernelLacksError:
    return KernelLacksError(
        Problem(
            f"the journal of run {state.run_id} is gone",
            why="somebody else has just put its files back",
            fix=f"see `{command_line('status', state.path.parent)}`",
        )
    )


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
