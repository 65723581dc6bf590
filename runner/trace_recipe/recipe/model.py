"""What a recipe is: frozen models, whose field descriptions are the reference and editor help.

Quantities are whole numbers here (durations in nanoseconds, sizes in bytes); in YAML they are text.
Validate with `Recipe.model_validate_json`: strict, lists as tuples, no key given as null.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    PrivateAttr,
    Strict,
    Tag,
    ValidationInfo,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

from trace_recipe.recipe import kinds
from trace_recipe.recipe.kinds import (
    Argument,
    CpuList,
    Duration,
    EnvironmentName,
    EnvironmentValue,
    EventPattern,
    Expression,
    FilePath,
    IncludePath,
    InstanceName,
    Integer,
    Kind,
    Line,
    Link,
    MarkerText,
    Microseconds,
    Name,
    OptionName,
    OutputPath,
    ParamName,
    Pattern,
    PermissionName,
    Pid,
    PositiveDuration,
    RecipeName,
    Scalar,
    Size,
    Text,
    TriggerCommand,
)
from trace_recipe.recipe.quantities import RefusedValue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic.json_schema import JsonSchemaValue

__all__ = [
    "PARAM_KINDS",
    "RULES",
    "Broken",
    "Buffer",
    "CsvOutput",
    "Drift",
    "Event",
    "EventAnyOf",
    "Functions",
    "JsonlOutput",
    "Loss",
    "Markers",
    "Model",
    "Output",
    "OutputSpec",
    "Param",
    "Recipe",
    "Requires",
    "Rule",
    "Run",
    "Scope",
    "Stop",
    "TextOutput",
    "TraceDatOutput",
    "Tracer",
    "TracerAnyOf",
    "TracerEvents",
    "Trigger",
]

TypeOfParam = Literal["string", "int", "duration", "size", "pid", "bool", "choice", "path"]

PARAM_KINDS: dict[str, Kind] = {
    "string": kinds.TEXT,
    "int": kinds.WHOLE_NUMBER,
    "duration": kinds.DURATION,
    "size": kinds.SIZE,
    "pid": kinds.PID,
    "bool": kinds.TRUE_OR_FALSE,
    "choice": kinds.LINE,
    "path": kinds.OUTPUT_PATH,
}
T = TypeVar("T")
# Once a validator of ours has run, pydantic takes JSON's lists for Python's, strictly no tuples.
Many = Annotated[tuple[T, ...], Strict(strict=False)]

# Not `false`: jsonschema leaves the key out of the path of an error that `false` raises.
_NEVER: dict[str, Any] = {"not": {}}
_BOUNDED = ("int", "duration", "size")
_TARGETED = ("enable_event", "disable_event")
_UNTARGETED = tuple(trigger for trigger in kinds.TRIGGERS if trigger not in _TARGETED)


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule between the keys of one model that does not hold, and at which key below it."""

    rule: str
    at: tuple[str | int, ...]
    what: str
    why: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule between the keys of one model: as a JSON Schema where one can say it, and in Python.

    `broken` returns the place (relative to the model) where it does not hold, or None.
    """

    name: str
    what: str
    broken: Callable[[Any], tuple[str | int, ...] | None]
    why: str = ""
    fix: str = ""
    at: tuple[str | int, ...] = ()
    schema: dict[str, Any] | None = field(default=None)

    def found(self, at: tuple[str | int, ...] | None = None) -> Broken:
        """Return the words for one breach, at a more exact place if there is one."""
        return Broken(self.name, self.at if at is None else at, self.what, self.why, self.fix)


class Model(BaseModel):
    """Base of every part of a recipe: frozen, strict, no unknown key, no key without a value."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, regex_engine="python-re")

    rules: ClassVar[tuple[Rule, ...]] = ()
    text_key: ClassVar[str | None] = None  # YAML may give the model as text: the value of this key

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: Any, info: ValidationInfo) -> Any:
        if cls.text_key is not None and isinstance(data, str):
            return {cls.text_key: data}
        if info.mode == "json" and isinstance(data, dict):
            empty = [key for key, value in data.items() if value is None]
            if empty:
                raise PydanticCustomError("no_value", "a key has no value")
        return data

    @model_validator(mode="after")
    def _keeps_its_rules(self) -> Self:
        broken = list(self.breaches())
        if broken:
            raise PydanticCustomError("rules", broken[0].what, {"broken": broken})
        return self

    def breaches(self) -> Iterator[Broken]:
        """Yield every rule between keys that does not hold."""
        for rule in self.rules:
            at = rule.broken(self)
            if at is not None:
                yield rule.found(at)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core_schema))
        said = [rule for rule in cls.rules if rule.schema is not None]
        conditions = [*cls.schema_conditions()]
        conditions += [{"$comment": f"rule {rule.name}", **(rule.schema or {})} for rule in said]
        if conditions:
            schema["allOf"] = conditions
        for name, field_schema in schema["properties"].items():
            _tidy(name, field_schema)
        if cls.text_key is None:
            return schema
        text = {k: v for k, v in schema["properties"][cls.text_key].items() if k == "$ref"}
        return {"anyOf": [text, schema]}

    @classmethod
    def schema_conditions(cls) -> list[dict[str, Any]]:
        """Return further JSON Schema conditions whose errors speak for themselves."""
        return []


def _tidy(name: str, schema: JsonSchemaValue) -> None:
    """Give a field a title, and take out null: a key without a value is refused."""
    schema["title"] = name.replace("_", " ").replace("-", " ").capitalize()
    if not isinstance(schema.get("default"), str | int):
        schema.pop("default", None)
    branches = [branch for branch in schema.get("anyOf", ()) if branch != {"type": "null"}]
    if len(branches) == 1:
        del schema["anyOf"]
        for key, value in branches[0].items():
            schema.setdefault(key, value)


class Param(Model):
    """A typed parameter of a recipe, put in wherever `${name}` stands."""

    type: TypeOfParam = Field(
        description="What its values are: string, int, duration, size, pid, bool, choice or path.",
        examples=["duration"],
    )
    default: Scalar | None = Field(
        default=None,
        description="The value without --set; a parameter without a default must be given.",
        examples=["30s"],
    )
    description: Text = Field(
        default="", description="What the parameter is for.", examples=["How long to watch"]
    )
    min: Scalar | None = Field(
        default=None,
        description="The least value of an int, duration or size, in its own syntax.",
        examples=["1s"],
    )
    max: Scalar | None = Field(
        default=None,
        description="The greatest value of an int, duration or size, in its own syntax.",
        examples=["1h"],
    )
    choices: Many[Line] | None = Field(
        default=None,
        min_length=1,
        description="The values that a choice may have.",
        examples=[["local", "mono"]],
    )

    rules = (
        Rule(
            "choice_without_choices",
            "a choice needs its choices",
            lambda p: () if p.type == "choice" and p.choices is None else None,
            fix="add 'choices: [...]'",
            schema={
                "if": {"properties": {"type": {"const": "choice"}}, "required": ["type"]},
                "then": {"required": ["choices"]},
            },
        ),
        Rule(
            "choices_without_choice",
            "choices are for parameters of type choice",
            lambda p: ("choices",) if p.type != "choice" and p.choices is not None else None,
            fix="write 'type: choice', or take 'choices' out",
            at=("choices",),
            schema={
                "if": {"properties": {"type": {"not": {"const": "choice"}}}, "required": ["type"]},
                "then": {"properties": {"choices": _NEVER}},
            },
        ),
        Rule(
            "bounds_without_number",
            "min and max are for parameters of type int, duration and size",
            lambda p: (
                ("min" if p.min is not None else "max",)
                if p.type not in _BOUNDED and (p.min is not None or p.max is not None)
                else None
            ),
            fix="take the bound out, or change the type",
            schema={
                "if": {
                    "properties": {"type": {"not": {"enum": list(_BOUNDED)}}},
                    "required": ["type"],
                },
                "then": {"properties": {"min": _NEVER, "max": _NEVER}},
            },
        ),
    )

    def breaches(self) -> Iterator[Broken]:
        """Yield broken rules; default and bounds must be values of the parameter's own type."""
        yield from super().breaches()
        kind = PARAM_KINDS[self.type]
        values: dict[str, Any] = {}
        for key in ("default", "min", "max"):
            given = getattr(self, key)
            if given is None or (key != "default" and self.type not in _BOUNDED):
                continue
            try:
                values[key] = kind.parse(given)
            except RefusedValue as refused:
                rule = refused.rule or "refused"
                yield Broken(rule, (key,), refused.what, refused.why, refused.fix)
        try:
            if "min" in values and "max" in values and values["min"] > values["max"]:
                yield Broken(
                    "min_over_max",
                    ("min",),
                    f"min '{self.min}' is above max '{self.max}'",
                    fix="swap them",
                )
            elif "default" in values:
                self.check_bounds(values["default"], self.default)
        except RefusedValue as refused:
            yield Broken(refused.rule, ("default",), refused.what, refused.why, refused.fix)

    def check_bounds(self, value: Any, text: object) -> None:
        """Raise RefusedValue when a value of the right type is out of bounds or no choice."""
        kind = PARAM_KINDS[self.type]
        if self.type == "choice" and self.choices is not None and value not in self.choices:
            raise RefusedValue(
                f"{text!r} is not one of the choices",
                f"they are {', '.join(self.choices)}",
                "write one of them",
                rule="default_not_a_choice",
            )
        if self.type not in _BOUNDED:
            return
        if self.min is not None and value < kind.parse(self.min):
            raise RefusedValue(
                f"'{text}' is too small",
                f"the least is {self.min}",
                f"write {self.min} or more",
                rule="default_out_of_bounds",
            )
        if self.max is not None and value > kind.parse(self.max):
            raise RefusedValue(
                f"'{text}' is too large",
                f"the most is {self.max}",
                f"write {self.max} or less",
                rule="default_out_of_bounds",
            )

    @classmethod
    def schema_conditions(cls) -> list[dict[str, Any]]:
        """Return one condition per type: default and bounds are values of that type."""
        conditions = []
        for name, kind in PARAM_KINDS.items():
            value = {"title": kind.name, **kind.schema}
            keys = ("default", "min", "max") if name in _BOUNDED else ("default",)
            conditions.append(
                {
                    "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
                    "then": {"properties": dict.fromkeys(keys, value)},
                }
            )
        return conditions


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
                "then": {"properties": {"event": _NEVER}},
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


_TAKEN_OUT = {
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
                "then": {"properties": dict.fromkeys(("filter", "triggers", "optional"), _NEVER)},
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
            schema={"properties": {"any_of": {"items": {"not": _TAKEN_OUT}}}},
        ),
    )


def _event_form(value: object) -> str:
    keys = value if isinstance(value, dict) else ()
    return "@any_of" if isinstance(value, EventAnyOf) or "any_of" in keys else "@event"


EventEntry = Annotated[
    Annotated[Event, Tag("@event")] | Annotated[EventAnyOf, Tag("@any_of")],
    Discriminator(_event_form),
]


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
            schema={"properties": {"events": {"prefixItems": [{"not": _TAKEN_OUT}]}}},
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


_NAMES = Field(
    default=False,
    description="Print known flags of system calls by name where the format gives none.",
    examples=[True],
)


class TextOutput(Model):
    """The layout of the kernel's trace file; also as text: the path alone."""

    text_key = "path"

    path: OutputPath = Field(
        description="The file; '-' is standard output, printed while recording.",
        examples=["trace.txt"],
    )
    names: bool = _NAMES


class JsonlOutput(Model):
    """One JSON object for each event; also as text: the path alone."""

    text_key = "path"

    path: OutputPath = Field(
        description="The file; '-' is standard output.", examples=["trace.jsonl"]
    )
    names: bool = _NAMES


class CsvOutput(Model):
    """Comma-separated values; also as text: the path alone."""

    text_key = "path"

    path: OutputPath = Field(
        description="The file, '-' for standard output; with layout per-event a directory, which a"
        " run replaces as a whole.",
        examples=["trace.csv"],
    )
    layout: Literal["per-event", "wide"] = Field(
        default="wide",
        description="One file for each event type, or one file with the columns of all.",
        examples=["per-event"],
    )

    rules = (
        Rule(
            "many_files_to_stdout",
            "one file per event cannot go to standard output",
            lambda c: ("path",) if c.path == "-" and c.layout == "per-event" else None,
            fix="name a directory, or write layout: wide",
            at=("path",),
            schema={
                "if": {"properties": {"layout": {"const": "per-event"}}, "required": ["layout"]},
                "then": {"properties": {"path": {"not": {"const": "-"}}}},
            },
        ),
    )


class TraceDatOutput(Model):
    """A file that trace-cmd and kernelshark read; also as text: the path alone."""

    text_key = "path"

    path: FilePath = Field(description="The file.", examples=["trace.dat"])
    version: Literal[7, 6] = Field(
        default=7, description="The version of the file format.", examples=[6]
    )
    compression: Literal["zstd", "none"] = Field(
        default="zstd",
        description="How a file of version 7 is compressed.",
        examples=["none"],
    )

    rules = (
        Rule(
            "version_6_compressed",
            "version 6 of trace.dat knows no compression",
            lambda t: (
                ("compression",)
                if t.version == 6
                and "compression" in t.model_fields_set
                and t.compression != "none"
                else None
            ),
            fix="take 'compression' out, or write version: 7",
            at=("compression",),
            schema={
                "if": {
                    "properties": {"version": {"const": 6}, "compression": {"const": "zstd"}},
                    "required": ["version", "compression"],
                },
                "then": _NEVER,
            },
        ),
    )


OutputSpec = TextOutput | JsonlOutput | CsvOutput | TraceDatOutput


class Output(Model):
    """One result: exactly one kind, and where it goes."""

    text: TextOutput | None = Field(
        default=None,
        description="Text in the layout of the kernel's trace file.",
        examples=["-"],
    )
    jsonl: JsonlOutput | None = Field(
        default=None, description="JSON lines, one event each.", examples=["trace.jsonl"]
    )
    csv: CsvOutput | None = Field(
        default=None, description="Comma-separated values.", examples=["trace.csv"]
    )
    trace_dat: TraceDatOutput | None = Field(
        default=None,
        alias="trace-dat",
        description="A trace.dat file for trace-cmd and kernelshark.",
        examples=["trace.dat"],
    )

    rules = (
        Rule(
            "one_output_kind",
            "an output has exactly one of text, jsonl, csv and trace-dat",
            lambda o: None if len(o.model_fields_set) == 1 else (),
            fix="make each of them an entry of its own: - text: trace.txt",
            schema={"minProperties": 1, "maxProperties": 1},
        ),
    )

    @property
    def sink(self) -> Literal["text", "jsonl", "csv", "trace-dat"]:
        """Return which kind it is, as YAML spells it."""
        if self.text is not None:
            return "text"
        if self.jsonl is not None:
            return "jsonl"
        return "csv" if self.csv is not None else "trace-dat"

    @property
    def spec(self) -> OutputSpec:
        """Return the settings of the one kind that is given."""
        spec = self.text or self.jsonl or self.csv or self.trace_dat
        assert spec is not None, "rule one_output_kind holds"
        return spec


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
            schema={"properties": {"events": {"prefixItems": [{"not": _TAKEN_OUT}]}}},
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


def _rules_below(model: type[Model]) -> Iterator[Rule]:
    yield from model.rules
    for below in model.__subclasses__():
        yield from _rules_below(below)


RULES: dict[str, Rule] = {rule.name: rule for rule in _rules_below(Model)}
