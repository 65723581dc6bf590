"""What jsonschema and pydantic find wrong with a recipe, in our words and with a fix.

Both say where by a path into the plain data; neither's own words reach the user.
"""

from __future__ import annotations

import difflib
import re
import shlex
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator

from trace_recipe.recipe.kinds import KINDS, MAX_PID, shown
from trace_recipe.recipe.model import RULES
from trace_recipe.recipe.quantities import RefusedValue
from trace_recipe.recipe.schema import published_resolved_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jsonschema import ValidationError as SchemaError
    from pydantic import ValidationError

    from trace_recipe.recipe.marks import Path
    from trace_recipe.recipe.parts.rules import Broken

__all__ = ["Finding", "model_findings", "one_each", "schema_findings"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong at a path; `at_key` when the key itself is meant; `rule` for RULES."""

    path: Path
    what: str
    why: str = ""
    fix: str = ""
    at_key: bool = False
    rule: str = ""


# Words people use, and where the recipe says it.
_MODES = frozenset(("chmod", "group", "mode", "permissions", "umask"))
_SYNONYMS = {
    "event": "events: [system:name]",
    "filter": "filter, inside an entry of events: {event: system:name, filter: ...}",
    "filters": "filter, inside an entry of events: {event: system:name, filter: ...}",
    "triggers": "triggers, inside an entry of events: {event: system:name, triggers: [...]}",
    "optional": "optional, inside an entry of events",
    "any_of": "any_of, inside an entry of events or inside tracer",
    "version": "recipe: v1",
    "command": "run: {command: [...]}",
    "cmd": "command",
    "exec": "run: {command: [...]}",
    "env": "environment",
    "cwd": "directory",
    "user": "as_user",
    "time": "duration",
    "timeout": "duration, or timeout inside run",
    "sleep": "duration or delay",
    "pid": "scope: {pids: [...]}",
    "pids": "scope: {pids: [...]}",
    "cpu": "scope: {cpus: 0-3}",
    "cpus": "scope: {cpus: 0-3}",
    "exclude": "exclude_pids",
    "output": "outputs: [{text: trace.txt}]",
    "text": "outputs: [{text: ...}]",
    "jsonl": "outputs: [{jsonl: ...}]",
    "csv": "outputs: [{csv: ...}]",
    "trace-dat": "outputs: [{trace-dat: ...}]",
    "trace_dat": "trace-dat",
    "json": "jsonl",
    "dat": "trace-dat",
    "size": "buffer: {size: 8M}",
    "buffer_size": "buffer: {size: 8M}",
    "buffer_size_kb": "buffer: {size: 8M}",
    "buffer_subbuf_size_kb": "buffer: {subbuf: 16K}",
    "buffer_percent": "buffer: {watermark: 50}",
    "overwrite": "buffer: {mode: overwrite}",
    "current_tracer": "tracer",
    "plugin": "tracer",
    "tracing_thresh": "tracer: {name: irqsoff, threshold: 100us}",
    "set_event": "events: [system:name]",
    "set_event_pid": "scope: {pids: [...]}",
    "set_event_notrace_pid": "scope: {exclude_pids: [...]}",
    "set_ftrace_pid": "scope: {pids: [...]}",
    "set_ftrace_filter": "functions: {only: [...]}",
    "set_ftrace_notrace": "functions: {not: [...]}",
    "set_graph_function": "tracer: {name: function_graph, graph_functions: [...]}",
    "set_graph_notrace": "tracer: {name: function_graph, graph_notrace: [...]}",
    "max_graph_depth": "tracer: {name: function_graph, max_graph_depth: 5}",
    "trace_clock": "clock",
    "trace_options": "options: {name: true}",
    "trace_marker": "markers: {start: ...}",
    "tracing_cpumask": "scope: {cpus: 0-3}",
}
# Keys that hold a mapping, and which of its keys a bare value was probably meant for.
_MEANT = {
    "buffer": "size",
    "loss": "max",
    "drift": "action",
    "stop": "events",
    "functions": "only",
    "scope": "pids",
    "requires": "tracers",
    "markers": "start",
}
_MISSING_AT_TOP = {
    "recipe": ("every recipe names its language version", "start the file with 'recipe: v1'"),
    "name": ("outputs and instances are named after it", "add 'name: my-recipe'"),
}
_PARTS = {
    "Event": "an entry of 'events'",
    "Trigger": "an entry of 'triggers'",
    "Tracer": "'tracer'",
    "Functions": "'functions'",
    "Scope": "'scope'",
    "Buffer": "'buffer'",
    "Markers": "'markers'",
    "Run": "'run'",
    "Stop": "'stop'",
    "Loss": "'loss'",
    "Drift": "'drift'",
    "Requires": "'requires'",
    "Param": "a parameter under 'params'",
    "CsvOutput": "the csv output",
    "TraceDatOutput": "the trace-dat output",
}
_TYPE_WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
}
_SWITCH = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def schema_findings(data: Any) -> list[Finding]:
    """Return what the JSON Schema finds wrong with plain data (parameters put in)."""
    found: list[Finding] = []
    for error in _validator().iter_errors(data):
        for leaf in _leaves(error):
            found += _say(leaf)
    return one_each(found)


def model_findings(data: Any, error: ValidationError) -> list[Finding]:
    """Return what the models find wrong with the same data."""
    found: list[Finding] = []
    for detail in error.errors(include_url=False, include_input=False):
        path = _data_path(data, detail["loc"])
        context = detail.get("ctx", {})
        if detail["type"] == "rules":
            found += [_broken(path, broken) for broken in context["broken"]]
        elif "what" in context:
            rule = detail["type"] if detail["type"] != "refused" else ""
            what, why, fix = (str(context[key]) for key in ("what", "why", "fix"))
            found.append(Finding(path, what, why, fix, rule=rule))
        else:
            found.append(Finding(path, f"the models refuse it: {detail['msg'].lower()}"))
    return one_each(found)


def one_each(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings without repetitions, nor what only follows from an unknown key."""
    kept: dict[tuple[Path, str], Finding] = {}
    meant = set()
    for finding in findings:
        kept.setdefault((finding.path, finding.rule or finding.what), finding)
        if finding.at_key and finding.fix.startswith("did you mean"):
            meant.add((finding.path[:-1], finding.fix.split("'")[1]))
    for finding in [finding for finding in kept.values() if finding.at_key]:
        kept.pop((finding.path[:-1], "one_output_kind"), None)
    if any(path == () and key == "events" for path, key in meant):
        kept = {at: one for at, one in kept.items() if at[1] != "traces_nothing"}
    return [
        finding
        for finding in kept.values()
        if not any(finding.path == path and finding.what == _missing(name) for path, name in meant)
    ]


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(published_resolved_schema())


def _missing(key: str) -> str:
    return f"the key '{key}' is missing"


def _data_path(data: Any, location: tuple[int | str, ...]) -> Path:
    """Return pydantic's location without the tags of alternatives, as far as the data goes."""
    path: list[str | int] = []
    for step in location:
        is_key = isinstance(data, dict) and step in data
        is_item = isinstance(data, list) and isinstance(step, int) and step < len(data)
        if is_key or is_item:
            data = data[step]
            path.append(step)
    return tuple(path)


def _broken(path: Path, broken: Broken) -> Finding:
    rule = "" if broken.rule == "refused" else broken.rule
    return Finding((*path, *broken.at), broken.what, broken.why, broken.fix, rule=rule)


def _leaves(error: SchemaError) -> Iterator[SchemaError]:
    """Yield the errors that say what is wrong: in alternatives, those of the one that was meant."""
    if error.validator not in ("anyOf", "oneOf") or _rule_of(error) or _kind_of(error):
        yield error
        return
    branches: dict[Any, list[SchemaError]] = {}
    for below in error.context or ():
        branches.setdefault(below.relative_schema_path[0], []).extend(_leaves(below))
    at = list(error.absolute_path)
    best = min(branches, key=lambda branch: _distance(branches[branch], at), default=None)
    if best is None or _distance(branches[best], at)[0]:
        yield error
        return
    yield from branches[best]


def _distance(errors: list[SchemaError], at: list[str | int]) -> tuple[bool, int, int]:
    """Return how far a value is from one alternative: wrong type, keys missing, keys unknown."""
    here = [error for error in errors if list(error.absolute_path) == at]
    wrong_type = any(
        error.validator == "type" or (_kind_of(error) is not None and not _has_type(error))
        for error in here
    )
    unknown = [key for error in here for key in _extra_keys(error)]
    missing = 0
    for error in here:
        required: Any = error.validator_value if error.validator == "required" else ()
        instance: Any = error.instance
        absent = [key for key in required if key not in instance]
        missing += sum(1 for key in absent if not difflib.get_close_matches(key, unknown, n=1))
    return wrong_type, missing, len(unknown) + ("any_of" in unknown)


def _has_type(error: SchemaError) -> bool:
    """Tell whether a refused value has a JSON type that its place takes."""
    value: Any = error.instance
    names = {str: "string", bool: "boolean", int: "integer", list: "array", dict: "object"}
    return names.get(type(value)) in _types_of(error.schema)


def _extra_keys(error: SchemaError) -> list[str]:
    if error.validator != "additionalProperties":
        return []
    instance: Any = error.instance
    return [key for key in instance if key not in _keyword(error, "properties")]


def _keywords(error: SchemaError) -> dict[str, Any]:
    """Return the schema object that refused a value."""
    schema: Any = error.schema
    return schema if isinstance(schema, dict) else {}


def _keyword(error: SchemaError, name: str) -> Any:
    return _keywords(error)[name]


def _kind_of(error: SchemaError) -> str | None:
    """Return the kind of scalar whose schema refused the value."""
    schema = _keywords(error)
    kind = KINDS.get(schema.get("title", ""))
    is_same = kind is not None and schema.items() >= kind.schema.items()
    return kind.name if kind is not None and is_same else None


def _rule_of(error: SchemaError) -> str | None:
    """Return the rule between keys that an error belongs to, found on its way down."""
    root: Any = _validator().schema
    schema: Any = root
    rule = None
    for step in error.absolute_schema_path:
        # jsonschema leaves "$ref" and "if" out of its paths.
        while isinstance(schema, dict) and step not in schema:
            schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
        schema = schema[step]
        comment = schema.get("$comment", "") if isinstance(schema, dict) else ""
        if comment.startswith("rule "):
            rule = comment.removeprefix("rule ")
    return rule


def _say(error: SchemaError) -> list[Finding]:
    path: Path = tuple(error.absolute_path)
    value: Any = error.instance
    rule = _rule_of(error)
    if rule is not None:
        return [_break_of_rule(error, rule)]
    if path[:2] == ("scope", "pids") and len(path) == len(("scope", "pids", 0)):
        return [_wrong_task(path, value)]
    at_key = "propertyNames" in error.absolute_schema_path
    if at_key:
        path = (*path, value)
    if value is None:
        return [
            Finding(
                path,
                "the key has no value",
                "it would say nothing",
                "give it one, or take the key out",
            )
        ]
    kind = _kind_of(error)
    if kind is not None:
        return [_refused(path, kind, value, at_key=at_key)]
    match error.validator:
        case "additionalProperties":
            allowed = list(_keyword(error, "properties"))
            return [_unknown_key(path, key, allowed) for key in _extra_keys(error)]
        case "required":
            required: Any = error.validator_value
            return [_missing_key(path, str(key)) for key in required if key not in value]
        case "type" if {"enum", "const"} & set(_keywords(error)):
            return []  # that keyword says more
        case "type" | "anyOf" | "oneOf":
            return [_wrong_type(path, error)]
        case "enum" | "const":
            return [_wrong_choice(path, error)]
        case "minimum" | "maximum":
            least, most = _keyword(error, "minimum"), _keyword(error, "maximum")
            words = f"the least is {least}" if error.validator == "minimum" else ""
            return [
                Finding(
                    path,
                    f"{value} is too {'small' if words else 'large'}",
                    words or f"the most is {most}",
                    f"write {_range(least, most)}",
                )
            ]
        case "minItems":
            return [Finding(path, "the list is empty", "", "add an entry, or take the key out")]
        case _:
            return [Finding(path, f"the schema refuses it: {error.message}")]


def _range(least: int, most: int) -> str:
    return f"{least} or more" if most > MAX_PID else f"a number from {least} to {most}"


def _wrong_task(path: Path, value: object) -> Finding:
    """Return what is wrong with an entry of `scope.pids`, which takes a pid or 'command'."""
    why = f"a pid is a whole number from 1 to {MAX_PID}; 'command' is what 'run' starts"
    fix = "write a pid or 'command'"
    if isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{0,6}", value):
        fix = f"write it without quotes: {value}"
    elif isinstance(value, str) and re.fullmatch(r"[\w.-]{1,40}", value):
        close = difflib.get_close_matches(value, ["command"], n=1)
        fix = "did you mean 'command'?" if close else f"find its pid: pgrep {value}"
    return Finding(path, f"{shown(value)} is not a pid", why, fix)


def _break_of_rule(error: SchemaError, name: str) -> Finding:
    """Return a rule's own words, at the mapping whose schema has the rule."""
    rule = RULES[name]
    steps = list(error.absolute_schema_path)
    model = _depth_of_rule(error, steps)
    path = (*tuple(error.absolute_path)[:model], *rule.at)
    return Finding(path, rule.what, rule.why, rule.fix, rule=name)


def _depth_of_rule(error: SchemaError, steps: list[str | int]) -> int:
    """Return how many steps of the data's path lie above the mapping that has the rule."""
    last = len(steps) - 1 - steps[::-1].index("allOf")
    below = steps[last + 2 :]
    # Inside a rule, these two are the keywords that lead down into the data.
    down = sum(
        1
        for index, step in enumerate(below)
        if step == "properties" or (step in ("items", "prefixItems") and index > 0)
    )
    return len(error.absolute_path) - down


def _refused(path: Path, kind: str, value: object, *, at_key: bool) -> Finding:
    try:
        KINDS[kind].parse(value)
    except RefusedValue as refused:
        what, why, fix = refused.what, refused.why, refused.fix
        why = why or KINDS[kind].description.rstrip(".")
        return Finding(path, what, why, fix or _list_fix(value), at_key=at_key)
    return Finding(path, f"{shown(value)} is not {kind}", KINDS[kind].description, at_key=at_key)


def _unknown_key(path: Path, key: str, allowed: list[str]) -> Finding:
    what = f"unknown key {shown(key)}"
    why = f"known here: {', '.join(sorted(allowed))}"
    folded = {name.replace("-", "_"): name for name in allowed}
    same = folded.get(key.lower().replace("-", "_"))
    close = [same] if same else difflib.get_close_matches(key, allowed, n=1, cutoff=0.7)
    synonym = _SYNONYMS.get(key.lower())
    if close:
        fix = f"did you mean '{close[0]}'?"
    elif "any_of" in allowed and key in _homes():
        fix = "write it inside the alternatives: any_of: [{...}]"
    elif "readable_by" in allowed and key in _MODES:
        fix = "write it as readable_by: group (0640), or readable_by: everyone (0644)"
    elif synonym is not None and synonym != key:
        fix = f"write it as {synonym}"
    elif key in _homes():
        fix = f"it belongs into {_homes()[key]}"
    else:
        loose = difflib.get_close_matches(key, allowed, n=1, cutoff=0.5)
        fix = f"did you mean '{loose[0]}'?" if loose else "take it out"
    return Finding((*path, key), what, why, fix, at_key=True)


@cache
def _homes() -> dict[str, str]:
    """Return for each key of the language the part it stands in."""
    schema = published_resolved_schema()
    homes = dict.fromkeys(schema["properties"], "the top level of the recipe")
    for name, part in _PARTS.items():
        below = schema["$defs"][name]
        for branch in (below, *below.get("anyOf", ())):
            for key in branch.get("properties", ()):
                homes.setdefault(key, part)
    return homes


def _missing_key(path: Path, key: str) -> Finding:
    why, fix = "", f"add '{key}: ...'"
    if path == ():
        why, fix = _MISSING_AT_TOP[key]
    elif key == "type" and path[0] == "params":
        why, fix = "a parameter has a type", "add 'type: string' (or int, duration, size ...)"
    return Finding(path, _missing(key), why, fix)


def _wrong_type(path: Path, error: SchemaError) -> Finding:
    value = error.instance
    wanted = _types_of(error.schema)
    words = " or ".join(dict.fromkeys(_TYPE_WORDS[name] for name in wanted)) or "something else"
    what = f"must be {words}, not {shown(value)}"
    return Finding(path, what, f"YAML reads {_read_as(value)} here", _type_fix(path, value, wanted))


def _read_as(value: object) -> str:
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case dict():
            return "a mapping"
        case _:
            return "text"


def _types_of(schema: Any) -> list[str]:
    """Return the JSON types that a schema takes, alternatives followed."""
    if not isinstance(schema, dict):
        return []
    if "$ref" in schema:
        root: Any = _validator().schema
        return _types_of(root["$defs"][schema["$ref"].rpartition("/")[2]])
    if "type" in schema:
        return [schema["type"]]
    if "enum" in schema:
        return ["string"]
    branches = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    return [name for branch in branches for name in _types_of(branch)]


def _type_fix(path: Path, value: object, wanted: list[str]) -> str:
    key = next((str(step) for step in reversed(path) if isinstance(step, str)), "")
    is_item = bool(path) and isinstance(path[-1], int)
    if key in ("run", "command") and not is_item:
        return _command_fix(key, value)
    if wanted == ["array"] and isinstance(value, dict):
        return "write '- ' in front of each entry"
    if wanted == ["array"]:
        return f"write it as a list: [{_flow(value)}]"
    if "boolean" in wanted and isinstance(value, str):
        return f"write {_SWITCH[value.lower()]}" if value.lower() in _SWITCH else ""
    if "integer" in wanted and isinstance(value, str):
        digits = re.sub(r"[_,' %]", "", value)
        return f"write {digits}" if re.fullmatch(r"[0-9]{1,18}", digits) else "write digits only"
    if key == "tracer" and isinstance(value, list) and len(value) > 1:
        return f"write one, or alternatives: {{any_of: [{_flow(value)}]}}"
    if wanted == ["object"] and key == "outputs":
        return f"say in which form: text: {_flow(value)}" if isinstance(value, str) else ""
    if wanted == ["object"] and key in ("options", "environment"):
        return f"write it as {key}: {{name: {'true' if key == 'options' else 'value'}}}"
    if wanted == ["object"] and len(path) == 2 and path[0] == "params":
        return f"write it as {key}: {{type: string, default: {_flow(value)}}}"
    if wanted == ["object"] and key in _MEANT and not is_item:
        inner = _flow(value)
        if key in ("functions", "scope", "requires"):
            inner = f"[{inner}]"
        return f"write it as {key}: {{{_MEANT[key]}: {inner}}}"
    return _list_fix(value)


def _command_fix(key: str, value: object) -> str:
    words: list[Any] = value if isinstance(value, list) else []
    if isinstance(value, str):
        try:
            words = shlex.split(value)
        except ValueError:
            words = value.split()
    inner = f"command: [{', '.join(_flow(word) for word in words) or 'make, -j8'}]"
    return f"write it as a list: {f'run: {{{inner}}}' if key == 'run' else inner}"


def _list_fix(value: object) -> str:
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | int):
        return f"write it without the brackets: {_flow(value[0])}"
    return "write it as the schema has it: trace-recipe schema"


def _flow(value: object) -> str:
    """Return a value as it could stand between brackets in YAML."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            plain = value and not set(value) & set(",[]{}#&*!|>'\"%@`: ")
            text = value if len(value) <= 40 else value[:37] + "..."
            return text if plain else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case int() | float():
            return str(value)
        case list():
            return ", ".join(_flow(item) for item in value[:4]) if value else "..."
        case _:
            return "..."


def _wrong_choice(path: Path, error: SchemaError) -> Finding:
    choices: Any = error.validator_value
    choices = [choices] if error.validator == "const" else choices
    names = [str(choice) for choice in choices]
    if path == ("recipe",):
        return Finding(
            path,
            f"must be 'v1', not {shown(error.instance)}",
            "v1 is the recipe language that this trace-recipe reads",
            "write 'recipe: v1'",
        )
    close = difflib.get_close_matches(str(error.instance), names, n=1, cutoff=0.5)
    what = f"must be {_either(choices)}, not {shown(error.instance)}"
    fix = f"did you mean '{close[0]}'?" if close else f"write {_either(choices)}"
    return Finding(path, what, "it knows no other words", fix)


def _either(choices: list[Any]) -> str:
    quoted = [f"'{choice}'" if isinstance(choice, str) else str(choice) for choice in choices]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)
