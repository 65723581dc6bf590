"""CSV in both layouts: it parses back, and what the trace says can do no harm."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sink_events import FIRST_NS, batch, event_format, payload, trace_data
from trace_recipe.drift import Drift
from trace_recipe.events import Buffer, Damage, DriftMark, Events, Gap, Symbols
from trace_recipe.sinks import make_sink
from trace_recipe.sinks.csv_rows import (
    EVENT_COLUMNS,
    LOST_COLUMNS,
    WIDE_COLUMNS,
    CsvSink,
    cell,
    file_name,
    quoted,
)

SWITCH, IRQ, MOUNT = "sched:sched_switch", "irq:irq_handler_entry", "syscalls:sys_enter_mount"
TIMER, PRINT, STACK = "timer:timer_start", "ftrace:print", "ftrace:kernel_stack"
ALL = (SWITCH, IRQ, MOUNT, TIMER, PRINT, STACK, "dma:dma_map_sg", "ipi:ipi_send_cpumask")


def record(full_name, byte_order="<", /, **fields):
    layout = event_format(full_name)
    return layout, payload(layout, byte_order, **fields)


def table(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def wide_text(*batches, data=None):
    stream = io.BytesIO()
    sink = make_sink("csv", stream)
    sink.begin(data or trace_data(*ALL))
    for events in batches:
        sink.write(events)
    sink.end()
    return stream.getvalue().decode()


def wide(*batches, data=None):
    return table(wide_text(*batches, data=data))


def per_event(*batches, data=None):
    files: dict[str, io.BytesIO] = {}

    def open_file(name):
        assert name not in files
        return files.setdefault(name, io.BytesIO())

    sink = make_sink("csv", None, layout="per-event", open_file=open_file)
    sink.begin(data or trace_data(*ALL))
    for events in batches:
        sink.write(events)
    sink.end()
    return {name: table(stream.getvalue().decode()) for name, stream in files.items()}


def test_the_wide_heading_is_fixed_columns_and_then_the_fields_of_all_formats():
    heading = wide_text(data=trace_data(SWITCH, IRQ)).split("\r\n")[0].split(",")

    assert heading[:6] == ["timestamp_ns", "wall", "cpu", "comm", "pid", "event"]
    assert tuple(heading[: len(WIDE_COLUMNS)]) == WIDE_COLUMNS
    assert heading[len(WIDE_COLUMNS) :] == [
        "irq", "name", "prev_comm", "prev_pid", "prev_prio", "prev_state",
        "next_comm", "next_pid", "next_prio",
    ]  # fmt: skip


def test_the_columns_follow_the_events_names_not_their_ids():
    first = wide_text(data=trace_data(STACK, "dma:dma_map_sg"))

    assert event_format(STACK).id < event_format("dma:dma_map_sg").id
    assert first.index("phys_addrs") < first.index("caller")
    assert wide_text(data=trace_data("dma:dma_map_sg", STACK)) == first


def test_a_command_name_learned_between_two_batches_is_shown():
    cmdlines: dict[int, str] = {}
    stream = io.BytesIO()
    sink = make_sink("csv", stream)
    sink.begin(trace_data(SWITCH, cmdlines=cmdlines))
    sink.write(batch([record(SWITCH)]))
    cmdlines[4711] = "late"
    sink.write(batch([record(SWITCH)]))

    assert [row["comm"] for row in table(stream.getvalue().decode())] == ["", "late"]


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_a_wide_row_has_its_own_fields_and_leaves_the_others_empty(byte_order):
    data = trace_data(*ALL, byte_order=byte_order, tgids={4711: 4700})
    records = [
        record(SWITCH, byte_order, prev_comm=b"bash", prev_prio=-5, common_flags=1),
        record(IRQ, byte_order, irq=24, name=b"nvme0q1\0"),
    ]
    first, second = wide(batch(records, byte_order), data=data)

    assert {name: text for name, text in first.items() if text} == {
        "timestamp_ns": str(FIRST_NS), "wall": "2026-11-22T21:35:43.987038893Z", "cpu": "0",
        "comm": "mount", "pid": "4711", "event": SWITCH, "tgid": "4700", "flags": "d....",
        "prev_comm": "bash", "prev_pid": "0", "prev_prio": "-5", "prev_state": "0",
        "next_pid": "0", "next_prio": "0",
    }  # fmt: skip
    assert (second["irq"], second["name"], second["prev_pid"]) == ("24", "nvme0q1", "")


def test_a_field_called_like_a_fixed_column_gets_a_prefix():
    (row,) = wide(batch([record(TIMER, flags=0x00080000)]), data=trace_data(TIMER))

    assert row["flags"] == "....."
    assert row["field_flags"] == "524288"
    assert per_event(batch([record(TIMER, flags=3)]))["timer.timer_start.csv"][0][
        "field_flags"
    ] == "3"  # fmt: skip


def test_numbers_addresses_truth_values_lists_and_stacks_have_their_forms():
    found = per_event(batch([
        record(MOUNT, dev_name=0x7FFC_0000_1000, flags=(1 << 64) - 1),
        record("dma:dma_map_sg", device=b"usb1\0", truncated=1, phys_addrs=[1, (1 << 64) - 1]),
        record(STACK, caller=[0xFFFFFFFF81000010, 0x1000]),
        record("ipi:ipi_send_cpumask", cpumask=[0b1001]),
    ]))  # fmt: skip

    (mount,) = found["syscalls.sys_enter_mount.csv"]
    assert (mount["dev_name"], mount["field_flags"]) == ("0x7ffc00001000", str((1 << 64) - 1))
    (mapped,) = found["dma.dma_map_sg.csv"]
    assert mapped["truncated"] == "true"
    assert mapped["phys_addrs"] == "[1, 18446744073709551615]"
    assert mapped["dma_addrs"] == "[]"
    assert found["ftrace.kernel_stack.csv"][0]["caller"] == "schedule+0x10;0x1000"
    assert found["ipi.ipi_send_cpumask.csv"][0]["cpumask"] == "[0, 3]"


def test_rows_of_the_wide_layout_stand_in_time_order_with_gaps_and_damage():
    gaps = (Gap(0, 1, FIRST_NS, None, 0), Gap(1, 0, FIRST_NS + 5, 39061, 2), Gap(0, 0, 7, 1, 2))
    damages = (Damage(1, 0, 4096, 'bad "length",\n=x'),)
    buffers = (Buffer("", "local", 4096, {}), Buffer("=evil", "local", 4096, {}))
    records = [record(SWITCH), record(IRQ), record(SWITCH)]
    rows = wide(batch(records, gaps=gaps, damages=damages), data=trace_data(*ALL, buffers=buffers))

    assert [(row["event"].split(":")[-1], row["lost"]) for row in rows] == [
        ("damage", ""), ("lost", ""), ("sched_switch", ""), ("irq_handler_entry", ""),
        ("lost", "39061"), ("lost", "1"), ("sched_switch", ""),
    ]  # fmt: skip
    assert rows[0]["note"] == 'damaged at byte 4096: bad "length",\n=x'
    assert rows[0]["buffer"] == "'=evil"
    assert rows[1]["note"] == "number of lost events not known"
    assert (rows[4]["cpu"], rows[4]["timestamp_ns"]) == ("0", str(FIRST_NS + 5))
    assert rows[4]["wall"].startswith("2026-11-22T21:35:43.98")


def test_the_per_event_layout_writes_one_file_for_each_type_that_occurs():
    first = batch([record(SWITCH), record(IRQ), record(SWITCH)])
    gaps = (Gap(0, 1, FIRST_NS, 12, 0),)
    second = batch([record(SWITCH)], gaps=gaps, damages=(Damage(0, 0, 8, "x"),))
    found = per_event(first, second)

    assert {name: len(rows) for name, rows in found.items()} == {
        "sched.sched_switch.csv": 3, "irq.irq_handler_entry.csv": 1, "lost.csv": 2,
    }  # fmt: skip
    assert tuple(found["sched.sched_switch.csv"][0])[: len(EVENT_COLUMNS)] == EVENT_COLUMNS
    assert tuple(found["lost.csv"][0]) == LOST_COLUMNS
    assert [row["lost"] for row in found["lost.csv"]] == ["", "12"]


def test_a_drift_is_a_row_with_its_words():
    drift = Drift("trace_clock", "local", "=evil\x1b", None, 1_000_000_001)
    events = batch([record(SWITCH)] * 2, drifts=[DriftMark(drift, 1)])

    rows, files = wide(events), per_event(events)

    assert [row["event"] for row in rows] == [SWITCH, "drift", SWITCH]
    assert files["lost.csv"] == [
        {
            "timestamp_ns": "", "wall": "1970-01-01T00:00:01.000000001Z", "cpu": "", "buffer": "",
            "lost": "", "note": "trace_clock reads '=evil\\x1b', not 'local'",
        }
    ]  # fmt: skip


def test_a_file_name_cannot_leave_the_directory():
    layout = event_format(SWITCH)
    evil = type(layout)("../..", "/etc/passwd\0", layout.id, layout.common_fields, (), "", "")

    assert file_name(evil) == ".._..._etc_passwd_.csv"


def test_two_events_whose_names_become_the_same_get_two_files():
    layout = event_format(SWITCH)
    kinds = [
        type(layout)("a", name, number, layout.common_fields, layout.fields, "", "")
        for number, name in enumerate(["b/c", "b_c"])
    ]
    found = per_event(batch([(kind, payload(kind)) for kind in kinds]))

    assert sorted(found) == ["a.b_c.1.csv", "a.b_c.csv"]


def test_control_characters_cannot_reach_the_terminal():
    (row,) = wide(
        batch([record(PRINT, buf="\x1b]0;x\x07\x9b\t\r\u202e\u2028\U000e0001é €\0".encode())])
    )

    assert row["buf"] == r"\x1b]0;x\x07\x9b\x09\x0d\u202e\u2028\U000e0001é €"


def test_a_line_feed_stays_inside_its_quotes():
    text = wide_text(batch([record(PRINT, buf=b'one\ntwo "three", four\n\0')]))

    assert ',"one\ntwo ""three"", four",' in text
    assert table(text)[0]["buf"] == 'one\ntwo "three", four'


@pytest.mark.parametrize("text", ["=1+1", "+1", "-bash", "@SUM(A1)", "\n=1", "\uff1d1", "\uff201"])
def test_text_cannot_be_a_formula(text):
    (row,) = wide(batch([record(IRQ, name=text.encode() + b"\0")]))

    assert row["name"] == f"'{text}"
    assert cell("a=1") == "a=1"


def test_a_negative_number_is_no_formula():
    (row,) = wide(batch([record(SWITCH, prev_prio=-1)]))

    assert row["prev_prio"] == "-1"


def test_a_symbol_cannot_be_a_formula():
    symbols = Symbols(np.array([0xFFFFFFFF81000000], np.uint64), ["=cmd"])
    data = trace_data(STACK, symbols=symbols)
    (row,) = wide(batch([record(STACK, caller=[0xFFFFFFFF81000000])]), data=data)

    assert row["caller"] == "'=cmd"


def test_unknown_things_are_empty_cells():
    data = trace_data(SWITCH, wall_offset_ns=None)
    (row,) = wide(batch([record(SWITCH, common_pid=1)]), data=data)

    assert (row["wall"], row["comm"], row["tgid"], row["buffer"]) == ("", "", "", "")


def test_a_percent_sign_in_a_name_is_just_text():
    layout = event_format(IRQ)
    odd = type(layout)("s%s", "n%d", layout.id, layout.common_fields, layout.fields, "", "")
    data = trace_data(formats={odd.id: odd})
    (row,) = wide(batch([(odd, payload(odd))]), data=data)

    assert row["event"] == "s%s:n%d"


def test_a_layout_without_its_stream_is_refused_at_once():
    with pytest.raises(TypeError, match="per-event needs open_file"):
        CsvSink(io.BytesIO(), layout="per-event")
    with pytest.raises(TypeError, match="wide needs a stream"):
        CsvSink()


def test_no_events_write_the_heading_only():
    assert wide(Events(0, ())) == []
    assert per_event(Events(0, ())) == {}


@given(st.text(max_size=40))
def test_quoting_is_that_of_the_csv_module(text):
    stream = io.StringIO(newline="")
    csv.writer(stream).writerow(["", text])

    assert f",{quoted(text)}\r\n" == stream.getvalue()


@settings(max_examples=150, deadline=None)
@given(comm=st.binary(max_size=20), text=st.binary(max_size=60))
def test_any_bytes_give_rows_that_parse_back(comm, text):
    data = trace_data(*ALL, cmdlines={4711: text.decode("utf-8", "surrogateescape")})
    events = batch([record(SWITCH, prev_comm=comm), record(IRQ, name=text), record(SWITCH)])
    rows = wide(events, data=data)

    assert [row["event"] for row in rows] == [SWITCH, IRQ, SWITCH]
    assert all(None not in row and None not in row.values() for row in rows)
    for name in (rows[0]["prev_comm"], rows[1]["name"], rows[0]["comm"]):
        assert all(one.isprintable() or one == "\n" for one in name)
        assert not name.startswith(("=", "+", "-", "@", "\n"))
    assert rows[0]["next_pid"] == "0"
    files = per_event(events, data=data)
    assert files["irq.irq_handler_entry.csv"][0]["name"] == rows[1]["name"]
