"""Where the sub-buffers of each CPU lie in a trace.dat, and what may be believed of that.

No region may use bytes of another, so that a file never makes the decoder hold more uncompressed
sub-buffers than it has; what compressed chunks need when they are unpacked has a limit of its own.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trace_recipe.errors import DecodeError
from trace_recipe.trace_dat.pages import Chunk, ChunkedPages, PlainPages, is_plausible

if TYPE_CHECKING:
    from trace_recipe.held_files import HeldFile
    from trace_recipe.trace_dat.cursor import Cursor

__all__ = ["BufferRegions", "Region", "Regions"]

_UNPACKED_LIMIT_BYTES = 256 << 20  # held at a time: one chunk for each CPU
_UNPACKED_LIMIT_RATIO = 100  # of the file; real traces shrink to a fortieth at most


@dataclass(frozen=True, slots=True)
class Region:
    """`size_bytes` from byte `offset_bytes` of the file."""

    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class BufferRegions:
    """One buffer as the file describes it; `is_packed` when its CPUs hold compressed chunks."""

    name: str
    clock: str
    subbuf_size_bytes: int
    is_packed: bool
    cpus: dict[int, Region]


class Regions:
    """Makes pages of regions; of two that overlap the later one is empty and damaged."""

    def __init__(self, file: HeldFile, cursor: Cursor, method: str) -> None:
        self._file = file
        self._cursor = cursor
        self._method = method
        self._taken: list[tuple[int, int]] = []  # (start, end), in order, without overlaps
        self._unpacked_bytes = 0

    def pages(self, buffer: BufferRegions) -> dict[int, PlainPages | ChunkedPages]:
        """Return the pages of all CPUs; raises DecodeError when too much is to be unpacked."""
        make = self._chunked if buffer.is_packed else self._plain
        size = buffer.subbuf_size_bytes
        return {cpu: make(region, size) for cpu, region in buffer.cpus.items()}

    def _take(self, start: int, end: int) -> bool:
        """Reserve a part of the file; False when somebody has a byte of it."""
        if end <= start:
            return True
        at = bisect_right(self._taken, (start, end))
        if at and self._taken[at - 1][1] > start:
            return False
        if at < len(self._taken) and self._taken[at][0] < end:
            return False
        self._taken.insert(at, (start, end))
        return True

    def _plain(self, region: Region, size: int) -> PlainPages:
        offset, length = region.offset_bytes, region.size_bytes
        there = max(0, min(length, self._cursor.end - offset))
        damages: tuple[tuple[int, str], ...] = ()
        if not self._take(offset, offset + there):
            return self._taken_already(region, size)
        if there < length:
            damages = ((offset + there, _missing(length - there)),)
        elif tail := length % size:
            there -= tail
            damages = ((offset + there, f"{tail} bytes are no whole sub-buffer"),)
        return PlainPages(self._file, size, offset, there, damages=damages)

    def _taken_already(self, region: Region, size: int) -> PlainPages:
        what = f"{region.size_bytes} bytes of sub-buffers are another CPU's too"
        damages = ((region.offset_bytes, what),)
        return PlainPages(self._file, size, region.offset_bytes, 0, damages=damages)

    def _chunked(self, region: Region, size: int) -> PlainPages | ChunkedPages:
        """Find the chunks of one CPU, up to the first whose header cannot be true."""
        # The length does not count the number of chunks that stands first.
        offset, length = region.offset_bytes, region.size_bytes
        stream, end = self._cursor.stream, min(offset + 4 + length, self._cursor.end)
        if not self._take(offset, end):
            return self._taken_already(region, size)
        header = self._cursor.structs.chunk
        chunks: list[Chunk] = []
        damages = []
        place = offset + 4
        announced = 0
        if place <= end:
            stream.seek(offset)
            announced = self._cursor.u32("the number of chunks")
        elif length:
            damages.append((offset, _missing(length)))
        # trace-cmd takes ten sub-buffers for a chunk, we take 256 KiB.
        limit = max(16 * size, 1 << 20)
        while len(chunks) < announced:
            if place + header.size > end:
                damages.append((place, _missing(offset + 4 + length - place)))
                break
            stream.seek(place)
            packed, plain = header.unpack(stream.read(header.size))
            start = place + header.size
            if plain % size or not is_plausible(packed, plain, limit):
                damages.append((place, f"a chunk of {packed} bytes for {plain}; the rest is lost"))
                break
            if packed > end - start:
                damages.append((place, _missing(offset + 4 + length - place)))
                break
            chunks.append(Chunk(start, packed, plain))
            place = start + packed
        self._allow(max((chunk.plain_bytes for chunk in chunks), default=0), offset)
        return ChunkedPages(self._file, size, self._method, chunks, damages)

    def _allow(self, unpacked_bytes: int, offset: int) -> None:
        """Refuse a file that makes much of little: decoding holds one chunk of every CPU."""
        self._unpacked_bytes += unpacked_bytes
        limit = max(_UNPACKED_LIMIT_BYTES, _UNPACKED_LIMIT_RATIO * self._cursor.end)
        if self._unpacked_bytes > limit:
            raise DecodeError(
                f"the CPUs' chunks need {self._unpacked_bytes} bytes at a time, of a file of"
                f" {self._cursor.end}",
                file=self._file.name,
                offset_bytes=offset,
            )


def _missing(size: int) -> str:
    return f"{size} bytes of sub-buffers are missing"
