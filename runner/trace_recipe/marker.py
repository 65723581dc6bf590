"""Marker: the recipe's own texts in the trace, through trace_marker."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from trace_recipe.errors import errno_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trace_recipe.tracefs import Tracefs

__all__ = ["Marker"]


class Marker:
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
        """Write one line into the trace; nothing for None or an empty text."""
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
