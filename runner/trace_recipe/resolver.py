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
from trace_recipe.kernel_checks import KernelChecks
from trace_recipe.mistakes import (
    absent_event,
    absent_option,
    denied_option,
    eventless_name,
    misnamed_event,
    misnamed_tracer,
    refused_file,
    wrong_function,
    wrong_module,
)
from trace_recipe.recipe.model import EventAnyOf, Tracer
from trace_recipe.suggestions import did_you_mean, listed
from trace_recipe.syntax_checks import (
    ParsedEvent,
    Path,
    alternatives,
    check_without_kernel,
    in_file_order,
    stand_in_events,
    tracers,
)
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


_PROBES_LOCKED_BY = "set_ftrace_filter"  # refused together with the function tracers by lockdown


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
class ResolvedTracer:
    """The tracer to set and its settings; the threshold is in microseconds, as tracing_thresh."""

    name: str
    options: Mapping[str, bool]
    threshold_us: int | None
    graph_functions: tuple[str, ...]
    graph_notrace: tuple[str, ...]
    max_graph_depth: int | None
    path: Path


@dataclass(frozen=True, slots=True)
class ResolvedRecipe:
    """What a recipe means on one kernel: every event once, alternatives chosen.

    `functions_only` and `functions_not` are in the form that set_ftrace_filter takes;
    `function_match_counts` has None where the kernel's functions are unknown. `skipped` are
    optional things that the kernel lacks, with the reason. `cpus` None means all.
    """

    loaded: LoadedRecipe
    kernel: Kernel
    events: tuple[ResolvedEvent, ...]
    tracer: ResolvedTracer | None
    functions_only: tuple[str, ...] = ()
    functions_not: tuple[str, ...] = ()
    function_match_counts: Mapping[str, int | None] = field(default_factory=dict)
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


class _Resolver(KernelChecks):
    """Adds what a kernel has, and the choice between alternatives."""

    def __init__(self, loaded: LoadedRecipe, kernel: Kernel) -> None:
        super().__init__(loaded, kernel)
        self.skipped: list[tuple[str, str]] = []
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
        self._check_anything_left(tracer)
        counts = self._functions(tracer)
        only, not_ = self._function_texts() if tracer is not None else ((), ())
        self.check_kernel_options()
        self.check_clock_and_buffer()
        self.check_scope()
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

    # tracer and functions

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
            return self._only_tracer(entry, ("tracer",))
        reasons = []
        for index, alternative in enumerate(entry.any_of):
            at: Path = ("tracer", "any_of", index)
            if isinstance(alternative, Tracer):
                lacks = self._tracer_lacks(alternative, at)
                if not lacks:
                    return _resolved_tracer(alternative, at)
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

    def _only_tracer(self, tracer: Tracer, path: Path) -> ResolvedTracer:
        problem = misnamed_tracer(tracer.name, self.kernel)
        if problem is not None:
            self.mistake((*path, "name"), problem, 0)
        else:
            self.lacks += self._tracer_lacks(tracer, path)
        return _resolved_tracer(tracer, path)

    def _take_all(self, every: Sequence[ParsedEvent]) -> bool:
        """Take the events of an alternative if the kernel has all that are not optional."""
        needed = [one for one in every if not (one.names.is_negated or one.event.optional)]
        if not all(self._has_all(one) for one in needed):
            return False
        for one in every:
            self._take(one)
        return True

    def _tracer_lacks(self, tracer: Tracer, path: Path) -> list[Problem]:
        if tracer.name not in self.kernel.tracers:
            problem = Problem(
                f"this kernel has no tracer '{tracer.name}'",
                why=f"it has {listed(self.kernel.tracers)}",
                fix=did_you_mean(
                    tracer.name,
                    self.kernel.tracers,
                    otherwise="use one that it has, events, or another kernel",
                ),
            )
            return [self.placed((*path, "name"), problem, 0)]
        found = []
        refused = self.kernel.refused.get(_PROBES_LOCKED_BY)
        if tracer.name in {"function", "function_graph"} and refused is not None:
            problem = refused_file(f"the tracer '{tracer.name}'", _PROBES_LOCKED_BY, refused)
            found.append(self.placed((*path, "name"), problem, 0))
        needed = (
            ("threshold", "tracing_thresh", tracer.threshold is not None),
            ("graph_functions", "set_graph_function", bool(tracer.graph_functions)),
            ("graph_notrace", "set_graph_notrace", bool(tracer.graph_notrace)),
            ("max_graph_depth", "max_graph_depth", tracer.max_graph_depth is not None),
        )
        for key, file, is_asked in needed:
            problem_or_none = self.file_problem(file, f"'{key}'") if is_asked else None
            if problem_or_none is not None:
                found.append(self.placed((*path, key), problem_or_none, None))
        for option, value in tracer.options.items():
            if option in self.kernel.options or denied_option(option, value=value) is not None:
                continue
            problem = absent_option(option, self.kernel.options)
            found.append(self.placed((*path, "options", option), problem, None, at_key=True))
        for key in ("graph_functions", "graph_notrace"):
            for index, pattern in enumerate(getattr(tracer, key)):
                absent = self.absent_function(pattern, None)
                if absent is not None:
                    found.append(self.placed((*path, key, index), absent, 0))
        return found

    def _function_texts(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        functions = self.loaded.recipe.functions
        if functions is None:
            return (), ()
        suffix = f":mod:{functions.module}" if functions.module else ""
        only = functions.only or (("*",) if functions.module else ())
        return (
            tuple(f"{one}{suffix}" for one in only),
            tuple(f"{one}{suffix}" for one in functions.not_),
        )

    def _functions(self, tracer: ResolvedTracer | None) -> dict[str, int | None]:
        functions = self.loaded.recipe.functions
        if functions is None:
            return {}
        self.check_functions()
        if tracer is None:
            self.skipped.append(("functions", "the chosen alternative has no tracer"))
            return {}
        for key, file, is_asked in (
            ("only", "set_ftrace_filter", bool(functions.only or functions.module)),
            ("not", "set_ftrace_notrace", bool(functions.not_)),
        ):
            problem = self.file_problem(file, f"functions.{key}") if is_asked else None
            if problem is not None:
                path: Path = (
                    ("functions", key)
                    if getattr(functions, "not_" if key == "not" else key)
                    else ("functions", "module")
                )
                self.lack(path, problem)
        counts: dict[str, int | None] = {}
        for key, patterns in (("only", functions.only), ("not", functions.not_)):
            for index, pattern in enumerate(patterns):
                if wrong_function(pattern) is not None:
                    continue
                absent = self.absent_function(pattern, functions.module)
                if absent is not None:
                    self.lack(("functions", key, index), absent, 0)
        for text in (one for texts in self._function_texts() for one in texts):
            pattern, _, of_module = text.partition(":mod:")
            counts[text] = self.count_functions(pattern, of_module or None)
        module = None if functions.only else functions.module
        if module is not None and wrong_module(module) is None and 0 in counts.values():
            modules = {line.partition("[")[2].rstrip("]") for line in self.kernel.functions or ()}
            problem = Problem(
                f"no functions of a module '{module}' in this kernel now",
                fix=did_you_mean(module, modules - {""}, otherwise="load it first"),
            )
            self.lack(("functions", "module"), problem, 0)
        return counts


def _resolved_tracer(tracer: Tracer, path: Path) -> ResolvedTracer:
    return ResolvedTracer(
        name=tracer.name,
        options=dict(tracer.options),
        threshold_us=None if tracer.threshold is None else tracer.threshold // 1000,
        graph_functions=tracer.graph_functions,
        graph_notrace=tracer.graph_notrace,
        max_graph_depth=tracer.max_graph_depth,
        path=path,
    )


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
