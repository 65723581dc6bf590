"""`report`: a recording or a trace.dat, written in any output form."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trace_recipe.cli.messages import print_problems, say
from trace_recipe.errors import DecodeError, OutputError, Problem, RecipeError, errno_text

if TYPE_CHECKING:
    from trace_recipe.held_files import HeldFile
    from trace_recipe.invoker import Invoker
    from trace_recipe.output_folder import OutputFolder
    from trace_recipe.outputs import OutputFile
    from trace_recipe.writer import Written

__all__ = ["register"]


class Form(StrEnum):
    """The output forms."""

    TEXT = "text"
    JSONL = "jsonl"
    CSV = "csv"
    TRACE_DAT = "trace-dat"


class FileVersion(StrEnum):
    """The versions of trace.dat."""

    V6 = "6"
    V7 = "7"


class Compression(StrEnum):
    """How a trace.dat is packed."""

    ZSTD = "zstd"
    NONE = "none"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("report")(report)


def report(
    source: Annotated[Path, typer.Argument(help="A recording directory or a trace.dat.")],
    form: Annotated[Form, typer.Option("--as", help="What to write.")] = Form.TEXT,
    output: Annotated[
        str, typer.Option("--output", "-o", help="File to write; `-` is standard output.")
    ] = "-",
    names: Annotated[
        bool, typer.Option("--names", help="Name syscall flags and errors (text, jsonl).")
    ] = False,
    per_event: Annotated[
        bool, typer.Option("--per-event", help="csv: a directory with one file per event type.")
    ] = False,
    version: Annotated[
        FileVersion, typer.Option("--version", help="trace-dat: file version.")
    ] = FileVersion.V7,
    compression: Annotated[
        Compression, typer.Option("--compression", help="trace-dat: how its data is packed.")
    ] = Compression.ZSTD,
) -> None:
    """Write the events of a recording or of trace-cmd's trace.dat in another form."""
    from trace_recipe.invoker import find_invoker
    from trace_recipe.output_folder import open_output_folder
    from trace_recipe.outputs import open_output_file
    from trace_recipe.scribe import Scribe
    from trace_recipe.writer import Target

    if output == "-" and (form is Form.TRACE_DAT or per_event):
        raise RecipeError(
            Problem(
                f"'{form}' cannot be written to standard output",
                why="it is made of parts that are found by their place in a file",
                fix="name a file: --output FILE",
                key="--output",
            )
        )
    options: dict[str, object] = {}
    if form in {Form.TEXT, Form.JSONL}:
        options["names"] = names
    if form is Form.TRACE_DAT:
        options.update(version=int(version), compression=str(compression))
    invoker = find_invoker(os.environ)
    target = Target(form, output, options)
    with contextlib.ExitStack() as stack:
        files = _hold(source, invoker)
        opened: OutputFile | OutputFolder | None = None
        if per_event and form is Form.CSV:
            opened = open_output_folder(Path(output), invoker)
            options["layout"] = "per-event"
            target = replace(target, open_file=opened.open_file)
        elif output != "-":
            opened = open_output_file(Path(output), invoker)
            target = replace(target, stream=opened.stream)
        if opened is not None:
            stack.callback(opened.drop)
        scribe = Scribe([target], standard_output=sys.stdout.fileno())
        stack.callback(scribe.close)
        scribe.hold(source, files)
        written = scribe.write(looks_for_damages=True)
        if opened is not None and not written.has_failed:
            opened.keep(is_whole=not written.broken)
    if written.broken.get("-") == errno.EPIPE:  # a reader that has seen enough knows
        raise typer.Exit(OutputError.exit_status)
    _tell(written, source)


def _hold(source: Path, invoker: Invoker) -> dict[str, HeldFile]:
    """Open what is read with the invoking user's rights: errors and outputs show parts of it."""
    from trace_recipe.held_files import hold_file
    from trace_recipe.invoker import acting_as
    from trace_recipe.recording import hold_recording, is_recording
    from trace_recipe.scribe import TRACE_DAT

    with acting_as(invoker):
        try:
            if not source.is_dir():
                return {TRACE_DAT: hold_file(source)}
            if is_recording(source):
                return hold_recording(source)
        except OSError as error:
            reason = errno_text(error.errno or 0)
            raise DecodeError(f"cannot be read: {reason}", file=str(source)) from error
    raise DecodeError("not a recording: it has no manifest.json", file=str(source))


def _tell(written: Written, source: Path) -> None:
    print_problems(written.problems)
    for damage in written.damages:
        say(
            f"{source}: CPU {damage.cpu} is damaged at byte {damage.offset_bytes}: {damage.reason};"
            " the rest was decoded"
        )
    if written.problems:
        raise typer.Exit(OutputError.exit_status)
    if written.damages:
        raise typer.Exit(DecodeError.exit_status)
