"""Tracer rules: what a recipe's tracer makes of its other keys, on any kernel.

A key that the tracer never looks at would be accepted and do nothing, so it is refused; of
alternatives, one that is not looked at by the chosen one is left out, and the plan says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trace_recipe.errors import Problem
from trace_recipe.mistakes import (
    denied_option,
    denied_tracer,
    foreign_tracer_option,
    misnamed_tracer,
    wrong_function,
)
from trace_recipe.recipe.parts.tracer import Tracer, TracerAnyOf, TracerEvents
from trace_recipe.suggestions import listed
from trace_recipe.tracers import (
    FOLLOWING_OPTIONS,
    LATENCY_TRACERS,
    THRESHOLD_TRACERS,
    WHOLE_CPU_TRACERS,
    users_of_option,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trace_recipe.recipe.model import Recipe
    from trace_recipe.recipe.parts.event import Event

__all__ = [
    "Finding",
    "Path",
    "idle_keys",
    "idle_on_every_kernel",
    "stand_in_events",
    "tracers",
    "wrong_settings",
]

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem and the path of what it is about; `at_key` points at the key, not its value."""

    path: Path
    problem: Problem
    at_key: bool = False


def tracers(entry: Tracer | TracerAnyOf | None) -> Iterator[tuple[Tracer, Path]]:
    """Yield every tracer of a recipe's `tracer`, with its path."""
    if isinstance(entry, Tracer):
        yield entry, ("tracer",)
    elif entry is not None:
        for index, one in enumerate(entry.any_of):
            if isinstance(one, Tracer):
                yield one, ("tracer", "any_of", index)


def stand_in_events(entry: Tracer | TracerAnyOf | None) -> Iterator[tuple[Event, Path]]:
    """Yield every event that can stand in for a tracer, with its path."""
    for index, one in enumerate(entry.any_of if isinstance(entry, TracerAnyOf) else ()):
        for at, event in enumerate(one.events if isinstance(one, TracerEvents) else ()):
            yield event, ("tracer", "any_of", index, "events", at)


def wrong_settings(recipe: Recipe, tracer: Tracer, path: Path) -> Iterator[Finding]:
    """Yield what is wrong in the own settings of one of a recipe's tracers."""
    name = tracer.name
    problem = denied_tracer(name) or misnamed_tracer(name)
    if problem is not None:
        yield Finding((*path, "name"), problem)
        return
    if tracer.threshold is not None:
        if name not in THRESHOLD_TRACERS:
            what = f"a threshold with the tracer '{name}', which does not look at it"
            fix = f"remove it, or use one of {listed(sorted(THRESHOLD_TRACERS))}"
            yield Finding((*path, "threshold"), Problem(what, fix=fix))
        elif tracer.threshold < 1000:
            problem = Problem("a threshold below 1us", why="the kernel counts in microseconds")
            yield Finding((*path, "threshold"), problem)
    for key in ("graph_functions", "graph_notrace", "max_graph_depth"):
        if getattr(tracer, key) not in (None, ()) and name != "function_graph":
            what = f"'{key}' with the tracer '{name}'"
            why = "only function_graph looks at it"
            fix = "write 'name: function_graph', or remove it"
            yield Finding((*path, key), Problem(what, why=why, fix=fix))
    for key in ("graph_functions", "graph_notrace"):
        for index, pattern in enumerate(getattr(tracer, key)):
            problem = wrong_function(pattern)
            if problem is not None:
                yield Finding((*path, key, index), problem)
    for option, value in tracer.options.items():
        problem = _idle_option(recipe, option, name, value=value)
        problem = denied_option(option, value=value) or problem
        if problem is not None:
            yield Finding((*path, "options", option), problem, at_key=True)


def idle_on_every_kernel(recipe: Recipe) -> list[Finding]:
    """Return the keys that would do nothing whichever of its alternatives a kernel has."""
    entry = recipe.tracer
    if any(denied_tracer(one.name) or misnamed_tracer(one.name) for one, _ in tracers(entry)):
        return []  # what it was meant to be decides
    names: list[str | None] = [None]
    if isinstance(entry, Tracer):
        names = [entry.name]
    elif entry is not None:
        names = [one.name if isinstance(one, Tracer) else None for one in entry.any_of]
    first, *others = ({one.path: one for one in idle_keys(recipe, name)} for name in names)
    return [
        one
        for path, one in first.items()
        if all(path in other for other in others) and not _is_met(recipe, path)
    ]


def idle_keys(recipe: Recipe, tracer: str | None) -> Iterator[Finding]:
    """Yield the keys that do nothing beside this tracer; None: the recipe sets no tracer."""
    yield from _idle_options(recipe, tracer)
    if tracer is None:
        return
    if tracer in LATENCY_TRACERS and recipe.buffer.mode == "discard":
        problem = Problem(
            f"the mode 'discard' with the tracer '{tracer}'",
            why="the kernel keeps options/overwrite on as long as a latency tracer runs",
            fix="remove 'mode', or trace events instead",
        )
        yield Finding(("buffer", "mode"), problem)
    if tracer not in WHOLE_CPU_TRACERS or recipe.events:
        return
    for key in ("pids", "exclude_pids"):
        if getattr(recipe.scope, key):
            problem = Problem(
                f"'{key}' with the tracer '{tracer}', which measures whole CPUs",
                why="set_event_pid is for events and set_ftrace_pid for the function tracers",
                fix=f"remove '{key}', narrow it with 'cpus', or trace events or functions",
            )
            yield Finding(("scope", key), problem, at_key=True)


def _idle_options(recipe: Recipe, tracer: str | None) -> Iterator[Finding]:
    for option, value in recipe.options.items():
        if denied_option(option, value=value) is None:
            problem = _idle_option(recipe, option, tracer, value=value)
            if problem is not None:
                yield Finding(("options", option), problem, at_key=True)


def _idle_option(recipe: Recipe, option: str, tracer: str | None, *, value: bool) -> Problem | None:
    if (problem := foreign_tracer_option(option, tracer)) is not None:
        return problem
    if option == "latency-format" and not value and tracer in LATENCY_TRACERS:
        return Problem(
            f"the tracer '{tracer}' switches the option 'latency-format' on",
            why="the report of a latency tracer has no other form",
            fix="remove it",
        )
    if option == "display-graph" and value and recipe.instance != "top":
        return Problem(
            "the option 'display-graph' in an instance",
            why="latency tracers nest functions at the top level only",
            fix="remove it, or write 'instance: top'",
        )
    has_pids = recipe.scope.pids or recipe.scope.exclude_pids
    if option in FOLLOWING_OPTIONS and value and not has_pids:
        return Problem(
            f"the option '{option}' without pids",
            why="it adds the children of the tasks in 'scope', which names none",
            fix="write 'scope: {pids: [...], follow: true}', or remove it",
        )
    return None


def _is_met(recipe: Recipe, path: Path) -> bool:
    """Whether a key only asks for what is so without it: an option of no use that is to be off."""
    return (
        path[0] == "options"
        and not recipe.options[str(path[1])]
        and users_of_option(str(path[1])) is not None
    )
