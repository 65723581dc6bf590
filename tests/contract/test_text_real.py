"""The text sink against the kernel's own `trace` file, in a private instance, line by line."""

import ctypes
import os
import re
import socket
import subprocess
import tempfile
import time

import pytest

from tests.trace_text import (
    TRACEFS,
    assert_equal_text,
    kernel_lines,
    put,
)

pytestmark = pytest.mark.tracefs

PR_SET_NAME = 15

GROUPS = {
    "scheduling": ("sched", "irq", "timer", "signal", "task", "workqueue", "power"),
    "system calls": ("syscalls", "raw_syscalls"),
    "memory and files": (
        "kmem", "filemap", "exceptions", "ext4", "block", "writeback", "jbd2", "filelock",
    ),
    "network": ("net", "skb", "sock", "tcp", "udp", "napi", "qdisc", "fib"),
}  # fmt: skip
# What the trace cannot tell, printed as formats.md says: a kernel variable reads as 0.
UNKNOWABLE = (
    re.compile(r"\bpage=[0-9a-f]+"),  # vmemmap_base + pfn * sizeof(struct page)
    re.compile(r"\bage=\d+"),  # jiffies of the moment of reading
)


@pytest.fixture
def instance():
    directory = TRACEFS / "instances" / f"test-text-{os.getpid()}"
    directory.mkdir()
    try:
        put(directory / "tracing_on", 0)
        put(directory / "trace_clock", "mono")  # one clock for all CPUs: the order is defined
        put(directory / "options/hash-ptr", 0)
        put(directory / "options/annotate", 0)
        put(directory / "options/event-fork", 1)
        put(directory / "buffer_size_kb", 8192)
        yield directory
    finally:
        put(directory / "tracing_on", 0)
        directory.rmdir()


def rename_this_task(name):
    ctypes.CDLL(None).prctl(PR_SET_NAME, name, 0, 0, 0)


def work(directory):
    """Files, sockets, children, signals and marks of one process."""
    with tempfile.TemporaryDirectory() as place:
        for number in range(10):
            path = f"{place}/{number}"
            with open(path, "wb") as file:
                file.write(b"x" * 5000)
            os.rename(path, f"{path}-renamed")
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    accepted, _ = server.accept()
    client.send(b"ping")
    accepted.recv(4)
    for one in (client, accepted, server):
        one.close()
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9))
    subprocess.run(["/bin/true"], check=True)
    put(directory / "trace_marker", "a line\n")
    put(directory / "trace_marker", "no newline")
    descriptor = os.open(directory / "trace_marker_raw", os.O_WRONLY)
    os.write(descriptor, b"\x07\0\0\0abc")
    os.close(descriptor)
    for _ in range(60):  # two switches each, however idle the machine is
        time.sleep(0.001)


def record(directory, events, *, task=None, trigger=""):
    """Trace a child at work, and its children; a trigger adds stack traces to its switches."""
    for name in events:
        if (directory / f"events/{name}/enable").exists():
            put(directory / f"events/{name}/enable", 1)
    gate, opener = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(gate, 1)
        if task is not None:
            rename_this_task(task)
        work(directory)
        os._exit(0)
    put(directory / "set_event_pid", child)
    # Who else is switched away from, or wakes a task, may have a name that is no text.
    own = f"common_pid == {child} || common_pid == 0"
    put(directory / "events/sched/filter", own)
    if trigger:
        put(directory / "events/sched/sched_switch/trigger", f"{trigger} if {own}")
    put(directory / "tracing_on", 1)
    os.write(opener, b"x")
    _, status = os.waitpid(child, 0)
    put(directory / "tracing_on", 0)
    os.close(gate)
    os.close(opener)
    assert status == 0


@pytest.mark.parametrize("group", GROUPS)
def test_every_line_is_the_kernels_own(instance, group):
    record(instance, GROUPS[group])
    assert_equal_text(instance, *UNKNOWABLE)


def test_stack_traces_of_a_trigger_are_printed_as_the_kernel_does(instance):
    record(instance, ("sched",), trigger="stacktrace")
    assert "<stack trace>" in "".join(kernel_lines(instance))
    assert_equal_text(instance, *UNKNOWABLE)


def test_a_task_whose_name_is_no_text_is_printed_with_its_bytes_escaped(instance):
    record(instance, ("sched",), task=b"\x9b[2J\xff")
    assert "\\x9b[2J\\xff" in "".join(kernel_lines(instance))
    # The kernel aligns by bytes, we by what is shown of them.
    assert_equal_text(instance, *UNKNOWABLE, re.compile(r"^ +"))


@pytest.mark.parametrize("option", ["irq-info", "context-info"])
def test_columns_that_an_option_takes_away_are_not_there(instance, option):
    if not (instance / "options" / option).exists():
        pytest.skip(f"no option {option}")
    put(instance / "options" / option, 0)
    record(instance, ("sched",))
    assert_equal_text(instance, *UNKNOWABLE)


@pytest.mark.parametrize("clock", ["local", "counter", "boot"])
def test_times_are_seconds_or_ticks_as_the_clock_counts(instance, clock):
    put(instance / "trace_clock", clock)
    record(instance, ("sched",))
    assert_equal_text(instance, in_order=False)
