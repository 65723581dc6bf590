"""The numbers of trace.dat: magic, section and option ids, and the structs both sides use.

Source: trace-cmd's man pages trace-cmd.dat.v6(5) and trace-cmd.dat.v7(5), checked against files
that trace-cmd 3.1.6 wrote.
"""

from __future__ import annotations

import struct
from enum import IntEnum

__all__ = [
    "FLYRECORD",
    "LATENCY",
    "MAGIC",
    "NO_STRING",
    "OPTIONS",
    "SECTION_COMPRESSED",
    "SECTION_OPTIONS",
    "Option",
    "Structs",
]

MAGIC = b"\x17\x08\x44tracing"
NO_STRING = 0xFFFFFFFF
SECTION_OPTIONS = 0  # the id of an options section; all other sections have their option's id
SECTION_COMPRESSED = 1  # bit of a section's flags
OPTIONS = b"options  \0"  # version 6: what follows is said by ten bytes
FLYRECORD = b"flyrecord\0"
LATENCY = b"latency  \0"


class Option(IntEnum):
    """Ids of options; from BUFFER on those of the sections they point to as well."""

    DONE = 0
    DATE = 1
    CPUSTAT = 2
    BUFFER = 3
    TRACECLOCK = 4
    UNAME = 5
    OFFSET = 7
    CPUCOUNT = 8
    VERSION = 9
    TSC2NSEC = 14
    HEADER_INFO = 16
    FTRACE_EVENTS = 17
    EVENT_FORMATS = 18
    KALLSYMS = 19
    PRINTK = 20
    CMDLINES = 21
    BUFFER_TEXT = 22
    BTF_FILE = 23
    MODULES_FILE = 25


class Structs:
    """The integers and headers of a file in one byte order ("<" or ">")."""

    def __init__(self, byte_order: str) -> None:
        self.u16 = struct.Struct(f"{byte_order}H")
        self.u32 = struct.Struct(f"{byte_order}I")
        self.u64 = struct.Struct(f"{byte_order}Q")
        self.section = struct.Struct(f"{byte_order}HHIQ")  # id, flags, string, size behind it
        self.option = struct.Struct(f"{byte_order}HI")  # id, size behind it
        self.cpu = struct.Struct(f"{byte_order}IQQ")  # version 7: CPU, offset, size
        self.place = struct.Struct(f"{byte_order}QQ")  # version 6: offset, size
        self.chunk = struct.Struct(f"{byte_order}II")  # compressed and plain size
