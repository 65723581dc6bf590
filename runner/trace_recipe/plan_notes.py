"""Plan notes: what the user should know of a plan before it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trace_recipe.plan import Scope, SetFile
from trace_recipe.suggestions import listed
from trace_recipe.tracers import (
    LATENCY_TRACERS,
    PID_TRACERS,
    PRINTING_OPTIONS,
    WHOLE_CPU_TRACERS,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trace_recipe.plan import InstanceKind, Step
    from trace_recipe.resolver import ResolvedRecipe

__all__ = ["notes_of"]


def notes_of(
    resolved: ResolvedRecipe, steps: Sequence[Step], kind: InstanceKind
) -> tuple[str, ...]:
    """Return the notes of a plan, whom it concerns first."""
    return (*_on_others(steps, kind), *_on_tasks(resolved), *_on_outputs(resolved))


def _on_others(steps: Sequence[Step], kind: InstanceKind) -> Iterator[str]:
    if kind == "top":
        yield (
            "the top level is used: events that others have enabled there are recorded too,"
            " and what its buffer holds is consumed"
        )
    shared = [
        step.name
        for step in steps
        if isinstance(step, SetFile) and step.scope is Scope.SHARED and kind == "private"
    ]
    if shared:
        yield f"shared with everyone while it runs: {', '.join(dict.fromkeys(shared))}"


def _on_tasks(resolved: ResolvedRecipe) -> Iterator[str]:
    scope, files = resolved.loaded.recipe.scope, resolved.kernel.control_files
    tracer = resolved.tracer.name if resolved.tracer else "nop"
    missing = []
    if resolved.events and "set_event_notrace_pid" not in files:
        missing.append("set_event_notrace_pid")
    if tracer in PID_TRACERS and "set_ftrace_notrace_pid" not in files:
        missing.append("set_ftrace_notrace_pid")
    if missing and not scope.pids:
        yield (
            f"what trace-recipe itself does is recorded too: this kernel has no {listed(missing)}"
            " to leave it out with"
        )
    if tracer in WHOLE_CPU_TRACERS and (scope.pids or scope.exclude_pids) and resolved.events:
        yield f"the pids in 'scope' choose the events; the tracer '{tracer}' measures every task"


def _on_outputs(resolved: ResolvedRecipe) -> Iterator[str]:
    if resolved.tracer is not None and resolved.tracer.name in LATENCY_TRACERS:
        return  # its report is what the kernel prints
    asked = dict(resolved.options) | dict(resolved.tracer.options if resolved.tracer else {})
    printing = sorted(PRINTING_OPTIONS & asked.keys())
    if printing:
        yield (
            "options that change what the kernel's own 'trace' file shows, not the outputs:"
            f" {listed(printing)}"
        )
