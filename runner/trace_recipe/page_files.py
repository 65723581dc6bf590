"""Sub-buffers that lie in a file: spool files of a recording, or a part of a trace.dat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trace_recipe.errors import DecodeError, errno_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trace_recipe.held_files import HeldFile

__all__ = ["AbsentPages", "FilePages"]


@dataclass(frozen=True, slots=True)
class FilePages:
    """`size_bytes` of sub-buffers from byte `offset_bytes` of a file; reads only what is asked for.

    Without `size_bytes` (-1) they go up to the file's end. Of `expected_bytes` what the file does
    not hold is a damage. A tail that is no whole sub-buffer is given as a last one, padded with
    zeros. When the recording broke off `unwritten` events followed, and `lost` counts these and all
    that the CPU lost, those that the sub-buffers tell of included.
    """

    file: HeldFile
    subbuf_size_bytes: int
    offset_bytes: int = 0
    size_bytes: int = -1
    expected_bytes: int = 0
    unwritten: int = 0
    lost: int = 0

    def __post_init__(self) -> None:
        if self.size_bytes < 0:
            size = max(self.file.size_bytes - self.offset_bytes, 0)
            object.__setattr__(self, "size_bytes", size)

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
        place = self.offset_bytes + start
        flat = pages.reshape(-1)
        try:
            done = self.file.read_into(flat[:wanted].data, place)
        except OSError as error:
            what = f"cannot read the sub-buffers: {errno_text(error.errno or 0)}"
            raise DecodeError(what, file=self.file.name, offset_bytes=place) from error
        if done < wanted:
            raise DecodeError(
                "the file became shorter", file=self.file.name, offset_bytes=place + done
            )
        flat[wanted:] = 0
        return pages


@dataclass(frozen=True, slots=True)
class AbsentPages:
    """Sub-buffers whose file is not there: none can be read, all are damaged."""

    subbuf_size_bytes: int
    expected_bytes: int

    @property
    def count(self) -> int:
        """Number of sub-buffers: none."""
        return 0

    @property
    def damages(self) -> tuple[tuple[int, str], ...]:
        """What is missing, from the first byte on."""
        missing = f"{self.expected_bytes} bytes are missing"
        return ((0, missing),) if self.expected_bytes > 0 else ()

    def read(self, first: int, count: int) -> NDArray[np.uint8]:
        """Return no sub-buffers."""
        del first, count
        return np.empty((0, self.subbuf_size_bytes), np.uint8)
