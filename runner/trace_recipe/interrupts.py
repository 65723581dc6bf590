"""Interrupts: SIGINT, SIGTERM and SIGHUP as a value that the run looks at, never an exception.

An exception out of a signal handler could strike between a write and its journal line.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import FrameType, TracebackType

__all__ = ["Interrupts"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Counts the signals that ask the run to end, from `with` until its end."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._event = threading.Event()
        self._old: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
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

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.names.append(signal.Signals(number).name)
        self._event.set()

    def wait(self, timeout_s: float) -> bool:
        """Sleep until the first signal or the timeout; return whether there was one."""
        return self._event.wait(timeout_s)

    @property
    def is_set(self) -> bool:
        """Whether the user asked to end."""
        return bool(self.names)

    @property
    def skips_outputs(self) -> bool:
        """Whether the user asked twice: restore, but write no outputs."""
        return len(self.names) > 1
