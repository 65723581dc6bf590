"""`list`, `explain` and `doctor`: what this kernel and this machine offer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trace_recipe.cli.completions import complete_event, complete_recipe
from trace_recipe.cli.kernels import (
    DEFAULT_STATE,
    JsonOption,
    KernelOption,
    StateOption,
    live_kernel,
    live_tracefs,
)
from trace_recipe.cli.messages import print_json, printable, show
from trace_recipe.cli.planning import needed_for, open_named, plan_for, resolve_on
from trace_recipe.cli.usage import Commands
from trace_recipe.errors import (
    KernelLacksError,
    PolicyError,
    Problem,
    RecipeError,
    TracefsError,
    TraceRecipeError,
)
from trace_recipe.event_names import EventNameError, Glob, parse_event_names
from trace_recipe.explainer import explain_event, explanation_to_json
from trace_recipe.invoker import acting_as, find_invoker, user_named
from trace_recipe.prober import probe_kernel
from trace_recipe.suggestions import closest, did_you_mean, either, listed
from trace_recipe.tracefs import find_mount

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trace_recipe.doctor import Finding
    from trace_recipe.invoker import Invoker
    from trace_recipe.kernel import Kernel
    from trace_recipe.needed_files import NeededFile

__all__ = ["register"]

EventArgument = Annotated[
    str, typer.Argument(help="An event, as `system:event`.", autocompletion=complete_event)
]
_listing = typer.Typer(
    name="list", cls=Commands, help="List what a kernel offers, and the recipes."
)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(_listing)
    app.command("explain")(explain)
    app.command("doctor")(doctor)


# -- list -------------------------------------------------------------------------------------


@_listing.command("events")
def list_events(
    pattern: Annotated[
        str | None,
        typer.Argument(
            help="A glob on `system:event`, or on one of the two, as '*mount*'.",
            autocompletion=complete_event,
        ),
    ] = None,
    kernel: KernelOption = "live",
    as_json: JsonOption = False,
) -> None:
    """List the events of a kernel."""
    known = _kernel(kernel)
    names = list(known.events) if pattern is None else _matching_events(pattern, known)
    _print_names(names, as_json=as_json)


@_listing.command("fields")
def list_fields(
    event: EventArgument, kernel: KernelOption = "live", as_json: JsonOption = False
) -> None:
    """List the fields of an event that filters and triggers can name."""
    known = _kernel(kernel)
    explanation = explain_event(known.event_format(_event_named(event, known)))
    fields = explanation_to_json(explanation)["fields"]
    if as_json:
        print_json(fields)
        return
    width = max((len(field["name"]) for field in fields), default=0)
    for field in fields:
        print(printable(f"{field['name']:{width}}  {field['declaration']}"))


@_listing.command("tracers")
def list_tracers(kernel: KernelOption = "live", as_json: JsonOption = False) -> None:
    """List the tracers of a kernel."""
    _print_names(_kernel(kernel).tracers, as_json=as_json)


@_listing.command("functions")
def list_functions(
    pattern: Annotated[
        str | None, typer.Argument(help="A glob on function names, as 'vfs_*'.")
    ] = None,
    kernel: KernelOption = "live",
    as_json: JsonOption = False,
) -> None:
    """List the functions that can be traced, with their modules."""
    known = _kernel(kernel, with_functions=True)
    if known.functions is None:
        raise KernelLacksError(_no_functions(known))
    lines: Sequence[str] = known.functions
    if pattern is not None:
        glob = Glob(pattern)
        lines = [line for line in lines if glob.matches(line.partition(" ")[0])]
    if pattern is not None and not lines:
        every = {line.partition(" ")[0] for line in known.functions}
        raise KernelLacksError(_no_match("function", pattern, every, known))
    _print_names(lines, as_json=as_json)


@_listing.command("options")
def list_options(kernel: KernelOption = "live", as_json: JsonOption = False) -> None:
    """List the trace options of a kernel; of the live one with their values at the top level."""
    known = _kernel(kernel)
    values = _option_values(known) if kernel == "live" else {}
    if as_json:
        print_json([{"name": name, "value": values.get(name)} for name in known.options])
        return
    width = max((len(name) for name in known.options), default=0)
    words = {True: "on", False: "off", None: ""}
    for name in known.options:
        print(printable(f"{name:{width}}  {words[values.get(name)]}".rstrip()))


@_listing.command("clocks")
def list_clocks(kernel: KernelOption = "live", as_json: JsonOption = False) -> None:
    """List the trace clocks of a kernel."""
    _print_names(_kernel(kernel).clocks, as_json=as_json)


@_listing.command("recipes")
def list_recipes(as_json: JsonOption = False) -> None:
    """List the recipes that can be called by name."""
    from trace_recipe.recipe_files import list_recipes as find

    rows: list[dict[str, Any]] = []
    for found in find(os.environ):
        description, needs, problems = _about_recipe(found.path)
        rows.append(
            {
                "name": found.name,
                "origin": found.origin,
                "path": str(found.path),
                "description": description,
                "needs": needs,
                "problems": [problem.as_json() for problem in problems],
            }
        )
    if as_json:
        print_json(rows)
        return
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        words = row["description"]
        if row["problems"]:
            words = f"(wrong: {row['problems'][0]['what']})"
        elif row["needs"]:
            words += "  (needs " + " ".join(f"--set {name}=…" for name in row["needs"]) + ")"
        print(printable(f"{row['name']:{width}}  {row['origin']:7}  {words}".rstrip()))


def _about_recipe(path: Path) -> tuple[str, list[str], tuple[Problem, ...]]:
    """Return (description, parameters that must be given, problems) of a recipe file."""
    from trace_recipe.recipe_files import open_recipe

    try:
        return open_recipe(str(path), os.environ, {}).recipe.description, [], ()
    except RecipeError as error:
        needs, description = _needs(path)
        wanted = {f"params.{name}" for name in needs}
        # A parameter that must be given makes a recipe a template, not a wrong one.
        problems = tuple(one for one in error.problems if one.key not in wanted)
        return description, needs, problems
    except OSError as error:
        return "", [], (Problem(f"cannot be read: {error.strerror}"),)


def _needs(path: Path) -> tuple[list[str], str]:
    from trace_recipe.recipe.yaml_reader import parse_yaml

    try:
        with acting_as(find_invoker(os.environ)):
            text = path.read_text("utf-8", "surrogateescape")
        data = parse_yaml(str(path), text).plain()
    except (RecipeError, OSError):
        return [], ""
    params = data.get("params")
    params = params if isinstance(params, dict) else {}
    needs = [
        str(name)
        for name, param in params.items()
        if isinstance(param, dict) and param.get("default") is None
    ]
    return needs, str(data.get("description", ""))


def _matching_events(pattern: str, kernel: Kernel) -> list[str]:
    if ":" not in pattern:
        glob = Glob(pattern)
        found = [
            name
            for name in kernel.events
            if any(glob.matches(part) for part in (*name.split(":", 1), name))
        ]
    else:
        try:
            names = parse_event_names(pattern)
        except EventNameError as error:
            raise RecipeError(error.problem) from error
        wanted = {one for part in names.expansions for one in part.among(kernel.events)}
        found = [name for name in kernel.events if (name in wanted) is not names.is_negated]
    if not found:
        raise KernelLacksError(_no_event(pattern, kernel, word="event matches"))
    return found


def _event_named(name: str, kernel: Kernel) -> str:
    """Return the full name of one event, also from `sched_switch`; raises KernelLacksError."""
    if kernel.has_event(name):
        return name
    alike = [one for one in kernel.events if one.partition(":")[2] == name]
    if len(alike) == 1:
        return alike[0]
    if alike:
        raise KernelLacksError(
            Problem(
                f"event '{name}' is of more than one system",
                why=f"there are {listed(alike)}",
                fix=f"name the system: {alike[0]}",
            )
        )
    raise KernelLacksError(_no_event(name, kernel, word="event"))


def _no_event(name: str, kernel: Kernel, *, word: str) -> Problem:
    system, colon, event = name.partition(":")
    where = kernel.release if kernel.origin == "live" else f"{kernel.release} ({kernel.origin})"
    if not colon:
        candidates = {full.partition(":")[2]: full for full in reversed(kernel.events)}
        candidates.update({one: f"{one}:*" for one in kernel.systems})
        guess = either(candidates[one] for one in closest(name, candidates))
    elif system not in kernel.systems:
        same = [one for one in kernel.events if one.partition(":")[2] == event]
        guess = f"did you mean {same[0]!r}?" if same else did_you_mean(system, kernel.systems)
        if not guess:
            guess = did_you_mean(name, kernel.events)
    else:
        inside = [one for one in kernel.events if one.startswith(f"{system}:")]
        guess = did_you_mean(name, inside)
    return Problem(
        f"no {word} '{name}'",
        why=f"kernel {where} has {len(kernel.events)} events of {len(kernel.systems)} systems,"
        " none of them so named",
        fix=guess or "see `trace-recipe list events`",
    )


def _no_match(kind: str, pattern: str, known: Iterable[str], kernel: Kernel) -> Problem:
    return Problem(
        f"no {kind} matches '{pattern}'",
        why=f"kernel {kernel.release} has no such {kind}",
        fix=did_you_mean(pattern.strip("*"), known, otherwise="use a wider pattern, as '*name*'"),
    )


def _no_functions(kernel: Kernel) -> Problem:
    name = "available_filter_functions"
    if kernel.origin != "live":
        return Problem(
            f"the catalogue '{kernel.origin}' has no functions",
            why=f"{name} could not be read where it was saved",
            fix="save it again as root, on a machine without lockdown",
        )
    if name not in kernel.control_files:
        return Problem(
            f"this kernel has no file '{name}'",
            why="it is built without CONFIG_DYNAMIC_FTRACE, or has no function tracer",
            fix="use events instead (`trace-recipe list events`), or another kernel",
        )
    return Problem(
        f"this kernel refuses '{name}' ({kernel.refused.get(name, 'no errno')})",
        why="kernel lockdown or a container's policy closes the function tracing files, to root"
        " too",
        fix="use events instead (`trace-recipe list events`), or boot without lockdown",
    )


def _option_values(kernel: Kernel) -> dict[str, bool]:
    tracefs = live_tracefs()
    values = {}
    for name in kernel.options:
        try:
            values[name] = tracefs.read(f"options/{name}").strip() == "1"
        except TracefsError:
            continue
    return values


# -- explain ----------------------------------------------------------------------------------


def explain(
    event: EventArgument, kernel: KernelOption = "live", as_json: JsonOption = False
) -> None:
    """Explain an event: fields, print fmt, a C struct, and how trace-cmd would record it."""
    known = _kernel(kernel)
    explanation = explain_event(known.event_format(_event_named(event, known)))
    if as_json:
        print_json({**explanation_to_json(explanation), "kernel": known.release})
        return
    for line in explanation.lines():
        print(printable(line))
    show(f"\nin a recipe:\n  events: [{explanation.event.full_name}]")


# -- doctor -----------------------------------------------------------------------------------


def doctor(
    recipe: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="RECIPE",
            help="Also tell what stands in this recipe's way here.",
            autocompletion=complete_recipe,
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Set a parameter of that recipe."),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option("--user", help="Who is to run it; you, or who called sudo, if nobody."),
    ] = None,
    state_dir: StateOption = DEFAULT_STATE,
    as_json: JsonOption = False,
) -> None:
    """Examine this machine: what stands in the way of tracing, and what works; changes nothing."""
    from trace_recipe.doctor import can_run, examine, examine_files
    from trace_recipe.machine import look_at_machine

    machine = look_at_machine(state_dir)
    who = find_invoker(os.environ) if user is None else user_named(user)
    findings = [*examine(machine), *_examine_policy(who)]
    files: tuple[NeededFile, ...] = ()
    commands: list[str] = []
    if recipe is not None:
        found, files, commands = _examine_recipe(recipe, set_, machine.kernel, who)
        findings += found
        if files:
            findings += examine_files(files, who)
    runs = can_run(findings)
    if as_json:
        data: dict[str, Any] = {
            "ok": runs,
            "findings": [finding.as_json() for finding in findings],
        }
        if recipe is not None:
            data["files"] = [one.as_json() for one in files]
            data["commands"] = commands
        print_json(data)
    else:
        for finding in findings:
            for line in finding.lines():
                print(printable(line))
        if files:
            print("\nfiles that the recipe needs:")
        for one in files:
            word = one.error or "ok"
            print(printable(f"  {word:6}  {one.access:5}  {one.file}"))
        if commands:
            print(f"\nwhat gives {who.name} just these rights until the next boot, as root:")
        for command in commands:
            print(printable(f"  {command}"))
        subject = f"'{recipe}'" if recipe else "recipes with events"
        print(f"\n{subject} can run here" if runs else f"\n{subject} cannot run here")
    if not runs:
        raise typer.Exit(KernelLacksError.exit_status)


def _examine_policy(who: Invoker) -> tuple[Finding, ...]:
    from trace_recipe.doctor import Finding, Level, examine_policy
    from trace_recipe.policy import load_policy

    try:
        return examine_policy(load_policy(who))
    except PolicyError as error:
        return tuple(
            Finding(Level.BAD, "policy", _located(one), one.why, one.fix) for one in error.problems
        )


def _examine_recipe(
    name: str, set_: list[str] | None, kernel: Kernel | None, who: Invoker
) -> tuple[list[Finding], tuple[NeededFile, ...], list[str]]:
    """Return what stands in a recipe's way, the files it needs, and what grants those lacking."""
    from trace_recipe.doctor import Finding, Level
    from trace_recipe.needed_files import grants, look_at_files

    loaded = open_named(name, set_)
    where = find_mount()
    if kernel is None or where is None:
        what = f"'{loaded.recipe.name}' cannot be checked: there is no kernel to check it against"
        why = "tracefs is not mounted, or cannot be read"
        return [Finding(Level.BAD, "recipe", what, why, "see the findings above")], (), []
    tracefs = live_tracefs()
    try:
        resolved = resolve_on(loaded, live_kernel(tracefs, loaded.recipe))
        plan = plan_for(resolved, run_id="RUN", tracefs=tracefs)
        files = look_at_files(tracefs, needed_for(resolved, plan, tracefs), who)
    except TraceRecipeError as error:
        found = [
            Finding(Level.BAD, "recipe", _located(problem), problem.why, problem.fix)
            for problem in error.problems
        ]
        return found, (), []
    findings = [
        Finding(Level.OK, "recipe", f"'{loaded.recipe.name}' has all it asks for on this kernel")
    ]
    findings += [
        Finding(Level.WARN, "recipe", f"left out: {left}", why=reason)
        for left, reason in plan.skipped
    ]
    findings += [Finding(Level.WARN, "recipe", note) for note in plan.notes]
    return findings, files, grants(tracefs, [one for one in files if one.error], who)


def _located(problem: Problem) -> str:
    return problem.lines()[0].replace(" error: ", " ", 1).removeprefix("error: ")


# -- shared -----------------------------------------------------------------------------------


def _kernel(name: str, *, with_functions: bool = False) -> Kernel:
    if name == "live":
        return probe_kernel(live_tracefs(), with_functions=with_functions)
    from trace_recipe.catalogue import load_catalogue

    return load_catalogue(Path(name), os.environ)


def _print_names(names: Iterable[str], *, as_json: bool) -> None:
    if as_json:
        print_json(list(names))
        return
    for name in names:
        print(printable(name))
