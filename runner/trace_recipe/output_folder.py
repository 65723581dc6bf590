"""Output folder: a directory that is one output, with a file per event type.

A run replaces all of it, as it replaces a file: what an earlier run wrote and this one did not goes
away. A list in the directory says which files those are; nothing else is ever removed.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from trace_recipe.errors import OutputError, Problem
from trace_recipe.invoker import acting_as
from trace_recipe.outputs import (
    OutputFile,
    let_into_folder,
    make_folder,
    open_output_file,
    output_error,
)
from trace_recipe.suggestions import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from trace_recipe.invoker import Invoker
    from trace_recipe.recipe.parts.output import Readers

__all__ = ["LIST_FILE", "OutputFolder", "open_output_folder"]

LIST_FILE = ".trace-recipe"
_LONGEST_LIST_BYTES = 1 << 20
_HEADING = "# Files that trace-recipe wrote here; the next run replaces them.\n"
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}\.part")  # of a run that goes on, or was killed


@dataclass(slots=True)
class OutputFolder:
    """The directory being written; `earlier` are the files of the run before."""

    path: Path
    invoker: Invoker
    fd: int
    """The directory itself: what has its name meanwhile may be another one."""
    earlier: frozenset[str]
    token: str = ""
    readable_by: Readers = "owner"
    files: list[OutputFile] = field(default_factory=list)

    def open_file(self, name: str) -> IO[bytes]:
        """Open one more file in the directory; raises OutputError."""
        opened = self._open(name)
        self.files.append(opened)
        return opened.stream

    def keep(self, *, is_whole: bool = True) -> None:
        """Give all files their names, and remove the others of the run before; raises OutputError.

        Whatever happens on the way, the list names every file of ours that is there.
        """
        problems: list[Problem] = []
        names = {one.path.name for one in self.files}
        with _collected(problems):
            self._write_list(self.earlier | names)
        for one in self.files:
            with _collected(problems):
                one.keep(is_whole=is_whole)
        for name in sorted(self.earlier - names):
            with _collected(problems):
                self._remove(name)
        if not problems:
            with _collected(problems):
                self._write_list(names)
        if problems:
            raise OutputError(*problems)

    def drop(self) -> None:
        """Remove what was written; what was there before stays."""
        for one in self.files:
            one.drop()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _open(self, name: str) -> OutputFile:
        return open_output_file(
            self.path / name,
            self.invoker,
            self.token,
            inside=self.fd,
            readable_by=self.readable_by,
        )

    def _remove(self, name: str) -> None:
        with acting_as(self.invoker):
            try:
                os.unlink(name, dir_fd=self.fd)
            except FileNotFoundError:
                return
            except OSError as error:
                raise output_error("remove", self.path / name, error) from error

    def _write_list(self, names: Iterable[str]) -> None:
        file = self._open(LIST_FILE)
        text = _HEADING + "".join(f"{name}\n" for name in sorted(names))
        try:
            file.stream.write(text.encode())
            file.keep()
        finally:
            file.drop()


def open_output_folder(
    path: Path, invoker: Invoker, token: str = "", *, readable_by: Readers = "owner"
) -> OutputFolder:
    """Make the directory, or take one that holds earlier outputs only; raises OutputError.

    The token and the readers are those of `open_output_file`.
    """
    make_folder(path, invoker)
    with acting_as(invoker):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise output_error("look into", path, error) from error
        folder = OutputFolder(path, invoker, fd, frozenset(), token, readable_by)
        try:
            folder.earlier = _earlier(path, fd)
            let_into_folder(fd, readable_by)
        except OSError as error:
            folder.drop()
            raise output_error("look into", path, error) from error
        except OutputError:
            folder.drop()
            raise
    return folder


def _earlier(path: Path, folder: int) -> frozenset[str]:
    """Return what the run before wrote; nothing else may be there."""
    earlier = _listed_names(path, folder)
    found = {name for name in os.listdir(folder) if not _UNFINISHED.fullmatch(name)}
    foreign = sorted(found - earlier - {LIST_FILE})
    if foreign:
        raise OutputError(
            Problem(
                f"output directory '{path}' holds what no run has written: {listed(foreign)}",
                why="the whole directory is the output: a run replaces the files of the run before,"
                " and would leave these among them",
                fix="name a new directory, or move them away",
            )
        )
    return earlier


def _listed_names(path: Path, folder: int) -> frozenset[str]:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(LIST_FILE, flags, dir_fd=folder)
    except FileNotFoundError:
        return frozenset()
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OutputError(
                Problem(
                    f"'{path / LIST_FILE}' is no file",
                    why="it should be the list of the files that the run before wrote",
                    fix="remove it, or name a new directory",
                )
            )
        lines = os.read(fd, _LONGEST_LIST_BYTES).decode("utf-8", "replace").splitlines()
    finally:
        os.close(fd)
    return frozenset(
        line for line in lines if line not in {"", ".", ".."} and line[0] != "#" and "/" not in line
    )


@contextlib.contextmanager
def _collected(problems: list[Problem]) -> Iterator[None]:
    try:
        yield
    except OutputError as error:
        problems += error.problems
