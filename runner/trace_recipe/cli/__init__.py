"""The command line: the only place that prints, asks or exits."""

from __future__ import annotations

import errno
import logging
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from trace_recipe.cli.completions import whole_words
from trace_recipe.cli.messages import print_error, say
from trace_recipe.cli.streams import guard_streams
from trace_recipe.cli.usage import Commands, UsageError, usage_problem
from trace_recipe.errors import (
    KernelLacksError,
    OutputError,
    RecipeError,
    TracefsError,
    TraceRecipeError,
    errno_text,
)

__all__ = ["app", "main"]

_STANDARD_OUTPUT = 1
_MODULES = {
    "run": "run",
    "plan": "run",
    "try": "trial",
    "extend": "trial",
    "confirm": "trial",
    "validate": "run",
    "check": "run",
    "status": "state",
    "restore": "state",
    "recover": "state",
    "report": "report",
    "list": "look",
    "explain": "look",
    "doctor": "look",
    "catalog": "make",
    "init": "make",
    "schema": "make",
}


class _LazyCommands(Commands):
    """The commands, each imported with its module when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return list(_MODULES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in _MODULES and cmd_name not in self.commands:
            module = import_module(f"trace_recipe.cli.{_MODULES[cmd_name]}")
            holder = typer.Typer()
            module.register(holder)
            self.commands.update(typer.main.get_group(holder).commands)
        return super().get_command(ctx, cmd_name)


app = typer.Typer(
    name="trace-recipe",
    cls=_LazyCommands,
    pretty_exceptions_enable=False,
    help="Run declarative ftrace recipes and leave the kernel exactly as it was.",
)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from trace_recipe.version import tool_version

        print(tool_version())
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and exit.",
            is_eager=True,
            callback=_print_version,
        ),
    ] = False,
) -> None:
    del version  # its callback has done it


def main() -> None:
    """Run the command line and exit by the error's class."""
    output = guard_streams()
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    try:
        status = _run()
        sys.stdout.flush()
    except OSError:
        if output.failed_with is None:
            raise
        status = 0  # told below
    if output.failed_with is not None:
        status = _tell_broken_output(output.failed_with, status)
    sys.exit(status)


def _run() -> int:
    words = sys.argv[1:]
    command = typer.main.get_command(app)
    try:
        with whole_words(os.environ):
            status = command.main(words, prog_name="trace-recipe", standalone_mode=False)
    except UsageError as error:
        return _tell(RecipeError(usage_problem(error, command, words)))
    except TracefsError as error:
        is_kept = error.errno == errno.EACCES
        return _tell(KernelLacksError(*error.problems, state=error.state) if is_kept else error)
    except TraceRecipeError as error:
        return _tell(error)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    return status if isinstance(status, int) else 0


def _tell(error: TraceRecipeError) -> int:
    print_error(error, as_json="--json" in sys.argv[1:])
    return error.exit_status


def _tell_broken_output(number: int, status: int) -> int:
    """Make sure that an incomplete result is never taken for a whole one."""
    with Path(os.devnull).open(
        "wb"
    ) as nowhere:  # the interpreter flushes what is left when it ends
        os.dup2(nowhere.fileno(), _STANDARD_OUTPUT)
    if status not in {0, 1}:
        return status  # the command has told it, or something worse
    if number != errno.EPIPE:  # a reader that has seen enough knows
        say(f"error: standard output is incomplete: {errno_text(number)}")
    return OutputError.exit_status
