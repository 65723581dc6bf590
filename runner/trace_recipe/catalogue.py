"""Catalogue: what a kernel offers, in a file, so that recipes can be checked on another machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator

from trace_recipe.errors import DecodeError, Problem, RecipeError, errno_text
from trace_recipe.invoker import acting_as, find_invoker
from trace_recipe.kernel import CATALOGUE_VERSION, Kernel, kernel_from_json, kernel_to_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["catalogue_schema", "load_catalogue", "save_catalogue"]

_MAX_BYTES = 64 << 20  # some 4 MB are usual; /dev/zero has no end
_STRINGS: Mapping[str, Any] = {"type": "array", "items": {"type": "string"}}
_CPUS: Mapping[str, Any] = {"type": "array", "items": {"type": "integer", "minimum": 0}}
_TEXTS: Mapping[str, Any] = {"type": "object", "additionalProperties": {"type": "string"}}
_PROPERTIES: Mapping[str, Any] = {
    "catalogue": {"const": CATALOGUE_VERSION, "description": "Format version."},
    "release": {"type": "string", "description": "`uname -r`."},
    "machine": {"type": "string", "description": "`uname -m`."},
    "byte_order": {"enum": ["little", "big"], "description": "Of the ring buffer."},
    "long_size": {"enum": [4, 8], "description": "Bytes of the kernel's long."},
    "page_size_bytes": {"type": "integer", "minimum": 512, "description": "Bytes of a page."},
    "possible_cpus": {**_CPUS, "description": "CPUs that have a ring buffer."},
    "online_cpus": {**_CPUS, "description": "CPUs that were online when it was saved."},
    "tracers": {**_STRINGS, "description": "available_tracers."},
    "instance_tracers": {
        "anyOf": [_STRINGS, {"type": "null"}],
        "description": "Those of them that an instance may use; null when that is not known.",
    },
    "options": {**_STRINGS, "description": "Names in options/."},
    "clocks": {**_STRINGS, "description": "trace_clock."},
    "control_files": {**_STRINGS, "description": "Names in the top-level directory."},
    "formats": {**_TEXTS, "description": "`system:event` and its format file."},
    "header_page": {"type": "string", "description": "events/header_page."},
    "header_event": {"type": "string", "description": "events/header_event."},
    "readme": {"type": "string", "description": "The README file of tracefs."},
    "triggers": {**_STRINGS, "description": "Words that a trigger file lists."},
    "refused": {**_TEXTS, "description": "Files that answered an open with this errno name."},
    "functions": {
        "anyOf": [_STRINGS, {"type": "null"}],
        "description": "available_filter_functions; null when it cannot be read.",
    },
}


def catalogue_schema() -> dict[str, Any]:
    """Return the JSON Schema published as schema/kernel.v1.schema.json."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://trace-recipe.dev/schema/kernel.v1.schema.json",
        "title": "trace-recipe kernel catalogue, v1",
        "type": "object",
        "properties": {name: dict(value) for name, value in _PROPERTIES.items()},
        "required": list(_PROPERTIES),
        "additionalProperties": False,
    }


def save_catalogue(kernel: Kernel) -> str:
    """Return the text of a catalogue file."""
    return json.dumps(kernel_to_json(kernel), indent=1) + "\n"


def load_catalogue(path: Path, environment: Mapping[str, str]) -> Kernel:
    """Read a catalogue; raises RecipeError (no such file) or DecodeError (not a catalogue).

    It is read with the invoking user's rights: an error shows a part of it.
    """
    try:
        with acting_as(find_invoker(environment)), path.open("rb") as stream:
            text = stream.read(_MAX_BYTES)
        data = json.loads(text.decode("utf-8", "surrogateescape"))
    except OSError as error:
        raise RecipeError(
            Problem(
                f"cannot read catalogue '{path}': {errno_text(error.errno or 0)}",
                why="--kernel takes `live` or a file made by `trace-recipe catalog save`",
                fix="make one on the other machine: trace-recipe catalog save FILE",
            )
        ) from error
    except ValueError as error:
        raise DecodeError(f"not JSON: {error}", file=str(path)) from error
    wrong = next(iter(Draft202012Validator(catalogue_schema()).iter_errors(data)), None)
    if wrong is not None:
        where = "/".join(str(part) for part in wrong.absolute_path) or "the file"
        raise DecodeError(f"not a kernel catalogue: {where}: {wrong.message[:200]}", file=str(path))
    return kernel_from_json(data, origin=str(path))
