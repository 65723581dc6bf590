"""Parameters: their values from defaults and --set, and `${name}` replaced in every value.

What is put in is never looked through again, so a value cannot smuggle in another reference.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from trace_recipe.errors import Place, Problem, RecipeError
from trace_recipe.recipe.kinds import PARAM_NAME
from trace_recipe.recipe.marks import Located, Path, Span
from trace_recipe.recipe.parts.param import PARAM_KINDS, Param
from trace_recipe.recipe.quantities import RefusedValue
from trace_recipe.recipe.yaml_reader import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Resolved", "as_text", "key_text", "resolve_params"]

# Files are joined and parameters declared before anything is put in.
_LEFT_ALONE = ("include", "params")
_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}|\$\{")
# Keys whose texts are filters, or end in one; in them quotes make a text.
_FILTERED = frozenset({"filter", "triggers"})
_GUESSED = 20  # so many problems are compared with all names of parameters
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Resolved:
    """A recipe with its parameters put in.

    `references` maps each place that is one `${name}` to the name; places in `unresolved` refer
    to a parameter whose problem is known already.
    """

    root: Located
    values: Mapping[str, str | int | bool]
    references: Mapping[Path, str]
    unresolved: frozenset[Path]
    problems: tuple[Problem, ...] = field(default=())


def resolve_params(root: Located, overrides: Mapping[str, str]) -> Resolved:
    """Give every declared parameter its value and put the values in; problems are in the result.

    A declaration that is itself malformed is left for the schema to report.
    """
    declared = root.value.get("params")
    declarations = declared.value if declared and isinstance(declared.value, dict) else {}
    problems: list[Problem] = []
    values: dict[str, str | int | bool] = {}
    for name, text in overrides.items():
        if name not in declarations:
            problems.append(_unknown_override(name, text, declarations))
    for name, located in declarations.items():
        param = _declared(located)
        if param is None:
            continue
        try:
            if name in overrides:
                values[name] = _from_text(param, overrides[name])
            elif isinstance(param.default, str) and "${" in param.default:
                problems.append(_nested(name, located))
            elif param.default is not None:
                values[name] = param.default
            else:
                problems.append(_not_given(name, located))
        except RefusedValue as refused:
            place = Place("--set", 1, len(name) + 2, f"{name}={overrides[name]}")
            problems.append(Problem(refused.what, refused.why, refused.fix, name, place))
    placer = _Placer(declarations, values)
    children = {
        key: child if key in _LEFT_ALONE else placer.put_in(child, (key,))
        for key, child in root.value.items()
    }
    return Resolved(
        replace(root, value=children),
        values,
        placer.references,
        frozenset(placer.unresolved),
        (*problems, *placer.problems),
    )


def _declared(located: Located) -> Param | None:
    try:
        return Param.model_validate_json(json.dumps(located.plain()))
    except ValidationError:
        return None


def _from_text(param: Param, text: str) -> str | int | bool:
    """Return a --set text as a YAML value of the parameter's type; raises RefusedValue."""
    value: str | int | bool = text
    if param.type in ("int", "pid", "size") and re.fullmatch(r"[-+]?[0-9]{1,20}", text):
        value = int(text)
    elif param.type == "bool":
        value = _BOOLEANS.get(text, text)
    kind = PARAM_KINDS[param.type]
    try:
        parsed = kind.parse(value)
        param.check_bounds(parsed, text)
    except RefusedValue as refused:
        why = refused.why or f"the parameter's type is {param.type}"
        raise RefusedValue(refused.what, why, refused.fix) from refused
    return value


def _not_given(name: str, located: Located) -> Problem:
    place = (
        located.place() if located.key_start is None else located.source.place(located.key_start)
    )
    return Problem(
        f"the parameter {name!r} has no value",
        "it has no default",
        f"give it on the command line: --set {name}=VALUE",
        f"params.{name}",
        place,
    )


def _nested(name: str, located: Located) -> Problem:
    return Problem(
        "a default cannot refer to a parameter",
        "what is put in is not looked through again",
        "write the value out",
        f"params.{name}.default",
        located.value["default"].place(),
    )


def _unknown_override(name: str, text: str, declarations: Mapping[str, Located]) -> Problem:
    return Problem(
        f"the recipe has no parameter {name!r}",
        f"it has {', '.join(declarations)}" if declarations else "it has no parameters",
        _did_you_mean(name, declarations) or f"take it out, or declare '{name}' under 'params'",
        place=Place("--set", 1, 1, f"{name}={text}"),
    )


def _did_you_mean(name: str, names: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean '{close[0]}'?" if close else ""


class _Placer:
    def __init__(
        self, declarations: Mapping[str, Located], values: Mapping[str, str | int | bool]
    ) -> None:
        self._declarations = declarations
        self._values = values
        self.problems: list[Problem] = []
        self.references: dict[Path, str] = {}
        self.unresolved: set[Path] = set()
        self._put_chars = 0
        self._told: set[tuple[Path, str | None]] = set()

    def put_in(self, node: Located, path: Path) -> Located:
        """Return the same tree with every reference replaced."""
        if isinstance(node.value, dict):
            below = {key: self.put_in(child, (*path, key)) for key, child in node.value.items()}
            return replace(node, value=below)
        if isinstance(node.value, list):
            items = [self.put_in(child, (*path, i)) for i, child in enumerate(node.value)]
            return replace(node, value=items)
        if isinstance(node.value, str) and "${" in node.value:
            return self._scalar(node, path)
        return node

    def _scalar(self, node: Located, path: Path) -> Located:
        text: str = node.value
        whole = _REFERENCE.fullmatch(text)
        if whole is not None and whole[1] is not None:
            value = self._value(whole, node, path)
            if value is None:
                return node
            self.references[path] = whole[1]
            return replace(node, value=value, spans=(Span(0, 0, is_literal=False),))
        pieces: list[str] = []
        spans: list[Span] = []
        length = end = 0
        quote = ""
        for match in _REFERENCE.finditer(text):
            literal = text[end : match.start()]
            quote = _open_quote(literal, quote)
            spans.append(Span(length, end, is_literal=True))
            length += len(literal)
            if match[0] == "$${":
                put, is_literal, raw_start = "${", True, match.start() + 1
            else:
                value = self._value(match, node, path)
                put = match[0] if value is None else as_text(value)
                is_literal, raw_start = False, match.start()
                is_filter = not _FILTERED.isdisjoint(path)
                if is_filter and quote and value is not None and quote in put:
                    place = node.place(match.start())
                    self.problems.append(_closes(quote, match[1], put, place, path))
                    self.unresolved.add(path)
            spans.append(Span(length, raw_start, is_literal=is_literal))
            pieces += [literal, put]
            quote = _open_quote(put, quote)
            length += len(put)
            self._put_chars += len(put)
            end = match.end()
            if match[1] is None and match[0] == "${":
                break  # what is never closed goes up to the end
            if self._put_chars > MAX_BYTES:
                raise RecipeError(_too_much(node, path))
        spans.append(Span(length, end, is_literal=True))
        return replace(node, value="".join(pieces) + text[end:], spans=tuple(spans))

    def _value(self, match: re.Match[str], node: Located, path: Path) -> str | int | bool | None:
        """Return what a reference stands for; report it when there is no such parameter."""
        name = match[1]
        if name in self._values:
            return self._values[name]
        self.unresolved.add(path)
        if name not in self._declarations and (path, name) not in self._told:
            self._told.add((path, name))
            self.problems.append(self._unknown(name, node.place(match.start()), path))
        return None

    def _unknown(self, name: str | None, place: Place, path: Path) -> Problem:
        key = key_text(path)
        if name is None:
            what, why, fix = "'${' is never closed", "'${name}' puts a parameter in", "add '}'"
            return Problem(what, why, f"{fix}, or write '$${{' for the characters", key, place)
        try:
            PARAM_NAME.parse(name)
        except RefusedValue as refused:
            fix = "write '$${' for the characters '${'"
            return Problem(f"'${{{name}}}' is no parameter", refused.why, fix, key, place)
        has = f"it has {', '.join(self._declarations)}" if self._declarations else ""
        near = _did_you_mean(name, self._declarations) if len(self.problems) < _GUESSED else ""
        fix = near or f"declare '{name}' under 'params'"
        why = has or "the recipe has no parameters"
        return Problem(f"there is no parameter {name!r}", why, fix, key, place)


def _open_quote(text: str, quote: str) -> str:
    """Return the quote that is open behind a part of a filter, when `quote` was before it."""
    for char in text:
        if not quote and char in "\"'":
            quote = char
        elif char == quote:
            quote = ""
    return quote


def _too_much(node: Located, path: Path) -> Problem:
    return Problem(
        f"parameters put more than {MAX_BYTES} characters into the recipe",
        "a recipe is no larger than that",
        "use the parameter less often, or give it a shorter value",
        key_text(path),
        node.place(),
    )


def _closes(quote: str, name: str, text: str, place: Place, path: Path) -> Problem:
    return Problem(
        f"the value of '{name}' would close the quotes that it stands in: {text!r}",
        "what is put inside quotes is a part of that text, never of the filter around it",
        f"give a value without {quote}",
        key_text(path),
        place,
    )


def key_text(path: Path) -> str:
    """Return a path as messages show it: `events[1].filter`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def as_text(value: str | int | bool) -> str:  # noqa: FBT001 - one of three types of a value
    """Return a parameter's value as it stands inside longer text."""
    return str(value).lower() if isinstance(value, bool) else str(value)
