"""Small TraceData of any byte order, long size and shape, for the tests of trace.dat."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np

from trace_recipe.events import ArrayPages, Buffer, TraceData
from trace_recipe.formats import parse_event_format
from trace_recipe.kernel_tables import parse_kallsyms, parse_printk_formats
from trace_recipe.trace_dat import write_trace_dat

__all__ = ["KALLSYMS", "PRINTK", "contents", "make_buffer", "make_data", "make_pages", "written"]

COMMON = """\
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;
"""
HEADER_EVENT = "# compressed entry header\n\ttype_len    :    5 bits\n"
KALLSYMS = """\
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000100 t first_function
ffffffff81000200 t second_function\t[module]
"""
PRINTK = '0xffffffff82000000 : "value %d\\n"\n0xffffffff82000010 : "say \\"\\t\\""\n'


def format_text(name, event_id):
    return (
        f"name: {name}\nID: {event_id}\nformat:\n{COMMON}\n"
        "\tfield:int value;\toffset:8;\tsize:4;\tsigned:1;\n\n"
        'print fmt: "value=%d", REC->value\n'
    )


def header_page(long_size, size):
    offset = 8 + long_size
    return (
        "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n"
        f"\tfield: local_t commit;\toffset:8;\tsize:{long_size};\tsigned:1;\n"
        "\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n"
        f"\tfield: char data;\toffset:{offset};\tsize:{size - offset};\tsigned:0;\n"
    )


def make_pages(count, *, size, order="<", long_size=8, first=0):
    """Return `count` sub-buffers; each has as many records of event 7 as there is room for."""
    rows = []
    room = (size - 8 - long_size) // 16
    for page in range(count):
        start = 1_000_000_000 * (page + 1) + first
        header = struct.pack(f"{order}Q{'Q' if long_size == 8 else 'I'}", start, room * 16)
        records = b""
        for record in range(room):
            delta = 0 if record == 0 else 1000
            word = delta << 5 | 3 if order == "<" else 3 << 27 | delta
            value = page * 1000 + record
            records += struct.pack(f"{order}IHBBii", word, 7, 0, 0, 42, value)
        rows.append((header + records).ljust(size, b"\0"))
    return ArrayPages(np.frombuffer(b"".join(rows), np.uint8).reshape(count, size))


def make_buffer(name="", *, size=4096, cpus=(0, 1), count=3, clock="mono", first=0, **layout):
    pages = {
        cpu: make_pages(count + index, size=size, first=first + index * 500, **layout)
        for index, cpu in enumerate(cpus)
    }
    return Buffer(name, clock, size, pages, {cpu: f"entries: {cpu}\n" for cpu in cpus})


def make_data(
    *buffers: Buffer, order: str = "<", long_size: int = 8, cpu_count: int = 4, **changes: Any
) -> TraceData:
    if not buffers:
        buffers = (make_buffer(order=order, long_size=long_size),)
    formats = [
        parse_event_format(format_text("number", 7), "sample", long_size=long_size),
        parse_event_format(format_text("other", 8), "second", long_size=long_size),
        parse_event_format(format_text("print", 5), "ftrace", long_size=long_size),
    ]
    values: dict[str, Any] = {
        "cmdlines": {42: "the task", 7: "back\udcffslash"},
        "printk_formats": parse_printk_formats(PRINTK),
        "symbols": parse_kallsyms(KALLSYMS),
        "kallsyms_text": KALLSYMS,
        "printk_text": PRINTK,
        "uname": "Linux test 6.1 x86_64",
        **changes,
    }
    return TraceData(
        formats={one.id: one for one in formats},
        byte_order=order,
        long_size=long_size,
        data_offset=8 + long_size,
        buffers=buffers,
        cpu_count=cpu_count,
        header_page_text=header_page(long_size, buffers[0].subbuf_size_bytes),
        header_event_text=HEADER_EVENT,
        **values,
    )


def written(data, **options):
    """Return the bytes of a trace.dat."""
    stream = io.BytesIO()
    write_trace_dat(stream, data, **options)
    return stream.getvalue()


def contents(buffer):
    """Return all sub-buffers by CPU as bytes."""
    return {cpu: pages.read(0, pages.count).tobytes() for cpu, pages in buffer.cpus.items()}
