"""Outputs: the files that a run writes, opened before it begins and with the invoker's rights.

Each is written beside its name and renamed when it is whole, so that a link in its place is never
followed, an earlier result survives a failure, and nobody reads half a file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from trace_recipe.errors import OutputError, Problem, errno_text
from trace_recipe.invoker import acting_as

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trace_recipe.invoker import Invoker
    from trace_recipe.recipe.parts.output import Readers

__all__ = [
    "OutputFile",
    "incomplete_output",
    "let_into_folder",
    "make_folder",
    "new_token",
    "open_output_file",
    "output_error",
    "refuse_to_replace",
    "report_command",
    "unnamed_outputs",
]

# Where a new file or directory is a wish to the kernel: an instance, a cgroup, a pinned program.
_KERNEL_FILE_SYSTEMS = frozenset(
    {"autofs", "binderfs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs",
     "devpts", "devtmpfs", "efivarfs", "functionfs", "fusectl", "mqueue", "nsfs", "proc", "pstore",
     "resctrl", "rpc_pipefs", "securityfs", "selinuxfs", "smackfs", "sysfs", "tracefs"}
)  # fmt: skip
_KERNEL_FOLDERS = frozenset({"dev", "proc", "sys"})  # some mounts there are a tmpfs
_SHARED_MEMORY = "/dev/shm/"  # noqa: S108 - the one place there that is for files
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MODE = 0o600
_FOLDER_MODE = 0o700
_MODES: Mapping[Readers, int] = {"owner": _MODE, "group": 0o640, "everyone": 0o644}


@dataclass(slots=True)
class OutputFile:
    """One output being written; `keep` gives it its name, `drop` removes it."""

    path: Path
    stream: IO[bytes]
    invoker: Invoker
    folder_fd: int
    part: str
    owns_folder: bool = True

    def keep(self, *, is_whole: bool = True) -> None:
        """Close and rename; raises OutputError when what was buffered cannot be written.

        Not when it `is_whole` no more: then a write has failed before, and was told.
        """
        try:
            self.stream.close()
        except OSError as error:
            if is_whole:
                raise output_error("write", self.path, error) from error
        finally:
            self._rename()

    def drop(self) -> None:
        """Close and remove what was written."""
        with contextlib.suppress(OSError):
            self.stream.close()
        if self.folder_fd >= 0:
            with acting_as(self.invoker), contextlib.suppress(OSError):
                os.unlink(self.part, dir_fd=self.folder_fd)
        self._close_folder()

    def _rename(self) -> None:
        # Also after a failed write: what was written is kept, and said to be incomplete.
        try:
            if self.folder_fd >= 0:
                with acting_as(self.invoker):
                    os.replace(
                        self.part,
                        self.path.name,
                        src_dir_fd=self.folder_fd,
                        dst_dir_fd=self.folder_fd,
                    )
        except OSError as error:
            raise output_error("name", self.path, error) from error
        finally:
            self._close_folder()

    def _close_folder(self) -> None:
        if self.folder_fd >= 0 and self.owns_folder:
            os.close(self.folder_fd)
        self.folder_fd = -1


def open_output_file(
    path: Path,
    invoker: Invoker,
    token: str = "",
    *,
    inside: int | None = None,
    readable_by: Readers = "owner",
) -> OutputFile:
    """Open `path` for writing without following a link in its place; raises OutputError.

    Until it gets its name it bears the token, by which others find it; without one, a random one.
    `inside` is its directory, when that is open (and stays so): its name may be another one's
    meanwhile. It gets mode 0600, 0640 or 0644 by who may read it, whatever the umask is.
    """
    with acting_as(invoker):
        try:
            folder = os.open(path.parent, _FOLDER_FLAGS) if inside is None else inside
        except OSError as error:
            raise output_error("open", path, error) from error
        part = f".{path.name[:200]}.{token or new_token()}.part"
        try:
            _check_folder(path, folder)
            _check_target(path, folder)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(part, flags, _MODE, dir_fd=folder)
        except OSError as error:
            if inside is None:
                os.close(folder)
            raise output_error("open", path, error) from error
        except OutputError:
            if inside is None:
                os.close(folder)
            raise
    stream = os.fdopen(fd, "wb", buffering=1 << 20)
    output = OutputFile(path, stream, invoker, folder, part, owns_folder=inside is None)
    if readable_by != "owner":
        try:
            os.fchmod(fd, _MODES[readable_by])
        except OSError as error:  # a file system without modes
            output.drop()
            raise output_error("open to others", path, error) from error
    return output


def let_into_folder(fd: int, readable_by: Readers) -> None:
    """Let others list and enter an open directory whose files they may read."""
    if readable_by != "owner":
        readers = _MODES[readable_by] & 0o044
        os.fchmod(fd, _FOLDER_MODE | readers | readers >> 2)


def refuse_to_replace(path: Path, sources: Iterable[str], invoker: Invoker) -> None:
    """Raise OutputError when `path` is one of the files that the run itself is made from."""
    with acting_as(invoker):
        for source in sources:
            with contextlib.suppress(OSError):  # one of them is not there: then it is another
                if path.samefile(source):
                    raise OutputError(
                        Problem(
                            f"output '{path}' is the recipe, or a file that it includes",
                            why="the run would replace what it was made from",
                            fix="name another path",
                        )
                    )


def new_token() -> str:
    """Return a token that nobody can guess."""
    return secrets.token_hex(4)


def unnamed_outputs(folder: Path, token: str) -> list[Path]:
    """Return the files in a folder that bear the token: they were never given their names."""
    return list(folder.glob(f".*.{token}.part"))


def make_folder(path: Path, invoker: Invoker) -> None:
    """Make a directory if it is not there; raises OutputError."""
    with acting_as(invoker):
        try:
            parent = os.open(path.parent, _FOLDER_FLAGS)
            try:
                _check_folder(path, parent)
                with contextlib.suppress(FileExistsError):
                    os.mkdir(path.name or ".", _FOLDER_MODE, dir_fd=parent)
            finally:
                os.close(parent)
        except OSError as error:
            raise output_error("make", path, error) from error
        if path.is_symlink():
            raise output_error("make", path, OSError(errno.ELOOP, "a symbolic link"))
        if not path.is_dir():
            raise output_error("make", path, FileExistsError(errno.EEXIST, "not a directory"))


def report_command(recording: Path | str, sink: str, path: str, options: Mapping[str, Any]) -> str:
    """Return the command line that writes one output again from a kept recording."""
    words = ["trace-recipe", "report", str(recording), "--as", sink]
    if path != "-":
        words += ["--output", path]
    words += [
        word
        for word, is_given in (
            ("--per-event", options.get("layout") == "per-event"),
            ("--names", options.get("names", False)),
            ("--version=6", options.get("version") == 6),
            ("--compression=none", options.get("compression") == "none"),
        )
        if is_given
    ]
    return shlex.join(words)


def incomplete_output(what: str, error: OSError, *, again: str) -> Problem:
    """Return what to say of an output that broke off; `again` is the command that writes it."""
    why, remedy = _BROKEN_OFF.get(error.errno or 0, ("no more could be written", ""))
    return Problem(
        f"{what} is incomplete: {errno_text(error.errno or 0)}",
        why=f"{why}; what was written before is kept",
        fix=f"{remedy}write it again from the recording: {again}",
    )


_BROKEN_OFF = {
    errno.ENOSPC: ("its disk is full", "free space, then "),
    errno.EDQUOT: ("its owner's disk quota is used up", "free space, then "),
    errno.EFBIG: ("a file may not become larger (ulimit -f)", "raise the limit, then "),
    errno.EPIPE: ("whoever read it has gone", ""),
    errno.EBADF: ("it is closed", ""),
    errno.EIO: ("its device failed, or the terminal is gone", ""),
}


def _check_folder(path: Path, folder: int) -> None:
    """Refuse directories that hold no files, but ways to tell the kernel something."""
    where = str(Path(f"/proc/self/fd/{folder}").readlink())
    kind = _kernel_file_system(os.fstat(folder).st_dev)
    # By its place: a disk may be mounted there as well, as Kubernetes does for one file in /dev.
    is_below = where.split("/")[1] in _KERNEL_FOLDERS
    if kind or (is_below and not f"{where}/".startswith(_SHARED_MEMORY)):
        raise OutputError(
            Problem(
                f"output '{path}' lies where the kernel has no place for files",
                why=f"{where} is {kind or 'no place on a disk'}: what is made there asks the kernel"
                " for something, or looks like a device",
                fix="name a place on a disk",
            )
        )


def _kernel_file_system(device: int) -> str:
    """Return which of those a device number belongs to, "" for none."""
    number = f"{os.major(device)}:{os.minor(device)}"
    with Path("/proc/self/mountinfo").open(errors="surrogateescape") as mounts:
        for line in mounts:
            # proc_pid_mountinfo(5): id parent major:minor root mount-point … - type source options
            before, _, after = line.partition(" - ")
            kind = after.partition(" ")[0]
            if before.split(" ")[2] == number and kind in _KERNEL_FILE_SYSTEMS:
                return kind
    return ""


def _check_target(path: Path, folder: int) -> None:
    try:
        found = os.stat(path.name or ".", dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a pipe",
        stat.S_IFDIR: "a directory",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    kind = kinds.get(stat.S_IFMT(found.st_mode))
    if kind is not None:
        raise OutputError(
            Problem(
                f"output '{path}' is {kind}",
                why="an output replaces a regular file or makes a new one, nothing else",
                fix="remove it first, or name another path",
            )
        )
    if not os.access(path.name, os.W_OK, dir_fd=folder, effective_ids=True):
        raise OSError(errno.EACCES, "not yours to overwrite")
    where = os.fstat(folder)
    # In a sticky directory it takes one of these to give its name to another file (unlink(2)).
    if where.st_mode & stat.S_ISVTX and os.geteuid() not in {0, found.st_uid, where.st_uid}:
        raise OSError(errno.EPERM, "not yours to replace")


def output_error(action: str, path: Path, error: OSError) -> OutputError:
    """Return the error for an output that cannot be opened, named or removed."""
    fixes = {
        errno.EACCES: "name a place where you may write",
        errno.EPERM: "name a place where you may write",
        errno.EROFS: "the file system is read-only; name another place",
        errno.ENOENT: "make the directory first",
        errno.ENOSPC: "free space, or name a place with more",
    }
    return OutputError(
        Problem(
            f"cannot {action} output '{path}': {errno_text(error.errno or 0)}",
            why="outputs are opened before anything is traced, with the rights of who started it",
            fix=fixes.get(error.errno or 0, "name another path"),
        )
    )
