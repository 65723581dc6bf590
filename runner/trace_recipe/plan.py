"""Plan: the ordered steps that a recipe means on one kernel; printing it is the dry run."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from trace_recipe.permission import Permission

if TYPE_CHECKING:
    from trace_recipe.errors import Place

__all__ = [
    "COMMAND",
    "PRIVATE_PREFIX",
    "RUNNER",
    "HoldFile",
    "InstanceKind",
    "MakeInstance",
    "Plan",
    "Scope",
    "SetFile",
    "Step",
    "plan_schema",
    "plan_to_json",
]

COMMAND = "{command}"
"""Stands in a step's text for the pid of `run.command`, known only when it is applied."""

PRIVATE_PREFIX = "trace-recipe-"
"""How the name of an instance begins that a run makes for itself."""

RUNNER = "{runner}"
"""Stands in a step's text for the thread ids of the runner."""

InstanceKind: TypeAlias = Literal["private", "named", "top"]


class Scope(StrEnum):
    """Who sees a write: only this run's instance, or everybody on the machine."""

    PRIVATE = "private"
    SHARED = "shared"


@dataclass(frozen=True, slots=True)
class MakeInstance:
    """Create `instances/NAME`; undone by removing it."""

    name: str
    place: Place | None
    key: str = "instance"

    @property
    def file(self) -> str:
        """The directory, relative to the mount."""
        return f"instances/{self.name}"


@dataclass(frozen=True, slots=True)
class SetFile:
    """Write `text` into a control file; undone by the rules of control_files.

    `file` is relative to the mount, `name` to the instance it belongs to. `before` is what a read
    shows now (None: not known yet), `after` what the user wants to see there. `also` are files
    that the kernel changes as a side effect, `later` those that it may change at any time after it,
    as a trigger does when it fires. `starts` marks the write that begins the recording.
    """

    file: str
    name: str
    before: str | None
    after: str
    text: str
    scope: Scope
    place: Place | None
    key: str
    also: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    starts: bool = False

    @property
    def sides(self) -> tuple[str, ...]:
        """The other files that the write changes, now or later; all are put back."""
        return (*self.also, *self.later)


@dataclass(frozen=True, slots=True)
class HoldFile:
    """Keep `file` open for writing until the run ends; undone by closing it."""

    file: str
    name: str
    place: Place | None
    key: str


Step: TypeAlias = MakeInstance | SetFile | HoldFile


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done, in order. `notes` say what the user should know before it runs."""

    recipe: str
    recipe_path: str
    instance_kind: InstanceKind
    instance: str
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    events: tuple[str, ...] = field(default=())
    tracer: str = "nop"

    @property
    def prefix(self) -> str:
        """Where the instance's files lie, relative to the mount: "" or `instances/NAME/`."""
        return f"instances/{self.instance}/" if self.instance else ""

    @property
    def makes_instance(self) -> bool:
        """Whether the run creates (and so removes) its instance."""
        return any(isinstance(step, MakeInstance) for step in self.steps)

    @property
    def trigger_targets(self) -> tuple[str, ...]:
        """Every `system:event` that a trigger may switch on or off."""
        parts = [file.removeprefix(self.prefix).split("/") for file in self.moving_files]
        return tuple(":".join(one[1:3]) for one in parts if one[0] == "events")

    @property
    def moving_files(self) -> tuple[str, ...]:
        """Every file that changes by what was written before: nobody can tell who changed it."""
        steps = [step for step in self.steps if isinstance(step, SetFile)]
        return tuple(dict.fromkeys(file for step in steps for file in step.later))

    @property
    def shared_names(self) -> tuple[str, ...]:
        """The names of the files of all instances that a plan for one of them changes."""
        steps = [step for step in self.steps if isinstance(step, SetFile)]
        found = [step.name for step in steps if step.name in (step.file, *step.also)]
        return tuple(dict.fromkeys(found)) if self.instance else ()

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that the plan touches, side effects included, each once."""
        touched: dict[str, None] = {}
        for step in self.steps:
            if isinstance(step, SetFile):
                touched.update(dict.fromkeys((step.file, *step.sides)))
        return tuple(touched)


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as JSON data; described by schema/plan.v1.schema.json."""
    return {
        "plan": "v1",
        "recipe": plan.recipe,
        "path": plan.recipe_path,
        "instance": {"kind": plan.instance_kind, "name": plan.instance},
        "tracer": plan.tracer,
        "events": list(plan.events),
        "steps": [_step_to_json(step) for step in plan.steps],
        "skipped": [{"name": name, "reason": reason} for name, reason in plan.skipped],
        "notes": list(plan.notes),
    }


def plan_schema() -> dict[str, Any]:
    """Return the JSON Schema published as schema/plan.v1.schema.json."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://trace-recipe.dev/schema/plan.v1.schema.json",
        "title": "trace-recipe plan, v1",
        "description": "What a run would do, in order, as `trace-recipe plan --json` prints it.",
        **_object(
            plan={"const": "v1", "description": "Format version."},
            recipe={"type": "string", "description": "Name of the recipe."},
            path={"type": "string", "description": "Where the recipe was read from."},
            instance={"$ref": "#/$defs/instance", "description": "Where it would trace."},
            tracer={"type": "string", "description": "current_tracer; `nop` without one."},
            events={
                "type": "array",
                "items": {"type": "string"},
                "description": "Every `system:event` that would be enabled.",
            },
            steps={
                "type": "array",
                "items": {"$ref": "#/$defs/step"},
                "description": "What would be made and written, in order.",
            },
            skipped={
                "type": "array",
                "items": {"$ref": "#/$defs/skipped"},
                "description": "Optional parts of the recipe that this kernel does not have.",
            },
            notes={
                "type": "array",
                "items": {"type": "string"},
                "description": "What the user should know before it runs.",
            },
            permissions={
                "type": "array",
                "items": {"enum": [permission.value for permission in Permission]},
                "description": "What has to be said with --allow; not in a recording.",
            },
            policy={
                "type": "array",
                "items": {"type": "string"},
                "description": "What the policy of this machine keeps the user from; not in a"
                " recording.",
            },
            optional=("permissions", "policy"),
        ),
        "$defs": {
            "instance": _object(
                kind={
                    "enum": list(get_args(InstanceKind)),
                    "description": "private: made for this run; named: the recipe names it; top.",
                },
                name={"type": "string", "description": "Directory in instances/, or empty."},
            ),
            "step": _object(
                kind={
                    "enum": ["make-instance", "set", "hold", "start"],
                    "description": "hold: kept open until the run ends; start: the write that"
                    " begins the recording.",
                },
                file={"type": "string", "description": "Path below the tracefs mount."},
                before={
                    "type": ["string", "null"],
                    "description": "What it reads now; null when not known.",
                },
                after={
                    "type": ["string", "null"],
                    "description": "What it would read; null where nothing is written.",
                },
                scope={
                    "enum": [scope.value for scope in Scope],
                    "description": "Who sees the change: only this run, or the whole machine.",
                },
                position={
                    "anyOf": [{"$ref": "#/$defs/position"}, {"type": "null"}],
                    "description": "Where the recipe asks for it; null: the tool's own step.",
                },
            ),
            "position": _object(
                file={"type": "string", "description": "The recipe file."},
                line={"type": "integer", "minimum": 1, "description": "Line, from 1."},
                column={"type": "integer", "minimum": 1, "description": "Column, from 1."},
                key={"type": "string", "description": "The key in the recipe."},
            ),
            "skipped": _object(
                name={"type": "string", "description": "What the recipe names."},
                reason={"type": "string", "description": "Why it is left out."},
            ),
        },
    }


def _object(*, optional: tuple[str, ...] = (), **properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _step_to_json(step: Step) -> dict[str, Any]:
    place = step.place
    position = (
        {"file": place.file, "line": place.line, "column": place.column, "key": step.key}
        if place
        else None
    )
    match step:
        case MakeInstance():
            return {
                "kind": "make-instance",
                "file": step.file,
                "before": None,
                "after": None,
                "scope": Scope.PRIVATE.value,
                "position": position,
            }
        case HoldFile():
            return {
                "kind": "hold",
                "file": step.file,
                "before": None,
                "after": None,
                "scope": Scope.PRIVATE.value,
                "position": position,
            }
        case SetFile():
            return {
                "kind": "start" if step.starts else "set",
                "file": step.file,
                "before": step.before,
                "after": step.after,
                "scope": step.scope.value,
                "position": position,
            }
