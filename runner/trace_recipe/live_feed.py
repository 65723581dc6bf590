"""Live feed: tells the process that shows events live what has been recorded since."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trace_recipe.errors import TracefsError
from trace_recipe.recorder import trace_clock_now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trace_recipe.drift import Drift
    from trace_recipe.recorder import Recorder
    from trace_recipe.scribe import Scribe
    from trace_recipe.tracefs import Tracefs

__all__ = ["LiveFeed"]


class LiveFeed:
    """Reads the clock and the tasks' names, which takes root, for a Scribe that has no rights."""

    def __init__(self, tracefs: Tracefs, instance: Tracefs, scribe: Scribe) -> None:
        self._tracefs = tracefs
        self._instance = instance
        self._scribe = scribe
        self._horizon: int | None = None
        self._cmdlines = ""
        self._drifts: list[Drift] = []

    def tick(self, recorder: Recorder) -> None:
        """Have shown what is complete: all before the last flush that all CPUs answered."""
        if not recorder.is_flushed or not self._scribe.is_idle:
            return  # what comes meanwhile waits in the spool files
        if self._horizon is not None:
            sizes = {cpu: size for cpu, _, size in recorder.spools}
            drifts, self._drifts = self._drifts, []
            self._scribe.show(sizes, self._horizon, self._new_cmdlines(), drifts)
        self._horizon = trace_clock_now(self._instance)
        recorder.request_flush()

    def mark(self, drifts: Sequence[Drift]) -> None:
        """Have changes by others shown among the events of their time."""
        self._drifts += drifts

    def _new_cmdlines(self) -> str:
        try:
            cmdlines = self._tracefs.read("saved_cmdlines")
        except TracefsError:
            return ""
        if cmdlines == self._cmdlines:
            return ""
        self._cmdlines = cmdlines
        return cmdlines
