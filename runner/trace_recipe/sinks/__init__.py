"""Sinks: what writes decoded events to one open file. Their modules are imported when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import IO, TYPE_CHECKING, Any, ClassVar, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from trace_recipe.events import Events, TraceData

__all__ = ["SINKS", "Sink", "load_sink", "make_sink"]


class Sink(Protocol):
    """Takes one recording's events in time order, batch by batch, and writes them to a stream."""

    takes_events: ClassVar[bool]
    """Whether `write` wants events; a sink that does not has all it needs with `begin`."""

    def begin(self, data: TraceData) -> None:
        """Take the recording's formats, tables and buffers; called once, first."""

    def write(self, events: Events) -> None:
        """Write one batch."""

    def end(self) -> None:
        """Write what is still held back; the stream stays open, its owner closes it."""


SINKS: dict[str, str] = {
    "csv": "trace_recipe.sinks.csv_rows:CsvSink",
    "jsonl": "trace_recipe.sinks.jsonl:JsonlSink",
    "text": "trace_recipe.sinks.text:TextSink",
    "trace-dat": "trace_recipe.sinks.trace_dat:TraceDatSink",
}


def load_sink(name: str) -> Callable[..., Sink]:
    """Import the sink called `name` and return its class; raises KeyError when unknown."""
    module, _, class_name = SINKS[name].partition(":")
    return cast("Callable[..., Sink]", getattr(import_module(module), class_name))


def make_sink(name: str, stream: IO[bytes] | None, **options: Any) -> Sink:
    """Return the sink called `name` on an open binary stream; raises KeyError when unknown.

    The stream is None for a sink that opens its own files through the option `open_file`.
    """
    return load_sink(name)(stream, **options)
