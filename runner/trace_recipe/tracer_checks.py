"""What can be checked in a recipe's tracer and functions against one kernel."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trace_recipe.errors import Problem
from trace_recipe.event_names import Glob
from trace_recipe.kernel_checks import KernelChecks
from trace_recipe.mistakes import (
    absent_option,
    denied_option,
    foreign_tracer_option,
    misnamed_tracer,
    refused_file,
    top_level_tracer,
    wrong_function,
    wrong_module,
)
from trace_recipe.suggestions import did_you_mean, listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trace_recipe.kernel import Kernel
    from trace_recipe.recipe.load import LoadedRecipe
    from trace_recipe.recipe.parts.tracer import Tracer
    from trace_recipe.tracer_rules import Path

__all__ = ["ResolvedTracer", "TracerChecks", "resolved_tracer"]

_PROBES_LOCKED_BY = "set_ftrace_filter"  # refused together with the function tracers by lockdown


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


class TracerChecks(KernelChecks):
    """Adds the tracer and the functions that it is to see."""

    def __init__(self, loaded: LoadedRecipe, kernel: Kernel) -> None:
        super().__init__(loaded, kernel)
        self._function_names: dict[str | None, Counter[str]] = {}

    def only_tracer(self, tracer: Tracer, path: Path) -> ResolvedTracer:
        """Return the only tracer that the recipe names, what it lacks noted."""
        problem = misnamed_tracer(tracer.name, self.kernel)
        if problem is not None:
            self.mistake((*path, "name"), problem, 0)
        else:
            self.lacks += self.tracer_lacks(tracer, path)
        return resolved_tracer(tracer, path)

    def tracer_lacks(self, tracer: Tracer, path: Path) -> list[Problem]:
        """Return what the kernel lacks for a tracer with its settings."""
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
        if self._is_kept_out(tracer.name):
            found.append(self.placed((*path, "name"), top_level_tracer(tracer.name), 0))
        refused = self.kernel.refused.get(_PROBES_LOCKED_BY)
        if tracer.name in {"function", "function_graph"} and refused is not None:
            problem = refused_file(
                f"the tracer '{tracer.name}'",
                _PROBES_LOCKED_BY,
                refused,
                instead=" and name events ('trace-recipe list events' shows them)",
            )
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
        known = [one for one in self.kernel.options if not foreign_tracer_option(one, tracer.name)]
        for option, value in tracer.options.items():
            if option in self.kernel.options or denied_option(option, value=value) is not None:
                continue
            problem = absent_option(option, known)
            found.append(self.placed((*path, "options", option), problem, None, at_key=True))
        for key in ("graph_functions", "graph_notrace"):
            for index, pattern in enumerate(getattr(tracer, key)):
                absent = self._absent_function(pattern, None)
                if absent is not None:
                    found.append(self.placed((*path, key, index), absent, 0))
        return found

    def _is_kept_out(self, tracer: str) -> bool:
        allowed = self.kernel.instance_tracers
        in_instance = self.loaded.recipe.instance != "top"
        return in_instance and allowed is not None and tracer not in allowed

    def function_texts(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the functions to trace and not to trace, in the form that is written."""
        functions = self.loaded.recipe.functions
        if functions is None:
            return (), ()
        suffix = f":mod:{functions.module}" if functions.module else ""
        only = functions.only or (("*",) if functions.module else ())
        return (
            tuple(f"{one}{suffix}" for one in only),
            tuple(f"{one}{suffix}" for one in functions.not_),
        )

    def functions_seen(self, tracer: ResolvedTracer | None) -> dict[str, int | None]:
        """Check the functions, and return how many each pattern matches (None: unknown)."""
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
                absent = self._absent_function(pattern, functions.module)
                if absent is not None:
                    self.lack(("functions", key, index), absent, 0)
        for text in (one for texts in self.function_texts() for one in texts):
            pattern, _, of_module = text.partition(":mod:")
            counts[text] = self._count_functions(pattern, of_module or None)
        module = None if functions.only else functions.module
        if module is not None and wrong_module(module) is None and 0 in counts.values():
            modules = {line.partition("[")[2].rstrip("]") for line in self.kernel.functions or ()}
            problem = Problem(
                f"no functions of a module '{module}' in this kernel now",
                fix=did_you_mean(module, modules - {""}, otherwise="load it first"),
            )
            self.lack(("functions", "module"), problem, 0)
        return counts

    def roots_seen(self, tracer: ResolvedTracer | None) -> dict[str, int | None]:
        """Return how many functions each pattern matches below which a tracer is to look."""
        patterns = () if tracer is None else tracer.graph_functions
        return {pattern: self._count_functions(pattern, None) for pattern in patterns}

    def _count_functions(self, pattern: str, module: str | None) -> int | None:
        """Return how many functions a pattern matches, None when they are unknown."""
        if self.kernel.functions is None:
            return None
        names, glob = self._functions_of(module), Glob(pattern)
        if glob.is_plain:
            return names[pattern]
        return sum(names[name] for name in glob.among(names))

    def _functions_of(self, module: str | None) -> Counter[str]:
        """Return how often each function is there, of one module or of all."""
        known = self._function_names.get(module)
        if known is None:
            known = self._function_names[module] = Counter(
                line.partition(" ")[0]
                for line in self.kernel.functions or ()
                if module is None or line.endswith(f"[{module}]")
            )
        return known

    def _absent_function(self, pattern: str, module: str | None) -> Problem | None:
        """Return the problem of a pattern that is known to match no function."""
        if self._count_functions(pattern, module) != 0:
            return None
        of_module = f" of module '{module}'" if module else ""
        if not Glob(pattern).is_plain:
            return Problem(
                f"'{pattern}' matches no function{of_module} of this kernel",
                fix="'trace-recipe list functions' shows them",
            )
        return Problem(
            f"no function '{pattern}'{of_module} in this kernel",
            why="it is not built in, was inlined, is not loaded, or may not be traced",
            fix=did_you_mean(
                pattern,
                self._functions_of(None) if self.may_guess() else (),
                otherwise="'trace-recipe list functions' shows them",
            ),
        )


def resolved_tracer(tracer: Tracer, path: Path) -> ResolvedTracer:
    """Return a tracer as it is set."""
    return ResolvedTracer(
        name=tracer.name,
        options=dict(tracer.options),
        threshold_us=None if tracer.threshold is None else tracer.threshold // 1000,
        graph_functions=tracer.graph_functions,
        graph_notrace=tracer.graph_notrace,
        max_graph_depth=tracer.max_graph_depth,
        path=path,
    )
