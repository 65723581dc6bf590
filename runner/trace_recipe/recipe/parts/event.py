"""Events of a recipe: by name or pattern, with filters and triggers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Self, cast

from pydantic import (
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    PrivateAttr,
    Tag,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

from trace_recipe.recipe import kinds
from trace_recipe.recipe.kinds import EventPattern, Expression, Integer, TriggerCommand
from trace_recipe.recipe.parts.rules import NEVER, Many, Model, Rule
from trace_recipe.recipe.quantities import RefusedValue

if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue

__all__ = ["TAKEN_OUT", "Event", "EventAnyOf", "EventEntry", "Trigger"]


_TARGETED = ("enable_event", "disable_event")
_UNTARGETED = tuple(trigger for trigger in kinds.TRIGGERS if trigger not in _TARGETED)


class Trigger(Model):
    """What the kernel does when the event happens; also as text, in the trigger file's form."""

    trigger: TriggerCommand = Field(
        description="The command of the trigger.", examples=["stacktrace"]
    )
    event: EventPattern | None = Field(
        default=None,
        description="The event that enable_event or disable_event switches, as system:event.",
        examples=["sched:sched_switch"],
    )
    count: Annotated[int, Integer(1, 2**63 - 1)] | None = Field(
        default=None, description="How often it acts at most.", examples=[5]
    )
    if_: Expression | None = Field(
        default=None,
        alias="if",
        description="A filter: it acts only when the event's fields pass.",
        examples=["prev_prio < 10"],
    )
    _text: str | None = PrivateAttr(default=None)

    rules = (
        Rule(
            "trigger_without_event",
            "this trigger needs the event that it switches",
            lambda t: () if t.trigger in _TARGETED and t.event is None else None,
            fix="add 'event: system:name'",
            schema={
                "if": {
                    "properties": {"trigger": {"enum": list(_TARGETED)}},
                    "required": ["trigger"],
                },
                "then": {"required": ["event"]},
            },
        ),
        Rule(
            "trigger_with_event",
            "this trigger switches no other event",
            lambda t: ("event",) if t.trigger not in _TARGETED and t.event is not None else None,
            why="only enable_event and disable_event do",
            fix="take 'event' out",
            at=("event",),
            schema={
                "if": {
                    "properties": {"trigger": {"enum": list(_UNTARGETED)}},
                    "required": ["trigger"],
                },
                "then": {"properties": {"event": NEVER}},
            },
        ),
    )

    @property
    def text(self) -> str | None:
        """Return the trigger as the recipe wrote it, when it is text; nothing else is set then."""
        return self._text

    @model_validator(mode="wrap")
    @classmethod
    def _keep_text(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(data, str):
            return handler(data)
        try:
            kinds.TRIGGER_TEXT.parse(data)
        except RefusedValue as refused:
            raise PydanticCustomError(
                "refused",
                "{what}",
                {"what": refused.what, "why": refused.why, "fix": refused.fix},
            ) from refused
        word = data.replace(":", " ").split() or [""]
        trigger = cast("Self", cls.model_construct(trigger=word[0]))
        trigger._text = data  # noqa: SLF001 - the class fills its own instance
        return trigger

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = super().__get_pydantic_json_schema__(core_schema, handler)
        kind = kinds.TRIGGER_TEXT
        text = {"title": kind.name, "description": kind.description, **kind.schema}
        return {"anyOf": [text, schema]}


TAKEN_OUT = {
    "anyOf": [
        {"type": "string", "pattern": "^!"},
        {
            "type": "object",
            "properties": {"event": {"type": "string", "pattern": "^!"}},
            "required": ["event"],
        },
    ]
}


class Event(Model):
    """One event or a pattern of events; also as text: its name alone."""

    text_key = "event"

    event: EventPattern = Field(
        description=(
            "The event as system:name; globs, {a,b}, and '!' in front to take out what earlier"
            " entries put in (written to set_event, events/*/*/enable)."
        ),
        examples=["sched:sched_{switch,waking}"],
    )
    filter: Expression | None = Field(
        default=None,
        description="Which events are recorded, in the kernel's filter language (the filter file).",
        examples=["prev_prio < 10 && prev_comm != 'swapper'"],
    )
    triggers: Many[Trigger] = Field(
        default=(),
        description="What the kernel does when the event happens (the trigger file).",
        examples=[["stacktrace:5 if prev_prio < 10"]],
    )
    optional: bool = Field(
        default=False,
        description="True when a kernel without the event can run the recipe all the same.",
        examples=[True],
    )

    rules = (
        Rule(
            "taken_out_with_more",
            "an event that is taken out has no filter, triggers or optional",
            lambda e: (
                next(
                    ((k,) for k in ("filter", "triggers", "optional") if k in e.model_fields_set),
                    None,
                )
                if e.event.startswith("!")
                else None
            ),
            fix="take the key out, or the '!'",
            schema={
                "if": {"properties": {"event": {"pattern": "^!"}}, "required": ["event"]},
                "then": {"properties": dict.fromkeys(("filter", "triggers", "optional"), NEVER)},
            },
        ),
    )


class EventAnyOf(Model):
    """Alternatives: the first one that the kernel has is traced."""

    any_of: Many[Event] = Field(
        min_length=1,
        description="The alternatives, the best one first.",
        examples=[["tcp:tcp_retransmit_skb", "skb:kfree_skb"]],
    )
    optional: bool = Field(
        default=False,
        description="True when a kernel with none of them can run the recipe all the same.",
        examples=[True],
    )

    rules = (
        Rule(
            "alternative_taken_out",
            "an alternative cannot take events out",
            lambda a: next(
                (("any_of", i) for i, e in enumerate(a.any_of) if e.event.startswith("!")), None
            ),
            why="'!' takes out what earlier entries of the list put in",
            fix="write it as an entry of its own in 'events'",
            at=("any_of",),
            schema={"properties": {"any_of": {"items": {"not": TAKEN_OUT}}}},
        ),
    )


def _event_form(value: object) -> str:
    keys = value if isinstance(value, dict) else ()
    return "@any_of" if isinstance(value, EventAnyOf) or "any_of" in keys else "@event"


EventEntry = Annotated[
    Annotated[Event, Tag("@event")] | Annotated[EventAnyOf, Tag("@any_of")],
    Discriminator(_event_form),
]
