"""`catalog`, `init` and `schema`: files that other commands and editors read."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trace_recipe.cli.completions import complete_event, complete_tracer
from trace_recipe.cli.kernels import JsonOption, live_tracefs
from trace_recipe.cli.messages import print_json, printable, say
from trace_recipe.cli.usage import Commands
from trace_recipe.errors import OutputError, Problem, RecipeError
from trace_recipe.invoker import acting_as, find_invoker
from trace_recipe.outputs import open_output_file
from trace_recipe.prober import probe_kernel
from trace_recipe.suggestions import listed
from trace_recipe.tracers import LATENCY_TRACERS, PID_TRACERS

if TYPE_CHECKING:
    from trace_recipe.kernel import Kernel

__all__ = ["register"]

_RECIPE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_PLAIN_YAML = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(:[A-Za-z0-9_*]+)?")
_YAML_WORDS = frozenset({"null", "true", "false"})
_DEFAULT_NAME = "my-recipe"
_DEFAULT_EVENT = "sched:sched_process_exec"
_SCHEMA_FILE = "recipe.v1.schema.json"

_catalog = typer.Typer(
    name="catalog", cls=Commands, help="What a kernel offers, as a file for --kernel."
)


class Contract(StrEnum):
    """The published schemas."""

    RECIPE = "recipe"
    RESOLVED_RECIPE = "resolved-recipe"
    EVENT = "event"
    MANIFEST = "manifest"
    PLAN = "plan"
    KERNEL = "kernel"
    RECEIPT = "receipt"
    POLICY = "policy"


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(_catalog)
    app.command("init")(init)
    app.command("schema")(schema)


# -- catalog ----------------------------------------------------------------------------------


@_catalog.command("save")
def save(
    file: Annotated[Path, typer.Argument(help="File to write; `-` is standard output.")],
) -> None:
    """Save what the running kernel offers, so that recipes can be checked on another machine."""
    from trace_recipe.catalogue import save_catalogue

    kernel = probe_kernel(live_tracefs(), with_functions=True, with_symbols=True)
    text = save_catalogue(kernel)
    if str(file) == "-":
        sys.stdout.write(text)
        return
    output = open_output_file(file, find_invoker(os.environ))
    try:
        output.stream.write(text.encode("utf-8", "surrogateescape"))
    except OSError as error:
        output.drop()
        raise OutputError(Problem(f"cannot write '{file}': {error.strerror}")) from error
    output.keep()
    say(f"{file}: {kernel.release}, {len(kernel.events)} events, functions: {_functions(kernel)}")


@_catalog.command("show")
def show(
    file: Annotated[
        Path | None, typer.Argument(help="A saved catalogue; without it the running kernel.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a summary of a catalogue, or of the running kernel."""
    if file is None:
        kernel = probe_kernel(live_tracefs(), with_functions=True, with_symbols=True)
    else:
        from trace_recipe.catalogue import load_catalogue

        kernel = load_catalogue(file, os.environ)
    systems = Counter(name.partition(":")[0] for name in kernel.events)
    if as_json:
        print_json(_summary(kernel, systems))
        return
    order = "little-endian" if kernel.byte_order == "<" else "big-endian"
    rows = [
        ("kernel", f"{kernel.release} {kernel.machine} ({kernel.long_size * 8} bit, {order})"),
        ("cpus", f"{len(kernel.possible_cpus)} possible, {len(kernel.online_cpus)} online"),
        ("tracers", " ".join(kernel.tracers)),
        ("instances", _instance_tracers(kernel)),
        ("clocks", " ".join(kernel.clocks)),
        ("options", " ".join(kernel.options)),
        ("triggers", " ".join(kernel.triggers)),
        ("functions", _functions(kernel)),
        ("refused", ", ".join(f"{name}: {word}" for name, word in kernel.refused.items()) or "-"),
        ("events", f"{len(kernel.events)} of {len(systems)} systems"),
    ]
    for name, words in rows:
        print(printable(f"{name:9}  {words}"))
    for system, count in sorted(systems.items()):
        print(printable(f"{count:9}  {system}"))


def _instance_tracers(kernel: Kernel) -> str:
    if kernel.instance_tracers is None:
        return "not known which tracers they may use"
    kept_out = [one for one in kernel.tracers if one not in kernel.instance_tracers]
    return f"all tracers but {listed(kept_out)}" if kept_out else "all tracers"


def _summary(kernel: Kernel, systems: Counter[str]) -> dict[str, Any]:
    return {
        "release": kernel.release,
        "machine": kernel.machine,
        "byte_order": "little" if kernel.byte_order == "<" else "big",
        "long_size": kernel.long_size,
        "page_size_bytes": kernel.page_size_bytes,
        "possible_cpus": list(kernel.possible_cpus),
        "online_cpus": list(kernel.online_cpus),
        "tracers": list(kernel.tracers),
        "instance_tracers": kernel.instance_tracers,
        "clocks": list(kernel.clocks),
        "options": list(kernel.options),
        "triggers": list(kernel.triggers),
        "functions": None if kernel.functions is None else len(kernel.functions),
        "refused": dict(kernel.refused),
        "events": len(kernel.events),
        "systems": dict(sorted(systems.items())),
    }


def _functions(kernel: Kernel) -> str:
    if kernel.functions is None:
        return "unknown (they cannot be read)"
    return str(len(kernel.functions))


# -- init -------------------------------------------------------------------------------------


def init(
    name: Annotated[
        str, typer.Argument(help="Name of the recipe; `-` prints it to standard output.")
    ] = _DEFAULT_NAME,
    event: Annotated[
        list[str] | None,
        typer.Option(
            "--event", "-e", help="An event to trace, globs allowed.", autocompletion=complete_event
        ),
    ] = None,
    tracer: Annotated[
        str | None,
        typer.Option("--tracer", "-t", help="A tracer to use.", autocompletion=complete_tracer),
    ] = None,
) -> None:
    """Write a commented recipe to start from, as NAME.yaml in this directory."""
    from trace_recipe.recipe.load import load_recipe
    from trace_recipe.resolver import check_without_kernel

    is_printed = name == "-"
    title = _DEFAULT_NAME if is_printed else name.removesuffix(".yaml")
    if not _RECIPE_NAME.fullmatch(title):
        raise RecipeError(
            Problem(
                f"'{name}' cannot be the name of a recipe",
                why="it is lower-case letters, digits and '-', at most 63 characters, and the"
                " file is made in the current directory",
                fix=f"try '{_name_like(title)}'",
            )
        )
    events = event or ([] if tracer else [_DEFAULT_EVENT])
    path = Path(f"{title}.yaml")
    text = _starter(title, events, tracer)
    try:
        problems = tuple(check_without_kernel(load_recipe(str(path), text)))
    except RecipeError as error:
        problems = error.problems
    if problems:
        # The file is never written: its lines would tell the user nothing.
        raise RecipeError(*(replace(one, place=None, key=_option(one.key)) for one in problems))
    if is_printed:
        sys.stdout.write(text)
        return
    with acting_as(find_invoker(os.environ)):
        _write_new(path, text)
    print(printable(f"wrote {path}; try: trace-recipe check {path}"))


def _option(key: str) -> str:
    return "--tracer" if key.startswith("tracer") else "--event"


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise OutputError(
            Problem(
                f"'{path}' is there already",
                why="init never overwrites a recipe",
                fix="choose another name, or print it: trace-recipe init -",
            )
        ) from None
    except OSError as error:
        raise OutputError(
            Problem(f"cannot write '{path}': {error.strerror}", fix="go to another directory")
        ) from error


def _starter(title: str, events: list[str], tracer: str | None) -> str:
    from trace_recipe.cli.planning import current_directory

    lines = [
        f"# yaml-language-server: $schema={_schema_reference(current_directory())}",
        f"# Check it:      trace-recipe check {title}.yaml",
        f"# What it sets:  trace-recipe plan {title}.yaml",
        f"# Run it:        trace-recipe run {title}.yaml",
        "recipe: v1",
        f"name: {_scalar(title)}",
        "description: Say in one sentence what this recipe shows.",
        "",
        "# Values that --set NAME=VALUE changes; ${NAME} puts them in.",
        "params:",
        "  duration: {type: duration, default: 5s, min: 1ms, description: How long to record.}",
    ]
    if events:
        lines += ["", "events:", *(f"  - {_scalar(one)}" for one in events)]
        lines += [
            "  # With a filter on its fields (trace-recipe explain EVENT shows them):",
            "  # - event: sched:sched_switch",
            "  #   filter: prev_prio < 100",
        ]
    if tracer:
        lines += ["", f"tracer: {_scalar(tracer)}"]
        if tracer in PID_TRACERS:
            lines += [
                "# Without it all functions are traced, which takes a permission (allow).",
                "functions: {only: ['vfs_*']}",
            ]
        elif tracer in LATENCY_TRACERS:
            lines += [
                "# Without it all functions are recorded too, which takes a permission (allow).",
                "options: {function-trace: false}",
            ]
    lines += [
        "",
        "# Only these processes and the children that they start:",
        "# scope: {pids: [1234], follow: true}",
        "",
        "# Events per CPU that fit before they are read; more of it loses fewer:",
        "# buffer: {size: 8M}",
        "",
        "clock: mono",
        "duration: ${duration}",
        "# ... or as long as a command runs, as the user who started trace-recipe:",
        "# run: {command: [ls, -l, /]}",
        "",
        "outputs:",
        '  - text: "-"  # the terminal',
        f"  # - jsonl: {title}.jsonl",
        f"  # - trace-dat: {title}.dat  # for trace-cmd report and KernelShark",
    ]
    return "\n".join(lines) + "\n"


def _scalar(text: str) -> str:
    """Return a YAML scalar: plain where it cannot be taken for anything else."""
    is_plain = _PLAIN_YAML.fullmatch(text) and text.lower() not in _YAML_WORDS
    return text if is_plain else json.dumps(text)


def _schema_reference(directory: Path) -> str:
    """Return the schema's path as an editor finds it from a recipe in `directory`."""
    from trace_recipe.shipped import shipped_data

    file = shipped_data("schema") / _SCHEMA_FILE
    # Inside a checkout a relative path holds on every machine that has it.
    inside = directory.resolve().is_relative_to(file.parent.parent.resolve())
    return os.path.relpath(file, directory) if inside else str(file)


def _name_like(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", Path(text).name.lower()).strip("-")[:63] or _DEFAULT_NAME


# -- schema -----------------------------------------------------------------------------------


def schema(
    contract: Annotated[Contract | None, typer.Argument(help="Which; `recipe` if none.")] = None,
    write: Annotated[
        Path | None,
        typer.Option(
            "--write", metavar="DIR", help="Rewrite the files in DIR: the named one, or all."
        ),
    ] = None,
) -> None:
    """Print a JSON Schema: of recipes, of a policy, or of what the tool writes."""
    if write is None:
        sys.stdout.write(_schema_text(contract or Contract.RECIPE))
        return
    for one in [contract] if contract else list(Contract):
        path = write / f"{one}.v1.schema.json"
        output = open_output_file(path, find_invoker(os.environ))
        output.stream.write(_schema_text(one).encode())
        os.fchmod(output.stream.fileno(), 0o644)
        output.keep()
        print(path)


def _schema_text(contract: Contract) -> str:
    return json.dumps(_schema_of(contract), indent=2, ensure_ascii=False) + "\n"


def _schema_of(contract: Contract) -> dict[str, Any]:
    match contract:
        case Contract.RECIPE:
            from trace_recipe.recipe.schema import recipe_schema

            return recipe_schema()
        case Contract.RESOLVED_RECIPE:
            from trace_recipe.recipe.schema import resolved_schema

            return resolved_schema()
        case Contract.EVENT:
            from trace_recipe.sinks.event_schema import event_schema

            return event_schema()
        case Contract.MANIFEST:
            from trace_recipe.manifest import manifest_schema

            return manifest_schema()
        case Contract.PLAN:
            from trace_recipe.plan import plan_schema

            return plan_schema()
        case Contract.KERNEL:
            from trace_recipe.catalogue import catalogue_schema

            return catalogue_schema()
        case Contract.RECEIPT:
            from trace_recipe.receipt import receipt_schema

            return receipt_schema()
        case Contract.POLICY:
            from trace_recipe.policy import policy_schema

            return policy_schema()
