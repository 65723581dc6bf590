"""Resolver: turns a loaded recipe and a kernel into exactly what will be set, or says why not.

Everything that can be known before a write is checked here: names against what the kernel has,
filters and triggers against the formats. All problems are reported at once, in file order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from trace_recipe.errors import KernelLacksError, Problem, RecipeError
from trace_recipe.filter_checks import check_filter
from trace_recipe.mistakes import (
    absent_event,
    eventless_name,
    misnamed_event,
)
from trace_recipe.recipe.parts.event import EventAnyOf
from trace_recipe.recipe.parts.tracer import Tracer
from trace_recipe.suggestions import listed
from trace_recipe.syntax_checks import (
    ParsedEvent,
    Path,
    alternatives,
    check_without_kernel,
    in_file_order,
    stand_in_events,
    tracers,
)
from trace_recipe.tracer_checks import ResolvedTracer, TracerChecks, resolved_tracer
from trace_recipe.tracer_rules import idle_keys
from trace_recipe.triggers import (
    TriggerSpec,
    check_trigger,
    missing_for_trigger,
    render_trigger,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trace_recipe.event_names import Expansion
    from trace_recipe.formats import EventFormat
    from trace_recipe.kernel import Kernel
    from trace_recipe.recipe.load import LoadedRecipe

__all__ = [
    "Path",
    "ResolvedEvent",
    "ResolvedRecipe",
    "ResolvedTracer",
    "check_without_kernel",
    "resolve",
]


@dataclass(frozen=True, slots=True)
class ResolvedEvent:
    """One event to enable; `triggers` are in the form that is written.

    `path` is the recipe's entry, `filter_path` and `trigger_paths` where those texts stand.
    """

    name: str
    filter: str | None
    triggers: tuple[str, ...]
    path: Path
    filter_path: Path | None = None
    trigger_paths: tuple[Path, ...] = ()

    @property
    def system(self) -> str:
        """The part before the colon."""
        return self.name.partition(":")[0]


@dataclass(frozen=True, slots=True)
class ResolvedRecipe:
    """What a recipe means on one kernel: every event once, alternatives chosen.

    `functions_only` and `functions_not` are in the form that set_ftrace_filter takes;
    `function_match_counts` has None where the kernel's functions are unknown. `options` are those
    that do something here. `skipped` is what is left out, with the reason. `cpus` None means all.
    """

    loaded: LoadedRecipe
    kernel: Kernel
    events: tuple[ResolvedEvent, ...]
    tracer: ResolvedTracer | None
    functions_only: tuple[str, ...] = ()
    functions_not: tuple[str, ...] = ()
    function_match_counts: Mapping[str, int | None] = field(default_factory=dict)
    options: Mapping[str, bool] = field(default_factory=dict)
    skipped: tuple[tuple[str, str], ...] = ()
    cpus: tuple[int, ...] | None = None


def resolve(loaded: LoadedRecipe, kernel: Kernel) -> ResolvedRecipe:
    """Resolve a recipe against a kernel.

    Raises RecipeError when the recipe is wrong (its problems include what the kernel lacks), and
    KernelLacksError when only the kernel lacks something.
    """
    work = _Resolver(loaded, kernel)
    resolved = work.resolve()
    if work.mistakes:
        raise RecipeError(*in_file_order(loaded, [*work.mistakes, *work.lacks]))
    if work.lacks:
        raise KernelLacksError(*in_file_order(loaded, work.lacks))
    return resolved


@dataclass(slots=True)
class _Selected:
    """An event on its way to ResolvedEvent; later entries change it."""

    path: Path
    filter: str | None = None
    filter_path: Path | None = None
    triggers: dict[str, tuple[TriggerSpec, Path]] = field(default_factory=dict)


class _Resolver(TracerChecks):
    """Adds what a kernel has, and the choice between alternatives."""

    def __init__(self, loaded: LoadedRecipe, kernel: Kernel) -> None:
        super().__init__(loaded, kernel)
        self._selected: dict[str, _Selected] = {}

    def resolve(self) -> ResolvedRecipe:
        """Return the resolved recipe; meaningless when mistakes or lacks were noted."""
        recipe = self.loaded.recipe
        for index, entry in enumerate(recipe.events):
            path: Path = ("events", index)
            if isinstance(entry, EventAnyOf):
                self._take_alternative(entry, path)
            else:
                self._take(self.parse_event(entry, path))
        tracer = self._tracer()
        chosen = None if tracer is None else tracer.name
        self.check_idle_keys()
        options = self._options(chosen)
        self._check_anything_left(tracer)
        counts = {**self.roots_seen(tracer), **self.functions_seen(tracer)}
        only, not_ = self.function_texts() if tracer is not None else ((), ())
        self.check_kernel_options()
        self.check_clock_and_buffer()
        self.check_scope(chosen)
        self.check_markers()
        self.check_requires()
        return ResolvedRecipe(
            loaded=self.loaded,
            kernel=self.kernel,
            events=tuple(self._event(name) for name in self.events if name in self._selected),
            tracer=tracer,
            functions_only=only,
            functions_not=not_,
            function_match_counts=counts,
            skipped=tuple(self.skipped),
            options=options,
            cpus=recipe.scope.cpus,
        )

    # events

    def _event(self, name: str) -> ResolvedEvent:
        chosen = self._selected[name]
        specs = list(chosen.triggers.values())
        return ResolvedEvent(
            name,
            chosen.filter,
            tuple(render_trigger(spec) for spec, _ in specs),
            chosen.path,
            chosen.filter_path,
            tuple(path for _, path in specs),
        )

    def explained(self, text: str, problem: Problem) -> Problem:
        """Name the events that a name without its system can mean."""
        fix = eventless_name(text, self.events) if re.fullmatch(r"\w+", text) else ""
        return replace(problem, fix=fix) if fix else problem

    def _take(self, parsed: ParsedEvent | None) -> None:
        if parsed is None:
            return
        found: dict[str, None] = {}
        for one in parsed.names.expansions:
            names = one.among(self.events)
            found.update(dict.fromkeys(names))
            if not names:
                self._missing(one, parsed)
        if parsed.names.is_negated:
            self._take_out(list(found), parsed)
        elif found:
            self._check_on_events(parsed, list(found))
            for name in found:
                self._select(name, parsed)

    def _missing(self, one: Expansion, parsed: ParsedEvent) -> None:
        path: Path = (*parsed.path, "event")
        misnamed = misnamed_event(one.text)
        if misnamed is not None:
            self.mistake(path, misnamed, one.offset)
            return
        if parsed.event.optional:
            problem = absent_event(one, self.events, guesses=False)
            self.skipped.append((one.text, problem.what))
        else:
            problem = absent_event(one, self.events, guesses=self.may_guess())
            self.lack(path, problem, one.offset)

    def _take_out(self, names: list[str], parsed: ParsedEvent) -> None:
        hit = [name for name in names if name in self._selected]
        for name in hit:
            del self._selected[name]
        if names and not hit:
            problem = Problem(
                f"'{parsed.event.event}' takes out nothing",
                why="no entry before it put any of these events in",
                fix="remove it, or move it behind the entry that it corrects",
            )
            self.mistake((*parsed.path, "event"), problem, 0)

    def _select(self, name: str, parsed: ParsedEvent) -> None:
        chosen = self._selected.setdefault(name, _Selected(parsed.path))
        if parsed.filter_text is not None:
            chosen.filter = parsed.filter_text
            chosen.filter_path = (*parsed.path, "filter")
        for one in parsed.triggers:
            # A later trigger takes the place of an earlier one that it excludes.
            chosen.triggers.pop(one.spec.exclusive_key, None)
            chosen.triggers[one.spec.exclusive_key] = (one.spec, one.path)

    def _take_alternative(self, entry: EventAnyOf, path: Path) -> None:
        before = len(self.mistakes)
        every = [self.parse_event(*one) for one in alternatives(entry, path)]
        self._check_misnamed(every)
        for parsed in every:
            if parsed is not None and self._has_all(parsed):
                self._take(parsed)
                return
        if len(self.mistakes) > before:
            return
        names = [event.event for event in entry.any_of]
        what = f"this kernel has none of {listed(repr(name) for name in names)}"
        if entry.optional:
            self.skipped.append((" or ".join(names), what))
            return
        problem = Problem(what, fix="add an alternative that it has, or 'optional: true'")
        self.lack((*path, "any_of"), problem)

    def _check_anything_left(self, tracer: ResolvedTracer | None) -> None:
        """Note when entries with '!', or a kernel without the optional ones, leave no event."""
        recipe = self.loaded.recipe
        traces = tracer is not None and tracer.name != "nop"
        if self._selected or traces or not recipe.events or self.mistakes or self.lacks:
            return
        if recipe.markers.model_fields_set:
            return
        if self.skipped:
            what = "this kernel has none of the optional events, and nothing else is traced"
            self.lack(("events",), Problem(what, fix="add an event that it has"))
        else:
            problem = Problem(
                "no event is left to trace",
                why="entries with '!' take out everything that those before them put in",
                fix="take fewer events out",
            )
            self.mistake(("events",), problem)

    def _check_misnamed(self, every: Sequence[ParsedEvent | None]) -> None:
        """Note names that no kernel has, in alternatives that need not be taken here."""
        for parsed in every:
            for one in parsed.names.expansions if parsed is not None else ():
                problem = misnamed_event(one.text)
                if parsed is not None and problem is not None and not one.among(self.events):
                    self.mistake((*parsed.path, "event"), problem, one.offset)

    def _has_all(self, parsed: ParsedEvent) -> bool:
        expansions = parsed.names.expansions
        present = [bool(one.among(self.events)) for one in expansions]
        missing_triggers = [
            problem
            for one in parsed.triggers
            for problem in missing_for_trigger(one.spec, self.kernel)
        ]
        return (any(present) if parsed.event.optional else all(present)) and not missing_triggers

    def _check_on_events(self, parsed: ParsedEvent, names: list[str]) -> None:
        if parsed.filter is not None:
            path: Path = (*parsed.path, "filter")
            check = partial(check_filter, parsed.filter, kernel=self.kernel)
            checked = self._on_each(parsed, names, check)
            for offset, problem in checked:
                self.mistake(path, problem, offset + parsed.filter_shift)
        for one in parsed.triggers:
            for offset, problem in missing_for_trigger(one.spec, self.kernel):
                where, at = one.where(offset)
                self.lack(where, problem, at)
            check = partial(check_trigger, one.spec, kernel=self.kernel)
            checked = self._on_each(parsed, names, check)
            for offset, problem in checked:
                where, at = one.where(offset)
                self.mistake(where, problem, at)

    def _on_each(
        self,
        parsed: ParsedEvent,
        names: list[str],
        check: Callable[[EventFormat], list[tuple[int, Problem]]],
    ) -> list[tuple[int, Problem]]:
        found = []
        for name in names:
            try:
                found.append((name, check(self.kernel.event_format(name))))
            except KeyError as error:
                problem = Problem(f"the format of {name} cannot be read", why=str(error.args[0]))
                self.lack(parsed.path, problem)
        return _merged(found, parsed.event.event, len(names))

    # the tracer

    def _options(self, tracer: str | None) -> dict[str, bool]:
        """Return the options to set; keys that do nothing beside this tracer are skipped."""
        recipe = self.loaded.recipe
        options = dict(recipe.options)
        for one in idle_keys(recipe, tracer):
            if one.path[0] == "options":
                del options[str(one.path[1])]
            self.skipped.append((".".join(map(str, one.path)), one.problem.what))
        for option in filter(self.is_off_without_it, recipe.options):
            if options.pop(option, None) is not None:
                reason = f"this kernel has no option '{option}', so it is off"
                self.skipped.append((f"options.{option}", reason))
        return options

    def _tracer(self) -> ResolvedTracer | None:
        entry = self.loaded.recipe.tracer
        before = len(self.mistakes)
        for tracer, path in tracers(entry):
            self.check_tracer(tracer, path)
        stand_ins = {path: self.parse_event(event, path) for event, path in stand_in_events(entry)}
        self._check_misnamed(list(stand_ins.values()))
        if entry is None or len(self.mistakes) > before:
            return None
        if isinstance(entry, Tracer):
            return self.only_tracer(entry, ("tracer",))
        reasons = []
        for index, alternative in enumerate(entry.any_of):
            at: Path = ("tracer", "any_of", index)
            if isinstance(alternative, Tracer):
                lacks = self.tracer_lacks(alternative, at)
                if not lacks:
                    return resolved_tracer(alternative, at)
                reasons += [lack.what for lack in lacks]
            elif self._take_all([one for one in stand_ins.values() if one and one.is_below(at)]):
                return None
            else:
                names = listed(event.event for event in alternative.events)
                reasons.append(f"not every event of {names}")
        problem = Problem(
            "this kernel has none of the alternatives",
            why="; ".join(reasons),
            fix="add an alternative that it has, or use another kernel",
        )
        self.lack(("tracer", "any_of"), problem)
        return None

    def _take_all(self, every: Sequence[ParsedEvent]) -> bool:
        """Take the events of an alternative if the kernel has all that are not optional."""
        needed = [one for one in every if not (one.names.is_negated or one.event.optional)]
        if not all(self._has_all(one) for one in needed):
            return False
        for one in every:
            self._take(one)
        return True


def _merged(
    found: Sequence[tuple[str, list[tuple[int, Problem]]]], pattern: str, count: int
) -> list[tuple[int, Problem]]:
    """Join what several events of one pattern have against the same place of a filter."""
    first: dict[int, Problem] = {}
    events: dict[int, list[str]] = {}
    for name, problems in found:
        for offset, problem in problems:
            first.setdefault(offset, problem)
            if name not in events.setdefault(offset, []):
                events[offset].append(name)
    joined = []
    for offset, problem in first.items():
        others = len(events[offset]) - 1
        if others:
            what = f"{problem.what} (and {others} more of the {count} events of '{pattern}')"
            problem = replace(problem, what=what)  # noqa: PLW2901 - the same problem, said once
        joined.append((offset, problem))
    return joined
