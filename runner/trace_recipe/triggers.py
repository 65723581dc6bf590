"""Event triggers: the text of a recipe to a value, and the value to what is written and read back.

Form: `NAME[:SYSTEM:EVENT][:COUNT][ if FILTER]`, as event_trigger_write() of
kernel/trace/trace_events_trigger.c reads it. Offsets are characters from the start of the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trace_recipe.errors import Problem
from trace_recipe.filter_checks import check_filter
from trace_recipe.filters import FilterNode, FilterSyntaxError, parse_filter
from trace_recipe.suggestions import did_you_mean, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trace_recipe.formats import EventFormat
    from trace_recipe.kernel import Kernel

__all__ = [
    "TRIGGER_NAMES",
    "TriggerSpec",
    "TriggerSyntaxError",
    "check_trigger",
    "check_trigger_set",
    "missing_for_trigger",
    "parse_trigger",
    "read_form",
    "render_trigger",
]

_WITH_TARGET = ("enable_event", "disable_event")
TRIGGER_NAMES = ("traceon", "traceoff", "stacktrace", "snapshot", *_WITH_TARGET)
_HISTOGRAMS = frozenset({"hist", "enable_hist", "disable_hist"})
_LARGEST_COUNT = 999_999_999


@dataclass(frozen=True, slots=True)
class TriggerSpec:
    """One trigger; `target` is `system:event` for enable_event and disable_event.

    `count` None means every time; the offsets are where the parts stand in the recipe's text.
    """

    name: str
    target: str | None = None
    count: int | None = None
    filter_text: str | None = None
    filter: FilterNode | None = None
    target_offset: int = 0
    count_offset: int = 0
    filter_offset: int = 0

    @property
    def exclusive_key(self) -> str:
        """What two triggers of one event may not share: register_trigger() answers EEXIST."""
        if self.target is not None:
            return f"enable_event and disable_event of {self.target}"
        return "traceon and traceoff" if self.name in {"traceon", "traceoff"} else self.name


class TriggerSyntaxError(ValueError):
    """A trigger cannot be read; `offset` is the character where, `problem` says why and the fix."""

    def __init__(self, offset: int, problem: Problem) -> None:
        super().__init__(problem.what)
        self.offset = offset
        self.problem = problem


_HEAD = re.compile(r"(?P<words>[^ ]*)(?: +if +(?P<filter>.*\S))?")
_COUNT = re.compile(r"[1-9][0-9]{0,8}")
_TARGET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")


def parse_trigger(text: str) -> TriggerSpec:
    """Parse a trigger in ftrace's own form; raises TriggerSyntaxError at the first mistake."""
    for offset, char in enumerate(text):
        if not " " <= char <= "~":
            what = "a trigger is one line" if char in "\r\n" else f"character {char!r} in a trigger"
            raise _wrong(offset, what, "write one trigger in printable ASCII on one line")
    if text.startswith("!"):
        raise _wrong(
            0,
            "a trigger with '!'",
            "remove the '!'",
            why="'!' takes triggers away, and a run takes its own away by itself",
        )
    head = _HEAD.fullmatch(text)
    if head is None or not text or text != text.strip():
        raise _wrong_form(text)
    words = head["words"].split(":")
    name = words[0]
    _check_name(name)
    target, target_offset = None, len(name) + 1
    rest, rest_offset = words[1:], target_offset
    if name in _WITH_TARGET:
        target = _target(name, rest, target_offset)
        rest, rest_offset = rest[2:], target_offset + len(target) + 1
    count = _count(name, rest, rest_offset)
    if head["filter"] is None:
        return TriggerSpec(name, target, count, None, None, target_offset, rest_offset)
    filter_offset = head.start("filter")
    try:
        node = parse_filter(head["filter"])
    except FilterSyntaxError as error:
        raise TriggerSyntaxError(filter_offset + error.offset, error.problem) from None
    return TriggerSpec(
        name, target, count, head["filter"], node, target_offset, rest_offset, filter_offset
    )


def render_trigger(spec: TriggerSpec) -> str:
    """Return the text to write into the trigger file."""
    count = "" if spec.count is None else f":{spec.count}"
    return f"{_stem(spec)}{count}{_condition(spec)}"


def read_form(spec: TriggerSpec) -> str:
    """Return the line that the trigger file shows for it before its count went down."""
    count = "unlimited" if spec.count is None else f"count={spec.count}"
    return f"{_stem(spec)}:{count}{_condition(spec)}"


def check_trigger(
    spec: TriggerSpec, event: EventFormat, kernel: Kernel
) -> list[tuple[int, Problem]]:
    """Return what is wrong with the trigger's filter on `event`, with character offsets.

    What the kernel lacks (the trigger, its target) is `missing_for_trigger`'s to say.
    """
    if spec.filter is None:
        return []
    return [
        (spec.filter_offset + offset, problem)
        for offset, problem in check_filter(spec.filter, event, kernel)
    ]


def missing_for_trigger(spec: TriggerSpec, kernel: Kernel) -> list[tuple[int, Problem]]:
    """Return what `kernel` lacks for the trigger, with character offsets."""
    found = []
    if spec.name not in kernel.triggers:
        problem = Problem(
            f"this kernel has no trigger '{spec.name}'",
            why=f"it has {listed(kernel.triggers)}" if kernel.triggers else "it has no triggers",
            fix="leave the trigger out, or give an alternative with 'any_of'",
        )
        found.append((0, problem))
    if spec.target is not None and not kernel.has_event(spec.target):
        problem = Problem(
            f"no event '{spec.target}' in this kernel for {spec.name}",
            fix=did_you_mean(
                spec.target, kernel.events, otherwise="see 'trace-recipe list events'"
            ),
        )
        found.append((spec.target_offset, problem))
    return found


def check_trigger_set(specs: Sequence[TriggerSpec]) -> list[tuple[int, Problem]]:
    """Return which triggers of one event exclude an earlier one: (index, problem)."""
    seen: dict[str, TriggerSpec] = {}
    found = []
    for index, spec in enumerate(specs):
        earlier = seen.setdefault(spec.exclusive_key, spec)
        if earlier is not spec:
            of = "of " if " and " in spec.exclusive_key else ""
            problem = Problem(
                f"a second trigger '{render_trigger(spec)}' on the same event",
                why=f"the kernel takes one {of}{spec.exclusive_key} per event,"
                f" and '{render_trigger(earlier)}' stands there",
                fix="keep one of the two",
            )
            found.append((index, problem))
    return found


def _check_name(name: str) -> None:
    if name in TRIGGER_NAMES:
        return
    if name in _HISTOGRAMS:
        raise _wrong(
            0,
            f"trigger '{name}' is not part of recipes",
            "record the event and count in a report",
            why="histograms keep state in the kernel that this version does not restore",
        )
    raise _wrong(
        0,
        f"no trigger '{name}'" if name else "a trigger without a name",
        did_you_mean(name, TRIGGER_NAMES, otherwise="use one of these"),
        why=f"there are {', '.join(TRIGGER_NAMES)}",
    )


def _target(name: str, words: list[str], offset: int) -> str:
    if len(words) < 2 or not all(_TARGET.fullmatch(word) for word in words[:2]):
        raise _wrong(
            min(offset, offset - 1 + len(words)),
            f"{name} without the event to switch",
            f"write {name}:SYSTEM:EVENT, as in {name}:irq:irq_handler_entry",
        )
    return f"{words[0]}:{words[1]}"


def _count(name: str, words: list[str], offset: int) -> int | None:
    if not words:
        return None
    if len(words) > 1:
        where = offset + len(words[0]) + 1
        raise _wrong(where, f"'{words[1]}' after the count of {name}", "remove it")
    word = words[0]
    if _COUNT.fullmatch(word):
        return int(word)
    if name not in _WITH_TARGET and _TARGET.fullmatch(word) and not word.isdigit():
        raise _wrong(offset, f"{name} takes a count, not '{word}'", f"write {name}:5, or {name}")
    if word == "0":
        why, fix = "a count of 0 makes a trigger that never fires", f"write {name}, for every time"
    elif word.startswith("0") and word.isdigit():
        why, fix = "the kernel reads a leading 0 as octal", f"write {word.lstrip('0') or '1'}"
    else:
        why, fix = "", "leave it out for every time"
    raise _wrong(offset, f"count '{word}' is not 1 to {_LARGEST_COUNT}", fix, why=why)


def _wrong_form(text: str) -> TriggerSyntaxError:
    if not text.strip():
        return _wrong(0, "an empty trigger", "write one of " + ", ".join(TRIGGER_NAMES))
    offset = text.find(" ") if text.strip() == text else 0
    if re.fullmatch(r"\S+ +if\s*", text):
        return _wrong(len(text.rstrip()), "'if' without a filter", "add the filter, or remove 'if'")
    name, _, rest = text.partition(" ")
    fix = "write NAME, NAME:COUNT or NAME:COUNT if FILTER"
    if name.partition(":")[0] in TRIGGER_NAMES and rest.strip():
        fix = f"write '{name} if {rest.strip()}'"
    return _wrong(offset + 1 if offset else 0, "this is not a trigger", fix)


def _stem(spec: TriggerSpec) -> str:
    return spec.name if spec.target is None else f"{spec.name}:{spec.target}"


def _condition(spec: TriggerSpec) -> str:
    return "" if spec.filter_text is None else f" if {spec.filter_text}"


def _wrong(offset: int, what: str, fix: str, *, why: str = "") -> TriggerSyntaxError:
    why = why or "a trigger is NAME, NAME:COUNT, or one of these with 'if FILTER' behind it"
    return TriggerSyntaxError(offset, Problem(what, why=why, fix=fix))
