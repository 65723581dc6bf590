"""Recording: a directory with raw sub-buffers and every text needed to decode them anywhere.

manifest.json   what, when, where, how it ended, what was lost, the receipt
cpuN.raw        whole sub-buffers of CPU N, oldest first
formats.json    {"system:event": format text} of the enabled events and of ftrace's own
header_page header_event saved_cmdlines saved_tgids printk_formats
kallsyms.zst    symbols, where the kernel shows them
latency_trace   after a latency tracer: the kernel's report of the longest latency
recipe.yaml plan.json
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import zstandard

from trace_recipe.errors import DecodeError, errno_text
from trace_recipe.events import Buffer, TraceData
from trace_recipe.formats import FormatError, parse_event_format, parse_header_page
from trace_recipe.held_files import hold_file
from trace_recipe.kernel_tables import (
    KernelSymbols,
    parse_cmdlines,
    parse_printk_formats,
)
from trace_recipe.manifest import Manifest, manifest_from_json, manifest_to_json
from trace_recipe.page_files import AbsentPages, FilePages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from trace_recipe.events import Pages
    from trace_recipe.held_files import HeldFile

__all__ = [
    "KALLSYMS_FILE",
    "LATENCY_FILE",
    "MANIFEST_FILE",
    "hold_recording",
    "is_recording",
    "open_recording",
    "write_manifest",
]

MANIFEST_FILE = "manifest.json"
KALLSYMS_FILE = "kallsyms.zst"
LATENCY_FILE = "latency_trace"
_TEXT_FILES = frozenset(
    {
        MANIFEST_FILE, KALLSYMS_FILE, LATENCY_FILE, "formats.json", "header_page", "header_event",
        "saved_cmdlines", "saved_tgids", "printk_formats",
    }
)  # fmt: skip
_PAGES_SUFFIX = ".raw"
_MAX_KALLSYMS_BYTES = 256 << 20
_MAX_TEXT_BYTES = 256 << 20


def is_recording(path: Path) -> bool:
    """Whether the directory holds a manifest."""
    return (path / MANIFEST_FILE).is_file()


def hold_recording(directory: Path, *, shown_as: Path | None = None) -> dict[str, HeldFile]:
    """Open every part of a recording, through no link; raises DecodeError.

    `shown_as` is the directory's name for messages, where `directory` is not.
    What is missing or no regular file is left out: `open_recording` knows what cannot be spared.
    """
    try:
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise DecodeError(errno_text(error.errno or 0), file=str(directory)) from error
    held = {}
    try:
        for name in sorted(os.listdir(folder)):  # noqa: PTH208 - of a descriptor
            if name in _TEXT_FILES or name.endswith(_PAGES_SUFFIX):
                with contextlib.suppress(OSError):
                    held[name] = hold_file(
                        name,
                        name=str((shown_as or directory) / name),
                        directory_fd=folder,
                        follows_links=False,
                    )
    finally:
        os.close(folder)
    return held


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write manifest.json, replacing an earlier one at once; raises OSError."""
    path = directory / MANIFEST_FILE
    fresh = path.with_suffix(".new")
    try:
        fresh.write_text(manifest_to_json(manifest))
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    fresh.replace(path)


def open_recording(directory: Path, files: Mapping[str, HeldFile]) -> TraceData:
    """Return a recording for decoding; pages are read when they are needed.

    `directory` is only for messages. Raises DecodeError when a part without which nothing can be
    decoded is missing or damaged.
    """
    parts = _Parts(directory, files)
    manifest = parts.manifest()
    header_page = parts.text("header_page")
    long_size = manifest.kernel.long_size
    try:
        data_offset = parse_header_page(header_page).data_offset
        texts = json.loads(parts.text("formats.json"))
        formats = [
            parse_event_format(text, name.partition(":")[0], long_size=long_size)
            for name, text in texts.items()
        ]
    except (FormatError, ValueError, AttributeError) as error:
        where = str(directory / "formats.json")
        raise DecodeError(f"the event formats cannot be read: {error}", file=where) from error
    buffers = []
    for entry in manifest.buffers:
        cpus: dict[int, Pages] = {}
        for cpu in entry.cpus:
            size, held = entry.subbuf_size_bytes, files.get(cpu.file)
            lost = cpu.lost if cpu.unwritten else 0
            cpus[cpu.cpu] = (
                AbsentPages(size, cpu.bytes)
                if held is None
                else FilePages(held, size, 0, -1, cpu.bytes, cpu.unwritten, lost)
            )
        stats = {cpu.cpu: cpu.stats for cpu in entry.cpus}
        # A private instance is the whole recording: it is not named in the outputs.
        buffers.append(Buffer("", entry.clock, entry.subbuf_size_bytes, cpus, stats, entry.tracer))
    kernel = manifest.kernel
    printk_text = parts.text("printk_formats", missing="")
    kallsyms_text = parts.kallsyms()
    return TraceData(
        formats={one.id: one for one in formats},
        byte_order="<" if kernel.byte_order == "little" else ">",
        long_size=kernel.long_size,
        data_offset=data_offset,
        buffers=tuple(buffers),
        cpu_count=kernel.cpu_count,
        header_page_text=header_page,
        header_event_text=parts.text("header_event"),
        cmdlines=parse_cmdlines(parts.text("saved_cmdlines", missing="")),
        tgids=_parse_tgids(parts.text("saved_tgids", missing="")),
        printk_formats=parse_printk_formats(printk_text),
        symbols=KernelSymbols(kallsyms_text) if kallsyms_text else None,
        kallsyms_text=kallsyms_text,
        printk_text=printk_text,
        uname=kernel.uname,
        wall_offset_ns=_wall_offset_ns(manifest, buffers),
        options=manifest.options,
        latency_text=parts.text(LATENCY_FILE, missing=""),
        drifts=manifest.drifts,
    )


def _parse_tgids(text: str) -> dict[int, int]:
    pairs = (line.split() for line in text.splitlines())
    return {
        int(pair[0]): int(pair[1])
        for pair in pairs
        if len(pair) == 2 and pair[0].isdecimal() and pair[1].isdecimal()
    }


def _wall_offset_ns(manifest: Manifest, buffers: Sequence[Buffer]) -> int | None:
    if not buffers or not buffers[0].in_ns:
        return None
    for pair in manifest.clock_pairs:
        if pair.trace_ns is not None:
            return pair.wall_ns - pair.trace_ns
    return None


@dataclass(frozen=True, slots=True)
class _Parts:
    """The files of one recording that are read whole."""

    directory: Path
    files: Mapping[str, HeldFile]

    def manifest(self) -> Manifest:
        try:
            return manifest_from_json(self.text(MANIFEST_FILE))
        except ValueError as error:
            first = str(error).splitlines()[0]
            where = str(self.directory / MANIFEST_FILE)
            raise DecodeError(f"not a manifest of trace-recipe: {first}", file=where) from error

    def text(self, name: str, *, missing: str | None = None) -> str:
        try:
            return self._bytes(name).decode("utf-8", "surrogateescape")
        except OSError as error:
            if missing is not None:
                return missing
            where = str(self.directory / name)
            raise DecodeError(errno_text(error.errno or 0), file=where) from error

    def kallsyms(self) -> str:
        limit = _MAX_KALLSYMS_BYTES
        try:
            data = self._bytes(KALLSYMS_FILE)
            text = zstandard.ZstdDecompressor().decompress(data, max_output_size=limit)
        except (OSError, zstandard.ZstdError):
            return ""  # without symbols addresses stay numbers; the events are all there
        return text.decode("utf-8", "replace")

    def _bytes(self, name: str) -> bytes:
        held = self.files.get(name)
        if held is None:
            raise FileNotFoundError(errno.ENOENT, name)
        return held.read(_MAX_TEXT_BYTES)
