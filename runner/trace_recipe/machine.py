"""Machine: what tracing depends on here, seen with or without root and tracefs."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trace_recipe.errors import KernelLacksError, TracefsError
from trace_recipe.journal import journals
from trace_recipe.prober import available_bytes, probe_kernel
from trace_recipe.tracefs import Tracefs, find_mount

if TYPE_CHECKING:
    from trace_recipe.journal import JournalState
    from trace_recipe.kernel import Kernel

__all__ = ["LOCKDOWN", "Machine", "Mount", "look_at_machine"]

SPOOL_DIRECTORY = Path("/var/tmp")  # noqa: S108 - only its free space is looked at
LOCKDOWN = Path("/sys/kernel/security/lockdown")
_CAP_SYS_ADMIN = 1 << 21


@dataclass(frozen=True, slots=True)
class Mount:
    """The tracefs mount: its directory's mode and group, and who may do what with it.

    `refused` is the errno name that looking into it gave, or "".
    """

    where: str
    mode: int
    gid: int
    is_read_only: bool
    can_write: bool
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """What was seen of the machine. `kernel` is None when tracefs cannot be read.

    `lockdown` is the text of the lockdown file, None without one; `journals_error` and
    `state_error` are why the state directory cannot be read or written, or "".
    """

    uid: int
    can_mount: bool
    knows_tracefs: bool
    mount: Mount | None
    debugfs: bool
    lockdown: str | None
    kernel: Kernel | None
    state_directory: Path
    state_error: str
    journals: tuple[JournalState, ...]
    journals_error: str
    available_bytes: int | None
    spool_directory: Path
    spool_free_bytes: int | None
    trace_cmd: str | None


def look_at_machine(
    state_directory: Path, *, spool_directory: Path = SPOOL_DIRECTORY, where: str | None = None
) -> Machine:
    """Return what is to be seen here, with or without root and tracefs; changes nothing.

    `where` is the tracefs mount, found by itself when not given.
    """
    mounts = Path("/proc/self/mounts").read_text(errors="replace")
    where = where or find_mount()
    mount, kernel = _look_at_mount(where, mounts) if where else (None, None)
    found, journals_error = _look_at_journals(state_directory)
    return Machine(
        uid=os.geteuid(),
        can_mount=bool(_effective_capabilities() & _CAP_SYS_ADMIN),
        knows_tracefs="tracefs" in Path("/proc/filesystems").read_text().split(),
        mount=mount,
        debugfs=any(line.split()[2] == "debugfs" for line in mounts.splitlines()),
        lockdown=_text(LOCKDOWN),
        kernel=kernel,
        state_directory=state_directory,
        state_error=_state_error(state_directory),
        journals=found,
        journals_error=journals_error,
        available_bytes=available_bytes(),
        spool_directory=spool_directory,
        spool_free_bytes=_free_bytes(spool_directory),
        trace_cmd=shutil.which("trace-cmd"),
    )


def _look_at_mount(where: str, mounts: str) -> tuple[Mount | None, Kernel | None]:
    try:
        found = Path(where).stat()
    except OSError as error:
        refused = _errno_name(error.errno)
        return Mount(where, 0, 0, is_read_only=False, can_write=False, refused=refused), None
    options = [line.split()[3] for line in mounts.splitlines() if line.split()[1] == where]
    refused, kernel = "", None
    tracefs = Tracefs(where)
    try:
        tracefs.list()
        tracefs.read("trace_clock")
        kernel = probe_kernel(tracefs)
    except TracefsError as error:
        refused = _errno_name(error.errno)
    mount = Mount(
        where=where,
        mode=found.st_mode & 0o7777,
        gid=found.st_gid,
        is_read_only=any("ro" in words.split(",") for words in options[-1:]),
        can_write=os.access(f"{where}/instances", os.W_OK | os.X_OK, effective_ids=True),
        refused=refused,
    )
    return mount, kernel


def _look_at_journals(directory: Path) -> tuple[tuple[JournalState, ...], str]:
    try:
        return tuple(journals(directory)), ""
    except KernelLacksError as error:
        return (), error.problems[0].what
    except OSError as error:
        return (), str(error)


def _state_error(directory: Path) -> str:
    """Say why no journal can be written there; "" when it can."""
    try:
        found = directory.lstat()
    except FileNotFoundError:
        parent = next(one for one in directory.absolute().parents if os.access(one, os.F_OK))
        writable = os.access(parent, os.W_OK | os.X_OK, effective_ids=True)
        return "" if writable else f"it is not there, and '{parent}' is not writable"
    except OSError as error:
        return os.strerror(error.errno or 0)
    if not directory.is_dir() or directory.is_symlink():
        return "it is not a directory"
    if found.st_uid != os.geteuid():
        return f"it belongs to uid {found.st_uid}"
    if found.st_mode & 0o022:
        return f"others may write to it (mode {found.st_mode & 0o7777:o})"
    return "" if os.access(directory, os.W_OK | os.X_OK, effective_ids=True) else "not writable"


def _effective_capabilities() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _free_bytes(directory: Path) -> int | None:
    try:
        found = os.statvfs(directory)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _errno_name(number: int | None) -> str:
    return errno.errorcode.get(number or 0, str(number))
