"""The command line: the only place that prints, asks or exits."""

from __future__ import annotations

import errno
import logging
import os
import sys
from pathlib import Path

import typer

from trace_recipe.cli import look, make, report, run, state
from trace_recipe.cli.completions import whole_words
from trace_recipe.cli.messages import print_error, say
from trace_recipe.cli.streams import guard_streams
from trace_recipe.errors import OutputError, TraceRecipeError, errno_text

__all__ = ["app", "main"]

_STANDARD_OUTPUT = 1

app = typer.Typer(
    name="trace-recipe",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Run declarative ftrace recipes and leave the kernel exactly as it was.",
)
for commands in (run, state, report, look, make):
    commands.register(app)


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
    try:
        with whole_words(os.environ):
            app(prog_name="trace-recipe")
    except TraceRecipeError as error:
        print_error(error, as_json="--json" in sys.argv[1:])
        return error.exit_status
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    return 0


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
