"""Spool: the private directory that raw pages and their tables are written to while tracing."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trace_recipe.errors import OutputError, Problem, State, TraceRecipeError, errno_text
from trace_recipe.invoker import acting_as
from trace_recipe.outputs import make_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trace_recipe.invoker import Invoker

__all__ = [
    "RESERVE_FILE",
    "Spool",
    "give_away",
    "identity",
    "make_recording_spool",
    "make_temporary_spool",
    "recording_name",
    "remove_pages",
    "temporary_spool_path",
]

_WORK_DIRECTORY = "/var/tmp"  # on disk: /tmp may be memory  # noqa: S108 - what is made there is private
# Given back when the disk is full, so that the manifest and the tables can still be written.
RESERVE_FILE = ".reserve"
_RESERVE_BYTES = 2 << 20


@dataclass(slots=True)
class Spool:
    """A directory held open; `is_kept` when it stays as a Recording."""

    path: Path
    """The way to it through our descriptor, which holds whatever its name becomes meanwhile."""
    name: Path
    fd: int
    is_kept: bool

    @property
    def identity(self) -> tuple[int, int]:
        """Return its device and inode."""
        return identity(self.fd)

    def reserve(self) -> None:
        """Set room aside for what is written after the disk is full; raises OSError."""
        fd = os.open(self.path / RESERVE_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(fd, 0, _RESERVE_BYTES)
        finally:
            os.close(fd)

    def use_reserve(self) -> None:
        """Give the reserved room back to the disk."""
        (self.path / RESERVE_FILE).unlink(missing_ok=True)

    @contextlib.contextmanager
    def rescue(self) -> Iterator[None]:
        """When the block fails keep what was recorded, if anything was, and say where it is.

        An OSError becomes an OutputError: the disk is full, or broken.
        """
        try:
            yield
        except OSError as error:
            raise self.unwritable(error) from error
        except TraceRecipeError as error:
            if self._keep_pages() and not isinstance(error, OutputError):
                kept = Problem(f"what was recorded until then is in '{self.name}'", fix=self._again)
                error.problems += (kept,)
            raise
        except BaseException:
            self._keep_pages()
            raise

    def unwritable(self, error: OSError, *, state: State = State.UNTOUCHED) -> OutputError:
        """Return what a failed write into the directory means; what was recorded is kept."""
        text = errno_text(error.errno or 0)
        if self._keep_pages():
            what = f"the recording cannot be written: {text}"
            why = f"what was recorded until then is in '{self.name}'; {self._again}"
        else:
            what = f"no room to record in '{self.name}': {text}"
            why = "the raw pages are spooled there before they are decoded"
        fix = "free space, or name a directory on another disk with --recording"
        return OutputError(Problem(what, why, fix), state=state)

    @property
    def _again(self) -> str:
        return f"read it with: trace-recipe report {self.name}"

    def _keep_pages(self) -> bool:
        self.use_reserve()
        self.is_kept = any(path.stat().st_size for path in self.path.glob("cpu*.raw"))
        return self.is_kept

    def close(self, invoker: Invoker) -> None:
        """Hand a kept directory to who started the run; remove any other."""
        if self.is_kept:
            give_away(self.fd, invoker)
        else:
            remove_pages(self.fd, self.name, invoker)
        os.close(self.fd)


def identity(fd: int) -> tuple[int, int]:
    """Return the device and the inode of an open directory."""
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def remove_pages(fd: int, name: Path, invoker: Invoker) -> None:
    """Remove an open directory and the files in it."""
    for path in Path(f"/proc/self/fd/{fd}").iterdir():
        path.unlink()
    # Its name may be another directory's by now: who started the run removes only their own.
    give_away(fd, invoker)
    with acting_as(invoker), contextlib.suppress(OSError):
        name.rmdir()


def give_away(fd: int, invoker: Invoker) -> None:
    """Hand an open directory and the files in it to who started the run."""
    if not invoker.is_other:
        return
    for path in Path(f"/proc/self/fd/{fd}").iterdir():
        os.chown(path, invoker.uid, invoker.gid, follow_symlinks=False)
    os.fchown(fd, invoker.uid, invoker.gid)


def recording_name(recipe: str) -> Path:
    """Return the directory for a recording that nobody named."""
    return Path(f"{recipe}-{time.strftime('%Y%m%d-%H%M%S')}.rec")


def temporary_spool_path(run_id: str) -> Path:
    """Return where a run that keeps no recording spools its pages."""
    base = _WORK_DIRECTORY if Path(_WORK_DIRECTORY).is_dir() else tempfile.gettempdir()
    return Path(base, f"trace-recipe-{run_id}")


def make_temporary_spool(path: Path) -> Spool:
    """Make a directory that only root can enter, removed with the run; raises OutputError."""
    try:
        path.mkdir(mode=0o700)
    except OSError as error:
        raise OutputError(
            Problem(
                f"cannot make a directory in '{path.parent}': {errno_text(error.errno or 0)}",
                why="the raw pages are spooled there before they are decoded",
                fix="name a directory of yours with --recording",
            )
        ) from error
    return _open(path, is_kept=False)


def make_recording_spool(path: Path, invoker: Invoker) -> Spool:
    """Make `path`, which stays as the Recording, with the invoker's rights; raises OutputError."""
    make_folder(path, invoker)
    with acting_as(invoker):
        spool = _open(path, is_kept=True)
    try:
        _take_over(spool, invoker)
    except BaseException:
        os.close(spool.fd)
        raise
    return spool


def _take_over(spool: Spool, invoker: Invoker) -> None:
    # Root writes here until the end, so nobody else may put a link in the place of a file; a
    # directory that the invoker could not have made is refused.
    found = os.fstat(spool.fd)
    if invoker.is_other and found.st_uid != invoker.uid:
        raise OutputError(
            Problem(
                f"recording directory '{spool.name}' belongs to somebody else (uid {found.st_uid})",
                why=f"root records on behalf of {invoker.name} only where they could",
                fix="name a new directory",
            )
        )
    os.fchmod(spool.fd, 0o700)
    os.fchown(spool.fd, os.geteuid(), os.getegid())
    if any(spool.path.iterdir()):
        os.fchown(spool.fd, found.st_uid, found.st_gid)
        os.fchmod(spool.fd, stat.S_IMODE(found.st_mode))
        raise OutputError(
            Problem(
                f"recording directory '{spool.name}' is not empty",
                why="a recording never overwrites another one",
                fix="name a new directory",
            )
        )


def _open(path: Path, *, is_kept: bool) -> Spool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise OutputError(
            Problem(
                f"cannot open the recording directory '{path}': {errno_text(error.errno or 0)}",
                why="it is opened with the rights of who started it, and never through a link",
                fix="name a new directory",
            )
        ) from error
    return Spool(Path(f"/proc/self/fd/{fd}"), path, fd, is_kept)
