"""Sub-buffers that lie in a file: spool files of a recording, or a part of a trace.dat."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trace_recipe.errors import DecodeError, errno_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FilePages"]


@dataclass(frozen=True, slots=True)
class FilePages:
    """`size_bytes` of sub-buffers from byte `offset_bytes` of `path`; reads only what is asked for.

    Without `size_bytes` (-1) they go up to the file's end; then a missing file is a DecodeError.
    Of `expected_bytes` what the file does not hold is a damage. The file is opened per read, so
    that hundreds of CPUs cost no file descriptors. A tail that is no whole sub-buffer is given as a
    last one, padded with zeros.
    """

    path: str | os.PathLike[str]
    subbuf_size_bytes: int
    offset_bytes: int = 0
    size_bytes: int = -1
    expected_bytes: int = 0

    def __post_init__(self) -> None:
        if self.size_bytes < 0:
            try:
                end = os.stat(self.path).st_size  # noqa: PTH116 - beside os.preadv
            except OSError as error:
                what = f"cannot open the sub-buffers: {errno_text(error.errno or 0)}"
                raise DecodeError(what, file=os.fspath(self.path)) from error
            object.__setattr__(self, "size_bytes", max(end - self.offset_bytes, 0))

    @property
    def count(self) -> int:
        """Number of sub-buffers, an incomplete last one included."""
        return -(-self.size_bytes // self.subbuf_size_bytes)

    @property
    def truncated_bytes(self) -> int:
        """Bytes of the incomplete last sub-buffer; 0 when all are whole."""
        return self.size_bytes % self.subbuf_size_bytes

    @property
    def damages(self) -> tuple[tuple[int, str], ...]:
        """Where whole sub-buffers are missing at the end, and how much."""
        missing = self.expected_bytes - self.size_bytes
        if missing <= 0 or self.truncated_bytes:
            return ()
        return ((self.size_bytes, f"{missing} bytes are missing"),)

    def read(self, first: int, count: int) -> NDArray[np.uint8]:
        """Read sub-buffers; raises DecodeError when the file cannot be read any more."""
        first, last = max(first, 0), min(first + count, self.count)
        count = max(last - first, 0)
        pages = np.empty((count, self.subbuf_size_bytes), np.uint8)
        if not count:
            return pages
        start = first * self.subbuf_size_bytes
        wanted = min(count * self.subbuf_size_bytes, self.size_bytes - start)
        view = pages.reshape(-1).data
        done = 0
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                while done < wanted:
                    place = self.offset_bytes + start + done
                    got = os.preadv(descriptor, [view[done:wanted]], place)
                    if not got:
                        raise DecodeError(
                            "the file became shorter", file=os.fspath(self.path), offset_bytes=place
                        )
                    done += got
            finally:
                os.close(descriptor)
        except OSError as error:
            what = f"cannot read the sub-buffers: {errno_text(error.errno or 0)}"
            where = self.offset_bytes + start + done
            raise DecodeError(what, file=os.fspath(self.path), offset_bytes=where) from error
        pages.reshape(-1)[max(wanted, 0) :] = 0
        return pages
