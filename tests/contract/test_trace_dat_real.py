"""Debian's trace-cmd reads what we write, and we read what it writes; on a real recording."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.requirements import need, need_command
from tests.trace_dat_cases import make_buffer, make_data
from tests.trace_text import saved_cmdlines
from trace_recipe.decoder import decode
from trace_recipe.events import ArrayPages, Buffer, TraceData
from trace_recipe.formats import parse_event_format, parse_header_page
from trace_recipe.held_files import hold_file
from trace_recipe.kernel_tables import parse_cmdlines, parse_kallsyms, parse_printk_formats
from trace_recipe.trace_dat import read_trace_dat, write_trace_dat

pytestmark = pytest.mark.tracefs

TRACING = Path("/sys/kernel/tracing")
EVENTS = (
    "sched:sched_switch",
    "sched:sched_waking",
    "syscalls:sys_enter_getppid",
    "syscalls:sys_exit_getppid",
    "syscalls:sys_enter_openat",
    "syscalls:sys_exit_openat",
)
# The names of other tasks may hold line ends, and trace-cmd prints them as they are.
PREV, NEXT, WOKEN = (
    f"({name} == 0 || {name} == {os.getpid()})" for name in ("prev_pid", "next_pid", "pid")
)
FILTERS = {"sched/sched_switch": f"{PREV} && {NEXT}", "sched/sched_waking": WOKEN}
VARIANTS = [(7, "zstd"), (7, "none"), (6, "none")]
TIMEOUT_S = 60


class Instance:
    """A private instance, removed at the end whatever happens."""

    def __init__(self, name: str, *, subbuf_size_kb: int = 4):
        self.name = name
        self.path = TRACING / "instances" / name
        self.subbuf_size_kb = subbuf_size_kb

    def __enter__(self):
        self.path.mkdir()
        try:
            self.write("tracing_on", "0")
            self.write("buffer_subbuf_size_kb", str(self.subbuf_size_kb))
            self.write("trace_clock", "mono")
            self.write("set_event_pid", str(os.getpid()))
            for event, text in FILTERS.items():
                self.write(f"events/{event}/filter", text)
            for event in EVENTS:
                self.write(f"events/{event.replace(':', '/')}/enable", "1")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for _attempt in range(50):
            try:
                self.path.rmdir()
            except OSError:
                time.sleep(0.1)
            else:
                return
        self.path.rmdir()

    def write(self, name, value):
        descriptor = os.open(self.path / name, os.O_WRONLY)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)

    def record(self, load):
        """Return the buffer that `load` fills, with a marker at its start and at its end."""
        self.write("tracing_on", "1")
        self.write("trace_marker", f"begin {self.name}\n")
        load()
        self.write("trace_marker", f"end {self.name}\n")
        self.write("tracing_on", "0")
        header = parse_header_page((self.path / "events/header_page").read_text())
        size = header.subbuf_size_bytes
        assert size == self.subbuf_size_kb << 10
        cpus, stats = {}, {}
        for directory in sorted((self.path / "per_cpu").iterdir()):
            cpu = int(directory.name.removeprefix("cpu"))
            pages = []
            descriptor = os.open(directory / "trace_pipe_raw", os.O_RDONLY | os.O_NONBLOCK)
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
            if pages:
                cpus[cpu] = ArrayPages(np.frombuffer(b"".join(pages), np.uint8).reshape(-1, size))
            stats[cpu] = (directory / "stats").read_text()
        return header, Buffer(self.name, "mono", size, cpus, stats)


def busy():
    """Make some thousands of system calls and some switches of this process."""
    threads = [threading.Thread(target=time.sleep, args=(0.01,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3000):
        os.getppid()
    for _ in range(20):
        os.close(os.open("/proc/self/comm", os.O_RDONLY))
        time.sleep(0.0002)
    for thread in threads:
        thread.join()


def trace_data(header, *buffers):
    ftrace = [one.name for one in (TRACING / "events/ftrace").iterdir() if one.is_dir()]
    names = [name.split(":") for name in (*EVENTS, *(f"ftrace:{name}" for name in ftrace))]
    formats = [
        parse_event_format((TRACING / "events" / system / name / "format").read_text(), system)
        for system, name in names
    ]
    kallsyms = Path("/proc/kallsyms").read_text()
    printk = (TRACING / "printk_formats").read_text()
    cmdlines = saved_cmdlines()
    return TraceData(
        formats={one.id: one for one in formats},
        byte_order="<",
        long_size=header.long_size,
        data_offset=header.data_offset,
        buffers=buffers,
        cpu_count=os.cpu_count() or 1,
        header_page_text=header.text,
        header_event_text=(TRACING / "events/header_event").read_text(),
        cmdlines={**cmdlines, os.getpid(): "own process"},
        printk_formats=parse_printk_formats(printk),
        symbols=parse_kallsyms(kallsyms),
        kallsyms_text=kallsyms,
        printk_text=printk,
        uname=" ".join(os.uname()),
    )


@pytest.fixture(scope="module")
def recorded():
    is_there = os.geteuid() == 0 and (TRACING / "instances").is_dir()
    need("tracefs", is_there=is_there, reason="no tracefs that we may write")
    with Instance(f"test-dat-{os.getpid()}") as instance:
        return trace_data(*instance.record(busy))


@pytest.fixture(scope="module")
def two_instances():
    is_there = os.geteuid() == 0 and (TRACING / "instances").is_dir()
    need("tracefs", is_there=is_there, reason="no tracefs that we may write")
    with (
        Instance(f"test-dat-a{os.getpid()}") as first,
        Instance(f"test-dat-b{os.getpid()}", subbuf_size_kb=16) as second,
    ):
        header, one = first.record(busy)
        return trace_data(header, one, second.record(busy)[1])


def written(data, path, version, compression):
    with path.open("wb") as stream:
        write_trace_dat(stream, data, version=version, compression=compression)
    return path


def run_trace_cmd(*arguments):
    command = [need_command("trace-cmd"), *map(str, arguments)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Debian's plugins complain about formats that are not in the file; nothing else may be said.
    assert not re.search(r"unknown|truncat|fail|bad page|error", done.stderr, re.IGNORECASE)
    return done.stdout


def report(path, *options):
    """Return the lines of events: (comm, pid, cpu, time, event name, instance)."""
    found = []
    for line in run_trace_cmd("report", *options, path).splitlines():
        match = re.match(r"(?:\s*(\S+):\s)?\s*(.+)-(\d+)\s+\[(\d+)\]\s+([\d.]+):\s+(\w+):", line)
        if match:
            pid, cpu = int(match[3]), int(match[4])
            found.append((match[2], pid, cpu, match[5], match[6], match[1] or ""))
        else:
            assert line.startswith("cpus="), line
    return found


def records(data, buffer):
    """Return (time, cpu, pid, event name) of all records; a second decoder, as plain as can be."""
    found = []
    for cpu, pages in buffer.cpus.items():
        for page in pages.read(0, pages.count):
            content = page.tobytes()
            now = int.from_bytes(content[:8], "little")
            place = 16
            end = 16 + (int.from_bytes(content[8:16], "little") & 0x07FFFFFF)
            while place < end:
                word = int.from_bytes(content[place : place + 4], "little")
                kind, delta = word & 31, word >> 5
                extra = int.from_bytes(content[place + 4 : place + 8], "little")
                if kind >= 29:
                    now = delta + (extra << 27 if kind > 29 else now) + (now if kind == 30 else 0)
                    place += 8 if kind > 29 else 4 + extra if delta else end
                    continue
                now += delta
                payload = place + (8 if kind == 0 else 4)
                event = int.from_bytes(content[payload : payload + 2], "little")
                pid = int.from_bytes(content[payload + 4 : payload + 8], "little")
                found.append((now, cpu, pid, data.formats[event].name))
                place += 4 + (kind * 4 if kind else (extra + 3) & ~3)
    return sorted(found)


def seconds(time_ns):
    return f"{(time_ns + 500) // 1000 / 1_000_000:.6f}"


@pytest.mark.parametrize(("version", "compression"), VARIANTS)
def test_trace_cmd_reports_every_event_we_wrote_in_order_with_its_comm_and_time(
    recorded, tmp_path, version, compression
):
    path = written(recorded, tmp_path / "trace.dat", version, compression)
    expected = records(recorded, recorded.buffers[0])
    assert len(expected) > 6000

    for options in (["-N"], []):
        lines = report(path, *options)
        names = [line[4] for line in lines]
        assert [line[3] for line in lines] == [seconds(time) for time, *_ in expected]
        assert [line[1:3] for line in lines] == [(pid, cpu) for _, cpu, pid, _ in expected]
        assert names == [name for *_, name in expected]
        comms = {line[0] for line in lines if line[1] == os.getpid()}
        assert comms == {"own process"}
    text = run_trace_cmd("report", path)
    assert f"begin {recorded.buffers[0].name}" in text
    assert "FAILED" not in text


@pytest.mark.parametrize(("version", "compression"), VARIANTS)
def test_a_task_with_a_blank_name_costs_no_other_task_its_own(
    recorded, tmp_path, version, compression
):
    cmdlines = parse_cmdlines(f"1 \t\n{os.getpid()} own process\n")
    data = replace(recorded, cmdlines=cmdlines)

    lines = report(written(data, tmp_path / "trace.dat", version, compression), "-N")
    assert {line[0] for line in lines if line[1] == os.getpid()} == {"own process"}


@pytest.mark.parametrize(("version", "compression"), VARIANTS)
def test_symbols_clock_statistics_and_uname_arrive(recorded, tmp_path, version, compression):
    path = written(recorded, tmp_path / "trace.dat", version, compression)

    options = run_trace_cmd("dump", "--options", path)
    assert os.uname().release in options
    assert "[mono]" in run_trace_cmd("dump", "--clock", path)
    assert "trace-recipe" in options
    assert options.count("dropped events") == len(recorded.buffers[0].stats)
    assert "tracing_mark_write" in run_trace_cmd("report", "-N", path)
    symbols = run_trace_cmd("dump", "--kallsyms", path)
    assert recorded.kallsyms_text.strip() in symbols


def convert(source, target, version, compression):
    packing = ["--compression", compression] if version == 7 else []
    run_trace_cmd("convert", "-i", source, "-o", target, "--file-version", version, *packing)


@pytest.mark.parametrize(("version", "compression"), VARIANTS)
@pytest.mark.parametrize(("target", "packing"), VARIANTS)
def test_what_trace_cmd_converts_we_read_and_write_again_unchanged(
    recorded, tmp_path, version, compression, target, packing
):
    ours = written(recorded, tmp_path / "ours.dat", version, compression)
    theirs = tmp_path / "theirs.dat"
    convert(ours, theirs, target, packing)

    data = read_trace_dat(hold_file(theirs))
    top, *others = data.buffers
    assert others == []
    assert (top.clock, top.subbuf_size_bytes) == ("mono", 4096)
    assert top.stats == recorded.buffers[0].stats
    assert records(data, top) == records(recorded, recorded.buffers[0])
    assert data.formats == recorded.formats
    assert data.cmdlines == recorded.cmdlines
    assert data.kallsyms_text == recorded.kallsyms_text
    assert data.printk_formats == recorded.printk_formats
    assert data.uname == recorded.uname

    again = written(data, tmp_path / "again.dat", target, packing)
    assert report(again, "-N") == report(ours, "-N")


def test_what_trace_cmd_splits_off_we_read(recorded, tmp_path):
    ours = written(recorded, tmp_path / "ours.dat", 7, "none")
    expected = records(recorded, recorded.buffers[0])
    run_trace_cmd("split", "-i", ours, "-o", tmp_path / "part.dat", "-e", "1000")

    (part,) = tmp_path.glob("part.dat*")
    data = read_trace_dat(hold_file(part))
    found = [one for buffer in data.buffers for one in records(data, buffer)]
    assert found == expected[: len(found)]
    assert len(found) >= 1000


@pytest.mark.parametrize(("version", "compression"), VARIANTS)
def test_two_instances_keep_their_names_and_events(recorded, tmp_path, version, compression):
    (buffer,) = recorded.buffers
    pair = (replace(buffer, name="first"), replace(buffer, name="second"))
    both = replace(recorded, buffers=pair)
    path = written(both, tmp_path / "trace.dat", version, compression)

    expected = records(recorded, buffer)
    assert Counter(line[5] for line in report(path, "-N")) == {
        "first": len(expected),
        "second": len(expected),
    }
    back = read_trace_dat(hold_file(path))
    assert [one.name for one in back.buffers] == ["", "first", "second"]
    assert [records(back, one) for one in back.buffers] == [[], expected, expected]
    assert back.buffers[1].stats == buffer.stats

    for target, packing in VARIANTS:
        theirs = tmp_path / f"{target}-{packing}.dat"
        convert(path, theirs, target, packing)
        converted = read_trace_dat(hold_file(theirs))
        assert {one.name: records(converted, one) for one in converted.buffers if one.cpus} == {
            "first": expected,
            "second": expected,
        }
        assert {one.clock for one in converted.buffers if one.cpus} == {"mono"}


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_instances_of_different_sub_buffer_sizes_are_all_reported(
    two_instances, tmp_path, compression
):
    path = written(two_instances, tmp_path / "trace.dat", 7, compression)

    counts = {one.name: len(records(two_instances, one)) for one in two_instances.buffers}
    assert Counter(line[5] for line in report(path, "-N")) == counts
    assert min(counts.values()) > 6000


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("long_size", [4, 8])
@pytest.mark.parametrize(("version", "compression"), VARIANTS)
def test_trace_cmd_reads_files_of_other_machines(tmp_path, version, compression, order, long_size):
    data = make_data(order=order, long_size=long_size)
    path = written(data, tmp_path / "trace.dat", version, compression)

    room = (4096 - 8 - long_size) // 16
    found = Counter(line[2] for line in report(path, "-N"))
    assert found == {cpu: pages.count * room for cpu, pages in data.buffers[0].cpus.items()}
    assert f"value={2000 + room - 1}" in run_trace_cmd("report", "-N", path)


@pytest.mark.parametrize(("version", "compression"), VARIANTS)
@pytest.mark.parametrize(("mult", "shift"), [(7989830, 24), (1 << 30, 32), (2147483647, 31)])
def test_trace_cmd_makes_the_same_nanoseconds_of_processor_ticks(
    tmp_path, version, compression, mult, shift
):
    first = (7 << 60) // mult << shift if shift < 32 else 1 << 62  # the product needs 96 bits
    ticks = make_buffer(cpus=(0, 1), clock="x86-tsc", first=first)
    data = make_data(ticks, raw_options=((14, struct.pack("<IIQ", mult, shift, 77)),))
    path = written(data, tmp_path / "trace.dat", version, compression)

    ours = sorted(
        int(time) for events in decode(read_trace_dat(hold_file(path))) for one in events
        for time in one.timestamp_ns
    )  # fmt: skip
    assert len(ours) > 1500
    assert [line[3] for line in report(path, "-N")] == [seconds(time) for time in ours]


def test_no_instance_is_left(recorded, two_instances):
    names = [one.name for one in (TRACING / "instances").iterdir()]
    assert not [name for name in names if str(os.getpid()) in name]
