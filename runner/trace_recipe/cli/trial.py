"""`try`, `extend` and `confirm`: a recipe applied for interactive use, which reverts by itself."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from trace_recipe.cli.completions import complete_run
from trace_recipe.cli.kernels import (
    DEFAULT_STATE,
    JsonOption,
    RecipeArgument,
    SetOption,
    StateOption,
)
from trace_recipe.cli.messages import print_json
from trace_recipe.cli.planning import (
    AllowOption,
    AllowSharedOption,
    ask_leave,
    prepare,
)
from trace_recipe.cli.unfinished import find_run
from trace_recipe.errors import InstanceBusyError, Problem, RecipeError
from trace_recipe.executor import apply
from trace_recipe.guardian import Guardian
from trace_recipe.interrupts import Interrupts
from trace_recipe.invoker import find_invoker
from trace_recipe.journal import Leftovers, boot_time_ns, change_time
from trace_recipe.plan import COMMAND, RUNNER, HoldFile, Plan, SetFile
from trace_recipe.recipe.quantities import RefusedValue, parse_duration_ns
from trace_recipe.state_directory import command_line

__all__ = ["register"]

TtlOption = Annotated[
    str, typer.Option("--ttl", metavar="DURATION", help="When it reverts by itself: 90s, 10m, 2h.")
]
RunArgument = Annotated[
    str, typer.Argument(help="The run, as `status` shows it.", autocompletion=complete_run)
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("try")(try_)
    app.command("extend")(extend)
    app.command("confirm")(confirm)


def try_(
    recipe: RecipeArgument,
    ttl: TtlOption = "10m",
    set_: SetOption = None,
    allow: AllowOption = None,
    allow_shared: AllowSharedOption = False,
    state_dir: StateOption = DEFAULT_STATE,
    as_json: JsonOption = False,
) -> None:
    """Apply a recipe and leave it on for a while: read the instance's trace_pipe yourself.

    It reverts when the time is up, even if the shell is gone. No command runs, and no output is
    written.
    """
    ttl_ns = _duration_ns(ttl)
    prepared = prepare(recipe, set_, state_dir)
    _refuse_unfit(prepared.plan)
    ask_leave(prepared, allow, may_share=allow_shared)
    run_id, name = prepared.run_id, prepared.resolved.loaded.recipe.name
    invoker = find_invoker(os.environ)
    leftovers = Leftovers(uid=invoker.uid, gid=invoker.gid, groups=invoker.groups)
    guardian = Guardian(run_id, name, leftovers, state_dir)
    try:
        with Interrupts():  # between applying and handing over nothing may end us
            session = apply(
                prepared.plan,
                prepared.tracefs,
                run_id=run_id,
                state_directory=state_dir,
                bindings={RUNNER: (guardian.pid,), COMMAND: ()},
                leftovers=leftovers,
            )
            session.start()
            session.journal.keep_until(boot_time_ns() + ttl_ns)
            guardian.keep(session.journal)
    finally:
        guardian.dismiss()
    root = str(session.instance.root)
    if as_json:
        print_json({"run_id": run_id, "instance": root, "reverts_in_ns": ttl_ns})
        return
    print(f"{run_id}: {name} is applied in {root}")
    print(f"  read it:  cat {root}/trace_pipe")
    now = command_line("restore", state_dir, run_id)
    print(f"  reverts by itself at {_clock(ttl_ns)}; before that: {now}")
    print(f"  longer:   {command_line('extend', state_dir, f'{run_id} 10m')}, or for good: confirm")


def extend(
    run_id: RunArgument,
    ttl: Annotated[str, typer.Argument(help="From now: 90s, 10m, 2h.")] = "10m",
    state_dir: StateOption = DEFAULT_STATE,
) -> None:
    """Let a tried recipe revert later: that long from now."""
    ttl_ns = _duration_ns(ttl)
    _change(run_id, state_dir, boot_time_ns() + ttl_ns)
    print(f"{run_id}: reverts by itself at {_clock(ttl_ns)}")


def confirm(run_id: RunArgument, state_dir: StateOption = DEFAULT_STATE) -> None:
    """Keep a tried recipe applied until `restore` or the next boot."""
    _change(run_id, state_dir, None)
    print(f"{run_id}: stays until: {command_line('restore', state_dir, run_id)}")


def _change(run_id: str, state_dir: Path, until_ns: int | None) -> None:
    state = find_run(run_id, state_dir)
    if not state.is_tried:
        raise RecipeError(
            Problem(
                f"run {run_id} was not applied by `try`",
                why="it ends by its recipe's own duration, command or limits",
                fix=f"end it now with: {command_line('restore', state_dir, run_id)}",
            )
        )
    if not (state.is_live and change_time(state, until_ns)):
        raise InstanceBusyError(
            Problem(
                f"the process that keeps run {run_id} is gone",
                why="it was killed, and what the recipe changed is still there",
                fix=f"put it back: {command_line('recover', state_dir, run_id)}",
            )
        )


def _clock(ttl_ns: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(time.time() + ttl_ns / 1e9))


def _duration_ns(text: str) -> int:
    try:
        duration_ns = parse_duration_ns(text)
    except RefusedValue as error:
        raise RecipeError(Problem(error.what, error.why, error.fix, key="--ttl")) from error
    if duration_ns <= 0:
        raise RecipeError(
            Problem(
                f"'{text}' is no time to try anything",
                why="it would revert at once",
                fix="write it as 90s, 10m or 2h",
            )
        )
    return duration_ns


def _refuse_unfit(plan: Plan) -> None:
    for step in plan.steps:
        if isinstance(step, HoldFile):
            raise RecipeError(
                Problem(
                    "the recipe is to stop recording when the runner is gone",
                    why="`try` leaves it applied and is gone at once",
                    fix="use `run`, or take the key out",
                    key=step.key,
                    place=step.place,
                )
            )
        if isinstance(step, SetFile) and COMMAND in step.text:
            raise RecipeError(
                Problem(
                    "the recipe traces the command that it runs",
                    why="`try` runs no command",
                    fix="use `run`, or give pids: scope: {pids: [4711]}",
                    key=step.key,
                    place=step.place,
                )
            )
