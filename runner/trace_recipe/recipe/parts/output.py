"""Outputs: where a result goes, and in which form."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trace_recipe.recipe.kinds import FilePath, OutputPath
from trace_recipe.recipe.parts.rules import NEVER, Model, Rule

__all__ = ["CsvOutput", "JsonlOutput", "Output", "OutputSpec", "TextOutput", "TraceDatOutput"]


Readers = Literal["owner", "group", "everyone"]
_OWNER: Readers = "owner"

_NAMES = Field(
    default=False,
    description="Print known flags of system calls by name where the format gives none.",
    examples=[True],
)
_READABLE_BY = Field(
    default=_OWNER,
    description="Who may read the file: its owner, the owner's group too (mode 0640), or everyone"
    " (0644).",
    examples=["group"],
)
_STDOUT_HAS_NO_READERS = Rule(
    "readers_of_stdout",
    "standard output is no file whose readers could be chosen",
    lambda o: ("readable_by",) if o.path == "-" and "readable_by" in o.model_fields_set else None,
    fix="take the key out, or name a file",
    at=("readable_by",),
    schema={
        "if": {"properties": {"path": {"const": "-"}}, "required": ["path"]},
        "then": {"properties": {"readable_by": NEVER}},
    },
)


class TextOutput(Model):
    """The layout of the kernel's trace file; also as text: the path alone."""

    text_key = "path"

    path: OutputPath = Field(
        description="The file; '-' is standard output, printed while recording.",
        examples=["trace.txt"],
    )
    names: bool = _NAMES
    readable_by: Readers = _READABLE_BY

    rules = (_STDOUT_HAS_NO_READERS,)


class JsonlOutput(Model):
    """One JSON object for each event; also as text: the path alone."""

    text_key = "path"

    path: OutputPath = Field(
        description="The file; '-' is standard output.", examples=["trace.jsonl"]
    )
    names: bool = _NAMES
    readable_by: Readers = _READABLE_BY

    rules = (_STDOUT_HAS_NO_READERS,)


class CsvOutput(Model):
    """Comma-separated values; also as text: the path alone."""

    text_key = "path"

    path: OutputPath = Field(
        description="The file, '-' for standard output; with layout per-event a directory, which a"
        " run replaces as a whole.",
        examples=["trace.csv"],
    )
    layout: Literal["per-event", "wide"] = Field(
        default="wide",
        description="One file for each event type, or one file with the columns of all.",
        examples=["per-event"],
    )
    readable_by: Readers = _READABLE_BY

    rules = (
        _STDOUT_HAS_NO_READERS,
        Rule(
            "many_files_to_stdout",
            "one file per event cannot go to standard output",
            lambda c: ("path",) if c.path == "-" and c.layout == "per-event" else None,
            fix="name a directory, or write layout: wide",
            at=("path",),
            schema={
                "if": {"properties": {"layout": {"const": "per-event"}}, "required": ["layout"]},
                "then": {"properties": {"path": {"not": {"const": "-"}}}},
            },
        ),
    )


class TraceDatOutput(Model):
    """A file that trace-cmd and kernelshark read; also as text: the path alone."""

    text_key = "path"

    path: FilePath = Field(description="The file.", examples=["trace.dat"])
    version: Literal[7, 6] = Field(
        default=7, description="The version of the file format.", examples=[6]
    )
    compression: Literal["zstd", "none"] = Field(
        default="zstd",
        description="How a file of version 7 is compressed.",
        examples=["none"],
    )
    readable_by: Readers = _READABLE_BY

    rules = (
        Rule(
            "version_6_compressed",
            "version 6 of trace.dat knows no compression",
            lambda t: (
                ("compression",)
                if t.version == 6
                and "compression" in t.model_fields_set
                and t.compression != "none"
                else None
            ),
            fix="take 'compression' out, or write version: 7",
            at=("compression",),
            schema={
                "if": {
                    "properties": {"version": {"const": 6}, "compression": {"const": "zstd"}},
                    "required": ["version", "compression"],
                },
                "then": NEVER,
            },
        ),
    )


OutputSpec = TextOutput | JsonlOutput | CsvOutput | TraceDatOutput


class Output(Model):
    """One result: exactly one kind, and where it goes."""

    text: TextOutput | None = Field(
        default=None,
        description="Text in the layout of the kernel's trace file.",
        examples=["-"],
    )
    jsonl: JsonlOutput | None = Field(
        default=None, description="JSON lines, one event each.", examples=["trace.jsonl"]
    )
    csv: CsvOutput | None = Field(
        default=None, description="Comma-separated values.", examples=["trace.csv"]
    )
    trace_dat: TraceDatOutput | None = Field(
        default=None,
        alias="trace-dat",
        description="A trace.dat file for trace-cmd and kernelshark.",
        examples=["trace.dat"],
    )

    rules = (
        Rule(
            "one_output_kind",
            "an output has exactly one of text, jsonl, csv and trace-dat",
            lambda o: None if len(o.model_fields_set) == 1 else (),
            fix="make each of them an entry of its own: - text: trace.txt",
            schema={"minProperties": 1, "maxProperties": 1},
        ),
    )

    @property
    def sink(self) -> Literal["text", "jsonl", "csv", "trace-dat"]:
        """Return which kind it is, as YAML spells it."""
        if self.text is not None:
            return "text"
        if self.jsonl is not None:
            return "jsonl"
        return "csv" if self.csv is not None else "trace-dat"

    @property
    def spec(self) -> OutputSpec:
        """Return the settings of the one kind that is given."""
        spec = self.text or self.jsonl or self.csv or self.trace_dat
        assert spec is not None, "rule one_output_kind holds"
        return spec
