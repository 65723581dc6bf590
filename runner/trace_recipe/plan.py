"""Plan: the ordered steps that a recipe means on one kernel; printing it is the dry run."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from trace_recipe.errors import Place

__all__ = [
    "COMMAND",
    "RUNNER",
    "InstanceKind",
    "MakeInstance",
    "Plan",
    "Scope",
    "SetFile",
    "Step",
    "plan_to_json",
]

COMMAND = "{command}"
"""Stands in a step's text for the pid of `run.command`, known only when it is applied."""

RUNNER = "{runner}"
"""Stands in a step's text for the thread ids of the runner."""

InstanceKind: TypeAlias = Literal["private", "named", "top"]


class Scope(StrEnum):
    """Who sees a write: only this run's instance, everybody on the machine, or a sysctl."""

    PRIVATE = "private"
    SHARED = "shared"
    SYSCTL = "sysctl"


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
    that the kernel changes as a side effect. `starts` marks the write that begins the recording.
    """

    file: str
    name: str
    before: str | None
    after: str
    text: str
    scope: Scope
    place: Place | None
    key: str
    truncate: bool = False
    also: tuple[str, ...] = ()
    starts: bool = False


Step: TypeAlias = MakeInstance | SetFile


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
    def files(self) -> tuple[str, ...]:
        """Every file that the plan touches, side effects included, each once."""
        touched: dict[str, None] = {}
        for step in self.steps:
            if isinstance(step, SetFile):
                touched.update(dict.fromkeys((step.file, *step.also)))
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
        case SetFile():
            return {
                "kind": "start" if step.starts else "set",
                "file": step.file,
                "before": step.before,
                "after": step.after,
                "scope": step.scope.value,
                "position": position,
            }
