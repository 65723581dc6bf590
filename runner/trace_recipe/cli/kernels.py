"""Which kernel a command talks about: the live one (tracefs mounted if need be) or a catalogue."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trace_recipe.cli.completions import complete_recipe
from trace_recipe.cli.messages import say
from trace_recipe.errors import KernelLacksError, Problem, RecipeError, TracefsError
from trace_recipe.prober import probe_kernel
from trace_recipe.state_directory import state_directory
from trace_recipe.tracefs import NotingTracefs, Tracefs, find_mount, mount_tracefs

if TYPE_CHECKING:
    from trace_recipe.kernel import Kernel
    from trace_recipe.recipe.model import Recipe

__all__ = [
    "JsonOption",
    "KernelOption",
    "RecipeArgument",
    "SetOption",
    "StateOption",
    "kernel_named",
    "live_kernel",
    "live_tracefs",
    "overrides_of",
]

RecipeArgument = Annotated[
    str,
    typer.Argument(
        help="A recipe file, or the name of a recipe in the search path.",
        autocompletion=complete_recipe,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Set a parameter of the recipe."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
KernelOption = Annotated[
    str,
    typer.Option("--kernel", metavar="live|FILE", help="The running kernel, or a saved catalogue."),
]
StateOption = Annotated[
    Path,
    typer.Option(
        "--state-dir",
        help="Where the journals of running recipes are.",
        readable=False,  # not checked by typer: `doctor` tells why it cannot be read
    ),
]
DEFAULT_STATE = state_directory(os.geteuid(), os.environ)


def live_tracefs() -> NotingTracefs:
    """Return the mounted tracefs; mount it when it is not. Raises KernelLacksError."""
    where = find_mount()
    if where is None:
        where = mount_tracefs()
        say(f"mounted tracefs on {where}")
    tracefs = NotingTracefs(where)
    try:
        tracefs.list()
        tracefs.read("trace_clock")
    except TracefsError as error:
        raise KernelLacksError(
            Problem(
                f"tracefs at {where} cannot be read: {error.problems[0].what}",
                why=f"it belongs to root, and this process runs as uid {os.geteuid()}",
                fix="run it with sudo; `sudo trace-recipe doctor --for RECIPE` prints the commands"
                " that give you just what a recipe needs",
            )
        ) from error
    return tracefs


def live_kernel(tracefs: Tracefs, recipe: Recipe | None = None) -> Kernel:
    """Probe the live kernel; what takes long only when the recipe asks for it."""
    return probe_kernel(
        tracefs,
        with_functions=recipe is None or _names_functions(recipe),
        with_symbols=recipe is None or _names_function_graph(recipe),
    )


def kernel_named(name: str, recipe: Recipe | None = None) -> Kernel:
    """Return the live kernel or the one in a catalogue file; raises TraceRecipeError."""
    if name == "live":
        return live_kernel(live_tracefs(), recipe)
    from trace_recipe.catalogue import load_catalogue

    return load_catalogue(Path(name), os.environ)


def overrides_of(words: list[str] | None) -> dict[str, str]:
    """Parse `--set name=value`; raises RecipeError."""
    found = {}
    for word in words or []:
        name, separator, value = word.partition("=")
        if not separator or not name:
            raise RecipeError(
                Problem(
                    f"'{word}' is not NAME=VALUE",
                    why="a parameter is set by its name and a value",
                    fix="write it as: --set duration=10s",
                    key="--set",
                )
            )
        found[name] = value
    return found


def _names_functions(recipe: Recipe) -> bool:
    return recipe.functions is not None or "graph_" in json.dumps(
        recipe.model_dump(mode="json", exclude_unset=True).get("tracer") or ""
    )


def _names_function_graph(recipe: Recipe) -> bool:
    from trace_recipe.tracer_rules import tracers

    return any(tracer.name == "function_graph" for tracer, _ in tracers(recipe.tracer))
