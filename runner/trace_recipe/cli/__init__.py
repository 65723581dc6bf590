"""The command line: the only place that prints, asks or exits."""

from __future__ import annotations

import logging
import os
import sys

import typer

from trace_recipe.cli import look, make, report, run, state
from trace_recipe.cli.completions import whole_words
from trace_recipe.cli.messages import print_error
from trace_recipe.errors import TraceRecipeError

__all__ = ["app", "main"]

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
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    try:
        with whole_words(os.environ):
            app(prog_name="trace-recipe")
    except TraceRecipeError as error:
        print_error(error, as_json="--json" in sys.argv[1:])
        sys.exit(error.exit_status)
