"""Claims: which files only one run at a time may change, and which those with one wish may share.

A run that wishes what another one has already set takes over that one's pre-image. Whoever of them
ends last puts the file back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trace_recipe.errors import InstanceBusyError, Problem
from trace_recipe.plan import Plan, SetFile
from trace_recipe.state_directory import command_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trace_recipe.journal import JournalState
    from trace_recipe.public_claims import PublicClaim

__all__ = ["claims_of", "refuse_claimed", "refuse_claimed_by_root", "sharer_of", "sharers_of"]


def claims_of(plan: Plan) -> dict[str, str | None]:
    """Return the plan's instance and the files outside of its own, each with what it is to read.

    None: nobody else may have it, whatever they wish.
    """
    own = plan.prefix if plan.makes_instance else None
    claims: dict[str, str | None] = {f"instances/{plan.instance}": None} if plan.instance else {}
    for step in plan.steps:
        if not isinstance(step, SetFile):
            continue
        # The top level's buffer_size_kb, which the start of any run expands, is nobody's.
        sides = () if step.name == "tracing_on" else step.sides
        for file in (step.file, *sides):
            if own and file.startswith(own):
                continue
            is_twice = file in claims
            can_share = file == step.name and plan.instance and not is_twice
            claims[file] = step.after if can_share else None
    return claims


def refuse_claimed(
    claims: Mapping[str, str | None], others: Iterable[JournalState], run_id: str
) -> None:
    """Raise InstanceBusyError when another run of this boot claims one of the files otherwise."""
    for other in others:
        if other.run_id == run_id or not other.is_this_boot:
            continue
        shared = [
            file
            for file, wish in claims.items()
            if file in other.claims and not (other.is_live and _is_one_wish(wish, other, file))
        ]
        if not shared:
            continue
        what = f"'{shared[0]}'" + (f" and {len(shared) - 1} more" if len(shared) > 1 else "")
        if other.is_live:
            raise InstanceBusyError(
                Problem(
                    f"{what} is in use by run {other.run_id} of '{other.recipe}'",
                    why="two runs that change the same file could not both put it back",
                    fix=f"wait for it, end it with `{_command('restore', other)}`, or use a"
                    " private instance",
                )
            )
        raise InstanceBusyError(
            Problem(
                f"{what} is still as run {other.run_id} of '{other.recipe}' left it",
                why="that run was killed; what it changed would be taken for the state to restore",
                fix=f"put it back first: {_command('recover', other)}",
            )
        )


def refuse_claimed_by_root(claims: Iterable[str], claims_of_root: Iterable[PublicClaim]) -> None:
    """Raise InstanceBusyError when a user's run would change what one of root's may change."""
    wanted = [*claims]
    for other in claims_of_root:
        for file in wanted:
            if file in other.files:
                raise InstanceBusyError(
                    Problem(
                        f"'{file}' is in use by a run of root, of '{other.recipe}'",
                        why="two runs that change the same file could not both put it back",
                        fix="wait for it, or use a private instance",
                    )
                )


def sharers_of(
    claims: Mapping[str, str | None], others: Iterable[JournalState], run_id: str
) -> dict[str, JournalState]:
    """Return the files that a living run has already set as wished, each with that run."""
    found: dict[str, JournalState] = {}
    for other in others:
        if other.run_id == run_id or not (other.is_live and other.is_this_boot):
            continue
        for file, wish in claims.items():
            if _is_one_wish(wish, other, file) and file in other.before:
                found.setdefault(file, other)
    return found


def sharer_of(
    file: str, claims: Mapping[str, str | None], others: Iterable[JournalState], run_id: str
) -> JournalState | None:
    """Return the living run that still needs `file` as the run with `claims` had set it."""
    return sharers_of({file: claims.get(file)}, others, run_id).get(file)


def _command(word: str, other: JournalState) -> str:
    return command_line(word, other.path.parent, other.run_id)


def _is_one_wish(wish: str | None, other: JournalState, file: str) -> bool:
    return wish is not None and other.claims.get(file) == wish
