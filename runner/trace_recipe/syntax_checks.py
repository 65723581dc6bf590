"""What can be checked in a recipe without a kernel: the texts that have a language of their own.

Event names, filters, triggers, function patterns and keys that exclude each other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trace_recipe.errors import Problem
from trace_recipe.event_names import EventNameError, EventNames, parse_event_names
from trace_recipe.filters import FilterNode, FilterSyntaxError, parse_filter
from trace_recipe.mistakes import (
    counted_option,
    denied_option,
    denied_tracer,
    misnamed_event,
    misnamed_tracer,
    wrong_function,
    wrong_module,
)
from trace_recipe.recipe.parts.event import Event, EventAnyOf, Trigger
from trace_recipe.tracer_rules import (
    Finding,
    Path,
    idle_on_every_kernel,
    stand_in_events,
    tracers,
    wrong_settings,
)
from trace_recipe.tracers import FUNCTION_TRACERS
from trace_recipe.triggers import (
    TriggerSpec,
    TriggerSyntaxError,
    check_trigger_set,
    parse_trigger,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trace_recipe.recipe.load import LoadedRecipe
    from trace_recipe.recipe.marks import Marks
    from trace_recipe.recipe.parts.requires import Requires
    from trace_recipe.recipe.parts.tracer import Tracer

__all__ = [
    "ParsedEvent",
    "ParsedTrigger",
    "Path",
    "SyntaxChecks",
    "alternatives",
    "check_without_kernel",
    "in_file_order",
    "stand_in_events",
    "tracers",
]

_MOST_NAMES = 5000  # a kernel has about 2500 events
_TOO_MANY_NAMES = Problem(
    f"here and before, the events stand for more than {_MOST_NAMES} names",
    why="each one is looked up in the kernel",
    fix="use globs such as 'syscalls:sys_enter_*' in place of braces",
)


def check_without_kernel(loaded: LoadedRecipe) -> list[Problem]:
    """Return what is wrong with a recipe on every kernel, in file order."""
    work = SyntaxChecks(loaded)
    work.check()
    return in_file_order(loaded, work.mistakes)


def in_file_order(loaded: LoadedRecipe, problems: Iterable[Problem]) -> list[Problem]:
    """Return problems by their place: the recipe first, then what it includes."""

    def order(problem: Problem) -> tuple[bool, str, int, int]:
        place = problem.place
        if place is None:
            return (False, "", 0, 0)
        return (place.file != loaded.path, place.file, place.line, place.column)

    return sorted(dict.fromkeys(problems), key=order)


@dataclass(frozen=True, slots=True)
class ParsedTrigger:
    """A trigger that could be read, and where it stands."""

    spec: TriggerSpec
    trigger: Trigger
    path: Path

    def where(self, offset: int) -> tuple[Path, int]:
        """Return the marks path and the offset there of a character of the trigger's text."""
        if self.trigger.text is not None:
            return self.path, offset
        if self.spec.filter is not None and offset >= self.spec.filter_offset:
            text = self.trigger.if_ or ""
            lead = len(text) - len(text.lstrip())
            return (*self.path, "if"), offset - self.spec.filter_offset + lead
        return ((*self.path, "event") if offset and self.spec.target else self.path), 0


@dataclass(frozen=True, slots=True)
class ParsedEvent:
    """One entry whose texts could all be read."""

    event: Event
    path: Path
    names: EventNames
    filter_text: str | None
    filter: FilterNode | None
    filter_shift: int
    triggers: tuple[ParsedTrigger, ...]

    def is_below(self, path: Path) -> bool:
        """Whether the entry is part of what stands at `path`."""
        return self.path[: len(path)] == path


class SyntaxChecks:
    """What needs no kernel; collects mistakes and keeps what it parsed."""

    def __init__(self, loaded: LoadedRecipe) -> None:
        self.loaded = loaded
        self.mistakes: list[Problem] = []
        self._names = 0

    def check(self) -> None:
        """Check every text of the recipe that has a language of its own."""
        recipe = self.loaded.recipe
        for parsed in self._every_event():
            if parsed is not None:
                self._check_names(parsed)
        for tracer, path in tracers(recipe.tracer):
            self.check_tracer(tracer, path)
        self.check_idle_keys()
        self.check_marker_texts()
        self.check_functions()
        self.check_options(recipe.options, ("options",))
        if recipe.requires is not None:
            self.required_events(recipe.requires)
            self.check_required_files(recipe.requires)

    def _every_event(self) -> Iterable[ParsedEvent | None]:
        recipe = self.loaded.recipe
        for index, entry in enumerate(recipe.events):
            for event, path in alternatives(entry, ("events", index)):
                yield self.parse_event(event, path)
        for event, path in stand_in_events(recipe.tracer):
            yield self.parse_event(event, path)

    def _check_names(self, parsed: ParsedEvent) -> None:
        for one in parsed.names.expansions:
            problem = misnamed_event(one.text)
            if problem is not None:
                self.mistake((*parsed.path, "event"), problem, one.offset)

    def parse_event(self, event: Event, path: Path) -> ParsedEvent | None:
        """Parse name, filter and triggers; None when any of them is wrong."""
        before = len(self.mistakes)
        names = None
        try:
            names = parse_event_names(event.event)
        except EventNameError as error:
            problem = self.explained(event.event, error.problem)
            self.mistake((*path, "event"), problem, error.offset)
        if names is not None:
            before_all, self._names = self._names, self._names + len(names.expansions)
            if self._names > _MOST_NAMES:
                if before_all <= _MOST_NAMES:
                    self.mistake((*path, "event"), _TOO_MANY_NAMES, 0)
                return None
        node, text, shift = self._parse_filter(event.filter, (*path, "filter"))
        triggers = self._parse_triggers(event, path)
        if names is None or len(self.mistakes) > before:
            return None
        return ParsedEvent(event, path, names, text, node, shift, triggers)

    def explained(self, text: str, problem: Problem) -> Problem:
        """Return the problem of a name that cannot be read; a kernel may know a better fix."""
        del text
        return problem

    def _parse_filter(
        self, text: str | None, path: Path
    ) -> tuple[FilterNode | None, str | None, int]:
        if text is None:
            return None, None, 0
        shift = len(text) - len(text.lstrip())
        try:
            return parse_filter(text.strip()), text.strip(), shift
        except FilterSyntaxError as error:
            self.mistake(path, error.problem, error.offset + shift)
            return None, None, 0

    def _parse_triggers(self, event: Event, path: Path) -> tuple[ParsedTrigger, ...]:
        parsed = []
        for index, trigger in enumerate(event.triggers):
            at: Path = (*path, "triggers", index)
            text = trigger.text if trigger.text is not None else _trigger_text(trigger)
            try:
                spec = parse_trigger(text)
            except TriggerSyntaxError as error:
                self._trigger_mistake(trigger, at, error)
                continue
            if trigger.text is None and spec.target != trigger.event:
                self.mistake((*at, "event"), _more_than_an_event(spec), len(spec.target or ""))
                continue
            parsed.append(ParsedTrigger(spec, trigger, at))
        for index, problem in check_trigger_set([one.spec for one in parsed]):
            self.mistake(parsed[index].path, problem, 0)
        return tuple(parsed)

    def _trigger_mistake(self, trigger: Trigger, path: Path, error: TriggerSyntaxError) -> None:
        if trigger.text is not None:
            self.mistake(path, error.problem, error.offset)
            return
        # Given as a mapping: find the key that the character came from.
        target_end = len(trigger.trigger) + len(f":{trigger.event}") if trigger.event else 0
        head = len(_trigger_head(trigger))
        if trigger.if_ is not None and error.offset > head:
            lead = len(trigger.if_) - len(trigger.if_.lstrip())
            self.mistake((*path, "if"), error.problem, error.offset - head - len(" if ") + lead)
        elif trigger.count is not None and error.offset > target_end:
            self.mistake((*path, "count"), error.problem)
        else:
            self.mistake((*path, "event"), error.problem, 0)

    def check_tracer(self, tracer: Tracer, path: Path) -> None:
        """Check a tracer's settings against each other."""
        self._mistakes_of(wrong_settings(self.loaded.recipe, tracer, path))

    def check_idle_keys(self) -> None:
        """Check for keys that would do nothing beside the recipe's tracer."""
        self._mistakes_of(idle_on_every_kernel(self.loaded.recipe))

    def _mistakes_of(self, findings: Iterable[Finding]) -> None:
        for one in findings:
            self.mistake(one.path, one.problem, at_key=one.at_key)

    def check_functions(self) -> None:
        """Check function patterns, and that the tracer is one that they concern."""
        recipe = self.loaded.recipe
        if recipe.functions is None:
            return
        given = [tracer.name for tracer, _ in tracers(recipe.tracer)]
        is_known = not any(denied_tracer(name) or misnamed_tracer(name) for name in given)
        if given and is_known and not any(name in FUNCTION_TRACERS for name in given):
            what = f"functions with the tracer '{given[0]}', which traces no functions"
            fix = "write 'tracer: function' or 'tracer: function_graph', or remove 'functions'"
            self.mistake(("functions",), Problem(what, fix=fix))
        for key, patterns in (("only", recipe.functions.only), ("not", recipe.functions.not_)):
            for index, pattern in enumerate(patterns):
                problem = wrong_function(pattern)
                if problem is not None:
                    self.mistake(("functions", key, index), problem)
        module = recipe.functions.module
        problem = None if module is None else wrong_module(module)
        if problem is not None:
            self.mistake(("functions", "module"), problem, 0)

    def required_events(self, requires: Requires) -> list[tuple[Path, EventNames]]:
        """Return the events that a recipe requires, as far as they can be read."""
        parsed = []
        for index, text in enumerate(requires.events):
            path: Path = ("requires", "events", index)
            try:
                names = parse_event_names(text)
            except EventNameError as error:
                self.mistake(path, error.problem, error.offset)
                continue
            if names.is_negated:
                problem = Problem("a required event with '!'", fix=f"write '{text[1:]}'")
                self.mistake(path, problem, 0)
            else:
                parsed.append((path, names))
        return parsed

    def check_required_files(self, requires: Requires) -> None:
        """Check that required files are names in the tracing directory, and no paths."""
        for index, name in enumerate(requires.files):
            if not re.fullmatch(r"[A-Za-z0-9_]+", name):
                problem = Problem(
                    f"'{name}' is not the name of a control file",
                    why="it is one in the tracing directory itself: letters, digits and '_'",
                    fix="write it as in 'set_event_notrace_pid'",
                )
                self.mistake(("requires", "files", index), problem, 0)

    def check_options(self, options: Mapping[str, bool], path: Path) -> None:
        """Check for options that recipes may not set."""
        for option, value in options.items():
            instance = self.loaded.recipe.instance
            problem = denied_option(option, value=value) or counted_option(
                option, value=value, instance=instance
            )
            if problem is not None:
                self.mistake((*path, option), problem, at_key=True)

    def check_marker_texts(self) -> None:
        """Check that the option without which no marker is written is not switched off."""
        recipe = self.loaded.recipe
        if not recipe.markers.model_fields_set:
            return
        places: list[tuple[Mapping[str, bool], Path]] = [(recipe.options, ("options",))]
        places += [(one.options, (*path, "options")) for one, path in tracers(recipe.tracer)]
        for options, path in places:
            if options.get("markers") is False:
                problem = Problem(
                    "the option 'markers' is off, and 'markers' has texts to write",
                    why="the kernel refuses what is written to trace_marker then (EINVAL)",
                    fix="write 'markers: true' here or remove it, or remove the key 'markers'",
                )
                self.mistake((*path, "markers"), problem, at_key=True)

    def mistake(
        self, path: Path, problem: Problem, offset: int | None = None, *, at_key: bool = False
    ) -> None:
        """Note that the recipe is wrong there."""
        self.mistakes.append(self.placed(path, problem, offset, at_key=at_key))

    def placed(
        self, path: Path, problem: Problem, offset: int | None, *, at_key: bool = False
    ) -> Problem:
        """Return the problem with its place; a text may stand for the mapping it is short for."""
        marks = self.loaded.marks
        written = _written(marks, path)
        place = marks.key_place(written) if at_key else marks.place(written, offset=offset)
        return problem.at(place, _key(written))


def alternatives(entry: Event | EventAnyOf, path: Path) -> Iterable[tuple[Event, Path]]:
    """Yield the one event of an entry, or its alternatives, with their paths."""
    if isinstance(entry, Event):
        yield entry, path
    else:
        for index, event in enumerate(entry.any_of):
            yield event, (*path, "any_of", index)


def _more_than_an_event(spec: TriggerSpec) -> Problem:
    return Problem(
        f"more than an event for {spec.name}",
        why="what follows the event would be the trigger's count or its filter",
        fix=f"write 'event: {spec.target}', and the rest under 'count' and 'if'",
    )


def _trigger_head(trigger: Trigger) -> str:
    target = "" if trigger.event is None else f":{trigger.event}"
    count = "" if trigger.count is None else f":{trigger.count}"
    return f"{trigger.trigger}{target}{count}"


def _trigger_text(trigger: Trigger) -> str:
    """Return a trigger given as a mapping in the form that parse_trigger reads."""
    condition = "" if trigger.if_ is None else f" if {trigger.if_.strip()}"
    return f"{_trigger_head(trigger)}{condition}"


def _written(marks: Marks, path: Path) -> Path:
    """Return the part of a path that the recipe spells out; the rest was a short form."""
    node, depth = marks.root, 0
    for step in path:
        below = node.value
        has = (
            step in below
            if isinstance(below, dict)
            else (isinstance(below, list) and isinstance(step, int) and step < len(below))
        )
        if not has:
            break
        node, depth = below[step], depth + 1
    return path[:depth]


def _key(path: Path) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
