"""Files that are held open for reading: who decodes them may have no right to open anything."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from typing_extensions import Buffer  # in collections.abc from Python 3.12 on

__all__ = ["HeldFile", "hold_file"]


class HeldFile:
    """A regular file by its descriptor, which is closed with the last reference to this object.

    `name` is only for messages.
    """

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self.name = name

    def __del__(self) -> None:
        os.close(self.fd)

    @property
    def size_bytes(self) -> int:
        """How long the file is now."""
        return os.fstat(self.fd).st_size

    def stream(self) -> BinaryIO:
        """Return the file as a stream from its start; this object must outlive it."""
        stream = open(self.fd, "rb", closefd=False)  # noqa: SIM115 - of a descriptor
        stream.seek(0)
        return stream

    def read_into(self, buffer: Buffer, offset_bytes: int) -> int:
        """Fill a buffer from a place in the file; return how much there was. Raises OSError."""
        done = 0
        with memoryview(buffer) as view:
            while done < len(view):
                got = os.preadv(self.fd, [view[done:]], offset_bytes + done)
                if not got:
                    break
                done += got
        return done

    def read(self, size_bytes: int, offset_bytes: int = 0) -> bytes:
        """Return up to so many bytes from a place in the file. Raises OSError."""
        data = bytearray(max(0, min(size_bytes, self.size_bytes - offset_bytes)))
        return bytes(data[: self.read_into(data, offset_bytes)])


def hold_file(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    directory_fd: int | None = None,
    follows_links: bool = True,
) -> HeldFile:
    """Open a regular file for reading, never waiting for a pipe's other end; raises OSError."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    flags |= 0 if follows_links else os.O_NOFOLLOW
    fd = os.open(path, flags, dir_fd=directory_fd)
    held = HeldFile(fd, os.fspath(path) if name is None else name)
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, "not a regular file")
    return held
