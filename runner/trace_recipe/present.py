"""Present: what control files read before a plan changes them, in an instance to come too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trace_recipe.tracers import FOLLOWING_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Present"]

# What a new instance shows before anything is written to it.
_FRESH = {
    "tracing_on": "1",
    "trace_clock": "local",
    "current_tracer": "nop",
    "buffer_percent": "50",
    "set_event_pid": "",
    "set_event_notrace_pid": "",
}
_FRESH_EVENT = {"enable": "0", "filter": "none", "trigger": ""}


@dataclass(frozen=True, slots=True)
class Present:
    """The readings at one place; `current` gives that of a file under the mount, None without one.

    `prefix` is where the instance's files lie, and `is_new` says that the plan makes it.
    """

    current: Callable[[str], str | None]
    prefix: str
    is_new: bool

    def reading(self, file: str, name: str) -> str | None:
        """Return what `file`, `name` in its instance, reads; None when that is not known yet."""
        if not (self.is_new and file.startswith(self.prefix)):
            return self._shown(file, name)
        # A new instance takes the options over from the top level, but for these.
        if name.startswith("options/"):
            option = name.removeprefix("options/")
            is_off = option in FOLLOWING_OPTIONS or option == "trace_printk_dest"
            return "0" if is_off else self._shown(name, name)
        if name.startswith("events/"):
            return _FRESH_EVENT.get(name.rpartition("/")[2])
        return _FRESH.get(name)

    def _shown(self, file: str, name: str) -> str | None:
        text = self.current(file)
        if text is None:
            return None
        text = text.rstrip("\n")
        if name == "trace_clock":  # `local [mono] …` shows the chosen one
            return text.partition("[")[2].partition("]")[0] or text
        return "" if text.startswith("# Available triggers") else text
