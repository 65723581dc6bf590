"""Interrupts: SIGINT, SIGTERM and SIGHUP as a value that the run looks at, never an exception.

An exception out of a signal handler could strike between a write and its journal line. Nor may the
handler take a lock that the interrupted code holds, as threading.Event's: it writes to a pipe.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, TracebackType

__all__ = ["Interrupts", "for_this_thread"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# timeout(1) sends its signal to the process and then to the group that the process is in.
_ONE_WISH_S = 0.2


class Interrupts:
    """Counts the signals that ask the run to end, from `with` until its end."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._noted_at = 0.0
        self._old: dict[signal.Signals, object] = {}
        self._wake_read = self._wake_write = -1

    def __enter__(self) -> Self:
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in _SIGNALS:
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup: the run shall outlive its terminal
            self._old[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, old in self._old.items():
            signal.signal(number, old)  # type: ignore[arg-type]  # what signal() gave us before
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        name, now = signal.Signals(number).name, time.monotonic()
        if self.names[-1:] == [name] and now - self._noted_at < _ONE_WISH_S:
            return
        self._noted_at = now
        self.names.append(name)
        with contextlib.suppress(BlockingIOError):  # full: whoever waits has been woken long since
            os.write(self._wake_write, b"x")

    def wait(self, timeout_s: float, *, until_readable: int | None = None) -> bool:
        """Sleep until the first signal or the timeout; return whether there was one.

        A descriptor that becomes readable ends the sleep, too.
        """
        if not self.is_set:
            poller = select.poll()
            poller.register(self._wake_read, select.POLLIN)
            if until_readable is not None:
                poller.register(until_readable, select.POLLIN)
            poller.poll(max(timeout_s, 0) * 1000)
        return self.is_set

    @property
    def is_set(self) -> bool:
        """Whether the user asked to end."""
        return bool(self.names)

    @property
    def skips_outputs(self) -> bool:
        """Whether the user asked twice: restore, but write no outputs."""
        return len(self.names) > 1


@contextlib.contextmanager
def for_this_thread() -> Iterator[None]:
    """Keep the signals from threads that are started meanwhile, so that none of them takes one.

    Only the main thread runs Python's handlers, and what another takes does not wake it. The kernel
    asks the main thread first, but not while the process is stopped (Ctrl-Z): then whoever is first
    after SIGCONT takes the signal (kernel/signal.c, complete_signal()).
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
