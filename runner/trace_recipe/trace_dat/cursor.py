"""Takes numbers and texts off a trace.dat; every length is checked before it is read."""

from __future__ import annotations

from typing import BinaryIO, NoReturn

from trace_recipe.errors import DecodeError
from trace_recipe.trace_dat.layout import Structs

__all__ = ["Cursor", "file_text"]

_WORD_LIMIT_BYTES = 4096


class Cursor:
    """A place in a stream that ends at `end`; `origin` is where the stream is in the file.

    Nothing larger than the file is ever allocated. Every method raises DecodeError when the bytes
    that it wants are not there; `what` names them in the message.
    """

    def __init__(self, stream: BinaryIO, end: int, file: str, origin: int | None = None) -> None:
        self.stream = stream
        self.end = end
        self.file = file
        self.origin = origin
        self.structs = Structs("<")

    @property
    def position(self) -> int:
        """Bytes from the start of the stream."""
        return self.stream.tell()

    def fail(self, what: str, offset: int | None = None) -> NoReturn:
        """Raise a DecodeError for what stands at `offset`, or here."""
        place = self.position if offset is None else offset
        raise DecodeError(
            what, file=self.file, offset_bytes=place if self.origin is None else self.origin
        )

    def seek(self, offset: int, what: str) -> None:
        """Go to `offset`."""
        if offset > self.end:
            self.fail(f"{what} lies at {offset}, behind the end of the file ({self.end} bytes)")
        self.stream.seek(offset)

    def take(self, size: int, what: str) -> bytes:
        """Take `size` bytes."""
        start = self.position
        content = self.stream.read(size) if size <= self.end - start else b""
        if len(content) != size:
            self.fail(f"{what} needs {size} bytes, {max(0, self.end - start)} are left", start)
        return content

    def u8(self, what: str) -> int:
        """Take a number of one byte."""
        return self.take(1, what)[0]

    def u16(self, what: str) -> int:
        """Take a number of two bytes."""
        return int(self.structs.u16.unpack(self.take(2, what))[0])

    def u32(self, what: str) -> int:
        """Take a number of four bytes."""
        return int(self.structs.u32.unpack(self.take(4, what))[0])

    def u64(self, what: str) -> int:
        """Take a number of eight bytes."""
        return int(self.structs.u64.unpack(self.take(8, what))[0])

    def word(self, what: str) -> str:
        """Take a text that ends with NUL."""
        start = self.position
        content = self.stream.read(min(_WORD_LIMIT_BYTES, self.end - start))
        word, nul, _ = content.partition(b"\0")
        if not nul:
            self.fail(f"{what} has no end", start)
        self.stream.seek(start + len(word) + 1)
        return file_text(word)

    def sized_text(self, size: int, what: str, *, limit_bytes: int = 1 << 20) -> str:
        """Take a text of `size` bytes; one beyond the limit is refused."""
        if size > limit_bytes:
            self.fail(f"{what} has {size} bytes, more than {limit_bytes}")
        return file_text(self.take(size, what))


def file_text(content: bytes) -> str:
    """Return bytes of the file as text that turns back into the same bytes."""
    return content.rstrip(b"\0").decode("utf-8", "surrogateescape")
