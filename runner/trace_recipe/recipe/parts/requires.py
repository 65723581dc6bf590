"""Requires: what a kernel must have before anything is written."""

from __future__ import annotations

from pydantic import Field

from trace_recipe.recipe.kinds import EventPattern, Name, OptionName, Pattern
from trace_recipe.recipe.parts.rules import Many, Model

__all__ = ["Requires"]


class Requires(Model):
    """What the kernel must have for the recipe to make sense."""

    events: Many[EventPattern] = Field(
        default=(),
        description="Events that must exist, as system:event.",
        examples=[["syscalls:sys_enter_fsopen"]],
    )
    tracers: Many[Name] = Field(
        default=(),
        description="Tracers that available_tracers must list.",
        examples=[["function_graph"]],
    )
    options: Many[OptionName] = Field(
        default=(), description="Names that options/ must have.", examples=[["event-fork"]]
    )
    clocks: Many[Name] = Field(
        default=(), description="Clocks that trace_clock must list.", examples=[["boot"]]
    )
    triggers: Many[Name] = Field(
        default=(),
        description="Trigger commands that an event's trigger file must offer.",
        examples=[["stacktrace", "hist"]],
    )
    files: Many[Pattern] = Field(
        default=(),
        description="Control files that the tracing directory must have.",
        examples=[["set_event_notrace_pid"]],
    )
