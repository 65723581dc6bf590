"""Kinds of scalar: each has one JSON Schema and one check, used by the models and the messages.

A kind stands in an `Annotated` type; pydantic asks it for both, so that they cannot drift apart.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic_core import PydanticCustomError, core_schema
from typing_extensions import TypeAliasType

from trace_recipe.permission import Permission
from trace_recipe.recipe.quantities import (
    CPU_LIST_PATTERN,
    DURATION_PATTERN,
    MAX_CPU,
    MAX_SIZE_BYTES,
    SIZE_PATTERN,
    RefusedValue,
    parse_cpu_list,
    parse_duration_ns,
    parse_size_bytes,
    quoted,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue

__all__ = [
    "KINDS",
    "Argument",
    "CpuList",
    "Duration",
    "EnvironmentName",
    "EnvironmentValue",
    "EventPattern",
    "Expression",
    "FilePath",
    "IncludePath",
    "InstanceName",
    "Integer",
    "Kind",
    "Line",
    "Link",
    "MarkerText",
    "Microseconds",
    "Name",
    "OptionName",
    "OutputPath",
    "ParamName",
    "Pattern",
    "PermissionName",
    "Pid",
    "PolicyName",
    "PositiveDuration",
    "RecipeName",
    "Scalar",
    "Size",
    "Tag",
    "Text",
    "TriggerCommand",
    "TriggerText",
    "shown",
]

KINDS: dict[str, Kind] = {}

# What may hide in a line: control characters, line separators and text-direction overrides.
_HIDDEN = r"\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufeff"
_HIDDEN_BUT_BREAKS = r"\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufeff"
_NO_BREAK = {"pattern": r"[\r\n]"}
MAX_PID = 1 << 22  # PID_MAX_LIMIT of the kernel's include/linux/threads.h on 64 bits
MAX_INT = (1 << 63) - 1
MAX_MARKER_BYTES = 1000


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of scalar: what it is called, its JSON Schema, and the check that raises."""

    name: str
    description: str
    schema: dict[str, Any]
    check: Callable[[Any], Any]

    def parse(self, value: object) -> Any:
        """Return the value a YAML or JSON scalar stands for; raises RefusedValue."""
        return self.check(value)

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.with_info_before_validator_function(self._validate, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        del schema, handler
        return {"title": self.name, "description": self.description, **self.schema}

    def _validate(self, value: Any, info: core_schema.ValidationInfo) -> Any:
        if info.mode == "python" and not isinstance(value, str):
            return value  # built in Python: the quantity itself
        try:
            return self.parse(value)
        except RefusedValue as refused:
            raise PydanticCustomError(
                refused.rule or "refused",
                "{what}",
                {"what": refused.what, "why": refused.why, "fix": refused.fix},
            ) from refused


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number within bounds; 5.0 is one too, as JSON Schema has it."""

    minimum: int
    maximum: int = MAX_INT

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        del source, handler
        inner = core_schema.int_schema(ge=self.minimum, le=self.maximum, strict=True)
        return core_schema.no_info_before_validator_function(_whole, inner)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        del schema, handler
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}


def shown(value: object) -> str:
    """Return a YAML value for a message: 'text', or what kind of thing it is."""
    match value:
        case None:
            return "nothing"
        case bool():
            return f"'{str(value).lower()}' (true or false)"
        case str():
            return quoted(value)
        case int() | float():
            return f"the number {value}"
        case list() | tuple():
            return "a list"
        case _:
            return "a mapping"


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _kind(name: str, description: str, schema: dict[str, Any], check: Callable[[Any], Any]) -> Kind:
    KINDS[name] = Kind(name, description, schema, check)
    return KINDS[name]


def _text(value: object, words: str, why: str = "", instead: str = "") -> str:
    """Return text as it is; `instead` is the fix where quotes would not make it right."""
    if isinstance(value, str):
        return value
    fix = ""
    if instead:
        fix = instead
    elif isinstance(value, bool):
        fix = f'put it in quotes: "{str(value).lower()}"'
    elif isinstance(value, int | float):
        fix = f'put it in quotes: "{value}"'
    elif value is None:
        fix = "give it a value, or take the key out"
    raise RefusedValue(f"must be {words}, not {shown(value)}", why, fix)


def _word_kind(
    name: str,
    words: str,
    why: str,
    *,
    pattern: str,
    fix: Callable[[str], str] | str = "",
    shortest: int = 1,
    longest: int = 1000,
    breaks: bool = False,
    forbidden: str | None = None,
    measure_bytes: bool = False,
    instead: str = "",
) -> Kind:
    """Make a kind of text: `words` with its article, `why` says what may stand in it."""
    compiled = re.compile(pattern)
    schema: dict[str, Any] = {
        "type": "string",
        "minLength": shortest,
        "maxLength": longest,
        "pattern": pattern,
    }
    refusals: list[dict[str, Any]] = [] if breaks else [_NO_BREAK]
    if forbidden is not None:
        refusals.append({"const": forbidden})
    if refusals:
        schema["not"] = refusals[0] if len(refusals) == 1 else {"anyOf": refusals}

    def check(value: object) -> str:
        text = _text(value, words, why, instead)
        if len(text) < shortest:
            raise RefusedValue(
                f"must be {words}, not empty text", why, "fill it in, or take it out"
            )
        if len(text) > longest:
            raise RefusedValue(
                f"is too long for {words}: {len(text)} characters",
                f"{longest} characters are the most",
                "make it shorter",
            )
        broken = not breaks and ("\n" in text or "\r" in text)
        if broken or text == forbidden or compiled.search(text) is None:
            shown_fix = fix(text) if callable(fix) else fix
            raise RefusedValue(f"{shown(text)} is not {words}", why, shown_fix)
        if measure_bytes and len(text.encode()) > longest:
            raise RefusedValue(
                f"is too long for {words}: {len(text.encode())} bytes",
                f"{longest} bytes are the most that one write to trace_marker takes whole",
                "make it shorter",
                rule="marker_too_long",
            )
        return text

    return _kind(name, f"{words[0].upper()}{words[1:]}: {why}.", schema, check)


def _as_slug(text: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63]
    return f"write {slug!r}" if slug else "write it as 'my-recipe'"


def _one_line(text: str) -> str:
    clean = re.sub(f"[{_HIDDEN}]+", " ", text).strip()
    return f"write it in one line: {clean[:60]!r}" if clean and len(clean) <= 60 else "one line"


def _as_identifier(text: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_")[:40]
    return f"write '{'_' * name[:1].isdigit()}{name}'" if name else "write it as NAME"


def _as_name(text: str) -> str:
    found = re.search(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*", text)
    return f"write '{found[0][:100]}'" if found else "write the name alone"


def _as_file(text: str) -> str:
    return "name a file" if text == "-" else _one_line(text)


def _number_check(words: str, minimum: int, maximum: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        value = _whole(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise RefusedValue(f"must be {words}, not {shown(value)}", fix="write digits only")
        if not minimum <= value <= maximum:
            bounds = f"{minimum} to {maximum}"
            raise RefusedValue(
                f"{value} is not {words}", f"it lies from {bounds}", "write a number between them"
            )
        return value

    return check


def _true_or_false(value: object) -> bool:
    if not isinstance(value, bool):
        fix = {"yes": "write true", "on": "write true", "no": "write false", "off": "write false"}
        raise RefusedValue(
            f"must be true or false, not {shown(value)}", fix=fix.get(str(value).lower(), "")
        )
    return value


def _scalar(value: object) -> str | int | bool:
    value = _whole(value)
    if not isinstance(value, str | int):
        raise RefusedValue(f"must be text, a whole number, true or false, not {shown(value)}")
    if isinstance(value, int) and not -MAX_INT <= value <= MAX_INT:
        raise RefusedValue(f"{value} is too large a number", "numbers have 63 bits")
    return value


def _duration(value: object) -> int:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise RefusedValue(
            f"the duration {value} has no unit",
            "a bare number could be seconds or milliseconds",
            f"write a unit: {value}s" if isinstance(value, int) else "write a unit: 10s",
        )
    return parse_duration_ns(_text(value, "a duration"))


def _positive_duration(value: object) -> int:
    duration_ns = _duration(value)
    if duration_ns == 0:
        raise RefusedValue(f"{value!r} is no time at all", fix="write at least 1ms")
    return duration_ns


def _microseconds(value: object) -> int:
    duration_ns = _duration(value)
    if isinstance(value, str) and value.endswith("ns"):
        raise RefusedValue(
            f"{value!r} is finer than the kernel measures",
            "tracing_thresh counts whole microseconds",
            f"write {max(1, duration_ns // 1000)}us",
        )
    return duration_ns


def _size(value: object) -> int:
    value = _whole(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 < value <= MAX_SIZE_BYTES:
            raise RefusedValue(
                f"{value} is not a size", "a size is from 1 byte to 1048576G", "write it as 8M"
            )
        return value
    return parse_size_bytes(_text(value, "a size"))


def _cpu_list(value: object) -> tuple[int, ...]:
    if isinstance(value, str):
        return parse_cpu_list(value)
    if not isinstance(value, list):
        return (_cpu(value),)
    if not value:
        raise RefusedValue("the list of CPUs is empty", fix="take the key out to trace every CPU")
    return tuple(sorted({_cpu(cpu) for cpu in value}))


def _cpu(value: object) -> int:
    value = _whole(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_CPU:
        raise RefusedValue(
            f"{shown(value)} is not a CPU",
            f"CPUs are numbers from 0 to {MAX_CPU}; ranges are written as text",
            "write cpus: '0-3,7' or cpus: [0, 1, 7]",
        )
    return value


def _one_of(words: str, choices: tuple[str, ...]) -> Callable[[object], str]:
    def check(value: object) -> str:
        text = _text(value, words)
        if text not in choices:
            close = difflib.get_close_matches(text, choices, n=1)
            raise RefusedValue(
                f"{shown(text)} is not {words}",
                f"there are {', '.join(choices)}",
                f"did you mean '{close[0]}'?" if close else "write one of them",
            )
        return text

    return check


TRIGGERS = ("traceon", "traceoff", "stacktrace", "snapshot", "enable_event", "disable_event")

DURATION = _kind(
    "Duration",
    "A span of time: whole numbers with h, m, s, ms, us or ns, the largest unit first.",
    {"type": "string", "minLength": 1, "pattern": DURATION_PATTERN, "not": _NO_BREAK},
    _duration,
)
POSITIVE_DURATION = _kind(
    "PositiveDuration",
    "A span of time above zero: whole numbers with h, m, s, ms, us or ns.",
    {
        "type": "string",
        "pattern": DURATION_PATTERN,
        "not": {"anyOf": [_NO_BREAK, {"pattern": "^[^1-9]*$"}]},
    },
    _positive_duration,
)
MICROSECONDS = _kind(
    "Microseconds",
    "A span of time in whole microseconds: whole numbers with h, m, s, ms or us.",
    {
        "type": "string",
        "minLength": 1,
        "pattern": DURATION_PATTERN,
        "not": {"anyOf": [_NO_BREAK, {"pattern": "ns$"}]},
    },
    _microseconds,
)
SIZE = _kind(
    "Size",
    "A size in bytes: a whole number, or one with K, M or G (binary).",
    {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": MAX_SIZE_BYTES},
            {"type": "string", "pattern": SIZE_PATTERN, "not": _NO_BREAK},
        ]
    },
    _size,
)
CPU_LIST = _kind(
    "CpuList",
    "CPUs: numbers and ranges as text, one number, or a list of numbers.",
    {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": MAX_CPU},
            {"type": "string", "pattern": CPU_LIST_PATTERN, "not": _NO_BREAK},
            {
                "type": "array",
                "minItems": 1,
                "items": {"type": "integer", "minimum": 0, "maximum": MAX_CPU},
            },
        ]
    },
    _cpu_list,
)
WHOLE_NUMBER = _kind(
    "WholeNumber",
    "A whole number of at most 63 bits.",
    {"type": "integer", "minimum": -MAX_INT, "maximum": MAX_INT},
    _number_check("a whole number", -MAX_INT, MAX_INT),
)
PID = _kind(
    "Pid",
    "The number of a process or thread.",
    {"type": "integer", "minimum": 1, "maximum": MAX_PID},
    _number_check("a process id", 1, MAX_PID),
)
TRUE_OR_FALSE = _kind("TrueOrFalse", "true or false.", {"type": "boolean"}, _true_or_false)
SCALAR = _kind(
    "Scalar",
    "Text, a whole number, true or false.",
    {
        "anyOf": [
            {"type": "string"},
            {"type": "integer", "minimum": -MAX_INT, "maximum": MAX_INT},
            {"type": "boolean"},
        ]
    },
    _scalar,
)
TEXT = _word_kind(
    "Text",
    "printable text",
    "any printable characters, line breaks and tabs",
    pattern=f"^[^{_HIDDEN_BUT_BREAKS}]*$",
    fix="take the hidden characters out",
    shortest=0,
    longest=10_000,
    breaks=True,
)
LINE = _word_kind(
    "Line",
    "one line of text",
    "printable characters, without a line break",
    pattern=f"^[^{_HIDDEN}]+$",
    fix=_one_line,
)
RECIPE_NAME = _word_kind(
    "RecipeName",
    "a recipe name",
    "1 to 63 lower-case letters, digits and '-', not starting with '-'",
    pattern="^[a-z0-9][a-z0-9-]*$",
    fix=_as_slug,
    longest=63,
)
TAG = _word_kind(
    "Tag",
    "a tag",
    "1 to 63 lower-case letters, digits, '.', '_' and '-', starting with a letter or digit",
    pattern="^[a-z0-9][a-z0-9._-]*$",
    fix=_as_slug,
    longest=63,
)
LINK = _word_kind(
    "Link",
    "a link",
    "it starts with http:// or https:// and has no spaces",
    pattern="^https?://[!#-;=?-~]+$",
    fix="write it as https://example.org/page",
)
INSTANCE_NAME = _word_kind(
    "InstanceName",
    "an instance",
    "it is 'private', 'top', or a name of 1 to 63 letters, digits, '_', '.' and '-'",
    pattern="^[A-Za-z0-9][A-Za-z0-9_.-]*$",
    fix="write private, top or a name",
    longest=63,
)
OPTION_NAME = _word_kind(
    "OptionName",
    "the name of an option",
    "1 to 40 lower-case letters, digits, '_' and '-'",
    pattern="^[a-z0-9_-]+$",
    longest=40,
    fix="write it as options/ shows it, as in sym-addr: true or false",
)
PARAM_NAME = _word_kind(
    "ParamName",
    "the name of a parameter",
    "1 to 40 letters, digits and '_', not starting with a digit",
    pattern="^[A-Za-z_][A-Za-z0-9_]*$",
    longest=40,
    fix=_as_identifier,
)
ENVIRONMENT_NAME = _word_kind(
    "EnvironmentName",
    "the name of an environment variable",
    "letters, digits and '_', not starting with a digit",
    pattern="^[A-Za-z_][A-Za-z0-9_]*$",
    longest=128,
    fix=_as_identifier,
)
ENVIRONMENT_VALUE = _word_kind(
    "EnvironmentValue",
    "the value of an environment variable",
    "printable characters in one line; it may be empty",
    pattern=f"^[^{_HIDDEN}]*$",
    shortest=0,
    fix=_one_line,
    longest=10_000,
)
ARGUMENT = _word_kind(
    "Argument",
    "an argument of a command",
    "printable characters, line breaks and tabs",
    pattern=f"^[^{_HIDDEN_BUT_BREAKS}]*$",
    fix="take the hidden characters out",
    shortest=0,
    longest=10_000,
    breaks=True,
)
NAME = _word_kind(
    "Name",
    "a name that the kernel could have",
    "1 to 100 letters, digits, '_', '.', ':' and '-'",
    pattern="^[A-Za-z0-9_.:-]+$",
    longest=100,
    fix=_as_name,
)
PATTERN = _word_kind(
    "Pattern",
    "a name or glob",
    "printable ASCII characters without spaces, as in vfs_*",
    pattern="^[!-~]+$",
    longest=500,
    fix="write one name per entry",
)
EVENT_PATTERN = _word_kind(
    "EventPattern",
    "the name of an event",
    "system:event in one line; globs and {a,b} are allowed, '!' in front takes out",
    pattern=f"^[^{_HIDDEN} ][^{_HIDDEN}]*$",
    fix="write one event per entry, as in sched:sched_switch",
)
EXPRESSION = _word_kind(
    "Expression",
    "a filter",
    "printable text with something to compare, as in prev_prio < 10",
    pattern=f"^[^{_HIDDEN_BUT_BREAKS}]*[^ \\t\\n{_HIDDEN_BUT_BREAKS}][^{_HIDDEN_BUT_BREAKS}]*$",
    fix="write it as prev_prio < 10",
    instead="write a comparison, as in prev_prio < 10, or take the key out",
    longest=4000,
    breaks=True,
)
TRIGGER_COMMAND = _kind(
    "TriggerCommand",
    "The command of a trigger.",
    {"enum": list(TRIGGERS)},
    _one_of("the command of a trigger", TRIGGERS),
)
PERMISSION = _kind(
    "Permission",
    "The name of something dangerous that who runs the recipe has to allow as well (--allow).",
    {"enum": [str(name) for name in Permission]},
    _one_of("the name of a permission", tuple(Permission)),
)
POLICY_NAMES = ("run", *Permission)
POLICY_NAME = _kind(
    "PolicyName",
    "The name of a permission, or 'run': running and trying recipes at all.",
    {"enum": [str(name) for name in POLICY_NAMES]},
    _one_of("the name of a permission, or 'run'", POLICY_NAMES),
)
TRIGGER_TEXT = _word_kind(
    "TriggerText",
    "a trigger",
    "one line in the form of the kernel's trigger file",
    pattern=f"^[^{_HIDDEN} ][^{_HIDDEN}]*$",
    fix="write one trigger per entry, as in stacktrace:5 if prev_prio < 10",
)
OUTPUT_PATH = _word_kind(
    "OutputPath",
    "a path",
    "printable characters in one line; '-' is standard output",
    pattern=f"^[^{_HIDDEN}]+$",
    longest=4000,
    fix=_one_line,
)
FILE_PATH = _word_kind(
    "FilePath",
    "the path of a file",
    "printable characters in one line; '-' (standard output) cannot be used here",
    pattern=f"^[^{_HIDDEN}]+$",
    longest=4000,
    forbidden="-",
    fix=_as_file,
)
INCLUDE_PATH = _word_kind(
    "IncludePath",
    "the path of a recipe to include",
    "it is relative to the file that includes it: no '/' in front",
    pattern=f"^[^/{_HIDDEN}][^{_HIDDEN}]*$",
    longest=500,
    fix="write it relative, as in parts/base.yaml",
)
MARKER_TEXT = _word_kind(
    "MarkerText",
    "the text of a marker",
    "one printable line of at most 1000 bytes",
    pattern=f"^[^{_HIDDEN}]+$",
    longest=MAX_MARKER_BYTES,
    fix=_one_line,
    measure_bytes=True,
)

# As names, so that each stands once in the JSON Schema, under $defs.
Duration = TypeAliasType("Duration", Annotated[int, DURATION])
PositiveDuration = TypeAliasType("PositiveDuration", Annotated[int, POSITIVE_DURATION])
Microseconds = TypeAliasType("Microseconds", Annotated[int, MICROSECONDS])
Size = TypeAliasType("Size", Annotated[int, SIZE])
CpuList = TypeAliasType("CpuList", Annotated[tuple[int, ...], CPU_LIST])
Pid = TypeAliasType("Pid", Annotated[int, PID])
Scalar = TypeAliasType("Scalar", Annotated[bool | int | str, SCALAR])
Text = TypeAliasType("Text", Annotated[str, TEXT])
Line = TypeAliasType("Line", Annotated[str, LINE])
RecipeName = TypeAliasType("RecipeName", Annotated[str, RECIPE_NAME])
Tag = TypeAliasType("Tag", Annotated[str, TAG])
Link = TypeAliasType("Link", Annotated[str, LINK])
InstanceName = TypeAliasType("InstanceName", Annotated[str, INSTANCE_NAME])
OptionName = TypeAliasType("OptionName", Annotated[str, OPTION_NAME])
ParamName = TypeAliasType("ParamName", Annotated[str, PARAM_NAME])
EnvironmentName = TypeAliasType("EnvironmentName", Annotated[str, ENVIRONMENT_NAME])
EnvironmentValue = TypeAliasType("EnvironmentValue", Annotated[str, ENVIRONMENT_VALUE])
Argument = TypeAliasType("Argument", Annotated[str, ARGUMENT])
Name = TypeAliasType("Name", Annotated[str, NAME])
Pattern = TypeAliasType("Pattern", Annotated[str, PATTERN])
EventPattern = TypeAliasType("EventPattern", Annotated[str, EVENT_PATTERN])
Expression = TypeAliasType("Expression", Annotated[str, EXPRESSION])
PermissionName = TypeAliasType("PermissionName", Annotated[str, PERMISSION])
PolicyName = TypeAliasType("PolicyName", Annotated[str, POLICY_NAME])
TriggerCommand = TypeAliasType("TriggerCommand", Annotated[str, TRIGGER_COMMAND])
TriggerText = TypeAliasType("TriggerText", Annotated[str, TRIGGER_TEXT])
OutputPath = TypeAliasType("OutputPath", Annotated[str, OUTPUT_PATH])
FilePath = TypeAliasType("FilePath", Annotated[str, FILE_PATH])
IncludePath = TypeAliasType("IncludePath", Annotated[str, INCLUDE_PATH])
MarkerText = TypeAliasType("MarkerText", Annotated[str, MARKER_TEXT])
