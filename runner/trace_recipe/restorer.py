"""Restorer: puts back what a journal says, three-way, and reads everything back."""

from __future__ import annotations

import contextlib
import errno
import time
from pathlib import Path
from typing import TYPE_CHECKING

from trace_recipe.claims import sharer_of
from trace_recipe.control_files import FORK_OPTIONS, Write, control_file, path_in_instance
from trace_recipe.errors import KernelLacksError, Left, Problem, RestoreError, TracefsError
from trace_recipe.journal import journals
from trace_recipe.public_claims import claims_of_root
from trace_recipe.receipt import Outcome, Receipt, ReceiptLine
from trace_recipe.state_directory import command_line, shared_lock
from trace_recipe.suggestions import listed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trace_recipe.journal import Journal, JournalState
    from trace_recipe.tracefs import Tracefs

__all__ = ["foreign_changes", "put_back", "restore", "settle"]

_REMOVE_TRIES = 40
_REMOVE_WAIT_S = 0.05


def restore(state: JournalState, tracefs: Tracefs, journal: Journal) -> Receipt:
    """Put back what a journal says, three-way, and read everything back.

    Found as we left it: the old value returns. Found otherwise: somebody else's, left alone.
    Raises RestoreError when something of ours stays; the journal then stays too.
    """
    return settle(put_back(state, tracefs, journal), state, journal)


def foreign_changes(state: JournalState, tracefs: Tracefs) -> list[str]:
    """Return the files that read otherwise than a living run has left them, for `status`."""
    found = []
    for file, applied in state.applied.items():
        rules = control_file(path_in_instance(file))
        if rules.name == "tracing_on" or _grows(state, file):  # a trigger, or the kernel itself
            continue
        try:
            now = tracefs.read(file)
        except TracefsError:
            found.append(file)
            continue
        if not rules.same(now, applied):
            found.append(file)
    return found


def settle(receipt: Receipt, state: JournalState, journal: Journal) -> Receipt:
    """Remove the journal when nothing of ours is left; otherwise raises RestoreError."""
    if not receipt.is_clean:
        journal.close()
        raise _left(receipt, state)
    journal.discard()
    return receipt


def put_back(state: JournalState, tracefs: Tracefs, journal: Journal) -> Receipt:
    """Do what `restore` does, and leave the judgement to `settle`."""
    lines: list[ReceiptLine] = []
    own_prefix = f"instances/{state.instance}/"
    if state.makes_instance:
        lines += _remove_instance(state, tracefs, journal)
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
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(KernelLacksError):  # putting back never waits for a place to lock
            stack.enter_context(shared_lock(state.path.parent))
        lines += _restore_files(state, tracefs, journal, touched)
    return Receipt(state.run_id, tuple(lines))


def _restore_files(
    state: JournalState, tracefs: Tracefs, journal: Journal, touched: list[str]
) -> list[ReceiptLine]:
    others: list[JournalState] = []
    with contextlib.suppress(KernelLacksError):  # what others could have written is not believed
        others = list(journals(state.path.parent))
    of_root = {file: claim.recipe for claim in claims_of_root() for file in claim.files}
    lines = []
    for file in touched:
        if other := sharer_of(file, state.claims, others, state.run_id):
            reason = f"run {other.run_id} of '{other.recipe}' needs it as it is, and puts it back"
            now = tracefs.read(file)
            lines.append(ReceiptLine(file, Outcome.SHARED, state.before[file], now, reason))
        elif file in of_root:
            # It took what we had set for what was there before, and puts that back in the end.
            reason = f"a run of root, of '{of_root[file]}', uses it too and has to end first"
            now = tracefs.read(file)
            lines.append(ReceiptLine(file, Outcome.LEFT, state.before[file], now, reason))
    kept = {line.file for line in lines}
    touched = [file for file in touched if file not in kept]
    touched.sort(key=lambda file: control_file(path_in_instance(file)).order)
    found = {file: _reading(tracefs, file) for file in touched}
    for file in touched:
        _quiet(state, tracefs, journal, file, found[file])
    for file, text in found.items():
        if isinstance(text, TracefsError) and text.errno == errno.EBUSY:
            found[file] = _reading(tracefs, file)  # a latency tracer kept it, and is quiet now
    return lines + [_restore_file(state, tracefs, journal, file, found[file]) for file in touched]


def _restore_file(
    state: JournalState,
    tracefs: Tracefs,
    journal: Journal,
    file: str,
    found: str | TracefsError,
) -> ReceiptLine:
    """Put one file back; `found` is what it read before anything was quietened."""
    rules = control_file(path_in_instance(file))
    before = state.before[file]
    if isinstance(found, TracefsError):
        return _unreadable(file, before, found)
    applied = state.applied.get(file)
    # Without an `applied` line our write was cut short, with a `restoring` line an earlier restore
    # was; the kernel moves some files by itself, and adds the children of pids that we put in.
    is_ours = (
        applied is None
        or _grows(state, file)
        or file in state.restoring
        or rules.same(found, applied)
        or rules.moves
    )
    try:
        now = tracefs.read(file)
        # It may be back already: with a file that it follows, like the sizes of single CPUs.
        if is_ours or rules.same(found, before) or rules.same(now, before):
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
    name = path_in_instance(file)
    option = FORK_OPTIONS.get(name)
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
    rules = control_file(path_in_instance(file))
    is_ours = rules.same(found, state.applied.get(file, found)) or rules.moves
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


def _remove_instance(state: JournalState, tracefs: Tracefs, journal: Journal) -> list[ReceiptLine]:
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
    _silence(instance)  # removing it does the same: EBUSY is less likely
    for attempt in range(_REMOVE_TRIES):
        try:
            tracefs.remove_instance(state.instance)
        except TracefsError as error:
            if error.errno != errno.EBUSY or attempt + 1 == _REMOVE_TRIES:
                _neutralise(instance, files)
                held = _holders(f"/{directory}")
                journal.pinned(held or "nobody who can be seen")
                words = f"; held open by {held}" if held else ""
                return lines(Outcome.LEFT, f"{error.problems[0].what}{words}")
            time.sleep(_REMOVE_WAIT_S)
        else:
            break
    return lines(Outcome.RESTORED, "gone with the instance")


def _silence(instance: Tracefs) -> None:
    for file, text in (("tracing_on", "0"), ("events/enable", "0"), ("current_tracer", "nop")):
        with contextlib.suppress(TracefsError):
            instance.write(file, text)


def _neutralise(instance: Tracefs, files: Iterable[str]) -> None:
    """Let an instance that cannot be removed do nothing any more, and take its memory back."""
    for file in files:
        if file.endswith("/trigger"):
            name = path_in_instance(file)
            with contextlib.suppress(TracefsError):
                for write in control_file(name).restore_writes("", instance.read(name)):
                    _write(instance, name, write)
    _silence(instance)  # again: a trigger may have turned it on, and leaves on what it enabled
    for buffer in ("buffer_size_kb", *(f"per_cpu/{c}/buffer_size_kb" for c in _cpus(instance))):
        with contextlib.suppress(TracefsError):  # EBUSY while somebody reads `trace`
            instance.write(buffer, "1")


def _cpus(instance: Tracefs) -> tuple[str, ...]:
    try:
        return instance.list("per_cpu")
    except TracefsError:
        return ()


def _holders(directory: str) -> str:
    """Name the processes that keep a file of the instance open or mapped, separated by commas.

    `directory` is the end of its path: there may be other ways to it, as below debugfs.
    """
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if _holds(process, f"{directory}/"):
                name = (process / "comm").read_text(errors="replace").strip()
                found.append(f"{name} (pid {process.name})")
    return ", ".join(found)


def _holds(process: Path, part: str) -> bool:
    for link in (process / "fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            if part in str(link.readlink()):
                return True
    return part in (process / "maps").read_text(errors="replace")


def _is_replaced(state: JournalState, tracefs: Tracefs) -> bool:
    if not state.instance or state.makes_instance or state.inode is None:
        return False
    directory = f"instances/{state.instance}"
    return not tracefs.exists(directory) or tracefs.identity(directory) != state.inode


def _left(receipt: Receipt, state: JournalState) -> RestoreError:
    left = [line for line in receipt.lines if line.outcome is Outcome.LEFT]
    by_reason: dict[str, list[str]] = {}
    for line in left:
        by_reason.setdefault(line.reason, []).append(line.file)
    problems = [
        Problem(
            _not_restored(files, f"instances/{state.instance}"),
            why=reason,
            fix=f"finish it with: {command_line('recover', state.path.parent, state.run_id)}",
        )
        for reason, files in by_reason.items()
    ]
    return RestoreError(
        *problems,
        left=tuple(Left(line.file, line.before, line.now, line.reason) for line in left),
    )


def _not_restored(files: list[str], instance: str) -> str:
    if files[0] == instance:
        inside = listed(path_in_instance(file) for file in files[1:])
        also = f", nor what is set in it: {inside}" if inside else ""
        return f"'{instance}' is not restored{also}"
    return f"{listed(map(repr, files))} {'is' if len(files) == 1 else 'are'} not restored"
