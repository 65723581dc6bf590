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

import errno
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import zstandard

from trace_recipe.errors import DecodeError, errno_text
from trace_recipe.events import Buffer, TraceData
from trace_recipe.formats import EventFormat, FormatError, parse_event_format, parse_header_page
from trace_recipe.kernel_tables import (
    KernelSymbols,
    parse_cmdlines,
    parse_printk_formats,
)
from trace_recipe.manifest import Manifest, manifest_from_json, manifest_to_json
from trace_recipe.page_files import FilePages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trace_recipe.events import Pages

__all__ = [
    "KALLSYMS_FILE",
    "LATENCY_FILE",
    "MANIFEST_FILE",
    "is_recording",
    "make_trace_data",
    "open_recording",
    "read_manifest",
    "write_manifest",
]

MANIFEST_FILE = "manifest.json"
KALLSYMS_FILE = "kallsyms.zst"
LATENCY_FILE = "latency_trace"
_MAX_KALLSYMS_BYTES = 256 << 20
_MAX_TEXT_BYTES = 256 << 20


def is_recording(path: Path) -> bool:
    """Whether the directory holds a manifest."""
    return (path / MANIFEST_FILE).is_file()


def read_manifest(directory: Path) -> Manifest:
    """Read manifest.json; raises DecodeError."""
    path = directory / MANIFEST_FILE
    try:
        return manifest_from_json(path.read_text())
    except OSError as error:
        raise DecodeError(errno_text(error.errno or 0), file=str(path)) from error
    except ValueError as error:
        first = str(error).splitlines()[0]
        raise DecodeError(f"not a manifest of trace-recipe: {first}", file=str(path)) from error


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write manifest.json, replacing an earlier one at once."""
    path = directory / MANIFEST_FILE
    fresh = path.with_suffix(".new")
    fresh.write_text(manifest_to_json(manifest))
    fresh.replace(path)


def open_recording(directory: Path) -> TraceData:
    """Open a recording for decoding; pages are read when they are needed.

    Raises DecodeError when a part without which nothing can be decoded is missing or damaged.
    """
    manifest = read_manifest(directory)
    header_page = _text(directory, "header_page")
    long_size = manifest.kernel.long_size
    try:
        data_offset = parse_header_page(header_page).data_offset
        texts = json.loads(_text(directory, "formats.json"))
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
            path = directory / Path(cpu.file).name
            cpus[cpu.cpu] = FilePages(
                path,
                subbuf_size_bytes=entry.subbuf_size_bytes,
                size_bytes=path.stat().st_size if path.is_file() else 0,
                expected_bytes=cpu.bytes,
            )
        stats = {cpu.cpu: cpu.stats for cpu in entry.cpus}
        # A private instance is the whole recording: it is not named in the outputs.
        buffers.append(Buffer("", entry.clock, entry.subbuf_size_bytes, cpus, stats, entry.tracer))
    return make_trace_data(
        manifest,
        formats={one.id: one for one in formats},
        buffers=tuple(buffers),
        data_offset=data_offset,
        header_page_text=header_page,
        header_event_text=_text(directory, "header_event"),
        cmdlines_text=_text(directory, "saved_cmdlines", missing=""),
        tgids_text=_text(directory, "saved_tgids", missing=""),
        printk_text=_text(directory, "printk_formats", missing=""),
        kallsyms_text=_kallsyms(directory),
        latency_text=_text(directory, LATENCY_FILE, missing=""),
    )


def make_trace_data(
    manifest: Manifest,
    *,
    formats: Mapping[int, EventFormat],
    buffers: tuple[Buffer, ...],
    data_offset: int,
    header_page_text: str,
    header_event_text: str,
    cmdlines_text: str,
    tgids_text: str,
    printk_text: str,
    kallsyms_text: str,
    latency_text: str = "",
) -> TraceData:
    """Put the parsed texts of one recording together."""
    kernel = manifest.kernel
    return TraceData(
        formats=formats,
        byte_order="<" if kernel.byte_order == "little" else ">",
        long_size=kernel.long_size,
        data_offset=data_offset,
        buffers=buffers,
        cpu_count=kernel.cpu_count,
        header_page_text=header_page_text,
        header_event_text=header_event_text,
        cmdlines=parse_cmdlines(cmdlines_text),
        tgids=_parse_tgids(tgids_text),
        printk_formats=parse_printk_formats(printk_text),
        symbols=KernelSymbols(kallsyms_text) if kallsyms_text else None,
        kallsyms_text=kallsyms_text,
        printk_text=printk_text,
        uname=kernel.uname,
        wall_offset_ns=_wall_offset_ns(manifest, buffers),
        options=manifest.options,
        latency_text=latency_text,
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


def _kallsyms(directory: Path) -> str:
    path = directory / KALLSYMS_FILE
    try:
        data = _bytes(path)
        text = zstandard.ZstdDecompressor().decompress(data, max_output_size=_MAX_KALLSYMS_BYTES)
    except FileNotFoundError:
        return ""
    except (OSError, zstandard.ZstdError):
        return ""  # without symbols addresses stay numbers; the events are all there
    return text.decode("utf-8", "replace")


def _text(directory: Path, name: str, *, missing: str | None = None) -> str:
    path = directory / name
    try:
        return _bytes(path).decode("utf-8", "surrogateescape")
    except OSError as error:
        if missing is not None:
            return missing
        raise DecodeError(errno_text(error.errno or 0), file=str(path)) from error


def _bytes(path: Path) -> bytes:
    """Read a regular file: a recording from elsewhere may hold a pipe or a link to /dev/zero."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:  # noqa: PTH123 - of a descriptor
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return stream.read(_MAX_TEXT_BYTES)
