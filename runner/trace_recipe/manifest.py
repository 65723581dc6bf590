"""Manifest: what a recording holds and how it came about; `manifest.json` in its directory."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from trace_recipe.drift import Drift  # noqa: TC001 - pydantic reads the annotation when it runs

__all__ = [
    "BufferEntry",
    "ClockPair",
    "CpuEntry",
    "KernelEntry",
    "Manifest",
    "ReceiptEntry",
    "RecipeEntry",
    "manifest_from_json",
    "manifest_schema",
    "manifest_to_json",
]

_SCHEMA_ID = "https://trace-recipe.dev/schema/manifest.v1.schema.json"
# Bounds that no kernel comes near; a damaged number must not become an allocation.
_MAX_CPUS = 1 << 16
_MAX_NAME = 255
_MIN_SUBBUF_BYTES = 64
_MAX_SUBBUF_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class RecipeEntry:
    """The recipe that was run."""

    name: Annotated[str, Field(description="Name of the recipe.")]
    path: Annotated[str, Field(description="Where it was read from.")]
    sha256: Annotated[str, Field(description="Hash of its text, its includes and its parameters.")]
    params: Annotated[
        dict[str, str | int | bool], Field(description="Resolved parameters; durations in ns.")
    ]


@dataclass(frozen=True, slots=True)
class KernelEntry:
    """The kernel that was traced."""

    release: Annotated[str, Field(description="`uname -r`.")]
    machine: Annotated[str, Field(description="`uname -m`.")]
    uname: Annotated[str, Field(description="`uname -a`.")]
    byte_order: Annotated[Literal["little", "big"], Field(description="Of the raw pages.")]
    long_size: Annotated[Literal[4, 8], Field(description="Bytes of the kernel's long: 4 or 8.")]
    page_size_bytes: Annotated[int, Field(description="Bytes of a page of memory.")]
    cpu_count: Annotated[int, Field(ge=1, le=_MAX_CPUS, description="Number of possible CPUs.")]


@dataclass(frozen=True, slots=True)
class CpuEntry:
    """One CPU's raw sub-buffers and its counters after the last read."""

    cpu: Annotated[int, Field(ge=0, lt=_MAX_CPUS, description="CPU number.")]
    file: Annotated[
        str, Field(max_length=_MAX_NAME, description="File with whole sub-buffers, oldest first.")
    ]
    bytes: Annotated[int, Field(description="Size of the file.")]
    overrun: Annotated[int, Field(description="Events overwritten before they were read.")]
    commit_overrun: Annotated[int, Field(description="Events lost to a full buffer in interrupts.")]
    dropped_events: Annotated[int, Field(description="Events refused in discard mode.")]
    cut_bytes: Annotated[int, Field(description="Bytes that a failed write left unusable.")]
    stats: Annotated[str, Field(description="The kernel's stats file, verbatim.")]
    unwritten: Annotated[
        int,
        Field(
            ge=0,
            description="Events that were not written because the disk was full or a read failed.",
        ),
    ] = 0

    @property
    def lost(self) -> int:
        """Events of this CPU that are missing, for whatever reason."""
        return self.overrun + self.commit_overrun + self.dropped_events + self.unwritten


@dataclass(frozen=True, slots=True)
class BufferEntry:
    """The ring buffer of one instance."""

    name: Annotated[str, Field(description='Instance; "" is the top level.')]
    clock: Annotated[str, Field(description="trace_clock while recording.")]
    tracer: Annotated[str, Field(description="current_tracer while recording.")]
    subbuf_size_bytes: Annotated[
        int,
        Field(ge=_MIN_SUBBUF_BYTES, le=_MAX_SUBBUF_BYTES, description="Bytes of one sub-buffer."),
    ]
    cpus: Annotated[tuple[CpuEntry, ...], Field(description="One entry per CPU.")]


@dataclass(frozen=True, slots=True)
class ClockPair:
    """The trace clock and the wall clock at the same instant."""

    trace_ns: Annotated[int | None, Field(description="Trace clock; null when it cannot be read.")]
    wall_ns: Annotated[int, Field(description="Nanoseconds since the epoch.")]


@dataclass(frozen=True, slots=True)
class ReceiptEntry:
    """What became of one file that the run touched."""

    file: Annotated[str, Field(description="Path below the tracefs mount.")]
    outcome: Annotated[
        Literal["restored", "foreign", "impossible", "shared", "left"],
        Field(description="foreign: somebody else's change, left alone; left: ours, still there."),
    ]
    before: Annotated[str, Field(description="What it read before the run.")]
    now: Annotated[str, Field(description="What it reads after the run.")]
    reason: Annotated[str, Field(description="Why it is not as before, if it is not.")]


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything about one recording that is not raw pages or a kernel text."""

    manifest: Annotated[Literal["v1"], Field(description="Format version.")]
    tool: Annotated[str, Field(description="trace-recipe and its version.")]
    recipe: Annotated[RecipeEntry, Field(description="The recipe that was run.")]
    kernel: Annotated[KernelEntry, Field(description="The kernel that was traced.")]
    buffers: Annotated[tuple[BufferEntry, ...], Field(description="Recorded ring buffers.")]
    clock_pairs: Annotated[
        tuple[ClockPair, ...], Field(description="At the start and at the end of the recording.")
    ]
    started_at_ns: Annotated[int, Field(description="Wall clock, ns since the epoch.")]
    duration_ns: Annotated[int, Field(description="How long events were recorded.")]
    events: Annotated[int, Field(description="Events in the raw pages, by the kernel's count.")]
    lost: Annotated[int, Field(description="Events lost on all CPUs together.")]
    exit_reason: Annotated[str, Field(description="What ended the recording.")]
    command_exit_status: Annotated[
        int | None, Field(description="Of `run.command`; null when there was none.")
    ]
    options: Annotated[dict[str, bool], Field(description="Trace options while recording.")]
    notes: Annotated[tuple[str, ...], Field(description="What else the reader should know.")]
    receipt: Annotated[
        tuple[ReceiptEntry, ...], Field(description="Every touched file; empty before the restore.")
    ] = field(default=())
    drifts: Annotated[
        tuple[Drift, ...],
        Field(description="Files that somebody else changed meanwhile, in the order seen."),
    ] = field(default=())


def manifest_to_json(manifest: Manifest) -> str:
    """Return the text of manifest.json."""
    return json.dumps(asdict(manifest), indent=2, ensure_ascii=False) + "\n"


def manifest_from_json(text: str) -> Manifest:
    """Parse manifest.json; raises ValueError with all that is wrong."""
    return _adapter().validate_json(text)


def manifest_schema() -> dict[str, Any]:
    """Return the JSON Schema published as schema/manifest.v1.schema.json."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": _SCHEMA_ID,
        "title": "trace-recipe recording manifest, v1",
        **_adapter().json_schema(),
    }


@cache
def _adapter() -> TypeAdapter[Manifest]:
    # A run only writes manifests, and needs none of what checks one.
    return TypeAdapter(Manifest)
