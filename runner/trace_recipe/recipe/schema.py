"""The JSON Schema of recipes, generated from the models, and published in two forms.

`recipe_schema` (recipe.v1.schema.json) is what an editor checks, where `${name}` may stand in any
value; `resolved_schema` (resolved-recipe.v1.schema.json) is what holds once parameters are put in,
and the first pass of validation, which reads the published file: generating it takes longer.
"""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from trace_recipe.recipe.model import Recipe
from trace_recipe.shipped import shipped_data

__all__ = ["published_resolved_schema", "recipe_schema", "resolved_schema", "schema_text"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ID = "https://trace-recipe.dev/schema/recipe.v1.schema.json"
_RESOLVED_FILE = "resolved-recipe.v1.schema.json"
_RESOLVED_ID = f"https://trace-recipe.dev/schema/{_RESOLVED_FILE}"
_REFERENCE = {
    "title": "Reference",
    "description": "Text with ${name}, where the parameter 'name' is put in.",
    "type": "string",
    "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*\}",
}
_ANNOTATIONS = ("title", "description", "examples", "default")
_NEVER_PUT_IN = ("Param", "ParamName", "EnvironmentName")
_NOT_PUT_IN = ("recipe", "params", "include")  # keys that parameters are not put into


def recipe_schema() -> dict[str, Any]:
    """Return the published JSON Schema (draft 2020-12) of a recipe file."""
    schema = resolved_schema()
    resolved = schema["$defs"]
    defs = {name: _accept_references(below, resolved) for name, below in resolved.items()}
    defs |= {name: resolved[name] for name in _NEVER_PUT_IN}
    defs["Reference"] = _REFERENCE
    root = _accept_references({k: v for k, v in schema.items() if k != "$defs"}, resolved)
    for key in _NOT_PUT_IN:
        root["properties"][key] = schema["properties"][key]
    own = {"$id": _ID, "title": "trace-recipe recipe, version 1"}
    return {**root, **own, "$defs": dict(sorted(defs.items()))}


def resolved_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe whose files are joined and whose parameters are in."""
    return copy.deepcopy(_generated())


@cache
def published_resolved_schema() -> dict[str, Any]:
    """Return `resolved_schema` as it was published; not to be changed."""
    text = (shipped_data("schema") / _RESOLVED_FILE).read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def schema_text() -> str:
    """Return the published schema as the text of its file."""
    return json.dumps(recipe_schema(), indent=2, ensure_ascii=False) + "\n"


@cache
def _generated() -> dict[str, Any]:
    generated = Recipe.model_json_schema(by_alias=True)
    return {
        "$schema": _DIALECT,
        "$id": _RESOLVED_ID,
        "title": "trace-recipe recipe, version 1, with its parameters put in",
        "description": generated.pop("description"),
        "examples": [
            {
                "recipe": "v1",
                "name": "mount-audit",
                "events": ["syscalls:sys_{enter,exit}_mount"],
                "duration": "30s",
                "outputs": [{"text": "-"}],
            }
        ],
        **{key: value for key, value in generated.items() if key != "title"},
    }


def _accept_references(schema: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that takes text with `${name}` for every scalar, too."""
    changed = dict(schema)
    for key in ("anyOf", "oneOf"):
        if key in schema:
            changed[key] = [_accept_references(branch, defs) for branch in schema[key]]
    if "properties" in schema:
        properties = schema["properties"].items()
        changed["properties"] = {name: _accept_references(v, defs) for name, v in properties}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            changed[key] = _accept_references(schema[key], defs)
    if "propertyNames" in schema:
        name = schema["propertyNames"]["$ref"].rpartition("/")[2]
        changed["propertyNames"] = defs[name]
    if not _is_scalar(schema) or Draft202012Validator(schema).is_valid("${name}"):
        return changed
    notes = {key: value for key, value in schema.items() if key in _ANNOTATIONS}
    rest = {key: value for key, value in schema.items() if key not in _ANNOTATIONS}
    reference = {"$ref": "#/$defs/Reference"}
    if set(rest) == {"anyOf"}:
        lists = [_accept_references(b, defs) if "items" in b else b for b in rest["anyOf"]]
        return {**notes, "anyOf": [*lists, reference]}
    return {**notes, "anyOf": [rest, reference]}


def _is_scalar(schema: dict[str, Any]) -> bool:
    """Tell whether a schema describes scalars itself, not by reference or with objects only."""
    if "enum" in schema or "const" in schema:
        return True
    branches = schema.get("anyOf", ())
    if branches:
        return all("$ref" not in branch for branch in branches) and any(map(_is_scalar, branches))
    return schema.get("type") in ("string", "integer", "boolean")
