"""What commands do with a recipe before the kernel changes: open, check, resolve, plan, ask."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from trace_recipe.cli.kernels import overrides_of
from trace_recipe.cli.messages import can_ask, confirms
from trace_recipe.errors import InstanceBusyError, Problem, RecipeError

if TYPE_CHECKING:
    from trace_recipe.kernel import Kernel
    from trace_recipe.plan import Plan
    from trace_recipe.recipe.load import LoadedRecipe
    from trace_recipe.resolver import ResolvedRecipe
    from trace_recipe.tracefs import Tracefs

__all__ = [
    "AllowSharedOption",
    "ask_for_top_level",
    "open_named",
    "plan_for",
    "refuse_syntax",
    "resolve_on",
]

AllowSharedOption = Annotated[
    bool,
    typer.Option("--allow-shared", help="Use the top level although somebody else does."),
]


def open_named(name: str, set_: list[str] | None) -> LoadedRecipe:
    """Load a recipe by path or name with its parameters set; raises RecipeError."""
    from trace_recipe.recipe_files import open_recipe

    return open_recipe(name, os.environ, overrides_of(set_))


def resolve_on(loaded: LoadedRecipe, kernel: Kernel) -> ResolvedRecipe:
    """Check a recipe against a kernel; raises RecipeError and KernelLacksError."""
    from trace_recipe.resolver import resolve

    return resolve(loaded, kernel)


def refuse_syntax(loaded: LoadedRecipe) -> None:
    """Raise RecipeError with everything that is wrong whatever the kernel."""
    from trace_recipe.resolver import check_without_kernel

    problems = check_without_kernel(loaded)
    if problems:
        raise RecipeError(*problems)


def plan_for(resolved: ResolvedRecipe, *, run_id: str, tracefs: Tracefs | None) -> Plan:
    """Plan with the values that tracefs shows now; without one they are not known."""
    from trace_recipe.planner import make_plan

    def current(file: str) -> str | None:
        return tracefs.read(file) if tracefs is not None and tracefs.exists(file) else None

    def exists(name: str) -> bool:
        return tracefs is not None and tracefs.exists(f"instances/{name}")

    return make_plan(resolved, run_id=run_id, current=current, instance_exists=exists)


def ask_for_top_level(plan: Plan, tracefs: Tracefs, *, is_allowed: bool) -> None:
    """Ask before the top level is shared with somebody; where nobody can answer, refuse.

    Raises InstanceBusyError.
    """
    if plan.instance_kind != "top" or is_allowed:
        return
    from trace_recipe.occupancy import occupancy

    reasons = occupancy(tracefs)
    if not reasons:
        return
    found = ", ".join(reasons)
    if can_ask() and confirms(f"the top level is in use ({found}); trace there all the same?"):
        return
    raise InstanceBusyError(
        Problem(
            f"the top level is in use: {found}",
            why="what others record there would be consumed, and recorded by this recipe too",
            fix="use a private instance (leave `instance: top` out), or say --allow-shared",
            key="instance",
        )
    )
