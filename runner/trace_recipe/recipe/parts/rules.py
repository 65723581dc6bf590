"""What every part of a recipe is made of: a frozen model, and rules between its keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    Strict,
    ValidationInfo,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic.json_schema import JsonSchemaValue

__all__ = ["NEVER", "Broken", "Many", "Model", "Rule"]


T = TypeVar("T")
# Once a validator of ours has run, pydantic takes JSON's lists for Python's, strictly no tuples.
Many = Annotated[tuple[T, ...], Strict(strict=False)]

# Not `false`: jsonschema leaves the key out of the path of an error that `false` raises.
NEVER: dict[str, Any] = {"not": {}}


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
