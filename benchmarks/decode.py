"""Measure the decoder on events that this script records of its own getppid loops.

Needs root and tracefs; traces own processes only, in an own instance that it removes.
Usage: python benchmarks/decode.py [--events N] [--rounds N] [--subbuf-kb N]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "runner"))

from trace_recipe.decoder import decode
from trace_recipe.decoder.pages import PageLayout, scan
from trace_recipe.events import ArrayPages, Buffer, TraceData
from trace_recipe.formats import FieldKind, parse_event_format, parse_header_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trace_recipe.formats import EventFormat

TRACEFS = Path("/sys/kernel/tracing")
EVENTS = ("raw_syscalls/sys_enter", "raw_syscalls/sys_exit")
BYTES_PER_EVENT = 52  # sys_enter has 68, sys_exit 28; and some room


def put(path: Path, text: str) -> None:
    """Write without O_TRUNC, which means something else in several control files."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def private_instance() -> Iterator[Path]:
    directory = TRACEFS / "instances" / f"benchmark-decode-{os.getpid()}"
    directory.mkdir()
    try:
        yield directory
    finally:
        with contextlib.suppress(OSError):
            put(directory / "tracing_on", "0")
        directory.rmdir()


def run_load(cpu: int, calls: int, instance: Path) -> None:
    """Fork a child that calls getppid on one CPU, traced."""
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, {cpu})
        put(instance / "set_event_pid", str(os.getpid()))
        put(instance / "tracing_on", "1")
        for _ in range(calls):
            os.getppid()
        os._exit(0)
    os.waitpid(child, 0)
    put(instance / "tracing_on", "0")


def read_pages(instance: Path, cpu: int, size: int) -> np.ndarray:
    pages = []
    path = instance / f"per_cpu/cpu{cpu}/trace_pipe_raw"
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
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


def record(event_count: int, subbuf_kb: int) -> TraceData:
    cpus = sorted(os.sched_getaffinity(0))
    with private_instance() as instance:
        put(instance / "tracing_on", "0")
        put(instance / "buffer_subbuf_size_kb", str(subbuf_kb))
        put(instance / "buffer_size_kb", str(event_count // len(cpus) * BYTES_PER_EVENT // 1024))
        formats: dict[int, EventFormat] = {}
        for event in EVENTS:
            text = (instance / f"events/{event}/format").read_text()
            one = parse_event_format(text, event.partition("/")[0])
            formats[one.id] = one
            put(instance / f"events/{event}/enable", "1")
        header_text = (instance / "events/header_page").read_text()
        header = parse_header_page(header_text)
        for cpu in cpus:
            run_load(cpu, event_count // len(cpus) // 2, instance)
        size = header.subbuf_size_bytes
        pages = {cpu: ArrayPages(read_pages(instance, cpu, size)) for cpu in cpus}
    buffer = Buffer("", "local", size, pages)
    return TraceData(
        formats, "<" if sys.byteorder == "little" else ">", header.long_size, header.data_offset,
        (buffer,), len(cpus), header_text, "",
    )  # fmt: skip


def interleave(data: TraceData) -> TraceData:
    """Make the CPUs, recorded one after another, overlap in time: shift all to the same start."""
    cpus = {}
    for cpu, pages in data.buffers[0].cpus.items():
        moved = pages.read(0, pages.count).copy()
        stamps = moved[:, :8].view("=u8")
        stamps -= stamps[0]
        cpus[cpu] = ArrayPages(moved)
    buffer = Buffer("", "local", data.buffers[0].subbuf_size_bytes, cpus)
    return TraceData(
        data.formats, data.byte_order, data.long_size, data.data_offset, (buffer,),
        data.cpu_count, "", "",
    )  # fmt: skip


def scan_only(data: TraceData) -> int:
    layout = PageLayout(data.byte_order, data.long_size, data.data_offset)
    return sum(
        scan(pages.read(first, 1000), layout).count
        for pages in data.buffers[0].cpus.values()
        for first in range(0, pages.count, 1000)
    )


def merge_only(data: TraceData) -> int:
    return sum(events.count for events in decode(data))


def all_columns(data: TraceData) -> int:
    count = 0
    for events in decode(data):
        for columns in events:
            for field in columns.format.all_fields:
                if field.kind in {FieldKind.SCALAR, FieldKind.ARRAY}:
                    columns.column(field.name)
        count += events.count
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_500_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--subbuf-kb", type=int, default=4)
    options = parser.parse_args()
    data = interleave(record(options.events, options.subbuf_kb))
    pages = sum(one.count for one in data.buffers[0].cpus.values())
    print(f"{pages} sub-buffers of {options.subbuf_kb} KiB, {scan_only(data)} events")
    for name, work in (("scan", scan_only), ("merge", merge_only), ("all columns", all_columns)):
        rates = []
        for _ in range(options.rounds):
            start = time.process_time()
            count = work(data)
            rates.append(count / (time.process_time() - start) / 1e6)
        print(f"{name:12} {statistics.median(rates):6.1f} M events/s  (best {max(rates):.1f})")


if __name__ == "__main__":
    main()
