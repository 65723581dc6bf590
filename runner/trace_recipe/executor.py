"""Executor: applies a plan step by step, and puts back what was there, live or from a journal."""

from __future__ import annotations

import contextlib
import errno
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from trace_recipe.control_files import Write, control_file
from trace_recipe.errors import (
    ApplyError,
    InstanceBusyError,
    KernelLacksError,
    Left,
    Problem,
    RestoreError,
    State,
    TracefsError,
    TraceRecipeError,
    errno_text,
)
from trace_recipe.journal import Journal, JournalState, journals
from trace_recipe.plan import MakeInstance, Plan, SetFile, Step
from trace_recipe.receipt import Outcome, Receipt, ReceiptLine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trace_recipe.tracefs import Tracefs

__all__ = ["Session", "apply", "restore"]

_REMOVE_TRIES = 40
_REMOVE_WAIT_S = 0.05
# The options by which the kernel adds the children of listed tasks to a list of pids.
_FORKS = {
    "set_event_pid": "event-fork",
    "set_event_notrace_pid": "event-fork",
    "set_ftrace_pid": "function-fork",
    "set_ftrace_notrace_pid": "function-fork",
}


@dataclass(slots=True)
class Session:
    """An applied plan: the instance is set up, nothing is recorded until `start`."""

    plan: Plan
    tracefs: Tracefs
    journal: Journal
    bindings: Mapping[str, Sequence[int]]
    readings: dict[str, str]
    """What each file outside our own instance read last, before or after our write."""
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
        state = self.journal.state()
        self.receipt = _put_back(state, self.tracefs, self.journal)
        return _settled(self.receipt, state, self.journal)

    def _run(self, steps: Sequence[Step]) -> None:
        for step in steps:
            try:
                self._step(step)
            except TracefsError as error:
                raise self._failed(step, error) from error
            except OSError as error:  # the journal, before the write that it was to describe
                self.restore()
                raise _journal_failed(self.journal, error) from error

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
                if self._is_set(step):
                    return
                # A side file that somebody else changed since the pre-image is theirs already.
                files = (step.file, *(file for file in step.also if self._is_as_left(file)))
                for file in files:
                    self.journal.intend(file)
                text = self._bound(step.text)
                self.tracefs.write(step.file, text, truncate=step.truncate)
                for file in files:
                    if self.tracefs.exists(file):
                        self.readings[file] = self.tracefs.read(file)
                        self.journal.applied(file, self.readings[file])
            case _:
                assert_never(step)

    def _is_set(self, step: SetFile) -> bool:
        # An avoided write is an avoided side effect: even an equal trace_clock wipes the buffer.
        if step.truncate or step.name.endswith("/trigger"):
            return False
        return control_file(step.name).same(self.tracefs.read(step.file), f"{step.after}\n")

    def _is_as_left(self, file: str) -> bool:
        known = self.readings.get(file)
        if known is None or not self.tracefs.exists(file):
            return True
        return control_file(_name(file)).same(self.tracefs.read(file), known)

    def _bound(self, text: str) -> str:
        for name, values in self.bindings.items():
            text = text.replace(name, "\n".join(str(value) for value in values))
        return text

    def _failed(self, step: Step, error: TracefsError) -> Exception:
        try:
            self.restore()
        except RestoreError as left:
            return left
        lacks = _lacks(step, error, self.plan)
        problem = (lacks or _refused(step, error)).at(step.place, step.key)
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
) -> Session:
    """Do everything in the plan but the start, with the way back on disk first.

    `bindings` gives the pids for the placeholders of a plan. Raises KernelLacksError when nothing
    could be begun, InstanceBusyError when another run has not put back what this one would change,
    ApplyError when a step was refused (all undone), RestoreError when the undoing failed too.
    """
    claims = _claims(plan)
    _refuse_claimed(claims, state_directory, run_id)
    state = _pre_image(plan, tracefs)
    inode = None
    if plan.instance and not plan.makes_instance:
        inode = tracefs.identity(f"instances/{plan.instance}")
    journal = Journal.begin(
        state_directory,
        run_id=run_id,
        recipe=plan.recipe,
        recipe_path=plan.recipe_path,
        mount=str(tracefs.root),
        instance=plan.instance,
        makes_instance=plan.makes_instance,
        inode=inode,
        before=state,
        claims=claims,
    )
    try:
        _refuse_claimed(claims, state_directory, run_id)  # one that began in the meantime
    except BaseException:
        journal.discard()
        raise
    session = Session(plan, tracefs, journal, bindings, dict(state))
    try:
        session._run([step for step in plan.steps if not _starts(step)])  # noqa: SLF001 - our own value
    except TraceRecipeError:
        raise
    except Exception:
        session.restore()
        raise
    return session


def restore(state: JournalState, tracefs: Tracefs, journal: Journal) -> Receipt:
    """Put back what a journal says, three-way, and read everything back.

    Found as we left it: the old value returns. Found otherwise: somebody else's, left alone.
    Raises RestoreError when something of ours stays; the journal then stays too.
    """
    return _settled(_put_back(state, tracefs, journal), state, journal)


def _settled(receipt: Receipt, state: JournalState, journal: Journal) -> Receipt:
    if not receipt.is_clean:
        journal.close()
        raise _left(receipt, state)
    journal.discard()
    return receipt


def _put_back(state: JournalState, tracefs: Tracefs, journal: Journal) -> Receipt:
    lines: list[ReceiptLine] = []
    own_prefix = f"instances/{state.instance}/"
    if state.makes_instance:
        lines += _remove_instance(state, tracefs)
        shared = [file for file in state.before if not file.startswith(own_prefix)]
    else:
        shared = list(state.before)
    if _is_replaced(state, tracefs):
        reason = "the instance was removed or made anew by somebody else"
        theirs = [file for file in shared if file.startswith(own_prefix)]
        lines += [
            ReceiptLine(file, Outcome.FOREIGN, state.before[file], "", reason)
            for file in theirs
            if file in state.intended
        ]
        shared = [file for file in shared if not file.startswith(own_prefix)]
    touched = [file for file in shared if file in state.intended]
    touched.sort(key=lambda file: control_file(_name(file)).order)
    found = {file: _reading(tracefs, file) for file in touched}
    for file in touched:
        _quiet(state, tracefs, journal, file, found[file])
    lines += [_restore_file(state, tracefs, journal, file, found[file]) for file in touched]
    return Receipt(state.run_id, tuple(lines))


def _restore_file(
    state: JournalState,
    tracefs: Tracefs,
    journal: Journal,
    file: str,
    found: str | TracefsError,
) -> ReceiptLine:
    """Put one file back; `found` is what it read before anything was quietened."""
    rules = control_file(_name(file))
    before = state.before[file]
    if isinstance(found, TracefsError):
        return _unreadable(file, before, found)
    applied = state.applied.get(file)
    # Without an `applied` line our write was cut short, with a `restoring` line an earlier restore
    # was; a trigger may flip tracing_on; and the kernel adds the children of pids that we put in.
    is_ours = (
        applied is None
        or _grows(state, file)
        or file in state.restoring
        or rules.same(found, applied)
        or rules.name == "tracing_on"
    )
    try:
        now = tracefs.read(file)
        if is_ours or rules.same(found, before):
            writes = rules.restore_writes(before, now)
        elif rules.by_lines:
            assert applied is not None
            writes = rules.remove_lines(before, applied, now)
        else:
            reason = "somebody else changed it during the run"
            return ReceiptLine(file, Outcome.FOREIGN, before, now, reason)
        if writes and is_ours:
            journal.restoring(file)
        for write in writes:
            _write(tracefs, file, write)
        now = tracefs.read(file)
    except TracefsError as error:
        return _unreadable(file, before, error)
    if rules.same(now, before):
        return ReceiptLine(file, Outcome.RESTORED, before, now)
    if reason := rules.unrestorable(before, now) or "":
        return ReceiptLine(file, Outcome.IMPOSSIBLE, before, now, reason)
    if not is_ours:
        reason = "others added or removed entries; ours are gone"
        return ReceiptLine(file, Outcome.FOREIGN, before, now, reason)
    return ReceiptLine(file, Outcome.LEFT, before, now, "reads differently after the write")


def _grows(state: JournalState, file: str) -> bool:
    """Whether the kernel itself adds to the pids in this file, by an option that we switched."""
    name = _name(file)
    option = _FORKS.get(name)
    return option is not None and f"{file.removesuffix(name)}options/{option}" in state.intended


def _reading(tracefs: Tracefs, file: str) -> str | TracefsError:
    try:
        return tracefs.read(file)
    except TracefsError as error:
        return error


def _quiet(
    state: JournalState, tracefs: Tracefs, journal: Journal, file: str, found: str | TracefsError
) -> None:
    """Stop what would record or refuse while the other files are put back."""
    if isinstance(found, TracefsError):
        return
    rules = control_file(_name(file))
    is_ours = rules.same(found, state.applied.get(file, found)) or rules.name == "tracing_on"
    if not is_ours:
        return
    with contextlib.suppress(TracefsError):  # the loop over all files reports it
        for write in rules.quiet_writes(state.before[file], found):
            journal.restoring(file)
            _write(tracefs, file, write)


def _write(tracefs: Tracefs, file: str, write: Write) -> None:
    try:
        tracefs.write(file, write.text, truncate=write.truncate)
    except TracefsError:
        if not write.may_fail:
            raise


def _unreadable(file: str, before: str, error: TracefsError) -> ReceiptLine:
    if error.errno in {errno.ENOENT, errno.ENODEV}:
        reason = "the file is gone: its event or module was removed"
        return ReceiptLine(file, Outcome.FOREIGN, before, "", reason)
    return ReceiptLine(file, Outcome.LEFT, before, "", error.problems[0].what)


def _remove_instance(state: JournalState, tracefs: Tracefs) -> list[ReceiptLine]:
    directory = f"instances/{state.instance}"
    files = [file for file in sorted(state.intended) if file.startswith(f"{directory}/")]
    files = [directory, *files] if state.is_making or state.inode else files

    def lines(outcome: Outcome, reason: str) -> list[ReceiptLine]:
        return [ReceiptLine(file, outcome, "", "", reason) for file in files]

    if not tracefs.exists(directory):
        return lines(Outcome.RESTORED, "gone with the instance")
    if state.inode is None and not state.is_making:
        return lines(Outcome.FOREIGN, "it existed before we made ours")
    if state.inode is not None and tracefs.identity(directory) != state.inode:
        return lines(Outcome.FOREIGN, "somebody else made an instance of that name")
    instance = tracefs.instance(state.instance)
    for file, text in (("tracing_on", "0"), ("events/enable", "0"), ("current_tracer", "nop")):
        try:
            instance.write(file, text)
        except TracefsError:
            continue  # removing the instance does the same; this only makes EBUSY less likely
    for attempt in range(_REMOVE_TRIES):
        try:
            tracefs.remove_instance(state.instance)
        except TracefsError as error:
            if error.errno != errno.EBUSY or attempt + 1 == _REMOVE_TRIES:
                reason = f"{error.problems[0].what}{_holders(str(instance.root))}"
                return lines(Outcome.LEFT, reason)
            time.sleep(_REMOVE_WAIT_S)
        else:
            break
    return lines(Outcome.RESTORED, "gone with the instance")


def _holders(directory: str) -> str:
    """Name the processes that keep a file of the instance open."""
    found: dict[str, None] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [str(link.readlink()) for link in (process / "fd").iterdir()]
            name = (process / "comm").read_text().strip()
        except OSError:
            continue
        if any(link.startswith(f"{directory}/") for link in links):
            found[f"{name} (pid {process.name})"] = None
    return f"; held open by {', '.join(found)}" if found else ""


def _claims(plan: Plan) -> tuple[str, ...]:
    """Return what only one run at a time may change: its instance and files outside of its own."""
    own = plan.prefix if plan.makes_instance else None
    claims = [f"instances/{plan.instance}"] if plan.instance else []
    for step in plan.steps:
        if isinstance(step, SetFile):
            # The top level's buffer_size_kb, which the start of any run expands, is nobody's.
            also = () if step.name == "tracing_on" else step.also
            claims += [file for file in (step.file, *also) if not (own and file.startswith(own))]
    return tuple(dict.fromkeys(claims))


def _refuse_claimed(claims: Sequence[str], state_directory: Path, run_id: str) -> None:
    for other in journals(state_directory):
        shared = [file for file in claims if file in other.claims]
        if not shared or other.run_id == run_id or not other.is_this_boot:
            continue
        what = f"'{shared[0]}'" + (f" and {len(shared) - 1} more" if len(shared) > 1 else "")
        if other.is_live:
            raise InstanceBusyError(
                Problem(
                    f"{what} is in use by run {other.run_id} of '{other.recipe}'",
                    why="two runs that change the same file could not both put it back",
                    fix=f"wait for it, end it with `trace-recipe restore {other.run_id}`, or use a"
                    " private instance",
                )
            )
        raise InstanceBusyError(
            Problem(
                f"{what} is still as run {other.run_id} of '{other.recipe}' left it",
                why="that run was killed; what it changed would be taken for the state to restore",
                fix=f"put it back first: trace-recipe recover {other.run_id}",
            )
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
    before = {}
    for file in plan.files:
        if own and file.startswith(own):
            continue
        if tracefs.exists(file):
            before[file] = tracefs.read(file)
    return before


def _is_replaced(state: JournalState, tracefs: Tracefs) -> bool:
    if not state.instance or state.makes_instance or state.inode is None:
        return False
    directory = f"instances/{state.instance}"
    return not tracefs.exists(directory) or tracefs.identity(directory) != state.inode


def _name(file: str) -> str:
    """Return the path inside its instance."""
    return file.split("/", 2)[2] if file.startswith("instances/") else file


def _starts(step: Step) -> bool:
    return isinstance(step, SetFile) and step.starts


def _lacks(step: Step, error: TracefsError, plan: Plan) -> Problem | None:
    """Return a kernel's lack that only a try can show, in the user's words."""
    name = step.name if isinstance(step, SetFile) else ""
    if isinstance(step, MakeInstance) and error.errno == errno.EEXIST:
        return Problem(
            f"instance '{step.name}' appeared meanwhile",
            why="somebody else made it between planning and applying",
            fix="run again, or use another name",
        )
    if isinstance(step, MakeInstance):
        return Problem(
            error.problems[0].what,
            why="a new instance allocates its ring buffer at once"
            if error.errno == errno.ENOMEM
            else "the kernel refused it",
            fix="free memory, or use an existing instance"
            if error.errno == errno.ENOMEM
            else "run as root; `trace-recipe doctor` shows what is missing",
        )
    if name == "current_tracer" and error.errno == errno.EINVAL and plan.instance:
        assert isinstance(step, SetFile)
        return Problem(
            f"tracer '{step.after}' cannot run in an instance on this kernel",
            why="the kernel allows it at the top level only",
            fix="say `instance: top` (shared with everyone while it runs)",
        )
    if name == "current_tracer" and error.errno == errno.EBUSY:
        assert isinstance(step, SetFile)
        return Problem(
            f"tracer '{step.after}' is busy",
            why="somebody else uses a tracer that excludes it, or reads trace_pipe",
            fix="wait until they are done, or stop them",
        )
    if error.errno in {errno.EPERM, errno.EACCES}:
        return Problem(
            error.problems[0].what,
            why="lockdown, a security module, or missing rights",
            fix="run as root; `trace-recipe doctor` shows what is missing",
        )
    return None


def _refused(step: Step, error: TracefsError) -> Problem:
    problem = error.problems[0]
    why = error.error_log or "the kernel gives no reason for this file"
    if isinstance(step, SetFile) and step.name == "buffer_size_kb" and error.errno == errno.ENOMEM:
        why = "buffer_size_kb is per CPU, and there is not so much memory"
    fix = "change the value"
    if isinstance(step, SetFile) and step.name.endswith("/trigger") and error.errno == errno.EEXIST:
        why = "somebody else has a trigger of this kind on the event; the kernel takes one"
        fix = "use a private instance, or leave the trigger out"
    if error.errno == errno.EBUSY:
        fix = "somebody has the file's buffer open; wait until they are done"
    return Problem(problem.what, why, fix)


def _left(receipt: Receipt, state: JournalState) -> RestoreError:
    left = [line for line in receipt.lines if line.outcome is Outcome.LEFT]
    problems = [
        Problem(
            f"'{line.file}' is not restored",
            why=line.reason,
            fix=f"finish it with: trace-recipe recover {state.run_id}",
        )
        for line in left
    ]
    return RestoreError(
        *problems,
        left=tuple(Left(line.file, line.before, line.now, line.reason) for line in left),
    )
