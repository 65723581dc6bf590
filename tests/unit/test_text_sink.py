"""The text sink: the columns, the header, gaps, ftrace's own events and the nested graph."""

import io
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sink_events import batch, event_format, payload, trace_data
from trace_recipe.decoder.print_text import PrintContext, compile_format
from trace_recipe.decoder.syscall_names import argument_name, return_name
from trace_recipe.drift import Drift
from trace_recipe.events import Buffer, Damage, DriftMark, Gap, Symbols, TickScale
from trace_recipe.sinks import make_sink
from trace_recipe.sinks.layout import latency_flags

GOLDEN = Path(__file__).parent.parent / "golden" / "text"
KERNEL = 0xFFFFFFFF81000000
SYMBOLS = Symbols(
    np.array([KERNEL + offset for offset in (0, 0x100, 0x200, 0x300, 0x400, 0x500)], np.uint64),
    ["vfs_read", "rw_verify_area", "__irqentry_text_start", "__irqentry_text_end",
     "tracing_mark_write", "last"],
)  # fmt: skip


def text(data, *batches, **options):
    stream = io.BytesIO()
    sink = make_sink("text", stream, **options)
    sink.begin(data)
    for events in batches:
        sink.write(events)
    sink.end()
    return stream.getvalue().decode()


def body(data, *batches, **options):
    return [
        line for line in text(data, *batches, **options).splitlines() if not line.startswith("#")
    ]


def recording(*names, tracer="nop", **changes):
    data = trace_data(*names, **({"symbols": SYMBOLS} | changes))
    buffers = tuple(replace(one, tracer=tracer) for one in data.buffers)
    return data if "buffers" in changes else replace(data, buffers=buffers)


def said(name, **row):
    """Return the text behind the time stamp of one event."""
    event = event_format(name)
    raw = row.pop("record", None) or payload(event, **row)
    data = recording(name, printk_formats={0x1000: "%d %s %c %pS %ld\n", 0x2000: "puts\n"})
    return "\n".join(body(data, batch([(event, raw)]))).partition("3043.863582: ")[2]


def test_a_file_looks_like_the_kernels_trace():
    switch, irq = event_format("sched:sched_switch"), event_format("irq:irq_handler_entry")
    mount, done = event_format("syscalls:sys_enter_mount"), event_format("syscalls:sys_exit_mount")
    row = {"prev_comm": b"mount", "prev_pid": 4711, "prev_prio": 120, "next_comm": b"swapper/0"}
    records = [
        (mount, payload(mount, dev_name=0x55D0, dir_name=0x55E0, flags=9, data=0)),
        (switch, payload(switch, **row, common_flags=1, common_preempt_count=2)),
        (irq, payload(irq, common_pid=0, irq=24, name=b"nvme0q1\0", common_flags=8)),
        (done, payload(done, common_pid=99, ret=-2)),
    ]
    stats = {0: "entries: 0\noverrun: 3\nread events: 2\n", 1: "entries: 0\nread events: 2\n"}
    data = recording("sched:sched_switch", "irq:irq_handler_entry")
    data = replace(data, buffers=(replace(data.buffers[0], stats=stats),))
    assert text(data, batch(records)) == (GOLDEN / "trace.txt").read_text()


@pytest.mark.parametrize("stats", [{}, {0: "", 1: ""}], ids=["read", "live"])
def test_without_stats_the_line_with_the_counts_is_left_out(stats):
    data = recording("sched:sched_switch")
    shown = text(replace(data, buffers=(replace(data.buffers[0], stats=stats),)))
    assert "entries-in-buffer" not in shown
    assert shown.startswith("# tracer: nop\n#\n#      ")


def test_with_record_tgid_there_is_a_column_for_it():
    event = event_format("sched:sched_switch")
    records = [(event, payload(event)), (event, payload(event, common_pid=5))]
    data = recording(tgids={4711: 4700}, options={"record-tgid": True})
    shown = text(data, batch(records))
    assert "#           TASK-PID       TGID    CPU#  |||||  TIMESTAMP  FUNCTION\n" in shown
    assert "           mount-4711    (   4700) [000] .....  3043.863582: sched" in shown
    assert "           <...>-5       (-------) [001] .....  3043.863583: sched" in shown


def test_names_of_tasks_are_the_kernels():
    event = event_format("syscalls:sys_exit_mount")
    pids = (0, -1, 7, 4712)
    lines = body(recording(), batch([(event, payload(event, common_pid=pid)) for pid in pids]))
    assert [line.partition(" [")[0] for line in lines] == [
        "          <idle>-0      ",
        "           <XXX>--1     ",
        "           <...>-7      ",
        'a"b\\c\\x0a\\x1b[31m\\u2028é-4712   ',
    ]


def test_a_name_that_comes_while_printing_live_is_used_from_the_next_batch_on():
    event = event_format("syscalls:sys_exit_mount")
    names: dict[int, str] = {}
    data = recording(cmdlines=names)
    stream = io.BytesIO()
    sink = make_sink("text", stream)
    sink.begin(data)
    sink.write(batch([(event, payload(event))]))
    names[4711] = "late"
    sink.write(batch([(event, payload(event))]))
    assert b"<...>-4711" in stream.getvalue()
    assert b"late-4711" in stream.getvalue()


@pytest.mark.parametrize(
    ("flags", "preempt", "letters"),
    [
        (0, 0, "....."), (0x01, 2, "d..2."), (0x81, 0, "D...."), (0x80, 0, "b...."),
        (0x24, 0, ".N..."), (0x04, 0, ".n..."), (0x20, 0, ".p..."), (0x26, 0, ".B..."),
        (0x22, 0, ".L..."), (0x06, 0, ".b..."), (0x02, 0, ".l..."), (0x48, 0, "..Z.."),
        (0x40, 0, "..z.."), (0x18, 0, "..H.."), (0x08, 0, "..h.."), (0x10, 0, "..s.."),
        (0, 0xF1, "...1f"), (0, 0x0A, "...a."),
    ],
)  # fmt: skip
def test_the_five_letters_are_those_of_the_kernel(flags, preempt, letters):
    assert latency_flags(flags, preempt) == letters


@pytest.mark.parametrize(
    ("clock", "shown"),
    [("local", "] .....  3043.863582: "), ("boot", "] .....  3043.863582: "),
     ("counter", "] ..... 3043863582104: "), ("x86-tsc", "] ..... 3043863582104: "),
     ("uptime", "] ..... 3043863582104: ")],
)  # fmt: skip
def test_only_clocks_of_nanoseconds_are_shown_as_seconds(clock, shown):
    event = event_format("syscalls:sys_exit_mount")
    data = recording(buffers=(Buffer("", clock, 4096, {}),))
    assert shown in body(data, batch([(event, payload(event))]))[0]


def test_ticks_with_a_scale_are_shown_as_seconds_those_inside_a_record_too():
    event = event_format("ftrace:func_repeats")
    scale = TickScale(1 << 30, 31)
    data = recording(buffers=(Buffer("", "x86-tsc", 4096, {}, scale=scale),))
    record = payload(event, ip=KERNEL, parent_ip=KERNEL, count=3, bottom_delta_ts=2_000_000)

    (line,) = body(data, batch([(event, record)]))
    assert "] .....  3043.863582: " in line
    assert line.endswith("(repeats: 3, last_ts:  3043.862582)")


def test_lost_events_stand_before_the_event_that_follows_them():
    event = event_format("syscalls:sys_exit_mount")
    gaps = (Gap(0, 1, 0, 123, 1), Gap(0, 0, 0, None, 2))
    damages = (Damage(0, 1, 4096, "page\x1b too long"),)
    events = batch([(event, payload(event, ret=n)) for n in range(3)], gaps=gaps, damages=damages)
    lines = text(recording(), events).splitlines()[-6:]
    assert [line.rpartition(": ")[2] for line in lines] == [
        "sys_mount -> 0x0",
        "CPU:1 [LOST 123 EVENTS]",
        "sys_mount -> 0x1",
        "CPU:0 [LOST EVENTS]",
        "sys_mount -> 0x2",
        "page\\x1b too long",
    ]
    assert lines[5].startswith("# CPU:1 damaged at byte 4096: ")


def test_a_drift_stands_where_it_was_seen_with_its_time():
    event = event_format("syscalls:sys_exit_mount")
    seen = Drift("trace_clock", "local", "mono\x1b", 3_043_863_582_700, 1)
    drifts = (DriftMark(seen, 1), DriftMark(Drift("x", "1", "1", None, 1), 2))
    events = batch([(event, payload(event, ret=n)) for n in range(2)], drifts=drifts)
    lines = text(recording(), events).splitlines()[-4:]

    assert lines[1] == "# 3043.863583: DRIFT trace_clock reads 'mono\\x1b', not 'local'"
    assert lines[3] == "# DRIFT x reads '1' again"


def test_a_drift_stands_between_graph_lines():
    data = recording(ENTRY, EXIT, tracer="function_graph")
    drift = Drift("trace_clock", "local", None, None, 1)
    steps = graph_records(("call", 0, 0, {}), ("call", 1, 1, {}))
    events = on_one_cpu(batch(steps, drifts=(DriftMark(drift, 1),)))

    lines = text(data, events).splitlines()[-3:]
    assert [line[:28] for line in lines] == [
        " 0)               |  vfs_rea",
        "# DRIFT trace_clock is gone",
        " 0)               |    vfs_r",
    ]


def test_several_instances_are_told_apart():
    event = event_format("syscalls:sys_exit_mount")
    buffers = (Buffer("", "local", 4096, {}), Buffer("net", "counter", 4096, {}))
    data = recording(buffers=buffers)
    lines = body(data, batch([(event, payload(event, ret=n)) for n in range(2)], buffers=2))
    assert lines[0].startswith("                mount-4711    [000] ")
    assert lines[0].endswith("3043.863582: sys_mount -> 0x0")
    assert lines[1].startswith("net:            mount-4711    [001] ..... 3043863583104: ")


def test_a_hostile_event_name_cannot_break_the_template():
    event = replace(event_format("sched:sched_switch"), name="%s\x1b%d", print_fmt='"%d%%", 5')
    assert body(recording(), batch([(event, payload(event))]))[0].endswith(": %s\\x1b%d: 5%")


def test_messages_are_one_line_each():
    assert said("ftrace:print", ip=KERNEL + 0x404, buf=b"hello\n\0") == "tracing_mark_write: hello"
    assert said("ftrace:print", ip=KERNEL + 0x404, buf=b"a\nb\x1b[1m") == (
        "tracing_mark_write: a\\x0ab\\x1b[1m"
    )
    assert said("ftrace:print", ip=0x1234, buf=b"x") == "0x00001234: x"
    assert said("ftrace:print", ip=0, buf=b"") == "0: "


def test_trace_printk_is_formatted_from_its_packed_arguments():
    packed = struct.pack("<i", -7) + b"text\0" + b"Z" + b"\0\0" + struct.pack("<QQ", KERNEL + 1, 9)
    assert said("ftrace:bprint", ip=KERNEL, fmt=0x1000, buf=packed) == (
        "vfs_read: -7 text Z vfs_read+0x1/0x100 9"
    )
    assert said("ftrace:bprint", ip=KERNEL, fmt=0x3000, buf=b"") == (
        "vfs_read: [unknown format 0x3000]"
    )
    assert "arguments unreadable" in said("ftrace:bprint", ip=KERNEL, fmt=0x1000, buf=b"\1")
    assert said("ftrace:bputs", ip=KERNEL, str=0x2000) == "vfs_read: puts"


def test_stacks_are_lines_of_functions():
    end = 2**64 - 1
    assert said("ftrace:kernel_stack", size=3, caller=[KERNEL, KERNEL + 0x101, end, 1]) == (
        "<stack trace>\n => vfs_read\n => rw_verify_area"
    )
    assert said("ftrace:kernel_stack", size=1, caller=[2**31 - 1]) == (
        "<stack trace>\n => [FTRACE TRAMPOLINE]"
    )
    assert said("ftrace:user_stack", tgid=1, caller=[0x400000, 0, 5]) == (
        "<user stack trace>\n =>  <0000000000400000>"
    )


def test_what_the_tracers_record_reads_as_the_tracers_print_it():
    assert said("ftrace:raw_data", id=7, buf=b"abc") == "# 7 buf: 61 62 63 00"
    assert said("ftrace:function", ip=KERNEL, parent_ip=KERNEL + 0x100) == (
        "vfs_read <-rw_verify_area"
    )
    assert said("ftrace:function", ip=KERNEL, parent_ip=0) == "vfs_read"
    assert said("ftrace:func_repeats", ip=KERNEL, parent_ip=KERNEL, count=3,
                bottom_delta_ts=1_000_000) == (
        "vfs_read <-vfs_read (repeats: 3, last_ts:  3043.862582)"
    )  # fmt: skip
    switch = {"prev_pid": 1, "prev_prio": 120, "prev_state": 1, "next_cpu": 2, "next_pid": 4711,
              "next_prio": 98, "next_state": 0}  # fmt: skip
    shown = "       1:120:S {} [002]    4711: 98:R mount"
    assert said("ftrace:context_switch", **switch) == shown.format("==>")
    assert said("ftrace:wakeup", **switch) == shown.format("  +")
    assert said("ftrace:hwlat", seqnum=1, duration=12, outer_duration=7, tv_sec=5, tv_nsec=6,
                count=2, nmi_count=1) == (
        "#1     inner/outer(us):   12/7     ts:5.000000006 count:2 nmi-count:1"
    )  # fmt: skip
    assert said("ftrace:osnoise", runtime=1_000_000, noise=7, max_sample=3, hw_count=1,
                irq_count=2) == (
        "1000000          7  99.99930       3      1      0      2      0      0"
    )  # fmt: skip
    assert said("ftrace:timerlat", seqnum=12, context=1, timer_latency=932) == (
        "#12    context thread timer_latency       932 ns"
    )
    assert said("ftrace:branch", line=9, func=b"f", file=b"x.c", correct=1) == "[  ok  ] f:x.c:9"
    assert said("ftrace:mmiotrace_rw", phys=16, value=2, pc=3, map_id=1, opcode=1, width=4) == (
        "R 4 3043.863582 1 0x10 0x2 0x3 0"
    )
    assert said("ftrace:mmiotrace_map", phys=16, virt=2, len=3, map_id=1, opcode=3) == (
        "MAP 3043.863582 1 0x10 0x2 0x3 0x0 0"
    )


def test_system_calls_read_as_in_the_kernels_trace_file():
    assert said("syscalls:sys_enter_openat", dfd=0xFFFFFF9C, filename=0x7F00, flags=0x80000) == (
        "sys_openat(dfd: 0xffffff9c, filename: 0x7f00, flags: 0x80000, mode: 0)"
    )
    assert said("syscalls:sys_exit_openat", ret=-2) == "sys_openat -> 0xfffffffffffffffe"


def test_with_names_known_flags_and_errors_are_named():
    enter, leave = (
        event_format("syscalls:sys_enter_openat"),
        event_format("syscalls:sys_exit_openat"),
    )
    records = [
        (enter, payload(enter, dfd=0xFFFFFF9C, filename=1, flags=0o2000101, mode=0o644)),
        (leave, payload(leave, ret=-2)),
        (leave, payload(leave, ret=3)),
    ]
    lines = [line.partition(": ")[2] for line in body(recording(), batch(records), names=True)]
    assert lines == [
        (
            "sys_openat(dfd: 0xffffff9c (AT_FDCWD), filename: 1, "
            "flags: 0x80041 (O_WRONLY|O_CREAT|O_CLOEXEC), mode: 0x1a4 (0644))"
        ),
        "sys_openat -> 0xfffffffffffffffe (ENOENT)",
        "sys_openat -> 0x3",
    ]


@pytest.mark.parametrize(
    ("syscall", "argument", "value", "name"),
    [
        ("openat", "flags", 0, "O_RDONLY"), ("openat", "flags", 0o4010002, "O_RDWR|O_SYNC"),
        ("mount", "flags", 0x1001, "MS_RDONLY|MS_BIND"), ("umount", "flags", 2, "MNT_DETACH"),
        ("mmap", "prot", 5, "PROT_READ|PROT_EXEC"), ("mmap", "prot", 0, ""),
        ("mmap", "flags", 0x22, "MAP_PRIVATE|MAP_ANONYMOUS"),
        ("clone", "clone_flags", 0x01200011, "CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD"),
        ("kill", "sig", 9, "SIGKILL"), ("kill", "sig", 34, "SIGRT_2"), ("kill", "sig", 0, ""),
        ("socket", "family", 10, "AF_INET6"),
        ("socket", "type", 0o2000001, "SOCK_STREAM|SOCK_CLOEXEC"),
        ("futex", "op", 0x81, "FUTEX_WAKE|FUTEX_PRIVATE_FLAG"),
        ("newfstatat", "flag", 0x40000100, "AT_SYMLINK_NOFOLLOW|0x40000000"),
        ("linkat", "olddfd", 0xFFFFFF9C, "AT_FDCWD"), ("linkat", "olddfd", 3, ""),
        ("clock_nanosleep", "which_clock", 1, "CLOCK_MONOTONIC"), ("read", "count", 7, ""),
    ],
)  # fmt: skip
def test_arguments_are_named_by_system_call(syscall, argument, value, name):
    assert argument_name(syscall, argument, value) == name


def test_only_error_numbers_are_named():
    assert [return_name(value) for value in (-2, -512, -4095, 0, 5, -5000)] == [
        "ENOENT", "ERESTARTSYS", "", "", "", "",
    ]  # fmt: skip


ENTRY, EXIT = "ftrace:funcgraph_entry", "ftrace:funcgraph_exit"


def graph_records(*steps):
    """Steps are (kind, function offset, depth or text, duration); all on one CPU and task."""
    entry, leave = event_format(ENTRY), event_format(EXIT)
    mark, switch = event_format("ftrace:print"), event_format("irq:irq_handler_entry")
    records = []
    for kind, offset, depth, extra in steps:
        if kind == "call":
            records.append((entry, payload(entry, func=KERNEL + offset, depth=depth, **extra)))
        elif kind == "back":
            times = {"calltime": 1000, "rettime": 1000 + extra.pop("ns", 1000)}
            row = {"func": KERNEL + offset, "depth": depth} | times | extra
            records.append((leave, payload(leave, **row)))
        elif kind == "mark":
            records.append((mark, payload(mark, ip=KERNEL, buf=b"hello\n\0")))
        else:
            records.append((switch, payload(switch, irq=1, name=b"x\0", **extra)))
    return records


def on_one_cpu(events):
    columns = tuple(replace(one, cpu=one.cpu * 0) for one in events.columns)
    return replace(events, columns=columns)


NESTED = [
    ("call", 0, 0, {}), ("call", 0x100, 1, {}), ("back", 0x100, 1, {"ns": 1234}),
    ("mark", 0, 0, {}), ("irq", 0, 0, {}), ("call", 0x104, 1, {}), ("call", 0x400, 2, {}),
    ("back", 0x400, 2, {"ns": 123_456_789}), ("back", 0x104, 1, {"ns": 12_345}),
    ("back", 0, 0, {"ns": 2_000_000_000}), ("back", 0x500, 0, {"ns": 999}),
    ("call", 0x204, 0, {"common_pid": 5}), ("back", 0x204, 0, {"common_pid": 5, "ns": 150_000}),
    ("call", 0, 0, {"common_pid": 5}),
]  # fmt: skip


def test_function_graph_is_nested():
    data = recording(ENTRY, EXIT, tracer="function_graph")
    events = on_one_cpu(batch(graph_records(*[(a, b, c, dict(d)) for a, b, c, d in NESTED])))
    assert text(data, events) == (GOLDEN / "function_graph.txt").read_text()


def test_function_graph_does_not_depend_on_the_cuts_between_batches():
    data = recording(ENTRY, EXIT, tracer="function_graph")
    records = graph_records(*[(a, b, c, dict(d)) for a, b, c, d in NESTED])
    singles = [on_one_cpu(batch([one])) for one in records]
    assert text(data, *singles) == (GOLDEN / "function_graph.txt").read_text()


def test_function_graph_follows_the_tracers_options():
    options = {
        "funcgraph-proc": True, "funcgraph-abstime": True, "funcgraph-tail": True,
        "funcgraph-overhead": False, "funcgraph-irqs": False,
    }  # fmt: skip
    data = recording(ENTRY, EXIT, tracer="function_graph", options=options)
    events = on_one_cpu(batch(graph_records(*[(a, b, c, dict(d)) for a, b, c, d in NESTED])))
    assert text(data, events) == (GOLDEN / "function_graph_options.txt").read_text()


def test_function_graph_waits_for_each_cpu_by_itself():
    data = recording(ENTRY, EXIT, tracer="function_graph")
    steps: list[Any] = [
        ("call", 0, 0, {}),
        ("call", 0x100, 0, {}),
        ("back", 0, 0, {}),
        ("back", 0x100, 0, {}),
    ]
    assert body(data, batch(graph_records(*steps))) == [
        " 0)   1.000 us    |  vfs_read();",
        " 1)   1.000 us    |  rw_verify_area();",
    ]


def test_stack_traces_and_gaps_stand_between_graph_lines():
    data = recording(ENTRY, EXIT, "ftrace:kernel_stack", tracer="function_graph")
    stack = event_format("ftrace:kernel_stack")
    records = [*graph_records(("call", 0, 0, {})), (stack, payload(stack, size=1, caller=[KERNEL]))]
    events = on_one_cpu(batch(records, gaps=(Gap(0, 0, 0, 5, 1),)))
    assert body(data, events)[-4:] == [
        " 0)               |  vfs_read() {",
        "CPU:0 [LOST 5 EVENTS]",
        "           mount-4711    [000] .....  3043.863583: <stack trace>",
        " => vfs_read",
    ]


def test_graph_events_of_other_tracers_are_ordinary_lines():
    data = recording(ENTRY, EXIT)
    line = body(data, batch(graph_records(("call", 0, 3, {}))))[0]
    assert line.endswith(": funcgraph_entry: --> vfs_read (3)")


def test_a_printer_keeps_label_and_text_apart():
    event = event_format("irq:irq_handler_entry")
    printer = compile_format(event, PrintContext())
    (columns,) = batch([(event, payload(event, irq=9, name=b"acpi\0"))])
    assert (printer.label, printer.render(columns)) == ("irq_handler_entry: ", ["irq=9 name=acpi"])


def test_times_are_rounded_to_the_nearest_microsecond():
    event = event_format("syscalls:sys_exit_mount")
    events = batch([(event, payload(event))])
    for ahead, shown in ((395, "3043.863582: "), (396, "3043.863583: ")):
        columns = tuple(
            replace(one, timestamp_ns=one.timestamp_ns + np.uint64(ahead)) for one in events.columns
        )
        assert shown in body(recording(), replace(events, columns=columns))[0]


def test_arguments_below_ten_are_decimal():
    assert said("syscalls:sys_enter_openat", dfd=9, filename=10) == (
        "sys_openat(dfd: 9, filename: 0xa, flags: 0, mode: 0)"
    )


def graph_lines(*steps):
    data = recording(ENTRY, EXIT, tracer="function_graph")
    return body(data, on_one_cpu(batch(graph_records(*steps))))


def test_a_call_is_a_leaf_only_with_its_own_return_right_behind_it():
    other_task = graph_lines(("call", 0, 0, {}), ("back", 0, 0, {"common_pid": 5}))
    assert other_task[0] == " 0)               |  vfs_read() {"
    other_function = graph_lines(("call", 0, 0, {}), ("back", 0x100, 0, {}))
    assert other_function == [
        " 0)               |  vfs_read() {",
        " 0)   1.000 us    |  } /* rw_verify_area */",
    ]


def test_comments_stand_at_the_depth_of_the_last_bracket():
    lines = graph_lines(
        ("call", 0, 2, {}), ("irq", 0, 0, {}), ("back", 0, 2, {}), ("irq", 0, 0, {}),
        ("call", 0, 4, {}), ("back", 0, 4, {}), ("irq", 0, 0, {}),
    )  # fmt: skip
    comments = [line for line in lines if "/* irq" in line]
    assert [line.index("/*") - comments[0].index("|") - 3 for line in comments] == [6, 4, 8]


def test_a_duration_gets_its_mark_above_the_limit():
    lines = graph_lines(
        ("call", 0, 0, {}), ("back", 0, 0, {"ns": 10_000}),
        ("call", 0, 0, {}), ("back", 0, 0, {"ns": 10_001}),
    )  # fmt: skip
    assert [line[4] for line in lines] == [" ", "+"]


def test_after_a_latency_tracer_the_text_is_the_kernels_report_and_nothing_else():
    report = "# tracer: irqsoff\n#\n# latency: 12 us\n  cat\x1b-9  0d..1.  0us : __schedule\n"
    data = recording("sched:sched_switch", tracer="irqsoff", latency_text=report)
    switch = event_format("sched:sched_switch")

    written = text(data, batch([(switch, payload(switch))]))

    assert written == report.replace("\x1b", "\\x1b")
