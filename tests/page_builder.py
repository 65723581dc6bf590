"""Builds sub-buffers byte by byte, from the layout's description and not from the decoder."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

from trace_recipe.decoder.pages import PageLayout

UNKNOWN = -1  # events were lost, the kernel could not store how many


@dataclass
class PageBuilder:
    """Records of one kernel: `byte_order` "<" or ">", `long_size` 4 or 8."""

    byte_order: str = "<"
    long_size: int = 8
    subbuf_size: int = 4096

    @property
    def data_offset(self) -> int:
        return 8 + self.long_size

    @property
    def layout(self) -> PageLayout:
        return PageLayout(self.byte_order, self.long_size, self.data_offset)

    def head(self, type_len: int, delta: int) -> bytes:
        assert 0 <= delta < 1 << 27
        word = type_len << 27 | delta if self.byte_order == ">" else delta << 5 | type_len
        return struct.pack(f"{self.byte_order}I", word)

    def word(self, value: int) -> bytes:
        return struct.pack(f"{self.byte_order}I", value)

    def long(self, value: int) -> bytes:
        return struct.pack(f"{self.byte_order}{'Q' if self.long_size == 8 else 'I'}", value)

    def data(self, payload: bytes, delta: int = 0, *, long_form: bool = False) -> bytes:
        payload += bytes(-len(payload) % 4)
        if long_form or not 4 <= len(payload) <= 112:
            return self.head(0, delta) + self.word(len(payload) + 4) + payload
        return self.head(len(payload) // 4, delta) + payload

    def padding(self, size: int, delta: int = 1) -> bytes:
        """A discarded event of `size` bytes in all; delta 0: the rest of the page is nothing."""
        if delta == 0:
            return self.head(29, 0) + bytes(size - 4)
        return self.head(29, delta) + self.word(size - 4) + b"\xa5" * (size - 8)

    def extend(self, delta: int) -> bytes:
        return self.head(30, delta & 0x07FF_FFFF) + self.word(delta >> 27)

    def stamp(self, timestamp: int) -> bytes:
        low = timestamp & (1 << 59) - 1
        return self.head(31, low & 0x07FF_FFFF) + self.word(low >> 27)

    def page(
        self,
        timestamp: int,
        records: bytes = b"",
        *,
        lost: int | None = None,
        commit: int | None = None,
    ) -> bytes:
        commit = len(records) if commit is None else commit
        tail = b""
        if lost is not None:
            commit |= 1 << 31
            if lost != UNKNOWN:
                commit |= 1 << 30
                tail = self.long(lost)
        page = struct.pack(f"{self.byte_order}Q", timestamp) + self.long(commit) + records + tail
        assert len(page) <= self.subbuf_size
        return page.ljust(self.subbuf_size, b"\0")

    def event(self, event_id: int, pid: int = 1, body: bytes = b"") -> bytes:
        return struct.pack(f"{self.byte_order}HBBi", event_id, 0, 0, pid) + body

    def array(self, *pages: bytes) -> np.ndarray:
        return np.frombuffer(b"".join(pages), np.uint8).reshape(-1, self.subbuf_size)


@dataclass
class Writer:
    """Writes events as the kernel would: fills pages, extends times, marks losses."""

    builder: PageBuilder
    pages: list[bytes] = field(default_factory=list)
    _records: bytes = b""
    _start: int = 0
    _now: int = 0
    _lost: int | None = None
    _is_open: bool = False

    def lose(self, count: int) -> None:
        """Lose events: the mark stands on the next page."""
        self.close()
        self._lost = count

    def write(self, timestamp: int, payload: bytes, *, absolute: bool = False) -> None:
        build = self.builder
        room = build.subbuf_size - build.data_offset - build.long_size - 8  # count and extend
        need = len(build.data(payload))
        if self._is_open and len(self._records) + need > room:
            self.close()
        if not self._is_open:
            self._start = self._now = timestamp
            self._is_open = True
        delta = timestamp - self._now
        if absolute or delta < 0:
            self._records += build.stamp(timestamp) + build.data(payload)
        elif delta >= 1 << 27:
            self._records += build.extend(delta) + build.data(payload)
        else:
            self._records += build.data(payload, delta)
        self._now = timestamp

    def close(self) -> list[bytes]:
        """End the page and return all pages so far."""
        if self._is_open or self._lost is not None:
            self.pages.append(self.builder.page(self._start, self._records, lost=self._lost))
            self._records, self._lost, self._is_open = b"", None, False
        return self.pages
