"""Guardian: a small process that puts the kernel back when the runner vanishes.

Forked before the runner has threads, it sleeps on a pipe whose other end only the runner holds, and
shares the runner's memory until that is gone. For `try` it stays after the runner, until the time
is up. A session of its own keeps it out of the reach of the terminal and of the process group; the
kernel's out-of-memory killer is told to spare it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import time
from pathlib import Path

from trace_recipe.errors import InstanceBusyError, Problem, RestoreError, TraceRecipeError
from trace_recipe.finisher import Ending, finish
from trace_recipe.journal import (
    Journal,
    Leftovers,
    boot_time_ns,
    journal_path,
    read_journal,
)
from trace_recipe.leftovers import clear_leftovers
from trace_recipe.state_directory import command_line

__all__ = ["Guardian"]

_PR_SET_NAME = 15
_COMM = b"trace-guardian"  # the kernel keeps 15 bytes
_ADOPT_TRIES = 1000
_ADOPT_WAIT_S = 0.005
_BY = "its guardian"
_ASKED = "ended on request"
_DISMISSED = b"dismissed"
_KEPT = b"kept"
_RETRIES = 150
_RETRY_S = 2.0
_STEP_S = 10.0


class Guardian:
    """The runner's side: tells the child what to watch, and sends it home."""

    def __init__(self, run_id: str, recipe: str, leftovers: Leftovers, directory: Path) -> None:
        """Fork it; returns when no signal to the runner's process group can reach it any more."""
        read_end, self._write_end = os.pipe2(os.O_CLOEXEC)
        detached, attached = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._write_end)
                _guard(read_end, run_id, recipe, leftovers, directory.absolute())
            finally:
                os._exit(0)
        os.close(read_end)
        os.close(attached)
        os.read(detached, 1)  # ends when the child has closed all but its own pipe
        os.close(detached)

    def keep(self, session_journal: Journal) -> None:
        """Leave everything as applied, and revert it when the time in the journal is up.

        Returns when the child has the journal; raises RestoreError when it has vanished.
        """
        self._tell(_KEPT)
        os.close(self._write_end)
        self._write_end = -1
        session_journal.close()
        while not self._has_ended():
            state = read_journal(session_journal.path)
            if state is not None and state.pid == self.pid:
                return
            time.sleep(_ADOPT_WAIT_S)
        if read_journal(session_journal.path) is None:  # the time was up so soon: all is back
            return
        raise RestoreError(
            Problem(
                "the process that was to revert it has vanished",
                why="somebody killed it",
                fix=f"put everything back: {command_line('recover', session_journal.path.parent)}",
            )
        )

    def dismiss(self) -> None:
        """End it: nothing of the run is left to put back."""
        if self._write_end < 0:
            return
        self._tell(_DISMISSED)
        os.close(self._write_end)
        self._write_end = -1
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def _has_ended(self) -> bool:
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] != 0
        except ChildProcessError:  # our parent ignores SIGCHLD, and so do we: nothing is kept
            return True

    def _tell(self, word: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # killed: the journal stays for `recover`
            os.write(self._write_end, word)


def _guard(pipe: int, run_id: str, recipe: str, leftovers: Leftovers, directory: Path) -> None:
    """Run in the child only: wait until the runner ends, then look whether it had finished."""
    _detach(pipe)
    words = b""
    while chunk := os.read(pipe, 4096):
        words += chunk
    if words == _DISMISSED:
        return
    # Looked for by its name: the runner may vanish as soon as it is there, and tell nobody.
    path = journal_path(directory, run_id)
    if words == _KEPT:
        _keep(path)
        return
    with contextlib.suppress(TraceRecipeError, OSError):  # `recover` tells it, from the journal
        ending = _take_over(path)
        if ending is None and (pages := clear_leftovers(leftovers, directory, run_id)):
            ending = Ending.without_receipt(run_id, recipe, by=_BY, pages=str(pages))
        if ending is not None:
            ending.note(directory)


def _detach(pipe: int) -> None:
    gc.disable()
    gc.freeze()  # a collection would write to, and so copy, every page that is shared
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_NAME, _COMM, 0, 0, 0)
    with contextlib.suppress(OSError):  # takes CAP_SYS_RESOURCE
        Path("/proc/self/oom_score_adj").write_text("-1000")
    os.chdir("/")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):  # whoever reads the runner's output must see its end
        os.dup2(nowhere, standard)
    os.closerange(3, pipe)
    os.closerange(pipe + 1, os.sysconf("SC_OPEN_MAX"))


def _take_over(path: Path) -> Ending | None:
    """Finish the run; None when its journal is gone, because everything was put back before."""
    journal = _adopt(path)
    return finish(journal.state(), journal, by=_BY) if journal else None


def _adopt(path: Path) -> Journal | None:
    for _ in range(_ADOPT_TRIES):
        state = read_journal(path)
        if state is None:
            return None
        with contextlib.suppress(InstanceBusyError):  # a dying runner closes our pipe before it
            return Journal.adopt(state)
        time.sleep(_ADOPT_WAIT_S)
    return None


def _keep(path: Path) -> None:
    """Wait until the time in the journal is up, or somebody asks, and put everything back."""
    words = {signal.SIGTERM, signal.SIGUSR1}
    signal.pthread_sigmask(signal.SIG_BLOCK, words)
    for word in words:
        signal.signal(word, signal.SIG_DFL)  # blocked: taken by sigwait, never delivered
    journal = _adopt(path)
    if journal is None:
        return
    journal.owned()
    why = _wait(journal, words)
    for _ in range(_RETRIES):
        with contextlib.suppress(RestoreError):
            ending = finish(journal.state(), journal, by=_BY, why=why)
            if why != _ASKED:  # who asked sees it happen
                ending.note(path.parent)
            return
        time.sleep(_RETRY_S)  # somebody holds the instance open
        journal = _adopt(path)
        if journal is None:
            return


def _wait(journal: Journal, words: set[signal.Signals]) -> str:
    """Return why the wait has ended."""
    while True:
        until_ns = journal.state().until_ns
        if until_ns is None:
            word = signal.sigwait(words)
        else:
            left_s = (until_ns - boot_time_ns()) / 1e9
            if left_s <= 0:
                return "its time was up"
            # A suspended machine does not count for sigtimedwait, hence the short steps.
            got = signal.sigtimedwait(words, min(left_s, _STEP_S))
            word = signal.Signals(got.si_signo) if got else signal.SIGUSR1
        if word == signal.SIGTERM:
            return _ASKED
