"""Recipe text -> LoadedRecipe, or RecipeError with every problem, in file order."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from trace_recipe.errors import Problem, RecipeError
from trace_recipe.recipe.includes import Included, merge_includes
from trace_recipe.recipe.marks import Marks
from trace_recipe.recipe.messages import Finding, model_findings, one_each, schema_findings
from trace_recipe.recipe.model import Recipe
from trace_recipe.recipe.params import Resolved, as_text, key_text, resolve_params
from trace_recipe.recipe.yaml_reader import parse_yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trace_recipe.recipe.marks import Path

__all__ = ["LoadedRecipe", "load_recipe"]


@dataclass(frozen=True, slots=True)
class LoadedRecipe:
    """A checked recipe, where each of its values stands, and everything that it was made from.

    `params` are the values put in, as YAML has them; `included` the files read, as (path, text);
    `sha256` covers text, included texts and overrides.
    """

    recipe: Recipe
    marks: Marks
    text: str
    path: str
    params: Mapping[str, str | int | bool]
    included: tuple[tuple[str, str], ...]
    sha256: str


def load_recipe(
    path: str,
    text: str,
    *,
    overrides: Mapping[str, str] | None = None,
    read: Callable[[str], str] | None = None,
) -> LoadedRecipe:
    """Parse, join included files, put parameters in and check; raises RecipeError.

    `overrides` are the texts of --set; `read` returns an included file's text or raises OSError.
    """
    overrides = dict(overrides or {})
    included = merge_includes(path, parse_yaml(path, text), read)
    resolved = resolve_params(included.root, overrides)
    marks = Marks(resolved.root)
    data, findings = _first_pass(resolved)
    recipe, findings = _second_pass(data, findings)
    findings = [finding for finding in findings if not _is_known(finding, resolved)]
    problems = [*resolved.problems, *(_problem(finding, marks, resolved) for finding in findings)]
    if problems or recipe is None:
        raise RecipeError(*_in_file_order(problems, path, included))
    return LoadedRecipe(
        recipe=recipe,
        marks=marks,
        text=text,
        path=path,
        params=MappingProxyType(dict(resolved.values)),
        included=included.files,
        sha256=_sha256(text, included.files, overrides),
    )


def _first_pass(resolved: Resolved) -> tuple[Any, list[Finding]]:
    """Check against the JSON Schema; a number put where text belongs becomes its text."""
    data = resolved.root.plain()
    findings = schema_findings(data)
    refused = {finding.path for finding in findings}
    tried = {}
    for path in resolved.references:
        value = _value_at(data, path)
        if path in refused and not isinstance(value, str):
            tried[path] = value
            _put_at(data, path, as_text(value))
    if not tried:
        return data, findings
    refused = {finding.path for finding in schema_findings(data)}
    for path, value in tried.items():
        if path in refused:  # it was not text that the place wanted
            _put_at(data, path, value)
    return data, schema_findings(data)


def _second_pass(data: Any, findings: list[Finding]) -> tuple[Recipe | None, list[Finding]]:
    """Check with the models, for what no JSON Schema can say and where a rule breaks exactly."""
    try:
        recipe = Recipe.model_validate_json(json.dumps(data))
    except ValidationError as error:
        found = model_findings(data, error)
    else:
        return recipe, findings
    if not findings:
        return None, found
    exact = [finding for finding in found if finding.rule]
    kept = [finding for finding in findings if not any(_is_same(finding, x) for x in exact)]
    return None, one_each([*kept, *exact])


def _is_same(finding: Finding, exact: Finding) -> bool:
    shorter, longer = sorted((finding.path, exact.path), key=len)
    return bool(finding.rule) and finding.rule == exact.rule and longer[: len(shorter)] == shorter


def _is_known(finding: Finding, resolved: Resolved) -> bool:
    """Tell whether a finding only follows from a parameter without a value."""
    return any(finding.path[: len(path)] == path for path in resolved.unresolved)


def _problem(finding: Finding, marks: Marks, resolved: Resolved) -> Problem:
    place = marks.key_place(finding.path) if finding.at_key else marks.place(finding.path)
    why, fix = finding.why, finding.fix
    name = resolved.references.get(finding.path)
    if name is not None:
        origin = f"the value is that of the parameter '{name}'"
        why = f"{why}; {origin}" if why else origin
        fix = f"give the parameter '{name}' another value, or the type that fits here"
    return Problem(finding.what, why, fix, key_text(finding.path), place)


def _in_file_order(problems: list[Problem], path: str, included: Included) -> list[Problem]:
    files = {path: 0} | {name: i for i, (name, _) in enumerate(included.files, 1)}
    last = len(files)

    def order(problem: Problem) -> tuple[int, int, int]:
        place = problem.place
        if place is None:
            return last, 0, 0
        return files.get(place.file, last), place.line, place.column

    return sorted(problems, key=order)


def _value_at(data: Any, path: Path) -> Any:
    for step in path:
        data = data[step]
    return data


def _put_at(data: Any, path: Path, value: object) -> None:
    _value_at(data, path[:-1])[path[-1]] = value


def _sha256(text: str, included: tuple[tuple[str, str], ...], overrides: Mapping[str, str]) -> str:
    parts = [text, [list(pair) for pair in included], sorted(overrides.items())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
