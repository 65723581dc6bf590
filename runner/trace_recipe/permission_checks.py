"""Permission checks: what a recipe asks for that can harm the machine, and who must allow it.

Each takes two words: the recipe's author writes it under `allow`, and who runs the recipe says it
on the command line. So neither a recipe nor a habit of typing is enough. Whether the user may say
it there is for the machine's policy to decide.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trace_recipe.errors import Problem
from trace_recipe.permission import Permission
from trace_recipe.plan import SetFile
from trace_recipe.syntax_checks import SyntaxChecks, tracers
from trace_recipe.tracers import LATENCY_TRACERS, PID_TRACERS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from trace_recipe.plan import Plan
    from trace_recipe.policy import Policy
    from trace_recipe.recipe.load import LoadedRecipe
    from trace_recipe.recipe.parts.tracer import Tracer
    from trace_recipe.resolver import ResolvedRecipe, ResolvedTracer
    from trace_recipe.syntax_checks import Path

__all__ = ["Need", "find_needs", "find_needs_without_kernel", "forbidden", "refusals"]

_MIB = 1 << 20
_MEMORY_SHARE = 2  # a run may take one of so many parts of the available memory
_FUNCTION_TRACE = "function-trace"
_NAME_THEM = "name functions, as in functions: {only: ['tcp_*']},"


@dataclass(frozen=True, slots=True)
class Need:
    """One thing in a recipe that takes a permission; `problem` says what, why, and what else."""

    permission: Permission
    problem: Problem


def find_needs_without_kernel(loaded: LoadedRecipe) -> list[Need]:
    """Return what a recipe needs on every kernel and machine, in any of its alternatives."""
    search = _Search(loaded)
    for tracer, path in tracers(loaded.recipe.tracer):
        search.look_at_tracer(tracer, path)
    search.look_at_command()
    search.look_at_outputs(_leaves_by_its_words)
    return search.needs


def find_needs(
    resolved: ResolvedRecipe,
    plan: Plan,
    *,
    available_bytes: int | None,
    leaves: Callable[[str], bool],
) -> list[Need]:
    """Return what a recipe needs here.

    `available_bytes` is the memory that can be had now; `leaves` tells whether a path leads out of
    the directory that the run was started in.
    """
    search = _Search(resolved.loaded)
    if resolved.tracer is not None:
        counts = resolved.function_match_counts
        total = None if resolved.kernel.functions is None else len(resolved.kernel.functions)
        chosen = resolved.functions_only or resolved.tracer.graph_functions
        share = _share([counts.get(pattern) for pattern in chosen], total)
        search.look_at_tracer(resolved.tracer, resolved.tracer.path, share)
        # The option is only there where latency tracers can record functions.
        if _FUNCTION_TRACE in resolved.kernel.options:
            search.look_at_latency_tracer(resolved.tracer, resolved.tracer.path, share)
    search.look_at_command()
    search.look_at_outputs(leaves)
    if available_bytes is not None:
        search.look_at_buffer(resolved, plan, available_bytes)
    return search.needs


def refusals(
    needs: Collection[Need], loaded: LoadedRecipe, said: Collection[Permission] | None
) -> list[Problem]:
    """Return a problem for each need that is not allowed in both places.

    `said` are the names on the command line, None where it is too early to say them.
    """
    written = loaded.recipe.allow
    problems = []
    for need in needs:
        name = need.permission
        missing = []
        if name not in written:
            missing.append(f"write 'allow: [{', '.join((*written, name))}]' in the recipe")
        if said is not None and name not in said:
            missing.append(f"say --allow {name}")
        if missing:
            problem = need.problem
            why = f"{problem.why}; it takes the permission '{name}' in the recipe and on the"
            why += " command line"
            fix = " or ".join(filter(None, (problem.fix, " and ".join(missing))))
            problems.append(Problem(problem.what, why, fix, problem.key, problem.place))
    return problems


def forbidden(needs: Collection[Need], policy: Policy) -> dict[Need, Problem]:
    """Return a problem for each need that this machine's policy does not let the user allow."""
    found = {}
    for need in needs:
        verdict = policy.verdict(need.permission)
        if not verdict.is_allowed:
            problem = need.problem
            why = f"{problem.why}; {verdict.place}: the policy of this machine {verdict.words}"
            fix = " or ".join(filter(None, (problem.fix, f"ask who keeps {policy.file}")))
            found[need] = Problem(problem.what, why, fix, problem.key, problem.place)
    return found


class _Search:
    """Collects needs with their places."""

    def __init__(self, loaded: LoadedRecipe) -> None:
        self._loaded = loaded
        self._checks = SyntaxChecks(loaded)
        self.needs: list[Need] = []

    def look_at_tracer(
        self, tracer: Tracer | ResolvedTracer, path: Path, share: float | None = None
    ) -> None:
        """Note tracers that slow or stop the machine; `share` of all functions is traced."""
        recipe = self._loaded.recipe
        if tracer.name == "mmiotrace":
            self._need(
                Permission.MMIOTRACE, path, "the tracer 'mmiotrace' stops every CPU but one",
                "it takes them offline, and remaps the memory of devices",
                "trace events instead",
            )  # fmt: skip
        roots = tracer.graph_functions if tracer.name == "function_graph" else ()
        if tracer.name not in PID_TRACERS or self._are_few(share, roots):
            return
        self._need_all_functions(path, share, "", _NAME_THEM)
        for options, below in ((recipe.options, ()), (tracer.options, path)):
            if options.get("func_stack_trace") and tracer.name == "function":
                self._need(
                    Permission.STACK_ALL, (*below, "options", "func_stack_trace"),
                    "a stack trace at every function of the kernel",
                    "it can make the machine unusable until it is reset",
                    _NAME_THEM,
                )  # fmt: skip

    def look_at_latency_tracer(
        self, tracer: ResolvedTracer, path: Path, share: float | None
    ) -> None:
        """Note one that records functions on its way, which it does unless it is told not to."""
        asked = (self._loaded.recipe.options, tracer.options)
        words = [options.get(_FUNCTION_TRACE) for options in asked]
        is_off = False in words and True not in words
        # The graph takes all functions, whatever set_ftrace_filter says (seen on 6.12).
        is_graph = any(options.get("display-graph") for options in asked)
        share = None if is_graph else share
        are_few = self._are_few(share) and not is_graph
        if tracer.name in LATENCY_TRACERS and not is_off and not are_few:
            self._need_all_functions(
                path, share,
                f"while it measures, the tracer '{tracer.name}' records every function that is"
                f" called, unless the option '{_FUNCTION_TRACE}' is off; ",
                f"write options: {{{_FUNCTION_TRACE}: false}},",
            )  # fmt: skip

    def look_at_command(self) -> None:
        """Note a command that gets root's rights."""
        run = self._loaded.recipe.run
        if run is not None and run.as_user == "root":
            self._need(
                Permission.COMMAND_AS_ROOT, ("run", "as_user"), "a command with root's rights",
                "a recipe from elsewhere could run anything on this machine",
                "leave 'as_user' out: it runs as who started trace-recipe,",
            )  # fmt: skip

    def look_at_outputs(self, leaves: Callable[[str], bool]) -> None:
        """Note outputs that are written elsewhere than where the run was started."""
        for number, output in enumerate(self._loaded.recipe.outputs):
            path = output.spec.path
            is_hidden = any(part.strip(".") and part[0] == "." for part in path.split("/"))
            if path != "-" and (is_hidden or leaves(path)):
                where = "is hidden" if is_hidden else "lies outside of the current directory"
                self._need(
                    Permission.OUTPUTS_ELSEWHERE, ("outputs", number, output.sink, "path"),
                    f"the output '{path}' {where}",
                    "a recipe from elsewhere could replace any file of who runs it",
                    "give it a plain name in the directory where you run it,",
                )  # fmt: skip

    def look_at_buffer(self, resolved: ResolvedRecipe, plan: Plan, available_bytes: int) -> None:
        """Note a ring buffer that takes too much of the memory."""
        sizes = [
            int(step.after) * 1024
            for step in plan.steps
            if isinstance(step, SetFile) and step.name == "buffer_size_kb"
        ]
        cpus = len(resolved.kernel.possible_cpus)
        # Latency tracers have a second buffer as large as the first (struct tracer's use_max_tr).
        copies = 2 if plan.tracer in LATENCY_TRACERS or _takes_snapshots(resolved) else 1
        wanted = max(sizes, default=0) * cpus * copies
        if wanted * _MEMORY_SHARE <= available_bytes:
            return
        most = _size(available_bytes // _MEMORY_SHARE // cpus // copies)
        twice = ", twice for the snapshot" if copies > 1 else ""
        self._need(
            Permission.BIG_BUFFER, ("buffer", "size"),
            f"the ring buffer would take {wanted // _MIB} MiB: {max(sizes) // _MIB} MiB for each of"
            f" {cpus} CPUs{twice}",
            f"{available_bytes // _MIB} MiB of memory are available, of which a run takes half"
            " at most; what the ring buffer has cannot be swapped",
            f"ask for less, as in buffer: {{size: {most}}},",
        )  # fmt: skip

    def _are_few(self, share: float | None, roots: Collection[str] = ()) -> bool:
        """Whether the recipe names what is traced, and that is less than half of all functions."""
        is_named = self._has_named_functions() or bool(roots)
        return is_named and (share is None or share < 1 / 2)

    def _has_named_functions(self) -> bool:
        functions = self._loaded.recipe.functions
        return functions is not None and bool(functions.only or functions.module)

    def _need_all_functions(self, path: Path, share: float | None, why: str, instead: str) -> None:
        where, what = path, "every function of the kernel would be traced"
        if share is not None:
            what = f"{share:.0%} of the kernel's functions would be traced"
            where = ("functions",) if self._has_named_functions() else (*path, "graph_functions")
        why += "tracing tens of thousands of functions slows the machine and loses events"
        self._need(Permission.FUNCTION_ALL, where, what, why, instead)

    def _need(self, permission: Permission, path: Path, what: str, why: str, instead: str) -> None:
        is_option = "options" in path
        problem = self._checks.placed(path, Problem(what, why, instead), None, at_key=is_option)
        self.needs.append(Need(permission, problem))


def _takes_snapshots(resolved: ResolvedRecipe) -> bool:
    return any(text.startswith("snapshot") for one in resolved.events for text in one.triggers)


def _share(only: list[int | None], total: int | None) -> float | None:
    """Return the share of all functions that the patterns match at most, None when not known."""
    if not total or not only or None in only:
        return None
    return min(1.0, sum(count for count in only if count) / total)


def _leaves_by_its_words(path: str) -> bool:
    return posixpath.normpath(path).split("/")[0] == ".."


def _size(size_bytes: int) -> str:
    return f"{size_bytes // _MIB}M" if size_bytes >= _MIB else f"{max(size_bytes // 1024, 1)}K"
