"""The trace-dat sink: a file for trace-cmd and KernelShark, made from the raw sub-buffers."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Literal

from trace_recipe.trace_dat.writer import write_trace_dat

if TYPE_CHECKING:
    from trace_recipe.events import Events, TraceData

__all__ = ["TraceDatSink"]


class TraceDatSink:
    """Writes a whole recording to an open seekable stream; it takes no decoded events."""

    takes_events = False

    def __init__(
        self,
        stream: IO[bytes],
        *,
        version: Literal[6, 7] = 7,
        compression: Literal["zstd", "none"] = "zstd",
    ) -> None:
        self._stream = stream
        self._version: Literal[6, 7] = version
        self._compression: Literal["zstd", "none"] = compression

    def begin(self, data: TraceData) -> None:
        """Write the file; raises OutputError when version 6 cannot hold the data, and OSError."""
        write_trace_dat(self._stream, data, version=self._version, compression=self._compression)

    def write(self, events: Events) -> None:
        """Do nothing: the sub-buffers hold the events already."""

    def end(self) -> None:
        """Do nothing: the file is whole."""
