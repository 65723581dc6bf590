"""`run`, `plan`, `validate` and `check`."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trace_recipe.cli.kernels import (
    DEFAULT_STATE,
    JsonOption,
    KernelOption,
    RecipeArgument,
    SetOption,
    StateOption,
    kernel_named,
    live_kernel,
    live_tracefs,
)
from trace_recipe.cli.messages import (
    TerminalMonitor,
    error_as_json,
    print_json,
    print_problems,
    say,
    show,
)
from trace_recipe.cli.planning import (
    AllowOption,
    AllowSharedOption,
    ask_leave,
    find_needs_here,
    open_named,
    plan_for,
    policy_here,
    prepare,
    refuse_syntax,
    refuse_unwritten,
    resolve_on,
)
from trace_recipe.errors import (
    Interrupted,
    KernelLacksError,
    LimitError,
    Problem,
    RecipeError,
    State,
)
from trace_recipe.interrupts import Interrupts
from trace_recipe.invoker import find_invoker
from trace_recipe.plan import HoldFile, MakeInstance, Plan, Scope, SetFile, plan_to_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trace_recipe.conductor import RunResult
    from trace_recipe.drift import Drift
    from trace_recipe.permission_checks import Need
    from trace_recipe.policy import Policy
    from trace_recipe.resolver import ResolvedRecipe

__all__ = ["register"]

_SECOND_NS = 1_000_000_000
_STANDARD_OUTPUT, _STANDARD_ERROR = 1, 2
_WIDTH = 60
_MAX_DRIFTS = 8


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("run")(run)
    app.command("plan")(plan)
    app.command("validate")(validate)
    app.command("check")(check)


def run(
    recipe: RecipeArgument,
    set_: SetOption = None,
    recording: Annotated[
        Path | None,
        typer.Option("--recording", help="Keep the raw recording in this new directory."),
    ] = None,
    allow: AllowOption = None,
    allow_shared: AllowSharedOption = False,
    state_dir: StateOption = DEFAULT_STATE,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress and no summary.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a recipe: check it, record, write its outputs, and put the kernel back."""
    from trace_recipe.conductor import Conductor

    prepared = prepare(recipe, set_, state_dir)
    ask_leave(prepared, allow, may_share=allow_shared)
    resolved = prepared.resolved
    monitor = TerminalMonitor(quiet=quiet)
    # What the command prints must not get among our results.
    is_taken = as_json or any(one.spec.path == "-" for one in resolved.loaded.recipe.outputs)
    with Interrupts() as interrupts:
        try:
            result = Conductor(
                resolved,
                prepared.plan,
                run_id=prepared.run_id,
                tracefs=prepared.tracefs,
                state_directory=state_dir,
                invoker=find_invoker(os.environ),
                environment=os.environ,
                stdout=sys.stdout.buffer,
                interrupts=interrupts,
                monitor=monitor,
                command_stdout=_STANDARD_ERROR if is_taken else _STANDARD_OUTPUT,
                recording=recording,
            ).run()
        finally:
            monitor.clear()
    _report(result, resolved, quiet=quiet, as_json=as_json)


def plan(
    recipe: RecipeArgument,
    set_: SetOption = None,
    kernel: KernelOption = "live",
    as_json: JsonOption = False,
) -> None:
    """Show what a run would change, in order; nothing is touched."""
    loaded = open_named(recipe, set_)
    refuse_syntax(loaded)
    tracefs = live_tracefs() if kernel == "live" else None
    known = live_kernel(tracefs, loaded.recipe) if tracefs else kernel_named(kernel)
    resolved = resolve_on(loaded, known)
    made = plan_for(resolved, run_id="RUN", tracefs=tracefs)
    needs = find_needs_here(resolved, made, is_live=tracefs is not None)
    policy = policy_here() if tracefs else None
    if as_json:
        print_json(plan_to_json(made) | _leave_as_json(needs, policy))
        return
    for line in (*_plan_lines(made), *_leave_lines(needs, policy)):
        show(line)


def validate(
    recipe: RecipeArgument,
    set_: SetOption = None,
    kernel: Annotated[
        str | None,
        typer.Option(
            "--kernel",
            metavar="live|FILE",
            help="Check against a kernel too; needs no root for FILE.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a recipe by itself: no root, no tracefs, any system."""
    _check(recipe, set_, kernel, as_json=as_json)


def check(
    recipe: RecipeArgument,
    set_: SetOption = None,
    kernel: KernelOption = "live",
    as_json: JsonOption = False,
) -> None:
    """Check a recipe against a kernel: events, filters, tracers, options, clocks, functions."""
    _check(recipe, set_, kernel, as_json=as_json)


def _check(recipe: str, set_: list[str] | None, kernel: str | None, *, as_json: bool) -> None:
    needs: Sequence[Need] = ()
    policy: Policy | None = None
    try:
        loaded = open_named(recipe, set_)
        if kernel is None:
            refuse_syntax(loaded)
            words = f"{loaded.path}: ok"
        else:
            known = kernel_named(kernel, loaded.recipe)
            resolved = resolve_on(loaded, known)
            refuse_syntax(loaded)
            tracefs = live_tracefs() if kernel == "live" else None
            made = plan_for(resolved, run_id="RUN", tracefs=tracefs)
            count = len(resolved.events)
            words = f"{loaded.path}: ok on {known.release} ({count} event{'s' * (count != 1)})"
            for name, reason in resolved.skipped:
                words += f"\n  left out: {name}: {reason}"
            needs = find_needs_here(resolved, made, is_live=tracefs is not None)
            refuse_unwritten(loaded, needs)
            policy = policy_here() if tracefs else None
            words = "\n".join((words, *_leave_lines(needs, policy)))
    except (RecipeError, KernelLacksError) as error:
        if not as_json:
            raise
        print_json({"ok": False, **error_as_json(error)})
        raise typer.Exit(error.exit_status) from error
    if as_json:
        print_json({"ok": True, "problems": [], **_leave_as_json(needs, policy)})
    else:
        show(words)


def _leave_lines(needs: Sequence[Need], policy: Policy | None) -> list[str]:
    """Say what a run has to allow on the command line, and what of it the policy forbids."""
    lines = [f"run it with --allow {one.permission}: {one.problem.what}" for one in needs]
    return [f"      {line}" for line in (*lines, *_forbidden(needs, policy))]


def _leave_as_json(needs: Sequence[Need], policy: Policy | None) -> dict[str, list[str]]:
    permissions = dict.fromkeys(one.permission.value for one in needs)
    return {"permissions": list(permissions), "policy": _forbidden(needs, policy)}


def _forbidden(needs: Sequence[Need], policy: Policy | None) -> list[str]:
    """Say what the policy of this machine keeps the user from; None: another machine's."""
    if policy is None:
        return []
    names = dict.fromkeys(("run", *(one.permission for one in needs)))
    return [
        f"{policy.user} may not run it here: {one.place} {one.words}"
        for one in map(policy.verdict, names)
        if not one.is_allowed
    ]


def _plan_lines(made: Plan) -> list[str]:
    lines = [f"{made.recipe}: {len(made.steps)} steps in {_where(made)}"]
    for number, step in enumerate(made.steps, 1):
        position = f"  # {step.place}" if step.place else ""
        match step:
            case MakeInstance():
                lines.append(f"{number:4}  make    {step.file}  [{Scope.PRIVATE}]{position}")
            case HoldFile():
                lines.append(f"{number:4}  hold    {step.file}  [{Scope.PRIVATE}]{position}")
            case SetFile():
                before = "(default)" if step.before is None else _short(step.before)
                word = "start " if step.starts else "set   "
                lines.append(
                    f"{number:4}  {word}  {step.file}  {before} → {_short(step.after)}"
                    f"  [{step.scope}]{position}"
                )
    lines += [f"      left out: {name}: {reason}" for name, reason in made.skipped]
    lines += [f"      note: {note}" for note in made.notes]
    return lines


def _where(made: Plan) -> str:
    if made.instance_kind == "top":
        return "the top level"
    return f"{made.instance_kind} instance {made.instance}"


def _short(text: str) -> str:
    shown = text if len(text) <= _WIDTH else f"{text[:_WIDTH]}…"
    return repr(shown)


def _report(result: RunResult, resolved: ResolvedRecipe, *, quiet: bool, as_json: bool) -> None:
    manifest, recipe = result.manifest, resolved.loaded.recipe
    losses = [_loss_problem(result, resolved)] if result.is_over_limit else []
    limits = losses if recipe.loss.action == "fail" else []
    if manifest.drifts and recipe.drift.action == "fail":
        limits = [*limits, _drift_problem(manifest.drifts, resolved)]
    told = [*losses, *(one for one in limits if one not in losses)]
    if as_json:
        data = {
            "ok": not result.problems and not limits,
            "recipe": recipe.name,
            "events": manifest.events,
            "lost": manifest.lost,
            "drifts": [asdict(drift) for drift in manifest.drifts],
            "duration_ns": manifest.duration_ns,
            "exit_reason": manifest.exit_reason,
            "receipt": result.receipt.as_json(),
            "outputs": list(result.outputs),
            "recording": str(result.recording) if result.recording else None,
            "problems": [problem.as_json() for problem in (*result.problems, *told)],
        }
        print_json(data) if "-" not in result.outputs else say(_json_line(data))
    elif not quiet:
        for line in _summary(result, recipe.name):
            say(line)
    if result.problems and not as_json:
        print_problems(result.problems)
    if limits:
        raise LimitError(*told, state=State.RESTORED)
    if not as_json:
        print_problems(losses)
    if result.was_interrupted:
        raise typer.Exit(Interrupted.exit_status)
    if result.problems:
        raise typer.Exit(4)


def _json_line(data: object) -> str:
    import json

    return json.dumps(data)


def _summary(result: RunResult, name: str) -> list[str]:
    manifest = result.manifest
    seconds = manifest.duration_ns / _SECOND_NS
    lost = f"{manifest.lost} lost"
    if manifest.lost:
        per_cpu = [
            f"CPU {cpu.cpu}: {cpu.lost}"
            for buffer in manifest.buffers
            for cpu in buffer.cpus
            if cpu.lost
        ]
        lost += f" ({', '.join(per_cpu)})"
    lines = [
        (
            f"{name}: {manifest.events} events in {seconds:.2f} s, {lost}; {result.receipt}"
            f" ({manifest.exit_reason})"
        )
    ]
    lines += [f"  {note}" for note in manifest.notes]
    lines += [f"  drift at {_clock(one.wall_ns)}: {one}" for one in manifest.drifts[:_MAX_DRIFTS]]
    if (more := len(manifest.drifts) - _MAX_DRIFTS) > 0:
        lines.append(f"  drift: {more} more changes by others, all in the manifest")
    lines += [f"  wrote {path}" for path in result.outputs if path != "-"]
    if result.recording:
        lines.append(f"  recording {result.recording}")
    lines += [
        f"  {line.file}: {line.outcome}: {line.reason}"
        for line in result.receipt.lines
        if line.reason and line.outcome != "restored"
    ]
    return lines


def _clock(wall_ns: int) -> str:
    seconds, rest_ns = divmod(wall_ns, _SECOND_NS)
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{rest_ns // 1_000_000:03}"


def _drift_problem(drifts: Sequence[Drift], resolved: ResolvedRecipe) -> Problem:
    return Problem(
        f"others changed {len({one.file for one in drifts})} of the files that this run had set",
        why=f"{drifts[0]}; from then on the recording may not be what the recipe asks for",
        fix="find out who else traces on this machine; a private instance is touched by few",
        key="drift.action",
        place=resolved.loaded.marks.place(("drift", "action")),
    )


def _loss_problem(result: RunResult, resolved: ResolvedRecipe) -> Problem:
    loaded = resolved.loaded
    limit = loaded.recipe.loss.max
    return Problem(
        f"{result.manifest.lost} events were lost, {limit} are tolerated",
        why="the buffer filled faster than it was read; every gap is marked in the outputs",
        fix="give it more room (buffer.size), or record less: a filter, fewer events",
        key="loss.max",
        place=loaded.marks.place(("loss", "max")),
    )
