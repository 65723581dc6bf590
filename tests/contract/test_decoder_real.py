"""The decoder against the kernel's own reading of the same buffer, in a private instance."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.trace_text import kernel_lines
from trace_recipe.decoder import LiveDecoder, decode
from trace_recipe.decoder.print_values import visible
from trace_recipe.events import ArrayPages, Buffer, Events, TraceData
from trace_recipe.formats import parse_event_format, parse_header_page

pytestmark = pytest.mark.tracefs

TRACEFS = Path("/sys/kernel/tracing")
EVENTS = (
    "raw_syscalls/sys_enter",
    "raw_syscalls/sys_exit",
    "sched/sched_switch",
    "sched/sched_waking",
)
LINE = re.compile(r"-(\d+)\s+\[(\d+)\] \S+\s+(\d+)\.(\d{6}): (\w+): (.*)$")
SWITCH = re.compile(
    r"prev_comm=(.*) prev_pid=(\d+) prev_prio=-?\d+ prev_state=\S+ ==>"
    r" next_comm=(.*) next_pid=(\d+) next_prio=-?\d+"
)


def put(path, text):
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, str(text).encode())
    finally:
        os.close(descriptor)


@pytest.fixture
def instance():
    directory = TRACEFS / "instances" / f"test-decoder-{os.getpid()}"
    directory.mkdir()
    try:
        put(directory / "tracing_on", 0)
        put(directory / "trace_clock", "mono")  # one clock for all CPUs: the order is defined
        yield directory
    finally:
        put(directory / "tracing_on", 0)
        directory.rmdir()


def record_own_children(instance, rounds):
    """Trace two children that play ping-pong through pipes, and sleep now and then."""
    for event in EVENTS:
        put(instance / f"events/{event}/enable", 1)
    ping, pong, gate = os.pipe(), os.pipe(), os.pipe()
    children = []
    for receive, send in ((ping, pong), (pong, ping)):
        child = os.fork()
        if child == 0:
            os.read(gate[0], 1)
            for turn in range(rounds):
                if send is ping:
                    os.write(send[1], b"x")
                    os.read(receive[0], 1)
                else:
                    os.read(receive[0], 1)
                    os.write(send[1], b"x")
                if turn % 50 == 0:
                    os.sched_yield()
            os._exit(0)
        children.append(child)
    put(instance / "set_event_pid", " ".join(map(str, children)))
    # Who else is switched away from may have a name that is no text.
    own = " || ".join(f"common_pid == {pid}" for pid in (0, *children))
    for event in ("sched_switch", "sched_waking"):
        put(instance / f"events/sched/{event}/filter", own)
    put(instance / "tracing_on", 1)
    os.write(gate[1], b"go")
    for child in children:
        os.waitpid(child, 0)
    put(instance / "tracing_on", 0)
    for descriptor in (*ping, *pong, *gate):
        os.close(descriptor)


def read_raw(instance, cpu, size):
    pages = []
    descriptor = os.open(instance / f"per_cpu/cpu{cpu}/trace_pipe_raw", os.O_RDONLY | os.O_NONBLOCK)
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


def trace_data(instance):
    header = parse_header_page((instance / "events/header_page").read_text())
    formats = {}
    for event in EVENTS:
        text = (instance / f"events/{event}/format").read_text()
        one = parse_event_format(text, event.partition("/")[0])
        formats[one.id] = one
    size = header.subbuf_size_bytes
    cpus = sorted(int(path.name[3:]) for path in (instance / "per_cpu").iterdir())
    pages = {cpu: ArrayPages(read_raw(instance, cpu, size)) for cpu in cpus}
    return TraceData(
        formats, "<" if sys.byteorder == "little" else ">", header.long_size, header.data_offset,
        (Buffer("", "mono", size, pages),), len(cpus), header.text, "",
    )  # fmt: skip


def text_of(raw):
    return visible(raw.tobytes().partition(b"\0")[0].decode("utf-8", "surrogateescape"))


def lines_of(batches):
    """(pid, cpu, microseconds, event, what the event says) in order, like the trace file's."""
    lines: list[tuple[object, ...]] = []
    for events in batches:
        assert not events.gaps
        assert not events.damages
        batch: list[tuple[object, ...]] = [()] * events.count
        for columns in events:
            pids, own = columns.column("common_pid"), columns.format.name
            fields = {one.name: columns.column(one.name) for one in columns.format.fields}
            for index in range(columns.count):
                row = {name: values[index] for name, values in fields.items()}
                microseconds = (int(columns.timestamp_ns[index]) + 500) // 1000
                batch[int(columns.position[index])] = (
                    int(pids[index]), int(columns.cpu[index]), microseconds, own, said(own, row),
                )  # fmt: skip
        lines.extend(batch)
    return lines


def said(name, row):
    if name == "sys_enter":
        arguments = ", ".join(f"{int(one):x}" for one in row["args"])
        return f"NR {row['id']} ({arguments})"
    if name == "sys_exit":
        return f"NR {row['id']} = {row['ret']}"
    if name == "sched_waking":
        return (
            f"comm={text_of(row['comm'])} pid={row['pid']} prio={row['prio']} "
            f"target_cpu={row['target_cpu']:03d}"
        )
    return f"{text_of(row['prev_comm'])} {row['prev_pid']} {text_of(row['next_comm'])} {row['next_pid']}"


def lines_of_kernel(texts):
    lines = []
    for text in filter(None, texts):
        if text.startswith("#"):
            continue
        found = LINE.search(text)
        assert found, text
        pid, cpu, seconds, micros, name, rest = found.groups()
        if name == "sched_switch":
            rest = " ".join(SWITCH.fullmatch(rest).groups())
        lines.append((int(pid), int(cpu), int(seconds) * 1_000_000 + int(micros), name, rest))
    return lines


@pytest.mark.parametrize("subbuf_kb", [4, 64])
@pytest.mark.parametrize("batch", [1, 1000])
def test_every_event_is_the_kernels_own_in_count_order_time_and_fields(instance, subbuf_kb, batch):
    if not (instance / "buffer_subbuf_size_kb").exists():
        pytest.skip("this kernel has sub-buffers of one page only")
    put(instance / "buffer_subbuf_size_kb", subbuf_kb)
    put(instance / "buffer_size_kb", 8192)
    record_own_children(instance, 700)
    expected = lines_of_kernel(kernel_lines(instance))
    data = trace_data(instance)
    assert data.buffers[0].subbuf_size_bytes == subbuf_kb * 1024
    assert len(expected) > 5000
    assert {line[3] for line in expected} >= {
        "sys_enter",
        "sys_exit",
        "sched_switch",
        "sched_waking",
    }
    assert lines_of(decode(data, batch_subbufs=batch)) == expected


def test_live_decoding_gives_the_same_events(instance):
    put(instance / "buffer_size_kb", 8192)
    record_own_children(instance, 300)
    data = trace_data(instance)
    live = LiveDecoder(data)
    pages = {(0, cpu): one for cpu, one in data.buffers[0].cpus.items()}
    times = np.sort(np.concatenate([one.timestamp_ns for events in decode(data) for one in events]))
    batches: list[Events] = []
    for part in (1, 2, 3):
        batches += live.take(int(times[len(times) * part // 4]), pages)
    batches += live.finish(pages)
    assert lines_of(batches) == lines_of(decode(data))


def test_an_overrun_buffer_gives_a_gap_with_the_kernels_own_count(instance):
    put(instance / "buffer_size_kb", 64)
    record_own_children(instance, 2500)
    data = trace_data(instance)
    gaps = [gap for events in decode(data) for gap in events.gaps]
    overrun = {}
    for cpu in data.buffers[0].cpus:
        stats = (instance / f"per_cpu/cpu{cpu}/stats").read_text()
        (count,) = re.findall(r"^overrun: (\d+)", stats, re.MULTILINE)
        overrun[cpu] = int(count)
    assert any(overrun.values())
    assert {gap.cpu for gap in gaps} == {cpu for cpu, count in overrun.items() if count}
    for gap in gaps:
        assert gap.count in {None, overrun[gap.cpu]}
