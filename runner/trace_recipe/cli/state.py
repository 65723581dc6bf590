"""`status`, `restore` and `recover`: runs that live, and what dead ones left."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from trace_recipe.cli.completions import complete_run
from trace_recipe.cli.kernels import DEFAULT_STATE, JsonOption, StateOption, live_tracefs
from trace_recipe.cli.messages import can_ask, confirms, print_json, show
from trace_recipe.cli.unfinished import clear_up, find_run, is_taken
from trace_recipe.control_files import path_in_instance
from trace_recipe.errors import InstanceBusyError, KernelLacksError, RestoreError
from trace_recipe.finisher import Ending, endings, finish
from trace_recipe.interrupts import Interrupts
from trace_recipe.journal import Journal, JournalState, boot_time_ns, journals
from trace_recipe.leftovers import clear_leftovers
from trace_recipe.receipt import Outcome
from trace_recipe.restorer import foreign_changes
from trace_recipe.state_directory import command_line
from trace_recipe.suggestions import listed
from trace_recipe.tracefs import Tracefs

__all__ = ["register"]

_END_TRIES = 600
_END_WAIT_S = 0.05


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("status")(status)
    app.command("restore")(restore)
    app.command("recover")(recover)


def status(state_dir: StateOption = DEFAULT_STATE, as_json: JsonOption = False) -> None:
    """List running recipes, dead ones that are not put back, and what became of killed ones."""
    states = list(journals(state_dir))
    ended = list(endings(state_dir))
    if as_json:
        print_json([*map(_as_json, states), *map(_ending_as_json, ended)])
        return
    if not states and not ended:
        show("no recipe is running, and none left anything behind")
    for state in states:
        age_s = time.time() - state.started_at
        show(
            f"{state.run_id}  {_word(state):5}  {age_s:8.0f} s  pid {state.pid:<7} "
            f"{_owner(state)}  {state.recipe}  {_instance(state)}"
        )
        if state.is_tried and state.is_live:
            show(f"  {_until(state)}")
        if state.intended:
            show(f"  applied: {listed(sorted(set(map(path_in_instance, state.intended))))}")
        for file in _drift(state):
            show(f"  changed by somebody else: {file}")
        if state.pinned:
            show(f"  pinned: {state.pinned}")
        if not state.is_live:
            show(f"  fix: {command_line('recover', state_dir, state.run_id)}")
    for one in ended:
        show(f"{one.run_id}  ended  {time.time() - one.at:8.0f} s ago  {_ending_words(one)}")


def restore(
    run_id: Annotated[
        str, typer.Argument(help="The run, as `status` shows it.", autocompletion=complete_run)
    ],
    state_dir: StateOption = DEFAULT_STATE,
) -> None:
    """End one run, living or dead, and put back what it changed."""
    state = find_run(run_id, state_dir)
    if state.is_live:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(state.pid, signal.SIGTERM)
            os.kill(state.pid, signal.SIGCONT)  # a stopped process takes the other only then
        for _ in range(_END_TRIES):
            if not state.path.exists():
                show(f"{state.run_id}: ended and restored by its own process (pid {state.pid})")
                return
            current = [one for one in journals(state_dir) if one.run_id == state.run_id]
            if current and not current[0].is_live:
                break
            time.sleep(_END_WAIT_S)
        state = find_run(run_id, state_dir)
    _finish(state)


def recover(
    run_id: Annotated[
        str | None,
        typer.Argument(help="One run; without it every dead run.", autocompletion=complete_run),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Every dead run, and ask nothing: for a unit file.")
    ] = False,
    print_unit: Annotated[
        bool, typer.Option("--print-unit", help="Print a systemd service that does it, and end.")
    ] = False,
    state_dir: StateOption = DEFAULT_STATE,
) -> None:
    """Put back what killed runs left behind, and tell what their guardians did."""
    if print_unit:
        sys.stdout.write(_unit())
        return
    if run_id is not None:
        _finish(find_run(run_id, state_dir))
        return
    states = list(journals(state_dir))
    told = _tell_endings(state_dir)
    dead = [state for state in states if not state.is_live]
    cleared = clear_up(state_dir)
    for words in cleared:
        show(words)
    if not (dead or told or cleared):
        live = f"; {len(states)} still running" if states else ""
        show(f"nothing to recover{live}")
        return
    failures: list[RestoreError] = []
    for state in dead:
        question = f"put back what run {state.run_id} of '{state.recipe}' left?"
        if not all_ and can_ask() and not confirms(question):
            continue
        try:
            _finish(state)
        except RestoreError as error:
            failures.append(error)
        except (InstanceBusyError, KernelLacksError):
            if not is_taken(state):
                raise
            show(f"{state.run_id}: somebody else puts it back")
    if failures:
        raise RestoreError(
            *(problem for error in failures for problem in error.problems),
            left=tuple(left for error in failures for left in error.left),
        )


def _unit() -> str:
    from trace_recipe.shipped import shipped_data

    text = (shipped_data("systemd") / "trace-recipe-recover.service").read_text("utf-8")
    program = shutil.which("trace-recipe")
    command = program or f"{sys.executable} -m trace_recipe"
    return text.replace("/usr/bin/trace-recipe", command)


def _tell_endings(state_dir: Path) -> int:
    told = list(endings(state_dir))
    for one in told:
        show(f"{one.run_id}: {_ending_words(one)}")
        one.forget(state_dir)
    return len(told)


def _finish(state: JournalState) -> None:
    journal = Journal.adopt(state)
    if not state.is_this_boot:
        pages = clear_leftovers(state.leftovers, state.path.parent, state.run_id)
        journal.archive()
        show(f"{state.run_id}: the machine was rebooted since; nothing to put back")
        if pages:
            show(f"  recorded until then: trace-recipe report {pages}")
        return
    live_tracefs()
    with Interrupts():  # a restore is not interrupted; the signal is simply too late
        ending = finish(state, journal, by="recover")
    show(f"{state.run_id}: {_ending_words(ending)}")


def _ending_words(ending: Ending) -> str:
    words = f"{ending.recipe}: {ending.why}; {ending.receipt['summary']} by {ending.by}"
    if ending.pages:
        words += f"\n  recorded until then: trace-recipe report {ending.pages}"
    for line in ending.receipt["files"]:
        if line["outcome"] != Outcome.RESTORED:
            words += f"\n  {line['file']}: {line['outcome']}: {line['reason']}"
    return words


def _word(state: JournalState) -> str:
    return "live" if state.is_live else "dead"


def _owner(state: JournalState) -> str:
    try:
        return pwd.getpwuid(state.leftovers.uid).pw_name
    except KeyError:
        return str(state.leftovers.uid)


def _drift(state: JournalState) -> list[str]:
    if not state.is_live or not Path(state.mount).exists():
        return []
    return foreign_changes(state, Tracefs(state.mount))


def _until(state: JournalState) -> str:
    if state.until_ns is None:
        return f"stays until: {command_line('restore', state.path.parent, state.run_id)}"
    return f"reverts in {max(0, (state.until_ns - boot_time_ns()) // 1_000_000_000)} s"


def _instance(state: JournalState) -> str:
    return state.instance or "(top level)"


def _as_json(state: JournalState) -> dict[str, object]:
    return {
        "run_id": state.run_id,
        "state": _word(state),
        "pid": state.pid,
        "started_at": state.started_at,
        "recipe": state.recipe,
        "path": state.recipe_path,
        "instance": state.instance,
        "makes_instance": state.makes_instance,
        "this_boot": state.is_this_boot,
        "touched": sorted(state.intended),
        "applied": dict(state.applied),
        "owner": _owner(state),
        "pinned": state.pinned,
        "changed_by_others": _drift(state),
        "tried": state.is_tried,
        "reverts_in_ns": state.until_ns and max(0, state.until_ns - boot_time_ns()),
    }


def _ending_as_json(ending: Ending) -> dict[str, object]:
    return {"state": "ended", **asdict(ending)}
