"""What happens while a recipe records: a command, marks, and when it is too much."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trace_recipe.recipe.kinds import (
    Argument,
    EnvironmentName,
    EnvironmentValue,
    Integer,
    MarkerText,
    OutputPath,
    PositiveDuration,
    Size,
)
from trace_recipe.recipe.parts.rules import Many, Model, Rule

__all__ = ["Drift", "Loss", "Markers", "Run", "Stop"]


class Markers(Model):
    """Text written into the trace (trace_marker) at certain moments."""

    start: MarkerText | None = Field(
        default=None, description="When recording has begun.", examples=["begin"]
    )
    stop: MarkerText | None = Field(
        default=None, description="Before recording ends.", examples=["end"]
    )
    command_start: MarkerText | None = Field(
        default=None, description="Before the command starts.", examples=["make starts"]
    )
    command_exit: MarkerText | None = Field(
        default=None, description="When the command has ended.", examples=["make is done"]
    )


class Run(Model):
    """A command to run while recording; recording ends when it does."""

    command: Many[Argument] = Field(
        min_length=1,
        description="The program and its arguments, as a list; no shell is involved. What it prints"
        " goes to standard error when standard output has an output or --json.",
        examples=[["make", "-j8"]],
    )
    as_user: Literal["invoking", "root"] = Field(
        default="invoking",
        description="Who runs it: the user who called sudo, or root.",
        examples=["root"],
    )
    environment: dict[EnvironmentName, EnvironmentValue] = Field(
        default={},
        description="Environment variables to add.",
        examples=[{"LC_ALL": "C"}],
    )
    directory: OutputPath | None = Field(
        default=None, description="The directory to run it in.", examples=["/usr/src/linux"]
    )
    timeout: PositiveDuration | None = Field(
        default=None,
        description="End the command, and all that it has started, after this time.",
        examples=["5m"],
    )

    rules = (
        Rule(
            "command_empty",
            "the program of the command has no name",
            lambda r: None if r.command[0] else ("command", 0),
            fix="write the program first, as in command: [make, -j8]",
            at=("command", 0),
            schema={"properties": {"command": {"prefixItems": [{"not": {"const": ""}}]}}},
        ),
    )


class Stop(Model):
    """Ends the recording after so much; whichever comes first."""

    events: Annotated[int, Integer(1)] | None = Field(
        default=None, description="After about this many events.", examples=[100000]
    )
    bytes: Size | None = Field(
        default=None, description="After about this much raw trace.", examples=["1G"]
    )

    rules = (
        Rule(
            "stop_empty",
            "it does not say when to stop",
            lambda s: () if s.events is None and s.bytes is None else None,
            fix="write 'events: 100000' or 'bytes: 1G' below it, or take the key out",
            schema={"minProperties": 1},
        ),
    )


class Loss(Model):
    """How many lost events are tolerated."""

    max: Annotated[int, Integer(0)] | None = Field(
        default=None, description="How many events may be lost.", examples=[0]
    )
    action: Literal["mark", "fail"] = Field(
        default="mark",
        description="More than that: mark it in the outputs, or also fail with exit status 7.",
        examples=["fail"],
    )

    rules = (
        Rule(
            "fail_needs_max",
            "it does not say how many lost events are too many",
            lambda x: ("action",) if x.action == "fail" and x.max is None else None,
            fix="add 'max: 0'",
            at=("action",),
            schema={
                "if": {"properties": {"action": {"const": "fail"}}, "required": ["action"]},
                "then": {"required": ["max"]},
            },
        ),
    )


class Drift(Model):
    """What happens when somebody else changes what the run has set, while it records."""

    action: Literal["warn", "fail"] = Field(
        default="warn",
        description="Say so and mark it in the outputs, or also fail with exit status 7.",
        examples=["fail"],
    )
