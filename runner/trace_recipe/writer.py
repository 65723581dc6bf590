"""Writer: one pass over the events of a recording, handed to every sink that takes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from trace_recipe.decoder.merge import decode
from trace_recipe.errors import OutputError, Problem
from trace_recipe.events import Damage  # noqa: TC001 - pydantic reads it when it runs
from trace_recipe.outputs import incomplete_output, report_command
from trace_recipe.sinks import make_sink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trace_recipe.events import TraceData

__all__ = ["Target", "Written", "write_outputs"]


@dataclass(frozen=True, slots=True)
class Target:
    """One output: the sink's name and options, and the open stream (or the folder's opener).

    With neither it is standard output.
    """

    sink: str
    name: str
    options: dict[str, Any]
    stream: IO[bytes] | None = None
    open_file: Callable[[str], IO[bytes]] | None = None

    @property
    def is_standard_output(self) -> bool:
        """Whether nothing else was opened for it."""
        return self.stream is None and self.open_file is None


@dataclass(slots=True)
class Written:
    """How it went: damaged parts of the recording, problems, the errno of each broken target.

    `events` were found in the recording; None: nothing was decoded. `remarks` are what a reader of
    the recording had to say. After a pass that `was_stopped` or `has_failed` no output is whole.
    """

    events: int | None = None
    damages: list[Damage] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    broken: dict[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    was_stopped: bool = False
    has_failed: bool = False


def write_outputs(
    data: TraceData,
    targets: Sequence[Target],
    *,
    recording: Path,
    looks_for_damages: bool = False,
) -> Written:
    """Decode once and write every target; a target that fails is left, the others go on.

    Nothing is decoded when no target takes events, unless to look for damages. `recording` is where
    the user finds the data. Problems with outputs are returned, not raised.
    """
    written = Written()
    outputs = [_Output(target, recording, written) for target in targets]
    for one in outputs:
        one.do(partial(one.sink.begin, data))
    if looks_for_damages or any(one.is_open and one.sink.takes_events for one in outputs):
        written.events = 0
        for events in decode(data):
            written.events += events.count
            written.damages += events.damages
            for one in outputs:
                one.do(partial(one.sink.write, events))
    for one in outputs:
        one.do(one.sink.end)
        one.do(one.flush)
    return written


class _Output:
    """A target and its sink until something fails."""

    def __init__(self, target: Target, recording: Path, written: Written) -> None:
        self._target = target
        self._recording = recording
        self._written = written
        self._streams = [target.stream] if target.stream is not None else []
        options = target.options
        if target.open_file is not None:
            options = {**options, "open_file": self._open_file}
        self.sink = make_sink(target.sink, target.stream, **options)
        self.is_open = True

    def do(self, action: Callable[[], None]) -> None:
        if not self.is_open:
            return
        try:
            action()
        except OSError as error:
            self._break_off(error)
        except OutputError as error:
            self.is_open = False
            self._written.problems += error.problems

    def flush(self) -> None:
        """Meet a full disk here already, where it is known how the output can be written again."""
        for stream in self._streams:
            stream.flush()

    def _open_file(self, name: str) -> IO[bytes]:
        assert self._target.open_file is not None
        stream = self._target.open_file(name)
        self._streams.append(stream)
        return stream

    def _break_off(self, error: OSError) -> None:
        self.is_open = False
        target = self._target
        name = "standard output" if target.name == "-" else f"output '{target.name}'"
        again = report_command(self._recording, target.sink, target.name, target.options)
        self._written.problems.append(incomplete_output(name, error, again=again))
        self._written.broken[target.name] = error.errno or 0
