"""What an instance of the real tracefs holds, twice: the kernel's own text, and the raw pages."""

from __future__ import annotations

import io
import os
import re
import sys
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trace_recipe.decoder import decode
from trace_recipe.decoder.print_values import visible
from trace_recipe.events import ArrayPages, Buffer, TraceData
from trace_recipe.formats import parse_event_format, parse_header_page
from trace_recipe.kernel_tables import parse_cmdlines, parse_kallsyms, parse_printk_formats
from trace_recipe.sinks.text import TextSink

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "TRACEFS",
    "assert_equal_text",
    "kernel_lines",
    "put",
    "rendered_lines",
    "saved_cmdlines",
    "trace_data",
]

TRACEFS = Path("/sys/kernel/tracing")
# Before Linux 6.18 the arguments of system calls were in hex without 0x; the newer form is ours.
SYSTEM_CALL_PREFIX = re.compile(r"(?<=: )0x(?=[0-9a-f]+[,)])")
LOST_STRING = re.compile(r"(comm|dev)= |bdi :|gfp_flags=$")  # by Linux 6.1 without hash-ptr
INSIDE_A_NAME = re.compile(r"comm=[^=]*\Z")
EVENT_NAME = re.compile(r"\b\w+: ")
POINTER = re.compile(r"\b[0-9a-f]{16}\b")  # hashed by the kernel


def put(path: Path, text: object) -> None:
    """Write to a control file without truncating it."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, str(text).encode())
    finally:
        os.close(descriptor)


def kernel_lines(directory: Path) -> list[str]:
    """Return the lines of the `trace` file, which reading does not consume.

    Other tasks may have any bytes in their names, line ends too, and the kernel prints them.
    """
    lines: list[str] = []
    for line in (directory / "trace").read_bytes().decode("utf-8", "surrogateescape").split("\n"):
        if lines and INSIDE_A_NAME.search(lines[-1]) and not EVENT_NAME.search(line):
            lines[-1] += f"\n{line}"
        else:
            lines.append(line)
    return list(map(visible, lines))


def saved_cmdlines() -> dict[int, str]:
    """Return the kernel's names of tasks, which may be any bytes."""
    text = (TRACEFS / "saved_cmdlines").read_bytes().decode("utf-8", "surrogateescape")
    return parse_cmdlines(text)


def trace_data(directory: Path) -> TraceData:
    """Consume the raw pages of a stopped instance and return them with everything to print them."""
    header = parse_header_page((directory / "events/header_page").read_text())
    size = header.subbuf_size_bytes
    cpus = sorted(int(path.name[3:]) for path in (directory / "per_cpu").iterdir())
    pages = {cpu: ArrayPages(_read_raw(directory, cpu, size)) for cpu in cpus}
    stats = {cpu: (directory / f"per_cpu/cpu{cpu}/stats").read_text() for cpu in cpus}
    clock = re.search(r"\[(\S+)\]", (directory / "trace_clock").read_text())
    assert clock is not None
    tracer = (directory / "current_tracer").read_text().strip()
    formats = [
        parse_event_format(path.read_text(), path.parent.parent.name)
        for path in (TRACEFS / "events").glob("*/*/format")
    ]
    return TraceData(
        formats={one.id: one for one in formats},
        byte_order="<" if sys.byteorder == "little" else ">",
        long_size=header.long_size,
        data_offset=header.data_offset,
        buffers=(Buffer("", clock[1], size, pages, stats, tracer),),
        cpu_count=len(cpus),
        header_page_text=header.text,
        header_event_text="",
        cmdlines=saved_cmdlines(),
        printk_formats=parse_printk_formats((TRACEFS / "printk_formats").read_text()),
        symbols=parse_kallsyms(Path("/proc/kallsyms").read_text()),
        options={
            path.name: path.read_text().strip() == "1" for path in (directory / "options").iterdir()
        },
    )


def _read_raw(directory: Path, cpu: int, size: int) -> NDArray[np.uint8]:
    path = directory / f"per_cpu/cpu{cpu}/trace_pipe_raw"
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    pages = []
    try:
        while True:
            try:
                page = os.read(descriptor, size)
            except BlockingIOError:
                break
            if not page:
                break
            pages.append(page.ljust(size, b"\0"))
    finally:
        os.close(descriptor)
    return np.frombuffer(b"".join(pages), np.uint8).reshape(-1, size)


def rendered_lines(data: TraceData, *, batch_subbufs: int = 1000) -> list[str]:
    """Return the lines of the text sink."""
    stream = io.BytesIO()
    sink = TextSink(stream)
    sink.begin(data)
    for events in decode(data, batch_subbufs=batch_subbufs):
        sink.write(events)
    sink.end()
    return stream.getvalue().decode().split("\n")


def assert_equal_text(
    directory: Path, *unknowable: re.Pattern[str], in_order: bool = True, batch_subbufs: int = 1000
) -> None:
    """Compare the kernel's text of a stopped instance with ours, line by line; it is consumed.

    What matches a pattern of `unknowable` may differ.
    """
    kernel = kernel_lines(directory)
    patterns = [*unknowable, SYSTEM_CALL_PREFIX]
    if any(LOST_STRING.search(line) for line in kernel):
        put(directory / "options/hash-ptr", 1)
        kernel = kernel_lines(directory)
        patterns.append(POINTER)
    # Reading `trace` shows what is left; only consuming the pages tells what was overwritten.
    rendered = rendered_lines(trace_data(directory), batch_subbufs=batch_subbufs)
    ours = [line for line in rendered if "[LOST " not in line]
    sides = [[_masked(line, patterns) for line in lines] for lines in (kernel, ours)]
    if not in_order:
        sides = [sorted(lines) for lines in sides]
    assert len(kernel) > 50
    found = [pair for pair in zip_longest(*sides, fillvalue="") if pair[0] != pair[1]]
    shown = "\n".join(f"kernel {one}\nours   {two}" for one, two in found[:8])
    assert not found, f"{len(found)} of {len(kernel)} lines differ, lines {len(ours)}\n{shown}"


def _masked(line: str, patterns: list[re.Pattern[str]]) -> str:
    for pattern in patterns:
        line = pattern.sub("", line)
    return line
