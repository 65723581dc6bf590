"""Writer: one pass over the events of a recording, handed to every sink that wants them."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import methodcaller
from typing import IO, TYPE_CHECKING, Any

from trace_recipe.decoder.merge import decode
from trace_recipe.errors import OutputError, Problem, errno_text
from trace_recipe.sinks import Sink, make_sink
from trace_recipe.sinks.trace_dat import TraceDatSink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trace_recipe.events import Damage, TraceData

__all__ = ["Target", "Written", "write_outputs"]


@dataclass(frozen=True, slots=True)
class Target:
    """One output: the sink's name and options, and the open stream (or the folder's opener)."""

    sink: str
    name: str
    options: dict[str, Any]
    stream: IO[bytes] | None = None
    open_file: Callable[[str], IO[bytes]] | None = None


@dataclass(slots=True)
class Written:
    """What a pass found: events by name, events known to be lost, and damaged parts."""

    events: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    damages: list[Damage] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    was_stopped: bool = False

    @property
    def count(self) -> int:
        """Number of decoded events."""
        return sum(self.events.values())


def write_outputs(
    data: TraceData, targets: Sequence[Target], *, should_stop: Callable[[], bool] = lambda: False
) -> Written:
    """Decode once and write every target; a target that fails is left, the others go on.

    `should_stop` is asked between batches. Problems with outputs are returned, not raised.
    """
    written = Written()
    sinks: list[tuple[Target, Sink]] = []
    for target in targets:
        if target.sink == "trace-dat":
            assert target.stream is not None
            try:
                TraceDatSink(target.stream, **target.options).write_data(data)
            except OSError as error:
                written.problems.append(_failed(target, error))
            continue
        sinks.append((target, _open_sink(target)))
    sinks = [pair for pair in sinks if _try(pair, written, methodcaller("begin", data))]
    for events in decode(data):
        if should_stop():
            written.was_stopped = True
            break
        for columns in events:
            name = columns.format.full_name
            written.events[name] = written.events.get(name, 0) + columns.count
        written.lost += sum(gap.count or 0 for gap in events.gaps)
        written.damages += events.damages
        write = methodcaller("write", events)
        sinks = [pair for pair in sinks if _try(pair, written, write)]
    for pair in sinks:
        _try(pair, written, methodcaller("end"))
    return written


def _open_sink(target: Target) -> Sink:
    if target.open_file is not None:
        return make_sink(target.sink, None, open_file=target.open_file, **target.options)
    return make_sink(target.sink, target.stream, **target.options)


def _try(pair: tuple[Target, Sink], written: Written, action: Callable[[Sink], None]) -> bool:
    target, sink = pair
    try:
        action(sink)
    except OSError as error:
        written.problems.append(_failed(target, error))
        return False
    except OutputError as error:
        written.problems += error.problems
        return False
    return True


def _failed(target: Target, error: OSError) -> Problem:
    return Problem(
        f"output '{target.name}' is incomplete: {errno_text(error.errno or 0)}",
        why="what could be written is kept",
        fix="make room and write it again from the recording: trace-recipe report RECORDING",
    )
