"""Scribe: the process that decodes recordings and writes outputs, without any of root's rights.

Its parent opens what it reads and what it writes, and gives it the descriptors. Nothing that it
says is trusted but that: a name it asks to open is checked, numbers and texts are only shown.
"""

from __future__ import annotations

import io
import logging
import re
import signal
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from trace_recipe.channel import MAX_DESCRIPTORS, BrokenChannelError, Channel
from trace_recipe.confiner import Confined
from trace_recipe.drift import Drift
from trace_recipe.errors import DecodeError, OutputError, Problem
from trace_recipe.held_files import HeldFile
from trace_recipe.live_view import LiveView, Outlet
from trace_recipe.outputs import report_command
from trace_recipe.recording import open_recording
from trace_recipe.sinks import load_sink, make_sink
from trace_recipe.trace_dat.reader import read_trace_dat
from trace_recipe.version import tool_version
from trace_recipe.writer import Target, Written, write_outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trace_recipe.events import TraceData

__all__ = ["TRACE_DAT", "Scribe"]

TRACE_DAT = "trace.dat"
_TICK_S = 0.1
_BUFFER_BYTES = 1 << 20
_FILE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,250}\.csv")
_MAX_FILES = 1 << 14
_WRITTEN: TypeAdapter[Written] = TypeAdapter(Written)
_log = logging.getLogger(__name__)


class Scribe:
    """The parent's side. Targets that go to standard output have neither stream nor opener.

    `live` is the one of them that is shown while it is recorded. Fork it while no other thread
    runs. Raises OutputError when it cannot be confined.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        live: Target | None = None,
        standard_output: int,
    ) -> None:
        self.is_live = live is not None
        self._live = live
        self._targets = targets
        self._where = Path()
        self._opened = 0
        self._is_busy = False
        self._has_ended = False
        self._fault = ""
        # The child may not be able to read our own files: what they hold is read before.
        tool_version()
        for target in (*targets, *([live] if live else ())):
            load_sink(target.sink)
        streams = [target.stream.fileno() for target in targets if target.stream is not None]
        if live is not None or any(target.is_standard_output for target in targets):
            streams.append(standard_output)
        desk = _Desk(targets, live, standard_output)
        self._child = Confined(desk.serve, keep=streams)
        self.pid = self._child.pid

    def close(self) -> None:
        """End the process, whatever it does."""
        self._child.end()

    def hold(self, where: Path, files: Mapping[str, HeldFile]) -> None:
        """Give it the files of the recording that lies `where`, by name, or one as TRACE_DAT."""
        self._where = where
        every = list(files.items())
        self._send({"do": "forget", "where": str(where)})
        for start in range(0, len(every), MAX_DESCRIPTORS):
            part = every[start : start + MAX_DESCRIPTORS]
            names = [[name, held.name] for name, held in part]
            self._send({"do": "hold", "files": names}, [held.fd for _, held in part])

    # -- while it is recorded -----------------------------------------------------------------

    def go_live(self, files: Mapping[int, str]) -> None:
        """Have it begin the live output; `files` are the names of the CPUs' sub-buffers."""
        self._send({"do": "live", "files": {str(cpu): name for cpu, name in files.items()}})
        self._is_busy = True

    def show(
        self, sizes: Mapping[int, int], horizon: int, cmdlines: str, drifts: Sequence[Drift]
    ) -> None:
        """Have it show what the files hold up to these sizes and happened before the horizon."""
        self._send(
            {
                "do": "show",
                "sizes": {str(cpu): size for cpu, size in sizes.items()},
                "horizon": horizon,
                "cmdlines": cmdlines,
                "drifts": [asdict(one) for one in drifts],
            }
        )
        self._is_busy = True

    @property
    def is_idle(self) -> bool:
        """Whether it has shown all that it was told to."""
        while self._is_busy and not self._has_ended and self._child.channel.poll():
            self._is_busy = "shown" not in self._receive()
        return not self._is_busy and not self._has_ended

    # -- at the end ---------------------------------------------------------------------------

    def write(
        self,
        *,
        looks_for_damages: bool = False,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Written:
        """Have it write all outputs of what it holds, as `write_outputs` does; raises DecodeError.

        When it is told to stop, or fails, the result says so, and what was written is no output.
        """
        self._send({"do": "write", "looks_for_damages": looks_for_damages})
        is_streamed = not self.is_live
        while not self._has_ended:
            if should_stop():
                self.close()
                return Written(was_stopped=True, problems=[] if is_streamed else [self._left()])
            if not self._child.channel.poll(_TICK_S):
                continue
            answer = self._receive()
            if "streamed" in answer:
                is_streamed = True
            elif "open" in answer:
                self._open(answer["open"])
            elif "unreadable" in answer:
                what, fix = map(str, answer["unreadable"])
                raise DecodeError(what, fix=fix)
            elif "written" in answer:
                return self._checked(answer["written"])
        return self._failed()

    def _checked(self, answer: Any) -> Written:
        try:
            written = _WRITTEN.validate_python(answer, strict=False)
        except ValidationError as error:
            self._end_it(f"its answer is no result ({error.errors()[0]['msg']})")
            return self._failed()
        for remark in written.remarks:
            _log.warning("%s", remark)
        return written

    def _left(self) -> Problem:
        assert self._live is not None
        again = report_command(self._where, self._live.sink, "-", self._live.options)
        return Problem(
            "standard output is incomplete",
            why="its reader took no more, and you interrupted a second time",
            fix=f"write it again from the recording: {again}",
        )

    def _failed(self) -> Written:
        status = self._child.end()
        fault = self._fault or (f"killed by {_signal_name(-status)}" if status < 0 else "it ended")
        problem = Problem(
            f"the process that writes the outputs has failed: {fault}",
            why="what it had written is not complete, and was removed",
            fix=f"write them from the recording, one by one: trace-recipe report {self._where}",
        )
        return Written(problems=[problem], has_failed=True)

    def _open(self, wanted: Any) -> None:
        """Open one more file of an output that is a directory, in its place."""
        number, name = wanted if isinstance(wanted, list) and len(wanted) == 2 else (-1, "")
        is_number = isinstance(number, int) and 0 <= number < len(self._targets)
        opener = self._targets[number].open_file if is_number else None
        self._opened += 1
        is_name = isinstance(name, str) and _FILE_NAME.fullmatch(name)
        if opener is None or not is_name or self._opened > _MAX_FILES:
            self._end_it(f"it asked for the file {name!r}")
            return
        try:
            stream = opener(name)
        except OutputError as error:
            problem = error.problems[0]
            self._send({"refused": [problem.what, problem.why, problem.fix]})
        else:
            with stream:  # the other side writes; here as many may be open as a shell allows
                self._send({}, [stream.fileno()])

    def _send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        if not self._has_ended:
            try:
                self._child.channel.send(message, descriptors)
            except BrokenChannelError:
                self._end_it()

    def _receive(self) -> dict[str, Any]:
        try:
            answer, _ = self._child.channel.receive()
        except BrokenChannelError:
            self._end_it()
            return {}
        if "crashed" in answer:
            trace = str(answer["crashed"]).strip()
            _log.error("%s", trace)
            self._end_it(trace.rpartition("\n")[2])
        return answer

    def _end_it(self, fault: str = "") -> None:
        self._has_ended = True
        self._fault = self._fault or fault


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# -- the other side -------------------------------------------------------------------------------


class _Remarks(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, remarks: list[str]) -> None:
        super().__init__()
        self._remarks = remarks

    def emit(self, record: logging.LogRecord) -> None:
        self._remarks.append(record.getMessage())


@dataclass(slots=True)
class _Desk:
    """The child's side: does what it is told until it has written."""

    targets: Sequence[Target]
    live: Target | None
    standard_output: int
    where: Path = field(default=Path())
    files: dict[str, HeldFile] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def serve(self, channel: Channel) -> None:
        """Answer orders; runs in the child only."""
        logging.getLogger().handlers = [_Remarks(self.remarks)]
        view: LiveView | None = None
        while True:
            order, descriptors = channel.receive(with_descriptors=True)
            match order["do"]:
                case "forget":
                    self.where = Path(order["where"])
                    self.files = {}
                case "hold":
                    for (key, name), fd in zip(order["files"], descriptors, strict=True):
                        self.files[key] = HeldFile(fd, name)
                case "live":
                    view = self._begin_live(order["files"])
                    channel.send({"shown": True})
                case "show":
                    sizes = {int(cpu): size for cpu, size in order["sizes"].items()}
                    drifts = [Drift(**one) for one in order["drifts"]]
                    if view is not None:
                        view.show(sizes, order["horizon"], order["cmdlines"], drifts)
                    channel.send({"shown": True})
                case "write":
                    self._answer(channel, view, looks_for_damages=order["looks_for_damages"])
                    return

    def _begin_live(self, names: Mapping[str, str]) -> LiveView | None:
        assert self.live is not None
        try:
            data = self._data()
        except DecodeError:
            return None  # `write` fails with it again, and tells it
        outlet = self._outlet()
        sink = make_sink(self.live.sink, outlet, **self.live.options)
        files = {int(cpu): self.files[name] for cpu, name in names.items()}
        again = report_command(self.where, self.live.sink, "-", self.live.options)
        return LiveView(data, files, sink, outlet, again=again)

    def _answer(self, channel: Channel, view: LiveView | None, *, looks_for_damages: bool) -> None:
        try:
            written = self._write(channel, view, looks_for_damages=looks_for_damages)
        except DecodeError as error:
            problem = error.problems[0]
            channel.send({"unreadable": [problem.what, problem.fix]})
            return
        written.remarks = self.remarks
        channel.send({"written": _WRITTEN.dump_python(written, mode="json")})

    def _write(
        self, channel: Channel, view: LiveView | None, *, looks_for_damages: bool
    ) -> Written:
        data = self._data()
        if view is not None:
            view.finish(data)
            channel.send({"streamed": True})
        targets = [
            self._with_stream(channel, number, target) for number, target in enumerate(self.targets)
        ]
        written = write_outputs(
            data, targets, recording=self.where, looks_for_damages=looks_for_damages
        )
        if view is not None:
            written.problems[:0] = view.problems
            written.damages = view.damages or written.damages
        return written

    def _data(self) -> TraceData:
        if TRACE_DAT in self.files:
            return read_trace_dat(self.files[TRACE_DAT])
        return open_recording(self.where, self.files)

    def _with_stream(self, channel: Channel, number: int, target: Target) -> Target:
        if target.is_standard_output:
            return replace(target, stream=self._outlet())
        if target.open_file is None:
            return target

        def open_file(name: str) -> IO[bytes]:
            channel.send({"open": [number, name]})
            answer, descriptors = channel.receive(with_descriptors=True)
            if "refused" in answer:
                raise OutputError(Problem(*answer["refused"]))
            return open(descriptors[0], "wb", buffering=_BUFFER_BYTES)  # noqa: PTH123 - of a descriptor, flushed by the writer

        return replace(target, open_file=open_file)

    def _outlet(self) -> IO[bytes]:
        return io.BufferedWriter(Outlet(self.standard_output), _BUFFER_BYTES)
