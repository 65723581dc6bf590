"""Decode while recording: sub-buffers come in as they fill, events go out in time order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trace_recipe.decoder.window import END, Bound, Window

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy as np
    from numpy.typing import NDArray

    from trace_recipe.events import Events, TraceData

__all__ = ["LiveDecoder"]


class LiveDecoder:
    """Decoder of a recording that still goes on; `data` needs formats and buffers, no pages."""

    def __init__(self, data: TraceData, *, select: Collection[int] | None = None) -> None:
        """Raise DecodeError when the layout in `data` is impossible."""
        self._window = Window(data, select)

    def feed(self, buffer: int, cpu: int, pages: NDArray[np.uint8]) -> None:
        """Add the next sub-buffers uint8[count, subbuf_size_bytes]; they are kept, not copied."""
        self._window.append(self._window.stream(buffer, cpu), pages)

    def take(self, horizon_timestamp: int) -> Events | None:
        """Return the events up to this trace clock time, in order; None when there are none.

        Events of sub-buffers that are fed later come out later, even when they are older.
        """
        if horizon_timestamp < 0:
            return None
        return self._window.hand_out(Bound(min(horizon_timestamp, END.key), END.stream))

    def finish(self) -> Events | None:
        """Return everything that is left."""
        return self._window.hand_out(END)
