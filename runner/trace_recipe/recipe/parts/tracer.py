"""Tracer: which one, its settings, and the functions that it sees."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from trace_recipe.recipe.kinds import Integer, Microseconds, Name, OptionName, Pattern
from trace_recipe.recipe.parts.event import TAKEN_OUT, Event
from trace_recipe.recipe.parts.rules import Many, Model, Rule

__all__ = ["Functions", "Tracer", "TracerAnyOf", "TracerEntry", "TracerEvents"]


class Tracer(Model):
    """The tracer and its settings; also as text: its name alone."""

    text_key = "name"

    name: Name = Field(
        description="The tracer, as available_tracers lists it (current_tracer).",
        examples=["function_graph"],
    )
    options: dict[OptionName, bool] = Field(
        default={},
        description="Options of this tracer (options/*).",
        examples=[{"funcgraph-proc": True}],
    )
    threshold: Microseconds | None = Field(
        default=None,
        description="Latencies up to this are not recorded (tracing_thresh).",
        examples=["100us"],
    )
    graph_functions: Many[Pattern] = Field(
        default=(),
        description="function_graph: draw only what these call (set_graph_function).",
        examples=[["vfs_read"]],
    )
    graph_notrace: Many[Pattern] = Field(
        default=(),
        description="function_graph: leave out what these call (set_graph_notrace).",
        examples=[["*spin*"]],
    )
    max_graph_depth: Annotated[int, Integer(1, 1000)] | None = Field(
        default=None,
        description="function_graph: how deep calls are followed (max_graph_depth).",
        examples=[5],
    )


class TracerEvents(Model):
    """An alternative made of events, for kernels without the tracer."""

    events: Many[Event] = Field(
        min_length=1,
        description="The events to trace in place of a tracer.",
        examples=[["preemptirq:irq_disable", "preemptirq:irq_enable"]],
    )

    rules = (
        Rule(
            "first_taken_out",
            "the first entry takes events out, but there are none yet",
            lambda t: ("events", 0) if t.events[0].event.startswith("!") else None,
            why="'!' takes out what earlier entries of the list put in",
            fix="move it behind the entry that it corrects",
            at=("events", 0),
            schema={"properties": {"events": {"prefixItems": [{"not": TAKEN_OUT}]}}},
        ),
    )


def _alternative_form(value: object) -> str:
    keys = value if isinstance(value, dict) else ()
    return "@events" if isinstance(value, TracerEvents) or "events" in keys else "@tracer"


AlternativeEntry = Annotated[
    Annotated[Tracer, Tag("@tracer")] | Annotated[TracerEvents, Tag("@events")],
    Discriminator(_alternative_form),
]


class TracerAnyOf(Model):
    """Alternatives: the first one that the kernel has is used."""

    any_of: Many[AlternativeEntry] = Field(
        min_length=1,
        description="The alternatives, the best one first: tracers, or events in their place.",
        examples=[[{"name": "irqsoff"}, {"events": ["preemptirq:irq_disable"]}]],
    )


def _tracer_form(value: object) -> str:
    keys = value if isinstance(value, dict) else ()
    return "@any_of" if isinstance(value, TracerAnyOf) or "any_of" in keys else "@tracer"


TracerEntry = Annotated[
    Annotated[Tracer, Tag("@tracer")] | Annotated[TracerAnyOf, Tag("@any_of")],
    Discriminator(_tracer_form),
]


class Functions(Model):
    """Which kernel functions a function tracer sees."""

    only: Many[Pattern] = Field(
        default=(),
        description="Functions to trace, globs allowed (set_ftrace_filter).",
        examples=[["vfs_*"]],
    )
    not_: Many[Pattern] = Field(
        default=(),
        alias="not",
        description="Functions to leave out, globs allowed (set_ftrace_notrace).",
        examples=[["*lock*"]],
    )
    module: Name | None = Field(
        default=None,
        description="Only functions of this module (:mod: of set_ftrace_filter).",
        examples=["ext4"],
    )

    rules = (
        Rule(
            "functions_empty",
            "no functions are named",
            lambda f: None if f.only or f.not_ or f.module else (),
            fix="write 'only', 'not' or 'module', or take the key out",
            schema={
                "anyOf": [
                    {"required": ["only"], "properties": {"only": {"minItems": 1}}},
                    {"required": ["not"], "properties": {"not": {"minItems": 1}}},
                    {"required": ["module"]},
                ]
            },
        ),
    )
