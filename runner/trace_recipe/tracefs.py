"""Tracefs: the one place that opens anything under tracefs, and mounts it.

Every path is relative to the mount and is walked component by component, so that no name from a
recipe can leave it (tracefs itself accepts `options/../tracing_on`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from trace_recipe.errors import KernelLacksError, Problem, TracefsError, errno_text

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "MOUNT_POINT",
    "Access",
    "NotingTracefs",
    "Tracefs",
    "find_mount",
    "mount_tracefs",
    "reach_tracefs",
]

MOUNT_POINT = "/sys/kernel/tracing"
_DEBUGFS_MOUNT_POINT = "/sys/kernel/debug/tracing"
_MOUNT_FLAGS = 2 | 4 | 8 | (1 << 21)  # MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RELATIME
_READ_BYTES = 1 << 20
_HEAD_BYTES = 1 << 10
_LOG_ENTRY = re.compile(r"^\[\s*(\d+\.\d+)\] ", re.MULTILINE)


class Access(StrEnum):
    """What is done with a file or directory of tracefs; to write one is to read it too."""

    ENTER = "enter"
    READ = "read"
    LIST = "list"
    WRITE = "write"
    OWN = "own"


class Tracefs:
    """One tracefs directory tree: the mount itself, or an instance of it through `instance()`."""

    def __init__(self, root: Path | str = MOUNT_POINT, *, way: Path | None = None) -> None:
        """`root` is what it is called, `way` how it is reached, if not by that name."""
        self.root = Path(root)
        self._way = self.root if way is None else way

    @contextlib.contextmanager
    def held(self) -> Iterator[Tracefs]:
        """Give the same tree by a descriptor: unmounted lazily, or mounted over, it is still there.

        Raises TracefsError when it is not there now.
        """
        try:
            fd = os.open(self._way, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise TracefsError(".", "open", error.errno or 0) from error
        try:
            yield Tracefs(self.root, way=Path(f"/proc/self/fd/{fd}"))
        finally:
            os.close(fd)

    def instance(self, name: str) -> Tracefs:
        """Return the tree of `instances/NAME` ("" is the top level itself)."""
        if not name:
            return self
        way = self._resolve(f"instances/{name}")
        return Tracefs(self.root / "instances" / name, way=way)

    # -- reading ------------------------------------------------------------------------------

    def read(self, path: str) -> str:
        """Return a file's text; raises TracefsError.

        Read with one large buffer: tracing_cpumask refuses a read shorter than its text. Of a
        snapshot only the beginning, which says whether it is allocated: the rest is recorded data.
        """
        head_only = path.rpartition("/")[2] == "snapshot"
        try:
            fd = os.open(self._resolve(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                chunks = []
                while chunk := os.read(fd, _HEAD_BYTES if head_only else _READ_BYTES):
                    chunks.append(chunk)
                    if head_only:
                        break
            finally:
                os.close(fd)
        except OSError as error:
            raise TracefsError(path, "read", error.errno or 0) from error
        return b"".join(chunks).decode("utf-8", "surrogateescape")

    def exists(self, path: str) -> bool:
        """Whether the file or directory is there (it may still be refused)."""
        return os.path.exists(self._resolve(path))  # Path.exists raises where one may not look

    def list(self, path: str = "") -> tuple[str, ...]:
        """Return the sorted names in a directory; raises TracefsError."""
        try:
            return tuple(sorted(os.listdir(self._resolve(path) if path else self._way)))
        except OSError as error:
            raise TracefsError(path or ".", "list", error.errno or 0) from error

    def list_directories(self, path: str) -> tuple[str, ...]:
        """Return the sorted names of the directories in a directory; raises TracefsError."""
        try:
            with os.scandir(self._resolve(path)) as entries:
                return tuple(sorted(entry.name for entry in entries if entry.is_dir()))
        except OSError as error:
            raise TracefsError(path, "list", error.errno or 0) from error

    def is_directory(self, path: str) -> bool:
        """Whether the path is a directory."""
        return os.path.isdir(self._resolve(path))

    def identity(self, path: str) -> int:
        """Return the inode number, which changes when an instance is made anew."""
        try:
            return self._resolve(path).stat().st_ino
        except OSError as error:
            raise TracefsError(path, "stat", error.errno or 0) from error

    def status(self, path: str) -> os.stat_result:
        """Return owner, group and mode; raises TracefsError. `.` is the tree's own directory."""
        try:
            return (self._way if path == "." else self._resolve(path)).stat()
        except OSError as error:
            raise TracefsError(path, "stat", error.errno or 0) from error

    # -- writing ------------------------------------------------------------------------------

    def write(self, path: str, text: str, *, truncate: bool = False) -> None:
        """Write text without O_CREAT; O_TRUNC only on request, since it acts at open.

        Token files take one token per write(2) and return a short count, hence the loop. Raises
        TracefsError with what the instance's (or the top level's) error_log added.
        """
        data = text.encode("utf-8", "surrogateescape")
        flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_TRUNC if truncate else 0)
        logged = self._error_log()
        try:
            fd = os.open(self._resolve(path), flags)
            try:
                self._write_fd(fd, path, data)
            finally:
                os.close(fd)
        except OSError as error:
            news = _news(logged, self._error_log())
            raise TracefsError(
                path, "write", error.errno or 0, error_log=news, value=text.rstrip("\n")
            ) from error

    def _write_fd(self, fd: int, path: str, data: bytes) -> None:
        del path  # the fake answers by it
        while data:
            taken = os.write(fd, data)
            if taken <= 0:
                raise OSError(errno.EIO, "nothing written")
            data = data[taken:]

    def make_instance(self, name: str) -> None:
        """Create `instances/NAME`; raises TracefsError (EEXIST when somebody has it)."""
        path = f"instances/{name}"
        try:
            os.mkdir(self._resolve(path))
        except OSError as error:
            raise TracefsError(path, "make", error.errno or 0) from error

    def remove_instance(self, name: str) -> None:
        """Remove `instances/NAME`; raises TracefsError (EBUSY while somebody reads in it)."""
        path = f"instances/{name}"
        try:
            os.rmdir(self._resolve(path))
        except OSError as error:
            raise TracefsError(path, "remove", error.errno or 0) from error

    # -- long-lived descriptors ---------------------------------------------------------------

    def open_raw(self, cpu: int) -> int:
        """Open a CPU's trace_pipe_raw, non-blocking; the caller closes it. Raises TracefsError."""
        path = f"per_cpu/cpu{cpu}/trace_pipe_raw"
        try:
            return os.open(self._resolve(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise TracefsError(path, "read", error.errno or 0) from error

    def open_file(self, path: str, flags: int) -> int:
        """Open a file to keep (trace_marker, stats); the caller closes it. Raises TracefsError."""
        try:
            return os.open(self._resolve(path), flags | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise TracefsError(path, "open", error.errno or 0) from error

    # -- the tree -----------------------------------------------------------------------------

    def walk(self) -> Iterator[str]:
        """Yield every file of this tree, `instances/` left out."""
        for directory, names, files in os.walk(self._way):
            if Path(directory) == self._way and "instances" in names:
                names.remove("instances")
            names.sort()
            relative = os.path.relpath(directory, self._way)
            prefix = "" if relative == "." else f"{relative}/"
            yield from (f"{prefix}{name}" for name in sorted(files))

    def event_names(self) -> tuple[str, ...]:
        """Return every `system:event` that has a format file, sorted."""
        names = []
        for system in self.list("events"):
            directory = f"events/{system}"
            if self.is_directory(directory):
                events = self.list_directories(directory)
                names += [f"{system}:{event}" for event in events]
        return tuple(sorted(names))

    def _resolve(self, path: str) -> Path:
        parts = path.split("/")
        if any(part in {"", ".", ".."} or "\0" in part for part in parts):
            raise TracefsError(path, "resolve", errno.EINVAL)
        return self._way.joinpath(*parts)

    def _error_log(self) -> str:
        # Probe errors go to the top level's log even when an instance was written to.
        logs = []
        roots = {self._way, self._way.parent.parent} if self._is_instance() else {self._way}
        for root in sorted(roots):
            try:
                logs.append((root / "error_log").read_text(errors="replace"))
            except OSError:
                continue
        return "\n".join(logs)

    def _is_instance(self) -> bool:
        return self.root.parent.name == "instances"


class NotingTracefs(Tracefs):
    """Notes what is read through it, except in instances: it tells what a user needs to plan."""

    def __init__(self, root: Path | str = MOUNT_POINT) -> None:
        super().__init__(root)
        self.noted: dict[str, Access] = {}

    def read(self, path: str) -> str:
        """Note the file, and read it."""
        self._note(path, Access.READ)
        return super().read(path)

    def list(self, path: str = "") -> tuple[str, ...]:
        """Note the directory, and list it."""
        self._note(path or ".", Access.LIST)
        return super().list(path)

    def list_directories(self, path: str) -> tuple[str, ...]:
        """Note the directory, and list those in it."""
        self._note(path, Access.LIST)
        return super().list_directories(path)

    def _note(self, path: str, access: Access) -> None:
        if not path.startswith("instances/"):
            self.noted[path] = access


class FormatTexts(dict[str, str]):
    """`system:event` → format text, read from tracefs when first asked for."""

    def __init__(self, tracefs: Tracefs) -> None:
        self._tracefs = tracefs
        super().__init__(dict.fromkeys(tracefs.event_names(), ""))

    def __getitem__(self, full_name: str) -> str:
        text = super().__getitem__(full_name)
        if not text:
            system, _, name = full_name.partition(":")
            text = self._tracefs.read(f"events/{system}/{name}/format")
            self[full_name] = text
        return text


def find_mount() -> str | None:
    """Return where tracefs is mounted, MOUNT_POINT first, or None."""
    mounted = []
    for line in Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines():
        _, where, kind = line.split()[:3]
        if kind == "tracefs":
            mounted.append(where.encode().decode("unicode_escape"))
    for known in (MOUNT_POINT, _DEBUGFS_MOUNT_POINT):
        if known in mounted:
            return known
    return mounted[0] if mounted else None


def reach_tracefs(where: str) -> Tracefs:
    """Return the tracefs that was mounted at `where`, by now perhaps elsewhere or nowhere.

    Every mount shows the same tree. Raises KernelLacksError when it cannot be mounted.
    """
    tracefs = Tracefs(where)
    # Without its mount the directory is there, and empty.
    return tracefs if tracefs.exists("instances") else Tracefs(find_mount() or mount_tracefs())


def mount_tracefs() -> str:
    """Mount tracefs on MOUNT_POINT and return it.

    Raises KernelLacksError when the kernel has no tracefs or the user may not mount.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"nodev", MOUNT_POINT.encode(), b"tracefs", _MOUNT_FLAGS, None) == 0:
        return MOUNT_POINT
    number = ctypes.get_errno()
    command = f"mount -t tracefs nodev {MOUNT_POINT}"
    why = {
        errno.EPERM: "mounting needs root (CAP_SYS_ADMIN)",
        errno.ENODEV: "this kernel is built without tracefs (CONFIG_FTRACE)",
        errno.ENOENT: f"{MOUNT_POINT} does not exist: sysfs is not mounted, or the kernel has no"
        " tracing",
    }.get(number, errno_text(number))
    fix = {
        errno.EPERM: f"run it as root, or let root do: {command}",
        errno.ENODEV: "use a kernel with CONFIG_FTRACE=y",
        errno.ENOENT: "mount sysfs (mount -t sysfs sysfs /sys); the kernel needs CONFIG_FTRACE=y",
    }.get(number, f"try by hand: {command}")
    raise KernelLacksError(Problem("tracefs is not mounted and cannot be", why=why, fix=fix))


def _news(before: str, after: str) -> str:
    """Return the entries of an error_log that were not there before, newest message only."""
    seen = {match[1] for match in _LOG_ENTRY.finditer(before)}
    starts = [match for match in _LOG_ENTRY.finditer(after) if match[1] not in seen]
    if not starts:
        return ""
    entry = after[starts[-1].end() :]
    return entry.splitlines()[0].strip() if entry else ""
