"""What commands do with a recipe before the kernel changes: open, check, resolve, plan, ask."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trace_recipe.cli.kernels import live_kernel, live_tracefs, overrides_of
from trace_recipe.cli.messages import can_ask, confirms
from trace_recipe.errors import (
    InstanceBusyError,
    OutputError,
    PolicyError,
    Problem,
    RecipeError,
    errno_text,
)
from trace_recipe.invoker import acting_as, find_invoker
from trace_recipe.journal import new_run_id
from trace_recipe.permission import Permission

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trace_recipe.kernel import Kernel
    from trace_recipe.needed_files import NeededFile
    from trace_recipe.permission_checks import Need
    from trace_recipe.plan import Plan
    from trace_recipe.policy import Policy
    from trace_recipe.recipe.load import LoadedRecipe
    from trace_recipe.resolver import ResolvedRecipe
    from trace_recipe.tracefs import NotingTracefs, Tracefs

__all__ = [
    "AllowOption",
    "AllowSharedOption",
    "Prepared",
    "ask_leave",
    "current_directory",
    "find_needs_here",
    "needed_for",
    "open_named",
    "plan_for",
    "policy_here",
    "prepare",
    "refuse_syntax",
    "refuse_unwritten",
    "resolve_on",
]

AllowSharedOption = Annotated[
    bool,
    typer.Option(
        "--allow-shared",
        help="Use the top level, or change what all instances share, although others use it.",
    ),
]


AllowOption = Annotated[
    list[Permission] | None,
    typer.Option(
        "--allow",
        help="Allow something dangerous that the recipe asks for under 'allow'; repeatable.",
    ),
]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A recipe as it would run now, on this kernel."""

    run_id: str
    tracefs: NotingTracefs
    resolved: ResolvedRecipe
    plan: Plan
    policy: Policy


def prepare(recipe: str, set_: list[str] | None, state_directory: Path) -> Prepared:
    """Check and plan a recipe that is to run, and offer to finish what was killed.

    Raises TraceRecipeError.
    """
    from trace_recipe.cli.unfinished import offer_to_finish

    policy = policy_here()
    policy.refuse_run()
    loaded = open_named(recipe, set_)
    refuse_syntax(loaded)
    tracefs = live_tracefs()
    offer_to_finish(state_directory)
    resolved = resolve_on(loaded, live_kernel(tracefs, loaded.recipe))
    run_id = new_run_id()
    plan = plan_for(resolved, run_id=run_id, tracefs=tracefs)
    return Prepared(run_id, tracefs, resolved, plan, policy)


def ask_leave(prepared: Prepared, said: Sequence[Permission] | None, *, may_share: bool) -> None:
    """Refuse what is not permitted or lacks rights, and ask whether the top level may be shared.

    Raises TraceRecipeError.
    """
    resolved, plan, tracefs = prepared.resolved, prepared.plan, prepared.tracefs
    _refuse_unpermitted(resolved, plan, said, prepared.policy)
    _refuse_lacking_rights(resolved, plan, tracefs)
    _ask_for_top_level(plan, tracefs, is_allowed=may_share)


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
    from trace_recipe.permission_checks import find_needs_without_kernel, refusals
    from trace_recipe.resolver import check_without_kernel
    from trace_recipe.syntax_checks import in_file_order

    problems = check_without_kernel(loaded)
    problems += refusals(find_needs_without_kernel(loaded), loaded, None)
    if problems:
        raise RecipeError(*in_file_order(loaded, problems))


def plan_for(resolved: ResolvedRecipe, *, run_id: str, tracefs: Tracefs | None) -> Plan:
    """Plan with the values that tracefs shows now; without one they are not known."""
    from trace_recipe.planner import make_plan

    def current(file: str) -> str | None:
        return tracefs.read(file) if tracefs is not None and tracefs.exists(file) else None

    def exists(name: str) -> bool:
        return tracefs is not None and tracefs.exists(f"instances/{name}")

    return make_plan(resolved, run_id=run_id, current=current, instance_exists=exists)


def find_needs_here(resolved: ResolvedRecipe, plan: Plan, *, is_live: bool) -> list[Need]:
    """Return what the recipe does that takes a permission; the machine's share is known if live."""
    from trace_recipe.permission_checks import find_needs
    from trace_recipe.prober import available_bytes

    memory = available_bytes() if is_live else None
    return find_needs(resolved, plan, available_bytes=memory, leaves=_leaves_here)


def policy_here() -> Policy:
    """Return this machine's policy as it is for the invoking user; raises PolicyError."""
    from trace_recipe.policy import load_policy

    return load_policy(find_invoker(os.environ))


def _refuse_unpermitted(
    resolved: ResolvedRecipe, plan: Plan, said: Sequence[Permission] | None, policy: Policy
) -> None:
    """Refuse everything dangerous that is not allowed in both places, or forbidden by the policy.

    Raises RecipeError, or PolicyError where no word of the user's would help.
    """
    from trace_recipe.permission_checks import forbidden, refusals
    from trace_recipe.syntax_checks import in_file_order

    needs = find_needs_here(resolved, plan, is_live=True)
    denied = forbidden(needs, policy)
    unsaid = refusals([one for one in needs if one not in denied], resolved.loaded, said or ())
    problems = in_file_order(resolved.loaded, [*denied.values(), *unsaid])
    if denied:
        raise PolicyError(*problems)
    if problems:
        raise RecipeError(*problems)


def refuse_unwritten(loaded: LoadedRecipe, needs: Sequence[Need]) -> None:
    """Raise RecipeError with everything dangerous that the recipe itself does not allow."""
    from trace_recipe.permission_checks import refusals
    from trace_recipe.syntax_checks import in_file_order

    if problems := refusals(needs, loaded, None):
        raise RecipeError(*in_file_order(loaded, problems))


def current_directory() -> Path:
    """Return the directory that paths start from; raises OutputError when it has been removed."""
    try:
        return Path.cwd()
    except OSError as error:
        raise OutputError(
            Problem(
                f"the current directory cannot be used: {errno_text(error.errno or 0)}",
                why="what is written here would be nowhere",
                fix="go to another directory",
            )
        ) from error


def _leaves_here(path: str) -> bool:
    """Tell whether an output's directory is not the current one or below; nothing is below /."""
    here = current_directory()
    with acting_as(find_invoker(os.environ)):
        parent = Path(os.path.realpath(Path(path).parent))
    return parent != here and (here == Path("/") or not parent.is_relative_to(here))


def _refuse_lacking_rights(resolved: ResolvedRecipe, plan: Plan, tracefs: NotingTracefs) -> None:
    """Raise KernelLacksError with all that a user who is not root may not do for a run."""
    if os.geteuid() != 0:
        from trace_recipe.needed_files import refuse_lacking

        needs = needed_for(resolved, plan, tracefs)
        refuse_lacking(tracefs, needs, find_invoker(os.environ))


def needed_for(
    resolved: ResolvedRecipe, plan: Plan, tracefs: NotingTracefs
) -> tuple[NeededFile, ...]:
    """Return the files that a run needs, those included that were read through `tracefs`."""
    from trace_recipe.needed_files import needed_files

    noted = dict(tracefs.noted)
    markers = bool(resolved.loaded.recipe.markers.model_fields_set)
    return needed_files(plan, tracefs, noted, writes_markers=markers)


def _ask_for_top_level(plan: Plan, tracefs: Tracefs, *, is_allowed: bool) -> None:
    """Ask before anything is shared with somebody who uses it; where nobody can answer, refuse.

    Raises InstanceBusyError.
    """
    from trace_recipe.occupancy import affected, occupancy

    if is_allowed:
        return
    is_top = plan.instance_kind == "top"
    reasons = occupancy(tracefs) if is_top else affected(plan, tracefs)
    if not reasons:
        return
    what = "the top level" if is_top else "what this recipe changes for all instances"
    found = ", ".join(reasons)
    if can_ask() and confirms(f"{what} is in use ({found}); trace all the same?"):
        return
    if is_top:
        why = "what others record there would be consumed, and recorded by this recipe too"
        fix = "use a private instance (leave `instance: top` out), or say --allow-shared"
    else:
        why = "what others record would change as long as it runs"
        fix = "wait until they have ended, or say --allow-shared"
    key = "instance" if is_top else ""
    raise InstanceBusyError(Problem(f"{what} is in use: {found}", why, fix, key=key))
