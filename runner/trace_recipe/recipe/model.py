"""What a recipe is, put together from its parts; field descriptions are the editor's help.

Quantities are whole numbers here (durations in nanoseconds, sizes in bytes); in YAML they are text.
Validate with `Recipe.model_validate_json`: strict, lists as tuples, no key given as null.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import Field

from trace_recipe.recipe import kinds
from trace_recipe.recipe.kinds import (
    Duration,
    IncludePath,
    InstanceName,
    Line,
    Link,
    Name,
    OptionName,
    ParamName,
    PermissionName,
    PositiveDuration,
    RecipeName,
    Text,
)
from trace_recipe.recipe.parts.event import TAKEN_OUT, Event, EventEntry
from trace_recipe.recipe.parts.output import Output
from trace_recipe.recipe.parts.param import Param
from trace_recipe.recipe.parts.requires import Requires
from trace_recipe.recipe.parts.rules import Many, Model, Rule
from trace_recipe.recipe.parts.scope import Buffer, Scope
from trace_recipe.recipe.parts.session import Drift, Loss, Markers, Run, Stop
from trace_recipe.recipe.parts.tracer import Functions, Tracer, TracerEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["RULES", "Recipe"]


def _second(paths: list[str], wanted: Callable[[str], bool]) -> tuple[str | int, ...] | None:
    """Return where in `outputs` a path stands that already stood before."""
    seen: set[str] = set()
    for index, path in enumerate(map(posixpath.normpath, paths)):
        if wanted(path) and path in seen:
            return ("outputs", index)
        seen.add(path)
    return None


def _traces_nothing(recipe: Recipe) -> tuple[str | int, ...] | None:
    tracer = recipe.tracer
    traces = tracer is not None and not (isinstance(tracer, Tracer) and tracer.name == "nop")
    if recipe.events or traces or recipe.markers.model_fields_set:
        return None
    given = [key for key in ("events", "tracer") if key in recipe.model_fields_set]
    return tuple(given[:1])


_TO_STDOUT = {
    "type": "object",
    "anyOf": [
        {
            "properties": {
                key: {
                    "anyOf": [
                        {"const": "-"},
                        {
                            "type": "object",
                            "properties": {"path": {"const": "-"}},
                            "required": ["path"],
                        },
                    ]
                }
            },
            "required": [key],
        }
        for key in ("text", "jsonl", "csv")
    ],
}
_NOP = {
    "anyOf": [
        {"const": "nop"},
        {"type": "object", "properties": {"name": {"const": "nop"}}, "required": ["name"]},
    ]
}


class Recipe(Model):
    """What to trace with ftrace, for how long, and where the result goes."""

    recipe: Literal["v1"] = Field(
        description="The version of the recipe language.", examples=["v1"]
    )
    name: RecipeName = Field(description="What the recipe is called.", examples=["mount-audit"])
    description: Text = Field(
        default="",
        description="What it shows, in a sentence.",
        examples=["Who mounts what and where."],
    )
    tags: Many[kinds.Tag] = Field(
        default=(), description="Words to find it by.", examples=[["filesystem", "audit"]]
    )
    links: Many[Link] = Field(
        default=(),
        description="Pages with more about it.",
        examples=[["https://docs.kernel.org/trace/ftrace.html"]],
    )
    owner: Line | None = Field(
        default=None,
        description="Who answers questions about it.",
        examples=["Storage team <storage@example.org>"],
    )
    params: dict[ParamName, Param] = Field(
        default={},
        description="Typed parameters; ${name} puts one into any value, --set name=value sets it.",
        examples=[{"duration": {"type": "duration", "default": "30s"}}],
    )
    include: Many[IncludePath] = Field(
        default=(),
        description="Recipe files merged underneath, relative to this one; this one wins.",
        examples=[["base.yaml"]],
    )
    requires: Requires | None = Field(
        default=None,
        description="What the kernel must have; without it nothing is written.",
        examples=[{"tracers": ["function_graph"]}],
    )
    allow: Many[PermissionName] = Field(
        default=(),
        description="Dangerous things that it does on purpose; whoever runs it has to allow them"
        " too (--allow).",
        examples=[["function-all"]],
    )
    events: Many[EventEntry] = Field(
        default=(),
        description="The events to trace.",
        examples=[["syscalls:sys_{enter,exit}_mount", "!syscalls:sys_exit_mount"]],
    )
    tracer: TracerEntry | None = Field(
        default=None, description="The tracer to use (current_tracer).", examples=["function"]
    )
    functions: Functions | None = Field(
        default=None,
        description="Which functions the tracer sees.",
        examples=[{"only": ["vfs_*"], "not": ["vfs_fsync"]}],
    )
    scope: Scope = Field(
        default=Scope(),
        description="Whose events are recorded, and on which CPUs.",
        examples=[{"pids": ["command"], "follow": True}],
    )
    options: dict[OptionName, bool] = Field(
        default={},
        description="Trace options to switch (options/*, trace_options).",
        examples=[{"stacktrace": True}],
    )
    clock: Name | None = Field(
        default=None,
        description="The clock of the time stamps (trace_clock).",
        examples=["boot"],
    )
    buffer: Buffer = Field(
        default=Buffer(),
        description="How large the ring buffer is, and what it does when it is full.",
        examples=[{"size": "8M", "mode": "overwrite"}],
    )
    instance: InstanceName = Field(
        default="private",
        description="Where to trace: a private instance, 'top' (the whole system's), or a name.",
        examples=["private"],
    )
    markers: Markers = Field(
        default=Markers(),
        description="Text to write into the trace.",
        examples=[{"start": "begin", "stop": "end"}],
    )
    duration: PositiveDuration | None = Field(
        default=None,
        description="How long to record; without it until the command ends or Ctrl-C.",
        examples=["30s"],
    )
    delay: Duration | None = Field(
        default=None, description="How long to wait before recording.", examples=["5s"]
    )
    run: Run | None = Field(
        default=None,
        description="A command to run while recording.",
        examples=[{"command": ["make", "-j8"]}],
    )
    stop: Stop | None = Field(
        default=None,
        description="Ends the recording after so many events or bytes.",
        examples=[{"events": 100000}],
    )
    loss: Loss = Field(
        default=Loss(),
        description="How many lost events are tolerated, and what happens beyond that.",
        examples=[{"max": 0, "action": "fail"}],
    )
    drift: Drift = Field(
        default=Drift(),
        description="What happens when others change what this run has set, while it records.",
        examples=[{"action": "fail"}],
    )
    outputs: Many[Output] = Field(
        default=(),
        description="Where the result goes, and in which form.",
        examples=[[{"text": "-"}, {"trace-dat": "mount-audit.dat"}]],
    )

    rules = (
        Rule(
            "traces_nothing",
            "the recipe traces nothing",
            _traces_nothing,
            why="it has no events, no tracer other than nop and no markers",
            fix="name what to trace, as in 'events: [sched:sched_switch]'; 'trace-recipe list"
            " events' shows what there is",
            schema={
                "anyOf": [
                    {"required": ["events"], "properties": {"events": {"minItems": 1}}},
                    {"required": ["tracer"], "properties": {"tracer": {"not": _NOP}}},
                    {"required": ["markers"], "properties": {"markers": {"minProperties": 1}}},
                ]
            },
        ),
        Rule(
            "first_taken_out",
            "the first entry takes events out, but there are none yet",
            lambda r: (
                ("events", 0)
                if r.events and isinstance(r.events[0], Event) and r.events[0].event.startswith("!")
                else None
            ),
            why="'!' takes out what earlier entries of the list put in",
            fix="move it behind the entry that it corrects",
            at=("events", 0),
            schema={"properties": {"events": {"prefixItems": [{"not": TAKEN_OUT}]}}},
        ),
        Rule(
            "functions_need_tracer",
            "without a tracer no functions are traced",
            lambda r: ("functions",) if r.functions is not None and r.tracer is None else None,
            fix="add 'tracer: function' or 'tracer: function_graph'",
            at=("functions",),
            schema={"dependentRequired": {"functions": ["tracer"]}},
        ),
        Rule(
            "command_needs_run",
            "there is no command: 'run' is missing",
            lambda r: (
                ("scope", "pids", r.scope.pids.index("command"))
                if "command" in r.scope.pids and r.run is None
                else None
            ),
            fix="add 'run: {command: [...]}', or give a pid",
            at=("scope", "pids"),
            schema={
                "if": {
                    "properties": {
                        "scope": {
                            "type": "object",
                            "properties": {
                                "pids": {"type": "array", "contains": {"const": "command"}}
                            },
                            "required": ["pids"],
                        }
                    },
                    "required": ["scope"],
                },
                "then": {"required": ["run"]},
            },
        ),
        Rule(
            "marker_needs_run",
            "there is no command whose start or end could be marked: 'run' is missing",
            lambda r: (
                next(
                    (
                        ("markers", key)
                        for key in ("command_start", "command_exit")
                        if key in r.markers.model_fields_set
                    ),
                    None,
                )
                if r.run is None
                else None
            ),
            fix="add 'run: {command: [...]}', or use 'start' and 'stop'",
            at=("markers",),
            schema={
                "if": {
                    "properties": {
                        "markers": {
                            "type": "object",
                            "anyOf": [
                                {"required": ["command_start"]},
                                {"required": ["command_exit"]},
                            ],
                        }
                    },
                    "required": ["markers"],
                },
                "then": {"required": ["run"]},
            },
        ),
        Rule(
            "top_level_held",
            "the top level's buffer is not held: it is everybody's",
            lambda r: (
                ("buffer", "disable_on_free")
                if r.buffer.disable_on_free and r.instance == "top"
                else None
            ),
            why="when it is let go the kernel turns tracing off there and empties the buffer",
            fix="take 'disable_on_free' out, or take 'instance: top' out",
            at=("buffer", "disable_on_free"),
            schema={
                "if": {"properties": {"instance": {"const": "top"}}, "required": ["instance"]},
                "then": {
                    "properties": {
                        "buffer": {"properties": {"disable_on_free": {"not": {"const": True}}}}
                    }
                },
            },
        ),
        Rule(
            "one_stdout",
            "two outputs go to standard output",
            lambda r: _second([o.spec.path for o in r.outputs], lambda path: path == "-"),
            why="they would be mixed up",
            fix="name a file for one of them",
            at=("outputs",),
            schema={
                "properties": {
                    "outputs": {"contains": _TO_STDOUT, "minContains": 0, "maxContains": 1}
                }
            },
        ),
        Rule(
            "same_output_twice",
            "two outputs write the same file",
            lambda r: _second([o.spec.path for o in r.outputs], lambda path: path != "-"),
            why="the second would replace the first",
            fix="name another file",
        ),
    )


def _rules_of(model: type[Model]) -> Iterator[Rule]:
    yield from model.rules
    for info in model.model_fields.values():
        for part in _models_in(info.annotation):
            yield from _rules_of(part)


def _models_in(annotation: Any) -> Iterator[type[Model]]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation
    for one in get_args(annotation):
        yield from _models_in(one)


RULES: dict[str, Rule] = {rule.name: rule for rule in _rules_of(Recipe)}
