"""Scope and buffer: whose events are recorded, and into what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trace_recipe.recipe.kinds import CpuList, Integer, Pid, Size
from trace_recipe.recipe.parts.rules import Many, Model, Rule

__all__ = ["Buffer", "Scope"]


class Scope(Model):
    """Whose events are recorded, and on which CPUs; the runner itself is always left out."""

    pids: Many[Pid | Literal["command"]] = Field(
        default=(),
        description=(
            "Only these tasks (set_event_pid, set_ftrace_pid); 'command' is what 'run' starts."
        ),
        examples=[[1234, "command"]],
    )
    exclude_pids: Many[Pid] = Field(
        default=(),
        description="All but these tasks (set_event_notrace_pid, set_ftrace_notrace_pid).",
        examples=[[1]],
    )
    follow: bool = Field(
        default=False,
        description="Also the children of these tasks (options event-fork and function-fork).",
        examples=[True],
    )
    cpus: CpuList | None = Field(
        default=None, description="Only these CPUs (tracing_cpumask).", examples=["0-3,7"]
    )

    rules = (
        Rule(
            "follow_needs_pids",
            "there is no task whose children could be followed",
            lambda s: ("follow",) if s.follow and not s.pids else None,
            why="without pids every task is traced anyway",
            fix="add 'pids', as in pids: [command]",
            at=("follow",),
            schema={
                "if": {"properties": {"follow": {"const": True}}, "required": ["follow"]},
                "then": {"required": ["pids"], "properties": {"pids": {"minItems": 1}}},
            },
        ),
        Rule(
            "pid_both_ways",
            "the same task is wanted and excluded",
            lambda s: next(
                (("exclude_pids", i) for i, pid in enumerate(s.exclude_pids) if pid in s.pids),
                None,
            ),
            fix="take it out of one of the lists",
        ),
    )


class Buffer(Model):
    """The ring buffer."""

    size: Size | None = Field(
        default=None, description="Size for each CPU (buffer_size_kb).", examples=["8M"]
    )
    subbuf: Size | None = Field(
        default=None,
        description="Size of a sub-buffer (buffer_subbuf_size_kb).",
        examples=["16K"],
    )
    mode: Literal["overwrite", "discard"] = Field(
        default="overwrite",
        description="What is lost when it is full: the oldest events, or the newest"
        " (options/overwrite).",
        examples=["discard"],
    )
    watermark: Annotated[int, Integer(0, 100)] | None = Field(
        default=None,
        description="How full, in percent, it gets before the reader wakes (buffer_percent).",
        examples=[50],
    )
    disable_on_free: bool = Field(
        default=False,
        description="Hold free_buffer open with options/disable_on_free: if the runner dies, the"
        " kernel itself stops recording and frees the buffer, which loses what it held.",
        examples=[True],
    )
