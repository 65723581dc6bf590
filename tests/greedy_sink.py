"""Sinks that try what no sink may, and tell in their output what came of it."""

import contextlib
import ctypes
import json
import os
import signal
from pathlib import Path

ROOT_ONLY = "/etc/shadow"
STATUS = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")


def _errno_of(action):
    try:
        action()
    except OSError as error:
        return error.errno
    return 0


def _mount_tmpfs():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", b"/mnt", b"tmpfs", 0, None):
        raise OSError(ctypes.get_errno(), "mount")


def attempts():
    """Return what this process is, and the errno of each thing that it tried."""
    lines = Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    return {
        "pid": os.getpid(),
        "status": {name: status[name].split() for name in STATUS},
        "descriptors": {
            int(name): os.readlink(f"/proc/self/fd/{name}")
            for name in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{name}")
        },
        "errnos": {
            "read a file of root's": _errno_of(lambda: os.open(ROOT_ONLY, os.O_RDONLY)),
            "write a file of root's": _errno_of(lambda: os.open("/etc/passwd", os.O_WRONLY)),
            "make a file": _errno_of(lambda: os.open("/etc/greedy", os.O_CREAT | os.O_WRONLY)),
            "open tracefs": _errno_of(
                lambda: os.open("/sys/kernel/tracing/tracing_on", os.O_WRONLY)
            ),
            "become root": _errno_of(lambda: os.setresuid(0, 0, 0)),
            "end the parent": _errno_of(lambda: os.kill(os.getppid(), 0)),
            "mount": _errno_of(_mount_tmpfs),
        },
    }


class GreedySink:
    """Writes one JSON object: what it is, and what it could do."""

    takes_events = True

    def __init__(self, stream, **options):
        self.stream = stream

    def begin(self, data):
        self.stream.write(json.dumps(attempts()).encode() + b"\n")

    def write(self, events):
        pass

    def end(self):
        pass


class NamingSink(GreedySink):
    """Asks for a file outside of its directory."""

    def __init__(self, stream, *, open_file, **options):
        self.open_file = open_file

    def begin(self, data):
        self.open_file("../outside.csv").write(b"outside")


class ManySink(NamingSink):
    """Has one file for each of a thousand types."""

    def begin(self, data):
        self.files = [self.open_file(f"{number}.csv") for number in range(1000)]
        for file in self.files:
            file.write(b"1")

    def end(self):
        for file in self.files:
            file.flush()


class BrokenSink(GreedySink):
    """Has a bug."""

    def begin(self, data):
        self.stream.write(b"half")
        raise ZeroDivisionError("a bug")


class DyingSink(GreedySink):
    """Is killed, as by the kernel when memory is short."""

    def begin(self, data):
        self.stream.write(b"half")
        with contextlib.suppress(OSError):
            os.kill(os.getpid(), signal.SIGKILL)


class LyingSink(GreedySink):
    """Sends the parent what is no result."""

    def begin(self, data):
        os.write(_channel(), b"\xff" * 64)


def _channel():
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                return int(name)
    raise AssertionError("no channel")
