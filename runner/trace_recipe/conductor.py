"""Conductor: one run from a plan to its outputs: apply, record, restore, write. Prints nothing.

The kernel is put back as soon as the last sub-buffer is on disk; decoding comes after that.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from trace_recipe.collector import Collector, finished_manifest
from trace_recipe.command import HeldCommand
from trace_recipe.deliverer import Deliverer
from trace_recipe.errors import (
    ApplyError,
    Problem,
    RecipeError,
    RestoreError,
    State,
    TracefsError,
    errno_text,
)
from trace_recipe.executor import Session, apply
from trace_recipe.formats import parse_header_page
from trace_recipe.guardian import Guardian
from trace_recipe.journal import Leftovers
from trace_recipe.leftovers import LeftoversNote
from trace_recipe.manifest import Manifest, ReceiptEntry
from trace_recipe.marker import Marker
from trace_recipe.outputs import new_token
from trace_recipe.plan import COMMAND, RUNNER, Plan
from trace_recipe.recorder import Recorder
from trace_recipe.recording import write_manifest
from trace_recipe.spool import (
    Spool,
    make_recording_spool,
    make_temporary_spool,
    recording_name,
    temporary_spool_path,
)
from trace_recipe.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trace_recipe.drift import Drift
    from trace_recipe.interrupts import Interrupts
    from trace_recipe.invoker import Invoker
    from trace_recipe.live_feed import LiveFeed
    from trace_recipe.receipt import Receipt
    from trace_recipe.recipe.model import Recipe
    from trace_recipe.resolver import ResolvedRecipe
    from trace_recipe.tracefs import Tracefs

__all__ = ["Conductor", "Monitor", "Progress", "RunResult"]

_TICK_S = 0.25
_LIVE_TICK_S = 0.1
_LOOK_NS = 1_000_000_000


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
    is_over_limit: bool
    was_interrupted: bool


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
        command_stdout: int,
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
        self.command_stdout = command_stdout
        self.recording = recording
        self.problems: list[Problem] = []
        self.exit_reason = ""
        self._token = new_token()
        self._deliverer = Deliverer(resolved.loaded, invoker, self._token)
        self._live: LiveFeed | None = None
        self._drifts: list[Drift] = []

    def run(self) -> RunResult:
        """Do everything; raises TraceRecipeError with the state that the kernel was left in."""
        with contextlib.ExitStack() as stack:
            self.tracefs = stack.enter_context(self.tracefs.held())
            note = LeftoversNote.write(self.state_directory, self.run_id, self._leftovers())
            stack.callback(note.discard)
            deliverer = self._deliverer
            deliverer.open_outputs(stack)
            spool = self._make_spool()
            stack.callback(lambda: spool.close(self.invoker))
            # Forked before anything else is, and before threads are started.
            deliverer.fork(self.stdout.fileno(), stack)
            command = self._hold_command(stack)
            leftovers = replace(
                self._leftovers(),
                spool=str(spool.name.absolute()),
                spool_identity=spool.identity,
            )
            guardian = Guardian(self.run_id, self.recipe.name, leftovers, self.state_directory)
            stack.callback(guardian.dismiss)
            recorder = Recorder(spool.path, self._cpus())
            stack.callback(recorder.close)
            with spool.rescue():
                spool.reserve()
                thread_ids = recorder.prepare()
                bindings = {
                    RUNNER: (os.getpid(), *thread_ids, guardian.pid, *deliverer.pids),
                    COMMAND: (command.pid,) if command else (),
                }
                session = apply(
                    self.plan,
                    self.tracefs,
                    run_id=self.run_id,
                    state_directory=self.state_directory,
                    bindings=bindings,
                    leftovers=leftovers,
                )
                manifest, receipt, left = self._record(session, spool, recorder, command)
            self._deliver(spool)
            self.problems += deliverer.problems
            if self.problems and not spool.is_kept:
                spool.is_kept = True
            self.problems += deliverer.missing(manifest)
            if left is not None:
                raise left
            limit = self.recipe.loss.max
            return RunResult(
                manifest=manifest,
                receipt=receipt,
                outputs=deliverer.delivered,
                recording=spool.name if spool.is_kept else None,
                problems=tuple(self.problems),
                is_over_limit=limit is not None and manifest.lost > limit,
                was_interrupted=self.interrupts.is_set and self._has_an_end(),
            )

    # -- before -------------------------------------------------------------------------------

    def _make_spool(self) -> Spool:
        if self.recording is not None:
            return make_recording_spool(self.recording, self.invoker)
        if not self.recipe.outputs:
            return make_recording_spool(recording_name(self.recipe.name), self.invoker)
        return make_temporary_spool(temporary_spool_path(self.run_id))

    def _hold_command(self, stack: contextlib.ExitStack) -> HeldCommand | None:
        if self.recipe.run is None:
            return None
        command = HeldCommand(
            self.recipe.run,
            self.invoker,
            self.environment,
            run_id=self.run_id,
            stdout=self.command_stdout,
        )
        stack.callback(command.end)
        return command

    def _leftovers(self) -> Leftovers:
        """Return what is there if this process is killed before it has begun to record.

        A directory that somebody named may turn out to hold something of theirs.
        """
        is_named = self.recording is not None or not self.recipe.outputs
        outputs = [one for one in self.recipe.outputs if one.spec.path != "-"]
        folders = {
            Path(one.spec.path).absolute()
            if one.spec.model_dump().get("layout") == "per-event"
            else Path(one.spec.path).absolute().parent
            for one in outputs
        }
        return Leftovers(
            spool="" if is_named else str(temporary_spool_path(self.run_id)),
            folders=tuple(sorted(map(str, folders))),
            token=self._token,
            uid=self.invoker.uid,
            gid=self.invoker.gid,
            groups=self.invoker.groups,
        )

    def _cpus(self) -> tuple[int, ...]:
        return tuple(int(name.removeprefix("cpu")) for name in self.tracefs.list("per_cpu"))

    # -- recording ----------------------------------------------------------------------------

    def _record(
        self,
        session: Session,
        spool: Spool,
        recorder: Recorder,
        command: HeldCommand | None,
    ) -> tuple[Manifest, Receipt, RestoreError | None]:
        failure: BaseException | None = None
        manifest: Manifest | None = None
        try:
            manifest = self._record_session(session, spool, recorder, command)
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
            raise spool.unwritable(failure, state=State.RESTORED) from failure
        if isinstance(failure, TracefsError):
            raise ApplyError(*failure.problems, state=State.RESTORED) from failure
        if failure is not None:
            if hasattr(failure, "state"):
                failure.state = State.RESTORED
            raise failure
        assert manifest is not None
        manifest = replace(
            manifest,
            receipt=tuple(ReceiptEntry(**line.as_json()) for line in receipt.lines),  # type: ignore[arg-type]  # outcome is one of the literals
        )
        try:
            write_manifest(spool.path, manifest)
        except OSError as error:
            raise left or spool.unwritable(error, state=State.RESTORED) from error
        return manifest, receipt, left

    def _record_session(
        self, session: Session, spool: Spool, recorder: Recorder, command: HeldCommand | None
    ) -> Manifest:
        instance = session.instance
        header = parse_header_page(instance.read("events/header_page"))
        recorder.attach(instance, subbuf_size_bytes=header.subbuf_size_bytes)
        notes = list(self.plan.notes)
        if not self.plan.makes_instance and (old := recorder.discard_old()):
            notes.append(f"{old} bytes that the instance's buffer held were consumed")
        collector = Collector(
            self.resolved,
            self.plan,
            tracefs=self.tracefs,
            instance=instance,
            directory=spool.path,
        )
        collector.write_texts()
        manifest = collector.manifest(self._cpus(), header.subbuf_size_bytes)
        write_manifest(spool.path, manifest)
        self._live = self._deliverer.go_live(self.tracefs, collector, recorder, spool)
        self._delay()
        with contextlib.ExitStack() as stack:
            marker = (
                Marker(instance, stack, self.resolved.cpus, notes) if self._has_markers() else None
            )
            self.monitor.phase("recording")
            session.start()
            started_ns = time.monotonic_ns()
            watcher = Watcher(session, self._cpus())
            first_pair = collector.clock_pair()
            recorder.go()
            if marker:
                marker.write(self.recipe.markers.start)
            if command and not self.interrupts.is_set:
                if marker:
                    marker.write(self.recipe.markers.command_start)
                self._release(command)
            self._wait(recorder, command, started_ns, marker, watcher)
            self._watch(watcher)
            if marker:
                marker.write(self.recipe.markers.stop)
        last_pair = collector.clock_pair()
        session.stop()
        duration_ns = time.monotonic_ns() - started_ns
        recorder.finish()
        self._note_failures(recorder)
        stats = recorder.stats()
        spool.use_reserve()
        collector.write_tables()
        notes += collector.write_latency()
        return finished_manifest(
            manifest,
            recorder,
            data_offset=header.data_offset,
            stats=stats,
            clock_pairs=(first_pair, last_pair),
            duration_ns=duration_ns,
            exit_reason=self.exit_reason,
            command_exit_status=command.exit_status if command else None,
            notes=notes,
            drifts=self._drifts,
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
        marker: Marker | None,
        watcher: Watcher,
    ) -> None:
        recipe = self.recipe
        limits = [recipe.duration] if recipe.duration is not None else []
        timeout = recipe.run.timeout if recipe.run else None
        tick_s = _LIVE_TICK_S if self._live else _TICK_S
        looks_at_ns = _LOOK_NS
        while not self.exit_reason:
            elapsed_ns = time.monotonic_ns() - started_ns
            left_s = min([tick_s, *((limit - elapsed_ns) / 1e9 for limit in limits)])
            if left_s <= 0:
                self.exit_reason = "duration"
            elif self.interrupts.wait(left_s, until_readable=command.end_fd if command else None):
                self.exit_reason = f"interrupted by {self.interrupts.names[0]}"
            elif recorder.failed.is_set():
                self.exit_reason = "the recording broke off"
            elif command and command.poll() is not None:
                self.exit_reason = f"command ended with status {command.exit_status}"
                if marker:
                    marker.write(recipe.markers.command_exit)
            elif timeout is not None and elapsed_ns >= timeout:
                self.exit_reason = "command timed out"
            else:
                self._look(recorder, elapsed_ns)
                if elapsed_ns >= looks_at_ns:
                    self._watch(watcher)
                    looks_at_ns = elapsed_ns + _LOOK_NS

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

    def _watch(self, watcher: Watcher) -> None:
        drifts = watcher.look()
        self._drifts += drifts
        if self._live:
            self._live.mark(drifts)

    def _has_markers(self) -> bool:
        markers = self.recipe.markers
        return any((markers.start, markers.stop, markers.command_start, markers.command_exit))

    def _has_an_end(self) -> bool:
        recipe = self.recipe
        return any(one is not None for one in (recipe.duration, recipe.run, recipe.stop))

    def _note_failures(self, recorder: Recorder) -> None:
        for cpu, error in recorder.failures:
            self.problems.append(
                Problem(
                    f"the recording of CPU {cpu} broke off: {errno_text(error.errno or 0)}",
                    why="the disk is full; what was written before is kept"
                    if error.errno == errno.ENOSPC
                    else "what was written before is kept",
                    fix="free space, or record less: fewer events, a filter, a shorter duration"
                    if error.errno == errno.ENOSPC
                    else "see the kernel's log, and run it again",
                )
            )

    def _deliver(self, spool: Spool) -> None:
        if not self._deliverer.pids:
            return
        if self.interrupts.skips_outputs:
            self._deliverer.skip(spool)
        else:
            self.monitor.phase("writing")
            self._deliverer.write(spool, should_stop=lambda: self.interrupts.skips_outputs)
