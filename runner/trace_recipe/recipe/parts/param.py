"""Param: a typed value that whoever runs a recipe may set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from trace_recipe.recipe import kinds
from trace_recipe.recipe.kinds import Kind, Line, Scalar, Text
from trace_recipe.recipe.parts.rules import NEVER, Broken, Many, Model, Rule
from trace_recipe.recipe.quantities import RefusedValue

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PARAM_KINDS", "Param"]


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
_BOUNDED = ("int", "duration", "size")


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
                "then": {"properties": {"choices": NEVER}},
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
                "then": {"properties": {"min": NEVER, "max": NEVER}},
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
