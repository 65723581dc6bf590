"""Sub-buffers that lie in a trace.dat: as they are, or in compressed chunks."""

from __future__ import annotations

import zlib
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import zstandard

from trace_recipe.errors import DecodeError, errno_text
from trace_recipe.page_files import FilePages

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from trace_recipe.held_files import HeldFile

__all__ = ["Chunk", "ChunkedPages", "CompressionError", "PlainPages", "decompress", "is_plausible"]

_RATIO_LIMIT = 1 << 15  # zstd's densest block: 128 KiB from 4 bytes


class CompressionError(ValueError):
    """Compressed bytes do not give what their header says."""


def is_plausible(packed_bytes: int, plain_bytes: int, limit_bytes: int) -> bool:
    """Whether so many compressed bytes can hold `plain_bytes`, and those are within the limit."""
    return plain_bytes <= min(limit_bytes, packed_bytes * _RATIO_LIMIT)


def decompress(method: str, packed: bytes, plain_bytes: int) -> bytes:
    """Unpack one frame of "zstd" or "zlib"; raises CompressionError unless it has `plain_bytes`."""
    try:
        if method == "zstd":
            # trace-cmd's frames say nothing (-1); a frame that lies must not make us allocate.
            if zstandard.frame_content_size(packed) not in {-1, plain_bytes}:
                raise CompressionError("the frame has another size")
            plain = zstandard.ZstdDecompressor().decompress(packed, max_output_size=plain_bytes)
        else:
            plain = zlib.decompressobj().decompress(packed, max(plain_bytes, 1))
    except (zstandard.ZstdError, zlib.error) as error:
        raise CompressionError(str(error)) from error
    if len(plain) != plain_bytes:
        raise CompressionError(f"{len(plain)} bytes instead of {plain_bytes}")
    return plain


@dataclass(frozen=True, slots=True)
class PlainPages(FilePages):
    """Uncompressed sub-buffers; `damages` says (offset in the file, reason) what is missing."""

    damages: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """One compressed run of sub-buffers."""

    offset_bytes: int
    packed_bytes: int
    plain_bytes: int


class ChunkedPages:
    """Compressed sub-buffers; the chunk read last stays unpacked.

    A chunk that cannot be unpacked reads as empty sub-buffers (all zero, so without events) and is
    added to `damages`, which is like PlainPages' and complete once all has been read.
    """

    def __init__(
        self,
        file: HeldFile,
        subbuf_size_bytes: int,
        method: str,
        chunks: Sequence[Chunk],
        damages: Iterable[tuple[int, str]] = (),
    ) -> None:
        self.subbuf_size_bytes = subbuf_size_bytes
        self.damages = list(damages)
        self._file = file
        self._method = method
        self._chunks = chunks
        ends = accumulate(chunk.plain_bytes // subbuf_size_bytes for chunk in chunks)
        self._starts = [0, *ends]  # number of the first sub-buffer of each chunk, and of the end
        self._cached: tuple[int, NDArray[np.uint8]] | None = None

    @property
    def count(self) -> int:
        """Number of whole sub-buffers."""
        return self._starts[-1]

    def read(self, first: int, count: int) -> NDArray[np.uint8]:
        """Return sub-buffers as uint8[count, subbuf_size_bytes]; raises DecodeError."""
        count = max(0, min(count, self.count - first))
        pages = np.empty((count, self.subbuf_size_bytes), np.uint8)
        done = 0
        while done < count:
            index = bisect_right(self._starts, first + done) - 1
            chunk = self._chunk(index)[first + done - self._starts[index] :][: count - done]
            pages[done : done + len(chunk)] = chunk
            done += len(chunk)
        return pages

    def _chunk(self, index: int) -> NDArray[np.uint8]:
        if self._cached is None or self._cached[0] != index:
            self._cached = (index, self._unpack(self._chunks[index]))
        return self._cached[1]

    def _unpack(self, chunk: Chunk) -> NDArray[np.uint8]:
        count = chunk.plain_bytes // self.subbuf_size_bytes
        try:
            packed = self._file.read(chunk.packed_bytes, chunk.offset_bytes)
            plain = decompress(self._method, packed, chunk.plain_bytes)
        except OSError as error:
            what = f"cannot read the sub-buffers: {errno_text(error.errno or 0)}"
            where = chunk.offset_bytes
            raise DecodeError(what, file=self._file.name, offset_bytes=where) from error
        except CompressionError as error:
            damage = (chunk.offset_bytes, f"chunk of {count} sub-buffers: {error}")
            if damage not in self.damages:
                self.damages.append(damage)
            return np.zeros((count, self.subbuf_size_bytes), np.uint8)
        data = np.frombuffer(plain, np.uint8, count * self.subbuf_size_bytes)
        return data.reshape(count, self.subbuf_size_bytes)
