"""Unfinished runs: what a command that touches the kernel says and does about killed ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trace_recipe.cli.messages import can_ask, confirms, say
from trace_recipe.errors import (
    KernelLacksError,
    Problem,
    RecipeError,
    RestoreError,
    TraceRecipeError,
)
from trace_recipe.finisher import finish
from trace_recipe.journal import Journal, JournalState, journals, read_journal
from trace_recipe.leftovers import clear_noted_leftovers
from trace_recipe.state_directory import command_line

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["clear_up", "find_run", "is_taken", "offer_to_finish"]


def offer_to_finish(state_directory: Path) -> None:
    """Ask on a terminal whether to finish killed runs; elsewhere say how.

    What only an open file had kept is tried again without asking; files are cleared up.
    """
    try:
        dead = [one for one in journals(state_directory) if not one.is_live and one.is_this_boot]
    except KernelLacksError:  # the journal of the run to come tells it
        return
    for state in dead:
        if state.pinned:
            _retry(state)
            continue
        left = f"run {state.run_id} of '{state.recipe}' was killed and is not put back"
        if can_ask() and confirms(f"{left}; do it now?"):
            if not is_taken(state):
                finish(state, Journal.adopt(state), by="a later run")
        else:
            say(f"note: {left}: {command_line('recover', state_directory, state.run_id)}")
    for words in clear_up(state_directory):
        say(f"note: {words}")


def clear_up(state_directory: Path) -> list[str]:
    """Remove the files that killed runs left beside the kernel's; say what is worth keeping."""
    return [
        f"run {run_id} was killed"
        + (
            f"; recorded until then: trace-recipe report {pages}"
            if pages
            else ", its files removed"
        )
        for run_id, pages in clear_noted_leftovers(state_directory).items()
    ]


def is_taken(state: JournalState) -> bool:
    """Whether somebody else, as its guardian, puts a dead run back now or has done so."""
    now = read_journal(state.path)
    return now is None or now.is_live


def find_run(run_id: str, state_directory: Path) -> JournalState:
    """Return the run's journal; raises RecipeError with the known ones when there is none."""
    states = list(journals(state_directory))
    for state in states:
        if state.run_id == run_id:
            return state
    known = ", ".join(state.run_id for state in states)
    raise RecipeError(
        Problem(
            f"no run '{run_id}'",
            why=f"runs with a journal: {known}" if known else "no run has left a journal",
            fix=f"see `{command_line('status', state_directory)}`",
        )
    )


def _retry(state: JournalState) -> None:
    try:
        finish(state, Journal.adopt(state), by="a later run")
    except RestoreError:
        say(f"note: instance '{state.instance}' still cannot be removed: {state.pinned}")
    except TraceRecipeError:  # somebody else is at it
        return
    else:
        say(f"note: instance '{state.instance}' of a killed run is removed now")
