"""Decode while recording: sub-buffers come in as they fill, events go out in time order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trace_recipe.decoder.merge import Merge
from trace_recipe.decoder.window import END, Bound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from trace_recipe.drift import Drift
    from trace_recipe.events import Events, Pages, TraceData

__all__ = ["LiveDecoder"]


class LiveDecoder:
    """Decoder of a recording that still goes on; `data` needs formats and buffers, no pages.

    `pages` are all whole sub-buffers of each (buffer, cpu) so far. Only a batch of them is in
    memory at a time; whoever leaves off between two batches gets the rest from the next call.
    """

    def __init__(self, data: TraceData) -> None:
        """Raise DecodeError when the layout in `data` is impossible."""
        self._merge = Merge(data)

    def take(
        self, horizon_timestamp: int, pages: Mapping[tuple[int, int], Pages]
    ) -> Iterator[Events]:
        """Yield the events up to this time from the trace clock, in order.

        Events of sub-buffers that come in later come out later, even when they are older.
        """
        if horizon_timestamp < 0:
            return iter(())
        return self._merge.up_to(Bound(min(horizon_timestamp, END.key), END.stream), pages)

    def mark(self, drifts: Iterable[Drift]) -> None:
        """Add changes by others; they come out with the events of their time."""
        self._merge.mark(drifts)

    def finish(self, pages: Mapping[tuple[int, int], Pages]) -> Iterator[Events]:
        """Yield everything that is left."""
        return self._merge.up_to(END, pages)
