"""Guardian: a small process that puts the kernel back when the runner vanishes.

Forked before the runner has threads, it sleeps on a pipe whose other end only the runner holds, and
shares the runner's memory until that is gone. A session of its own keeps it out of the reach of the
terminal and of the process group; the kernel's out-of-memory killer is told to spare it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import time
from pathlib import Path

from trace_recipe.errors import InstanceBusyError, TraceRecipeError
from trace_recipe.finisher import Ending, finish
from trace_recipe.journal import Journal, Leftovers, read_journal
from trace_recipe.leftovers import clear_leftovers

__all__ = ["Guardian"]

_PR_SET_NAME = 15
_COMM = b"trace-guardian"  # the kernel keeps 15 bytes
_ADOPT_TRIES = 1000
_ADOPT_WAIT_S = 0.005
_BY = "its guardian"
_DISMISSED = b"dismissed"
_NUL = b"\0"


class Guardian:
    """The runner's side: tells the child what to watch, and sends it home."""

    def __init__(self, run_id: str, recipe: str, leftovers: Leftovers) -> None:
        read_end, self._write_end = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._write_end)
                _guard(read_end, run_id, recipe, leftovers)
            finally:
                os._exit(0)
        os.close(read_end)

    def watch(self, journal: Path) -> None:
        """Restore from this journal from now on, should the runner vanish."""
        self._tell(os.fsencode(journal))

    def dismiss(self) -> None:
        """End it: nothing of the run is left to put back."""
        if self._write_end < 0:
            return
        self._tell(_DISMISSED)
        os.close(self._write_end)
        self._write_end = -1
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def _tell(self, word: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # killed: the journal stays for `recover`
            os.write(self._write_end, word + _NUL)


def _guard(pipe: int, run_id: str, recipe: str, leftovers: Leftovers) -> None:
    """Run in the child only: wait until the runner ends, then look whether it had finished."""
    _detach(pipe)
    words = b""
    while chunk := os.read(pipe, 4096):
        words += chunk
    *told, _ = words.split(_NUL)
    if told and told[-1] == _DISMISSED:
        return
    if not told:  # nothing was applied yet
        clear_leftovers(leftovers)
        return
    path = Path(os.fsdecode(told[-1]))
    with contextlib.suppress(TraceRecipeError, OSError):  # `recover` tells it, from the journal
        ending = _take_over(path)
        if ending is None and (pages := clear_leftovers(leftovers)):
            ending = Ending.without_receipt(run_id, recipe, by=_BY, pages=str(pages))
        if ending is not None:
            ending.note(path.parent)


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
    for _ in range(_ADOPT_TRIES):
        state = read_journal(path)
        if state is None:
            return None
        try:
            journal = Journal.adopt(state)
        except InstanceBusyError:  # the dying runner closes our pipe before its lock
            time.sleep(_ADOPT_WAIT_S)
            continue
        return finish(state, journal, by=_BY)
    return None
