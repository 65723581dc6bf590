"""Deliverer: the outputs of a run: opened before, shown while it records, written after.

What decodes and writes is a process of its own (the scribe), forked once the files are open.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trace_recipe.errors import OutputError, Problem
from trace_recipe.live_feed import LiveFeed
from trace_recipe.output_folder import OutputFolder, open_output_folder
from trace_recipe.outputs import OutputFile, open_output_file, refuse_to_replace
from trace_recipe.recording import hold_recording
from trace_recipe.scribe import Scribe
from trace_recipe.writer import Target, Written

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Mapping

    from trace_recipe.collector import Collector
    from trace_recipe.invoker import Invoker
    from trace_recipe.manifest import Manifest
    from trace_recipe.recipe.load import LoadedRecipe
    from trace_recipe.recipe.parts.output import Readers
    from trace_recipe.recorder import Recorder
    from trace_recipe.spool import Spool
    from trace_recipe.tracefs import Tracefs

__all__ = ["Deliverer"]

_LIVE_SINKS = frozenset({"text", "jsonl", "csv"})


class Deliverer:
    """Brings one recording to all outputs of its recipe; `problems` says what went wrong."""

    def __init__(self, loaded: LoadedRecipe, invoker: Invoker, token: str) -> None:
        """Take who the files are for, and the token that their unfinished names carry."""
        self.problems: list[Problem] = []
        self._loaded = loaded
        self._invoker = invoker
        self._token = token
        self._opened: list[tuple[str, _Opened]] = []
        self._scribe: Scribe | None = None
        self._written = Written()
        self._is_skipped = False

    @property
    def pids(self) -> tuple[int, ...]:
        """Return the process that writes; nothing when the recipe has no outputs."""
        return () if self._scribe is None else (self._scribe.pid,)

    @property
    def delivered(self) -> tuple[str, ...]:
        """Return the outputs that were written, as the recipe names them."""
        return () if self._is_skipped else tuple(name for name, _ in self._opened)

    def open_outputs(self, stack: contextlib.ExitStack) -> None:
        """Open every output under a name of its own; raises OutputError with its place."""
        for number, output in enumerate(self._loaded.recipe.outputs):
            options = output.spec.model_dump(exclude={"path", "readable_by"})
            try:
                file = self._open(Path(output.spec.path), options, output.spec.readable_by)
            except OutputError as error:
                place = self._loaded.marks.place(("outputs", number))
                raise OutputError(
                    *(problem.at(place, f"outputs[{number}]") for problem in error.problems)
                ) from error
            if file is not None:
                stack.callback(file.drop)
            self._opened.append((output.spec.path, _Opened(output.sink, options, file)))

    def fork(self, standard_output: int, stack: contextlib.ExitStack) -> None:
        """Fork what writes the outputs, if there are any."""
        if not self._opened:
            return
        live = next((one.target(name) for name, one in self._opened if one.is_live), None)
        targets = [one.target(name) for name, one in self._opened if not one.is_live]
        self._scribe = Scribe(targets, live=live, standard_output=standard_output)
        stack.callback(self._scribe.close)

    def go_live(
        self, tracefs: Tracefs, collector: Collector, recorder: Recorder, spool: Spool
    ) -> LiveFeed | None:
        """Begin to show what is recorded, if an output asks for it."""
        scribe = self._scribe
        if scribe is None or not scribe.is_live:
            return None
        collector.write_tables()
        scribe.hold(spool.name, hold_recording(spool.path, shown_as=spool.name))
        scribe.go_live({cpu: path.name for cpu, path, _ in recorder.spools})
        return LiveFeed(tracefs, collector.instance, scribe)

    def write(self, spool: Spool, *, should_stop: Callable[[], bool]) -> None:
        """Write every output from the finished recording, and give the files their names."""
        if self._scribe is None:
            return
        self._scribe.hold(spool.name, hold_recording(spool.path, shown_as=spool.name))
        written = self._written = self._scribe.write(should_stop=should_stop)
        self.problems += written.problems
        self.problems += [
            Problem(
                f"CPU {one.cpu} is damaged at byte {one.offset_bytes}: {one.reason}",
                why="the part behind it was decoded",
            )
            for one in written.damages
        ]
        if not (written.was_stopped or written.has_failed):
            self._keep()
        elif written.was_stopped and any(one.file is not None for _, one in self._opened):
            self.skip(spool)
        else:
            self._is_skipped = True

    def skip(self, spool: Spool) -> None:
        """Leave the outputs out, and say how to write them from the recording later."""
        self._is_skipped = True
        self.problems.append(
            Problem(
                "outputs were skipped",
                why="you interrupted a second time",
                fix=f"write them later: trace-recipe report {spool.name} --as text",
            )
        )

    def missing(self, manifest: Manifest) -> list[Problem]:
        """Say how many events the kernel handed out to somebody else."""
        found = self._written.events
        if found is None or self._written.damages or found >= manifest.events:
            return []
        count = manifest.events - found
        return [
            Problem(
                f"{count} events are missing: somebody else has read them from the buffer",
                why=f"the kernel counted {manifest.events}, of which {found} came to us; what one"
                " reader takes from a trace_pipe no other gets",
                fix="find out who else traces on this machine, and run it again",
            )
        ]

    def _open(
        self, path: Path, options: Mapping[str, object], readable_by: Readers
    ) -> OutputFile | OutputFolder | None:
        if str(path) == "-":
            return None
        sources = [self._loaded.path, *(name for name, _ in self._loaded.included)]
        refuse_to_replace(path, sources, self._invoker)
        if options.get("layout") == "per-event":
            return open_output_folder(path, self._invoker, self._token, readable_by=readable_by)
        return open_output_file(path, self._invoker, self._token, readable_by=readable_by)

    def _keep(self) -> None:
        for name, one in self._opened:
            if one.file is not None:
                try:
                    one.file.keep(is_whole=name not in self._written.broken)
                except OutputError as error:
                    self.problems += error.problems


@dataclass(frozen=True, slots=True)
class _Opened:
    sink: str
    options: dict[str, object]
    file: OutputFile | OutputFolder | None

    @property
    def is_live(self) -> bool:
        return self.file is None and self.sink in _LIVE_SINKS

    def target(self, name: str) -> Target:
        if isinstance(self.file, OutputFolder):
            return Target(self.sink, name, self.options, open_file=self.file.open_file)
        options = {key: value for key, value in self.options.items() if key != "layout"}
        stream = None if self.file is None else self.file.stream
        return Target(self.sink, name, options, stream=stream)
