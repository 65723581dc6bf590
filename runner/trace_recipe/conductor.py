"""Conductor: one run from a plan to its outputs: apply, record, restore, write. Prints nothing.

The kernel is put back as soon as the last sub-buffer is on disk; decoding comes after that.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import select
import shutil
import stat
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

import zstandard

from trace_recipe.command import HeldCommand
from trace_recipe.decoder.live import LiveDecoder
from trace_recipe.errors import (
    ApplyError,
    OutputError,
    Problem,
    RecipeError,
    RestoreError,
    State,
    TracefsError,
    errno_text,
)
from trace_recipe.events import Buffer
from trace_recipe.executor import Session, apply
from trace_recipe.formats import parse_event_format, parse_header_page
from trace_recipe.invoker import acting_as
from trace_recipe.kernel_tables import parse_cmdlines
from trace_recipe.manifest import (
    BufferEntry,
    ClockPair,
    CpuEntry,
    KernelEntry,
    Manifest,
    ReceiptEntry,
    RecipeEntry,
)
from trace_recipe.outputs import OutputFile, OutputFolder, open_output_file, open_output_folder
from trace_recipe.plan import COMMAND, RUNNER, Plan, plan_to_json
from trace_recipe.recorder import CpuStats, Recorder, trace_clock_now
from trace_recipe.recording import (
    KALLSYMS_FILE,
    LATENCY_FILE,
    make_trace_data,
    open_recording,
    write_manifest,
)
from trace_recipe.sinks import make_sink
from trace_recipe.writer import Target, write_outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trace_recipe.events import Events, TraceData
    from trace_recipe.interrupts import Interrupts
    from trace_recipe.invoker import Invoker
    from trace_recipe.receipt import Receipt
    from trace_recipe.recipe.model import Recipe
    from trace_recipe.resolver import ResolvedRecipe
    from trace_recipe.sinks import Sink
    from trace_recipe.tracefs import Tracefs

__all__ = ["Conductor", "Monitor", "Progress", "RunResult", "tool_version"]

_TICK_S = 0.25
_LIVE_TICK_S = 0.1
_OUTLET_WAIT_MS = 250
_WORK_DIRECTORY = "/var/tmp"  # on disk: /tmp may be memory  # noqa: S108 - mkdtemp makes it private
LATENCY_TRACERS = frozenset(
    {"irqsoff", "preemptoff", "preemptirqsoff", "wakeup", "wakeup_rt", "wakeup_dl"}
)
# What markers, trace_printk and the stacktrace option and trigger write without any tracer.
_TRACERLESS_EVENTS = frozenset(
    {"print", "bprint", "bputs", "raw_data", "kernel_stack", "user_stack"}
)
_LIVE_SINKS = frozenset({"text", "jsonl", "csv"})
_KALLSYMS = Path("/proc/kallsyms")
# Given back when the disk is full, so that the manifest and the tables can still be written.
_RESERVE_FILE = ".reserve"
_RESERVE_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class Progress:
    """How a recording stands: times in ns, `lost` by CPU where any event was lost."""

    elapsed_ns: int
    total_ns: int | None
    events: int
    spooled_bytes: int
    lost: Mapping[int, int]


class Monitor(Protocol):
    """Who is told how the run goes."""

    def phase(self, text: str) -> None:
        """Take a new phase: `recording`, `restoring`, `writing`."""

    def progress(self, progress: Progress) -> None:
        """Take the numbers of a tick; only called when `wants_progress`."""

    @property
    def wants_progress(self) -> bool:
        """Whether the numbers are shown at all: they cost a read per CPU and tick."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a finished run left: `recording` is None when it was only a means to the outputs."""

    manifest: Manifest
    receipt: Receipt
    outputs: tuple[str, ...]
    recording: Path | None
    problems: tuple[Problem, ...]
    decoded_events: Mapping[str, int]
    is_over_limit: bool
    was_interrupted: bool


@dataclass(slots=True)
class _Work:
    """The directory that the raw pages are spooled to."""

    path: Path
    """The way to it through our descriptor, which holds whatever its name becomes meanwhile."""
    name: Path
    fd: int
    is_kept: bool


def tool_version() -> str:
    """Return `trace-recipe X.Y.Z`."""
    try:
        return f"trace-recipe {version('trace-recipe')}"
    except PackageNotFoundError:
        return "trace-recipe (not installed)"


class Conductor:
    """Runs one resolved and planned recipe."""

    def __init__(
        self,
        resolved: ResolvedRecipe,
        plan: Plan,
        *,
        run_id: str,
        tracefs: Tracefs,
        state_directory: Path,
        invoker: Invoker,
        environment: Mapping[str, str],
        stdout: IO[bytes],
        interrupts: Interrupts,
        monitor: Monitor,
        recording: Path | None = None,
    ) -> None:
        self.resolved = resolved
        self.recipe: Recipe = resolved.loaded.recipe
        self.plan = plan
        self.run_id = run_id
        self.tracefs = tracefs
        self.state_directory = state_directory
        self.invoker = invoker
        self.environment = environment
        self.stdout = stdout
        self.interrupts = interrupts
        self.monitor = monitor
        self.recording = recording
        self.problems: list[Problem] = []
        self.exit_reason = ""
        self._is_skipped = False
        self._live: _LiveView | None = None

    def run(self) -> RunResult:
        """Do everything; raises TraceRecipeError with the state that the kernel was left in."""
        with contextlib.ExitStack() as stack:
            opened = self._open_outputs(stack)
            work = self._make_work_directory(stack)
            command = self._hold_command(stack)
            recorder = Recorder(work.path, self._cpus())
            stack.callback(recorder.close)
            thread_ids = recorder.prepare()
            manifest, receipt, left = self._record(work, recorder, command, thread_ids)
            written = self._write(work, opened, manifest)
            manifest = replace(
                manifest,
                receipt=tuple(ReceiptEntry(**line.as_json()) for line in receipt.lines),  # type: ignore[arg-type]  # outcome is one of the literals
            )
            write_manifest(work.path, manifest)
            if self.problems and not work.is_kept:
                work.is_kept = True
            if left is not None:
                raise left
            limit = self.recipe.loss.max
            return RunResult(
                manifest=manifest,
                receipt=receipt,
                outputs=() if self._is_skipped else tuple(name for name, _ in opened),
                recording=work.name if work.is_kept else None,
                problems=tuple(self.problems),
                decoded_events=written,
                is_over_limit=limit is not None and manifest.lost > limit,
                was_interrupted=self.interrupts.is_set and self._has_an_end(),
            )

    # -- before -------------------------------------------------------------------------------

    def _open_outputs(self, stack: contextlib.ExitStack) -> list[tuple[str, _Opened]]:
        opened: list[tuple[str, _Opened]] = []
        for number, output in enumerate(self.recipe.outputs):
            options = output.spec.model_dump(exclude={"path"})
            try:
                file = self._open_output(Path(output.spec.path), options)
            except OutputError as error:
                path = ("outputs", number)
                place = self.resolved.loaded.marks.place(path)
                raise OutputError(
                    *(problem.at(place, f"outputs[{number}]") for problem in error.problems)
                ) from error
            if file is not None:
                stack.callback(file.drop)
            opened.append((output.spec.path, _Opened(output.sink, options, file)))
        return opened

    def _open_output(
        self, path: Path, options: Mapping[str, object]
    ) -> OutputFile | OutputFolder | None:
        if str(path) == "-":
            return None
        if options.get("layout") == "per-event":
            return open_output_folder(path, self.invoker)
        return open_output_file(path, self.invoker)

    def _make_work_directory(self, stack: contextlib.ExitStack) -> _Work:
        path = self.recording
        if path is None and not self.recipe.outputs:
            stamp = time.strftime("%Y%m%d-%H%M%S")
            path = Path(f"{self.recipe.name}-{stamp}.rec")
        if path is None:
            made = _make_private_directory()
            work = _open_work(made, stack, is_kept=False)
            stack.callback(lambda: self._give_away(work) if work.is_kept else shutil.rmtree(made))
            return work
        open_output_folder(path, self.invoker)
        with acting_as(self.invoker):
            work = _open_work(path, stack, is_kept=True)
        # Root writes here until the end, so nobody else may put a link in the place of a file; a
        # directory that the invoker could not have made is refused.
        found = os.fstat(work.fd)
        if self.invoker.is_other and found.st_uid != self.invoker.uid:
            raise OutputError(
                Problem(
                    f"recording directory '{path}' belongs to somebody else (uid {found.st_uid})",
                    why=f"root records on behalf of {self.invoker.name} only where they could",
                    fix="name a new directory",
                )
            )
        os.fchmod(work.fd, 0o700)
        os.fchown(work.fd, os.geteuid(), os.getegid())
        if any(work.path.iterdir()):
            os.fchown(work.fd, found.st_uid, found.st_gid)
            os.fchmod(work.fd, stat.S_IMODE(found.st_mode))
            raise OutputError(
                Problem(
                    f"recording directory '{path}' is not empty",
                    why="a recording never overwrites another one",
                    fix="name a new directory",
                )
            )
        stack.callback(self._give_away, work)
        return work

    def _hold_command(self, stack: contextlib.ExitStack) -> HeldCommand | None:
        if self.recipe.run is None:
            return None
        command = HeldCommand(self.recipe.run, self.invoker, self.environment)
        stack.callback(command.end)
        return command

    def _cpus(self) -> tuple[int, ...]:
        return tuple(int(name.removeprefix("cpu")) for name in self.tracefs.list("per_cpu"))

    # -- recording ----------------------------------------------------------------------------

    def _record(
        self,
        work: _Work,
        recorder: Recorder,
        command: HeldCommand | None,
        thread_ids: Sequence[int],
    ) -> tuple[Manifest, Receipt, RestoreError | None]:
        bindings = {
            RUNNER: (os.getpid(), *thread_ids),
            COMMAND: (command.pid,) if command else (),
        }
        session = apply(
            self.plan,
            self.tracefs,
            run_id=self.run_id,
            state_directory=self.state_directory,
            bindings=bindings,
        )
        failure: BaseException | None = None
        manifest: Manifest | None = None
        try:
            manifest = self._record_session(session, work, recorder, command)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the kernel is put back first
            failure = error
        with contextlib.suppress(TracefsError):
            session.stop()
        recorder.close()
        if command is not None:
            command.end()
        if failure is not None and getattr(failure, "state", None) is State.RESTORED:
            raise failure
        self.monitor.phase("restoring")
        left: RestoreError | None = None
        try:
            receipt = session.restore()
        except RestoreError as error:
            if failure is not None or session.receipt is None:
                raise
            # What was recorded is still written; the error comes after it.
            receipt, left = session.receipt, error
        if isinstance(failure, OSError):
            raise OutputError(
                Problem(
                    f"the recording cannot be written: {errno_text(failure.errno or 0)}",
                    why=f"it was kept in '{work.name}'",
                    fix="free space, or name a directory on another disk with --recording",
                ),
                state=State.RESTORED,
            ) from failure
        if isinstance(failure, TracefsError):
            raise ApplyError(*failure.problems, state=State.RESTORED) from failure
        if failure is not None:
            if hasattr(failure, "state"):
                failure.state = State.RESTORED
            raise failure
        assert manifest is not None
        return manifest, receipt, left

    def _record_session(
        self, session: Session, work: _Work, recorder: Recorder, command: HeldCommand | None
    ) -> Manifest:
        instance = session.instance
        header = parse_header_page(instance.read("events/header_page"))
        recorder.attach(instance, subbuf_size_bytes=header.subbuf_size_bytes)
        notes = list(self.plan.notes)
        if not self.plan.makes_instance and (old := recorder.discard_old()):
            notes.append(f"{old} bytes that the instance's buffer held were consumed")
        self._reserve(work)
        self._write_texts(work.path, instance)
        started_at_ns = time.time_ns()
        manifest = self._manifest(instance, header.subbuf_size_bytes, notes, started_at_ns)
        write_manifest(work.path, manifest)
        self._live = self._open_live(manifest, instance, work.path)
        self._delay()
        with contextlib.ExitStack() as stack:
            marker = (
                _Marker(instance, stack, self.resolved.cpus, notes) if self._has_markers() else None
            )
            self.monitor.phase("recording")
            session.start()
            started_ns = time.monotonic_ns()
            first_pair = self._clock_pair(instance)
            recorder.go()
            if marker:
                marker.write(self.recipe.markers.start)
            if command and not self.interrupts.is_set:
                if marker:
                    marker.write(self.recipe.markers.command_start)
                self._release(command)
            self._wait(recorder, command, started_ns, marker)
            if marker:
                marker.write(self.recipe.markers.stop)
        last_pair = self._clock_pair(instance)
        session.stop()
        duration_ns = time.monotonic_ns() - started_ns
        recorder.finish()
        self._note_failures(recorder)
        stats = recorder.stats()
        (work.path / _RESERVE_FILE).unlink(missing_ok=True)
        self._write_tables(work.path)
        self._write_latency(work.path, instance, notes)
        return self._finished(
            replace(manifest, notes=tuple(notes)),
            recorder,
            stats,
            (first_pair, last_pair),
            duration_ns,
            command,
        )

    def _release(self, command: HeldCommand) -> None:
        try:
            command.release()
        except RecipeError as error:
            place = self.resolved.loaded.marks.place(("run", "command"))
            raise RecipeError(*(problem.at(place) for problem in error.problems)) from error

    def _delay(self) -> None:
        if self.recipe.delay:
            self.monitor.phase("waiting")
            if self.interrupts.wait(self.recipe.delay / 1e9):
                self.exit_reason = f"interrupted by {self.interrupts.names[0]}"

    def _wait(
        self,
        recorder: Recorder,
        command: HeldCommand | None,
        started_ns: int,
        marker: _Marker | None,
    ) -> None:
        recipe = self.recipe
        limits = [recipe.duration] if recipe.duration is not None else []
        timeout = recipe.run.timeout if recipe.run else None
        tick_s = _LIVE_TICK_S if self._live else _TICK_S
        while not self.exit_reason:
            elapsed_ns = time.monotonic_ns() - started_ns
            left_s = min([tick_s, *((limit - elapsed_ns) / 1e9 for limit in limits)])
            if left_s <= 0:
                self.exit_reason = "duration"
            elif self.interrupts.wait(left_s):
                self.exit_reason = f"interrupted by {self.interrupts.names[0]}"
            elif recorder.failed.is_set():
                self.exit_reason = "the recording could not be written"
            elif command and command.poll() is not None:
                self.exit_reason = f"command ended with status {command.exit_status}"
                if marker:
                    marker.write(recipe.markers.command_exit)
            elif timeout is not None and elapsed_ns >= timeout:
                self.exit_reason = "command timed out"
            else:
                self._look(recorder, elapsed_ns)

    def _look(self, recorder: Recorder, elapsed_ns: int) -> None:
        stop = self.recipe.stop
        if stop and stop.bytes is not None and recorder.spooled_bytes >= stop.bytes:
            self.exit_reason = f"{stop.bytes} bytes recorded"
        if self.monitor.wants_progress or (stop and stop.events is not None):
            stats = recorder.stats()
            events = sum(one.seen for one in stats)
            if stop and stop.events is not None and events >= stop.events:
                self.exit_reason = f"{stop.events} events recorded"
            lost = {one.cpu: one.lost for one in stats if one.lost}
            self.monitor.progress(
                Progress(elapsed_ns, self.recipe.duration, events, recorder.spooled_bytes, lost)
            )
        if self._live:
            self._live.tick(recorder)

    def _has_markers(self) -> bool:
        markers = self.recipe.markers
        return any((markers.start, markers.stop, markers.command_start, markers.command_exit))

    def _has_an_end(self) -> bool:
        recipe = self.recipe
        return any(one is not None for one in (recipe.duration, recipe.run, recipe.stop))

    def _clock_pair(self, instance: Tracefs) -> ClockPair:
        before_ns = time.time_ns()
        trace = trace_clock_now(instance)
        after_ns = time.time_ns()
        return ClockPair(trace, (before_ns + after_ns) // 2)

    def _note_failures(self, recorder: Recorder) -> None:
        for cpu, error in recorder.failures:
            self.problems.append(
                Problem(
                    f"the recording of CPU {cpu} broke off: {errno_text(error.errno or 0)}",
                    why="the disk is full; what was written before is kept"
                    if error.errno == errno.ENOSPC
                    else "what was written before is kept",
                    fix="free space, or record less: fewer events, a filter, a shorter duration",
                )
            )

    # -- the recording's texts ----------------------------------------------------------------

    def _write_texts(self, directory: Path, instance: Tracefs) -> None:
        loaded = self.resolved.loaded
        (directory / "recipe.yaml").write_text(loaded.text, "utf-8")
        (directory / "plan.json").write_text(json.dumps(plan_to_json(self.plan), indent=2) + "\n")
        names = dict.fromkeys((*self.plan.events, *self.plan.trigger_targets))
        names.update(dict.fromkeys(instance.read("set_event").split()))
        names.update(dict.fromkeys(f"ftrace:{name}" for name in self._ftrace_events(instance)))
        self._formats = {name: self._format_text(name) for name in names}
        (directory / "formats.json").write_text(
            json.dumps(self._formats, indent=0), "utf-8", "surrogateescape"
        )
        for name in ("header_page", "header_event"):
            (directory / name).write_text(instance.read(f"events/{name}"))
        (directory / "printk_formats").write_text(
            self._optional("printk_formats"), "utf-8", "surrogateescape"
        )

    def _reserve(self, work: _Work) -> None:
        fd = os.open(work.path / _RESERVE_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(fd, 0, _RESERVE_BYTES)
        except OSError as error:
            raise OutputError(
                Problem(
                    f"no room to record in '{work.name}': {errno_text(error.errno or 0)}",
                    why="the raw pages are spooled there before they are decoded",
                    fix="free space, or name a directory on another disk with --recording",
                )
            ) from error
        finally:
            os.close(fd)

    def _ftrace_events(self, instance: Tracefs) -> list[str]:
        """Return ftrace's own events that can be in the buffer: tracers have theirs."""
        directory = "events/ftrace"
        names = self.tracefs.list(directory) if self.tracefs.exists(directory) else ()
        if instance.read("current_tracer").strip() == "nop":
            names = tuple(name for name in names if name in _TRACERLESS_EVENTS)
        return [name for name in names if self.tracefs.exists(f"{directory}/{name}/format")]

    def _format_text(self, full_name: str) -> str:
        system, _, name = full_name.partition(":")
        return self.tracefs.read(f"events/{system}/{name}/format")

    def _write_tables(self, directory: Path) -> None:
        """Write what the kernel learns while it traces; call it after the recording."""
        cmdlines = self._optional("saved_cmdlines")
        (directory / "saved_cmdlines").write_text(cmdlines, "utf-8", "surrogateescape")
        (directory / "saved_tgids").write_text(self._optional("saved_tgids"))
        with contextlib.suppress(OSError):  # without symbols addresses stay numbers
            packed = zstandard.ZstdCompressor(level=1).compress(_KALLSYMS.read_bytes())
            (directory / KALLSYMS_FILE).write_bytes(packed)

    def _write_latency(self, directory: Path, instance: Tracefs, notes: list[str]) -> None:
        if self.plan.tracer not in LATENCY_TRACERS:
            return
        report = instance.read("trace")
        if "\n# latency: " not in report:
            notes.append("no latency above the threshold was met")
            return
        (directory / LATENCY_FILE).write_text(report, "utf-8", "surrogateescape")
        notes.append(f"the longest latency was {instance.read('tracing_max_latency').strip()} us")

    def _optional(self, name: str) -> str:
        try:
            return self.tracefs.read(name)
        except TracefsError:
            return ""

    def _manifest(
        self, instance: Tracefs, subbuf_size_bytes: int, notes: list[str], started_at_ns: int
    ) -> Manifest:
        loaded = self.resolved.loaded
        kernel = self.resolved.kernel
        uname = os.uname()
        clock = instance.read("trace_clock")
        buffer = BufferEntry(
            name=self.plan.instance,
            clock=clock[clock.index("[") + 1 : clock.index("]")],
            tracer=instance.read("current_tracer").strip(),
            subbuf_size_bytes=subbuf_size_bytes,
            cpus=tuple(CpuEntry(cpu, f"cpu{cpu}.raw", 0, 0, 0, 0, 0, "") for cpu in self._cpus()),
        )
        return Manifest(
            manifest="v1",
            tool=tool_version(),
            recipe=RecipeEntry(self.recipe.name, loaded.path, loaded.sha256, dict(loaded.params)),
            kernel=KernelEntry(
                release=kernel.release,
                machine=kernel.machine,
                uname=f"{uname.sysname} {uname.nodename} {uname.release} {uname.version}"
                f" {uname.machine}",
                byte_order="little" if kernel.byte_order == "<" else "big",
                long_size=8 if kernel.long_size == 8 else 4,
                page_size_bytes=kernel.page_size_bytes,
                cpu_count=len(kernel.possible_cpus),
            ),
            buffers=(buffer,),
            clock_pairs=(self._clock_pair(instance),),
            started_at_ns=started_at_ns,
            duration_ns=0,
            events=0,
            lost=0,
            exit_reason="unfinished",
            command_exit_status=None,
            options=_options(instance),
            notes=tuple(notes),
        )

    def _finished(
        self,
        manifest: Manifest,
        recorder: Recorder,
        stats: Sequence[CpuStats],
        pairs: tuple[ClockPair, ClockPair],
        duration_ns: int,
        command: HeldCommand | None,
    ) -> Manifest:
        by_cpu = {one.cpu: one for one in stats}
        cut = recorder.cut_bytes
        cpus = []
        for cpu, spool, size in recorder.spools:
            one = by_cpu.get(cpu) or CpuStats(cpu, 0, 0, 0, 0, 0, "")
            cpus.append(
                CpuEntry(
                    cpu,
                    spool.name,
                    size,
                    one.overrun,
                    one.commit_overrun,
                    one.dropped_events,
                    cut[cpu],
                    one.text,
                )
            )
        return replace(
            manifest,
            buffers=(replace(manifest.buffers[0], cpus=tuple(cpus)),),
            clock_pairs=pairs,
            duration_ns=duration_ns,
            events=sum(one.read_events for one in stats),
            lost=sum(one.lost for one in stats),
            exit_reason=self.exit_reason,
            command_exit_status=command.exit_status if command else None,
        )

    # -- outputs ------------------------------------------------------------------------------

    def _open_live(
        self, manifest: Manifest, instance: Tracefs, directory: Path
    ) -> _LiveView | None:
        streamed = [
            output for output in self.recipe.outputs
            if output.spec.path == "-" and output.sink in _LIVE_SINKS
        ]  # fmt: skip
        if not streamed:
            return None
        output = streamed[0]
        options = output.spec.model_dump(exclude={"path", "layout"})
        outlet = _Outlet(self.stdout)
        sink = make_sink(output.sink, outlet.stream, **options)
        kallsyms = _KALLSYMS.read_text() if _KALLSYMS.exists() else ""
        data = self._data(manifest, directory, kallsyms)
        return _LiveView(self.tracefs, instance, data, sink, outlet)

    def _data(self, manifest: Manifest, directory: Path, kallsyms: str) -> TraceData:
        entry = manifest.buffers[0]
        header_page = (directory / "header_page").read_text()
        formats = [
            parse_event_format(text, name.partition(":")[0], long_size=manifest.kernel.long_size)
            for name, text in self._formats.items()
        ]
        return make_trace_data(
            manifest,
            formats={one.id: one for one in formats},
            buffers=(Buffer("", entry.clock, entry.subbuf_size_bytes, {}, {}, entry.tracer),),
            data_offset=parse_header_page(header_page).data_offset,
            header_page_text=header_page,
            header_event_text=(directory / "header_event").read_text(),
            cmdlines_text=self._optional("saved_cmdlines"),
            tgids_text=self._optional("saved_tgids"),
            printk_text=self._optional("printk_formats"),
            kallsyms_text=kallsyms,
        )

    def _write(
        self, work: _Work, opened: list[tuple[str, _Opened]], manifest: Manifest
    ) -> dict[str, int]:
        write_manifest(work.path, manifest)
        targets = [one.target(name) for name, one in opened if one.file is not None]
        if self.interrupts.skips_outputs:
            self._skipped(work)
            return {}
        self.monitor.phase("writing")
        data = open_recording(work.path)
        if self._live:
            self._live.finish(work.path, data, lambda: self.interrupts.skips_outputs)
            self.problems += self._live.problems
        if not targets:
            return dict(self._live.counts) if self._live else {}
        written = write_outputs(data, targets, should_stop=lambda: self.interrupts.skips_outputs)
        self.problems += written.problems
        self.problems += [
            Problem(
                f"CPU {one.cpu} is damaged at byte {one.offset_bytes}: {one.reason}",
                why="the part behind it was decoded",
            )
            for one in written.damages
        ]
        for _, one in opened:
            if one.file is not None and not written.was_stopped:
                try:
                    one.file.keep()
                except OutputError as error:
                    self.problems += error.problems
        if written.was_stopped:
            self._skipped(work)
        return written.events

    def _skipped(self, work: _Work) -> None:
        self._is_skipped = True
        self.problems.append(
            Problem(
                "outputs were skipped",
                why="you interrupted a second time",
                fix=f"write them later: trace-recipe report {work.name} --as text",
            )
        )

    def _give_away(self, work: _Work) -> None:
        if not self.invoker.is_other:
            return
        uid, gid = self.invoker.uid, self.invoker.gid
        for path in work.path.iterdir():
            os.chown(path, uid, gid, follow_symlinks=False)
        os.fchown(work.fd, uid, gid)


@dataclass(frozen=True, slots=True)
class _Opened:
    sink: str
    options: dict[str, object]
    file: OutputFile | OutputFolder | None

    def target(self, name: str) -> Target:
        if isinstance(self.file, OutputFolder):
            return Target(self.sink, name, self.options, open_file=self.file.open_file)
        assert self.file is not None
        options = {key: value for key, value in self.options.items() if key != "layout"}
        return Target(self.sink, name, options, stream=self.file.stream)


class _Marker:
    """An open trace_marker; what cannot be written is noted."""

    def __init__(
        self,
        instance: Tracefs,
        stack: contextlib.ExitStack,
        cpus: Sequence[int] | None,
        notes: list[str],
    ) -> None:
        self._cpus = cpus
        self._notes = notes
        self._fd = instance.open_file("trace_marker", os.O_WRONLY)
        stack.callback(os.close, self._fd)

    def write(self, text: str | None) -> None:
        if not text:
            return
        with contextlib.ExitStack() as stack:
            if self._cpus is not None:  # written from a CPU that is not traced it would be refused
                stack.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(0, self._cpus)
            try:
                os.write(self._fd, text.encode() + b"\n")
            except OSError as error:  # a trigger may have turned tracing off
                reason = errno_text(error.errno or 0)
                self._notes.append(f"marker '{text}' was not written: {reason}")


class _Outlet:
    """Standard output whose reader may stop reading: nothing waits for it unless told to."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = io.BytesIO()
        """Takes what `push` is to write."""
        self._fd = stream.fileno()
        self._waiting = bytearray()
        self._poller = select.poll()
        self._poller.register(self._fd, select.POLLOUT)
        is_file = stat.S_ISREG(os.fstat(self._fd).st_mode)
        # A pipe that polls as writable takes this much without blocking.
        self._step_bytes = 1 << 20 if is_file else select.PIPE_BUF

    def push(self, wait_ms: int = 0) -> bool:
        """Write until the reader takes no more for that long; return whether all is written.

        Raises OSError.
        """
        self._waiting += self.stream.getvalue()
        self.stream.seek(0)
        self.stream.truncate()
        while self._waiting:
            if not self._poller.poll(wait_ms):
                return False
            with memoryview(self._waiting) as view:
                taken = os.write(self._fd, view[: self._step_bytes])
            del self._waiting[:taken]
        return True


class _LiveView:
    """Streams events to standard output while they are recorded."""

    def __init__(
        self, tracefs: Tracefs, instance: Tracefs, data: TraceData, sink: Sink, outlet: _Outlet
    ) -> None:
        self._tracefs = tracefs
        self._instance = instance
        self._data = data
        self._sink = sink
        self._outlet = outlet
        self._decoder = LiveDecoder(data)
        self._offsets: dict[int, int] = {}
        self._horizon: int | None = None
        self._is_open = True
        self.counts: dict[str, int] = {}
        self.problems: list[Problem] = []
        self._try(lambda: sink.begin(data))

    def tick(self, recorder: Recorder) -> None:
        """Show what is complete: all that happened before the last flush that all CPUs answered."""
        if not recorder.is_flushed or not self._push():
            return  # what comes meanwhile waits in the spool files
        self._feed(recorder.read_new(self._offsets))
        if self._horizon is not None:
            self._show(self._decoder.take(self._horizon))
        self._horizon = trace_clock_now(self._instance)
        recorder.request_flush()

    def finish(self, directory: Path, data: TraceData, should_stop: Callable[[], bool]) -> None:
        """Show the rest from the finished recording, waiting for the reader unless told to stop."""
        self._learn(parse_cmdlines((directory / "saved_cmdlines").read_text(errors="replace")))
        for cpu, pages in data.buffers[0].cpus.items():
            size = data.buffers[0].subbuf_size_bytes
            first = self._offsets.get(cpu, 0) // size
            while first < pages.count:
                count = min(256, pages.count - first)
                self._decoder.feed(0, cpu, pages.read(first, count))
                first += count
        self._show(self._decoder.finish())
        self._try(self._sink.end)
        if data.latency_text:
            self._try(partial(self._sink.begin, data))  # the report is known only now
        while not self._push(_OUTLET_WAIT_MS):
            if should_stop():
                self.problems.append(
                    Problem(
                        "standard output is incomplete",
                        why="its reader took no more, and you interrupted a second time",
                    )
                )
                return

    def _feed(self, fresh: list[tuple[int, bytes]]) -> None:
        import numpy as np  # noqa: PLC0415 - the decoder has loaded it already

        size = self._data.buffers[0].subbuf_size_bytes
        for cpu, data in fresh:
            self._decoder.feed(0, cpu, np.frombuffer(data, np.uint8).reshape(-1, size))

    def _show(self, events: Events | None) -> None:
        if events is None:
            return
        pids: set[int] = set()
        for columns in events:
            name = columns.format.full_name
            self.counts[name] = self.counts.get(name, 0) + columns.count
            pids.update(columns.column("common_pid").tolist())
        if pids.difference(self._data.cmdlines):
            with contextlib.suppress(TracefsError):
                self._learn(parse_cmdlines(self._tracefs.read("saved_cmdlines")))
        self._try(lambda: self._sink.write(events))
        self._push()

    def _learn(self, cmdlines: Mapping[int, str]) -> None:
        known = self._data.cmdlines
        assert isinstance(known, dict)
        known.update(cmdlines)

    def _push(self, wait_ms: int = 0) -> bool:
        """Return whether nothing waits any more, because it is written or nobody reads it."""
        is_empty = True

        def push() -> None:
            nonlocal is_empty
            is_empty = self._outlet.push(wait_ms)

        self._try(push)
        return is_empty or not self._is_open

    def _try(self, action: Callable[[], None]) -> None:
        """Write to standard output; when it is gone the recording goes on without it."""
        if not self._is_open:
            return
        try:
            action()
        except OSError as error:
            self._is_open = False
            self.problems.append(
                Problem(
                    f"standard output broke off: {errno_text(error.errno or 0)}",
                    why="whoever read it has gone; the recording went on",
                )
            )


def _open_work(path: Path, stack: contextlib.ExitStack, *, is_kept: bool) -> _Work:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise OutputError(
            Problem(
                f"cannot open the recording directory '{path}': {errno_text(error.errno or 0)}",
                why="it is opened with the rights of who started it, and never through a link",
                fix="name a new directory",
            )
        ) from error
    stack.callback(os.close, fd)
    return _Work(Path(f"/proc/self/fd/{fd}"), path, fd, is_kept)


def _make_private_directory() -> Path:
    base = _WORK_DIRECTORY if Path(_WORK_DIRECTORY).is_dir() else tempfile.gettempdir()
    try:
        return Path(tempfile.mkdtemp(prefix="trace-recipe-", dir=base))
    except OSError as error:
        raise OutputError(
            Problem(
                f"cannot make a directory in '{base}': {errno_text(error.errno or 0)}",
                why="the raw pages are spooled there before they are decoded",
                fix="name a directory of yours with --recording",
            )
        ) from error


def _options(instance: Tracefs) -> dict[str, bool]:
    words = instance.read("trace_options").split()
    # No option's name begins with "no", so the prefix can be taken off.
    return {word.removeprefix("no"): not word.startswith("no") for word in words}
