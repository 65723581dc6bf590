"""Executor: applies a plan step by step, with the way back on disk before each."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

from trace_recipe.claims import (
    claims_of,
    refuse_claimed,
    refuse_claimed_by_root,
    sharers_of,
)
from trace_recipe.control_files import control_file, path_in_instance
from trace_recipe.errors import (
    ApplyError,
    InstanceBusyError,
    KernelLacksError,
    Problem,
    RestoreError,
    State,
    TracefsError,
    TraceRecipeError,
    errno_text,
)
from trace_recipe.journal import Intent, Journal, Leftovers, journals
from trace_recipe.plan import HoldFile, MakeInstance, Plan, SetFile, Step
from trace_recipe.public_claims import claims_of_root
from trace_recipe.refusals import kernel_lacks, refused
from trace_recipe.restorer import put_back, settle
from trace_recipe.state_directory import shared_lock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from trace_recipe.receipt import Receipt
    from trace_recipe.tracefs import Tracefs

__all__ = ["Session", "apply"]


@dataclass(slots=True)
class Session:
    """An applied plan: the instance is set up, nothing is recorded until `start`."""

    plan: Plan
    tracefs: Tracefs
    journal: Journal
    bindings: Mapping[str, Sequence[int]]
    readings: dict[str, str]
    """What each file read last, before or after our write; in our own instance after it only."""
    claims: Mapping[str, str | None]
    inherited: Mapping[str, str | None]
    """See `Intent`."""
    moving: frozenset[str]
    """Files that nobody can tell who changed: see `Plan.moving_files`."""
    held: list[int] = field(default_factory=list)
    """Descriptors of files that are to stay open until what was applied is put back."""
    receipt: Receipt | None = None
    """What the last `restore` found, also when it raised."""

    @property
    def instance(self) -> Tracefs:
        """The tree that this run records from."""
        return self.tracefs.instance(self.plan.instance)

    def start(self) -> None:
        """Begin to record; raises ApplyError with everything restored."""
        self._run([step for step in self.plan.steps if _starts(step)])

    def stop(self) -> None:
        """Stop recording, if the instance is still there."""
        try:
            self.instance.write("tracing_on", "0")
        except TracefsError as error:
            if error.errno not in {errno.ENOENT, errno.ENODEV}:
                raise

    def restore(self) -> Receipt:
        """Put everything back and compare; the journal goes when nothing of ours is left.

        Raises RestoreError otherwise; the journal then stays for `recover`.
        """
        while self.held:  # an instance with an open file cannot be removed
            os.close(self.held.pop())
        state = self.journal.state()
        self.receipt = put_back(state, self.tracefs, self.journal)
        return settle(self.receipt, state, self.journal)

    def _run(self, steps: Sequence[Step]) -> None:
        for step in steps:
            try:
                self._step(step)
            except TracefsError as error:
                raise self._failed(step, error) from error
            except OSError as error:  # the journal, before the write that it was to describe
                self.restore()
                raise _journal_failed(self.journal, error) from error
            except KernelLacksError as error:  # the state directory can be locked no more
                self.restore()
                error.state = State.RESTORED
                raise

    def _step(self, step: Step) -> None:
        match step:
            case MakeInstance():
                self.journal.making()
                try:
                    self.tracefs.make_instance(step.name)
                except TracefsError:
                    self.journal.not_made()
                    raise
                self.journal.made(self.tracefs.identity(step.file))
            case SetFile():
                files = (step.file, *step.sides)
                if all(self.claims.get(file) is None for file in files):
                    self._set(step)
                    return
                with shared_lock(self.journal.path.parent):  # others may wish the same
                    self._set(step)
            case HoldFile():
                self.held.append(self.tracefs.open_file(step.file, os.O_WRONLY))
            case _:
                assert_never(step)

    def _set(self, step: SetFile) -> None:
        rules, now = control_file(step.name), self.tracefs.read(step.file)
        known = self.inherited.get(step.file)
        if known is not None and rules.same(now, known):
            return
        # An avoided write is an avoided side effect: an equal trace_clock wipes the buffer.
        if not rules.adds and rules.same(now, f"{step.after}\n"):
            if self.claims.get(step.file) is not None and not self._is_as_left(step.file):
                # Another run with this wish was faster, and may leave it to us to put back.
                self.journal.intend(step.file)
                self._note(step.file)
            return
        # A side file that somebody else changed since the pre-image is theirs already.
        sides = (file for file in step.sides if self._is_as_left(file))
        files = (step.file, *sides)
        for file in files:
            self.journal.intend(file)
        for write in rules.set_writes(self._bound(step.text), now):
            self.tracefs.write(step.file, write.text, truncate=write.truncate)
        for file in files:
            self._note(file)

    def _note(self, file: str) -> None:
        """Note what a file reads after our write."""
        text = _reading(self.tracefs, file)
        if text is None:
            return
        self.readings[file] = text
        if file not in self.moving:
            self.journal.applied(file, text)

    def _is_as_left(self, file: str) -> bool:
        known, now = self.readings.get(file), _reading(self.tracefs, file)
        if known is None or now is None:
            return True
        return control_file(path_in_instance(file)).same(now, known)

    def _bound(self, text: str) -> str:
        for name, values in self.bindings.items():
            text = text.replace(name, "\n".join(str(value) for value in values))
        return text

    def _failed(self, step: Step, error: TracefsError) -> Exception:
        try:
            self.restore()
        except RestoreError as left:
            return left
        lacks = kernel_lacks(step, error, self.plan)
        problem = (lacks or refused(step, error)).at(step.place, step.key)
        state = State.RESTORED
        if lacks:
            kind = InstanceBusyError if error.errno == errno.EBUSY else KernelLacksError
            return kind(problem, state=state)
        return ApplyError(problem, state=state)


def apply(
    plan: Plan,
    tracefs: Tracefs,
    *,
    run_id: str,
    state_directory: Path,
    bindings: Mapping[str, Sequence[int]],
    leftovers: Leftovers | None = None,
) -> Session:
    """Do everything in the plan but the start, with the way back on disk first.

    `bindings` gives the pids for the placeholders of a plan. Raises KernelLacksError when nothing
    could be begun, InstanceBusyError when another run has not put back what this one would change,
    ApplyError when a step was refused (all undone), RestoreError when the undoing failed too.
    """
    with shared_lock(state_directory):
        journal = _begin(plan, tracefs, run_id, state_directory, leftovers or Leftovers())
    state = journal.state()
    session = Session(
        plan=plan,
        tracefs=tracefs,
        journal=journal,
        bindings=bindings,
        readings={**state.before, **state.applied},
        claims=state.claims,
        inherited=state.inherited,
        moving=frozenset(plan.moving_files),
    )
    try:
        session._run([step for step in plan.steps if not _starts(step)])  # noqa: SLF001 - our own value
    except TraceRecipeError:
        raise
    except Exception:
        session.restore()
        raise
    return session


def _begin(
    plan: Plan, tracefs: Tracefs, run_id: str, state_directory: Path, leftovers: Leftovers
) -> Journal:
    claims = claims_of(plan)
    others = list(journals(state_directory))
    refuse_claimed(claims, others, run_id)
    refuse_claimed_by_root(claims, claims_of_root())
    sharers = sharers_of(claims, others, run_id)
    before = _pre_image(plan, tracefs)
    inherited = {file: sharers[file].applied.get(file) for file in sharers if file in before}
    before.update({file: sharers[file].before[file] for file in inherited})
    inode = None
    if plan.instance and not plan.makes_instance:
        inode = tracefs.identity(f"instances/{plan.instance}")
    return Journal.begin(
        state_directory,
        Intent(
            run_id=run_id,
            recipe=plan.recipe,
            recipe_path=plan.recipe_path,
            mount=str(tracefs.root),
            instance=plan.instance,
            makes_instance=plan.makes_instance,
            inode=inode,
            before=before,
            claims=claims,
            inherited=inherited,
            leftovers=leftovers,
        ),
    )


def _journal_failed(journal: Journal, error: OSError) -> ApplyError:
    return ApplyError(
        Problem(
            f"cannot write the journal '{journal.path}': {errno_text(error.errno or 0)}",
            why="nothing is changed in the kernel before the way back is on disk",
            fix="free space there, or name another place with --state-dir",
        ),
        state=State.RESTORED,
    )


def _pre_image(plan: Plan, tracefs: Tracefs) -> dict[str, str]:
    own = plan.prefix if plan.makes_instance else None
    files = (file for file in plan.files if not (own and file.startswith(own)))
    readings = ((file, _reading(tracefs, file)) for file in files)
    return {file: text for file, text in readings if text is not None}


def _reading(tracefs: Tracefs, file: str) -> str | None:
    """Return what a file reads; None: it is not there, or a latency tracer keeps its snapshot."""
    if not tracefs.exists(file):
        return None
    try:
        return tracefs.read(file)
    except TracefsError as error:
        if error.errno != errno.EBUSY:
            raise
        return None


def _starts(step: Step) -> bool:
    return isinstance(step, SetFile) and step.starts
