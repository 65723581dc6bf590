"""Standard output and error: a terminal that is gone or a full disk must not decide how we end."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer  # in collections.abc from Python 3.12 on

__all__ = ["StandardOutput", "guard_streams"]

_STREAMS = (0, 1, 2)
_OUTPUT, _ERROR = 1, 2


class StandardOutput(io.FileIO):
    """File descriptor 1, which remembers the errno of a write that failed."""

    failed_with: int | None = None

    def write(self, data: Buffer, /) -> int:
        """Write as FileIO does; raises OSError."""
        try:
            return super().write(data)
        except OSError as error:
            self.failed_with = error.errno
            raise


class _Messages(io.FileIO):
    """File descriptor 2: what cannot be said is dropped, since the work has to be finished."""

    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def guard_streams() -> StandardOutput:
    """Replace `sys.stdout` and `sys.stderr`; call it once, before anything is opened."""
    for number in _STREAMS:
        _fill(number)
    output = StandardOutput(_OUTPUT, "w", closefd=False)
    messages = _Messages(_ERROR, "w", closefd=False)
    sys.stdout = _text(output, errors="surrogateescape", is_prompt=output.isatty())
    sys.stderr = _text(messages, errors="backslashreplace", is_prompt=True)
    return output


def _fill(number: int) -> None:
    """Occupy a closed descriptor: a file of tracefs opened as 1 would get what we print."""
    try:
        os.fstat(number)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        # Read-only for standard output, so that a write is refused instead of lost.
        os.open(os.devnull, os.O_RDWR if number == _ERROR else os.O_RDONLY)
        os.set_inheritable(number, True)


def _text(raw: io.FileIO, *, errors: str, is_prompt: bool) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding="utf-8", errors=errors, line_buffering=is_prompt
    )
