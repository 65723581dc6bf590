"""JSON lines: every line is valid JSON, fits its schema, and stands in time order."""

import io
import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sink_events import FIRST_NS, batch, event_format, payload, trace_data
from trace_recipe.drift import Drift
from trace_recipe.events import Buffer, Damage, DriftMark, Events, Gap
from trace_recipe.sinks import make_sink
from trace_recipe.sinks.event_schema import event_schema

SCHEMA_FILE = Path(__file__).parents[2] / "schema" / "event.v1.schema.json"
VALIDATOR = jsonschema.Draft202012Validator(event_schema())
NAMES = sorted(
    path.name.removesuffix(".format").replace(".", ":", 1)
    for path in (Path(__file__).parents[1] / "golden" / "formats").iterdir()
)
BUFFERS = tuple(Buffer(name, "local", 4096, {}) for name in ("", "mount-audit"))


def lines(*batches, data=None, **options):
    stream = io.BytesIO()
    sink = make_sink("jsonl", stream, **options)
    sink.begin(data or trace_data())
    for events in batches:
        sink.write(events)
    sink.end()
    text = stream.getvalue().decode("ascii")
    assert not text or text.endswith("\n")
    records = [json.loads(line) for line in text.split("\n")[:-1]]
    for record in records:
        VALIDATOR.validate(record)
    return records


def record(full_name, byte_order="<", /, **fields):
    layout = event_format(full_name)
    return layout, payload(layout, byte_order, **fields)


def one(full_name, byte_order="<", /, *, data=None, options=None, **fields):
    events = batch([record(full_name, byte_order, **fields)], byte_order)
    (line,) = lines(events, data=data or trace_data(byte_order=byte_order), **(options or {}))
    return line


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_an_event_has_its_time_place_task_and_fields(byte_order):
    line = one(
        "syscalls:sys_enter_mount", byte_order,
        common_flags=1, common_preempt_count=2, __syscall_nr=165, dev_name=0x7FFC_0000_1000,
        dir_name=0xFFFF_8000_0000_0000, flags=(1 << 64) - 1,
    )  # fmt: skip

    assert line == {
        "ts": FIRST_NS,
        "wall": "2026-11-22T21:35:43.987038893Z",
        "cpu": 0,
        "comm": "mount",
        "pid": 4711,
        "event": "syscalls:sys_enter_mount",
        "flags": "d..2.",
        "fields": {
            "__syscall_nr": 165,
            "dev_name": "0x7ffc00001000",
            "dir_name": "0xffff800000000000",
            "type": "0x0",
            "flags": 18446744073709551615,
            "data": "0x0",
        },
    }
    assert list(line)[:5] == ["ts", "wall", "cpu", "comm", "pid"]


def test_events_of_all_types_stand_in_time_order():
    events = batch([record(NAMES[index * 7 % len(NAMES)]) for index in range(50)])
    found = lines(events)

    assert [line["ts"] for line in found] == [FIRST_NS + 1000 * index for index in range(50)]
    assert [line["event"] for line in found] == [NAMES[i * 7 % len(NAMES)] for i in range(50)]
    assert [line["cpu"] for line in found] == [index % 2 for index in range(50)]


def test_the_wall_time_is_absent_when_unknown():
    assert "wall" not in one("sched:sched_switch", data=trace_data(wall_offset_ns=None))


def test_tasks_without_a_known_name_have_null_and_the_idle_task_its_own():
    assert one("sched:sched_switch", common_pid=1)["comm"] is None
    assert one("sched:sched_switch", common_pid=0)["comm"] == "<idle>"
    assert one("sched:sched_switch", common_pid=4712)["comm"] == 'a"b\\c\n\x1b[31m\u2028é'


def test_a_command_name_learned_between_two_batches_is_shown():
    cmdlines: dict[int, str] = {}
    data = trace_data(cmdlines=cmdlines)
    stream = io.BytesIO()
    sink = make_sink("jsonl", stream)
    sink.begin(data)
    sink.write(batch([record("sched:sched_switch")]))
    cmdlines[4711] = "late"
    sink.write(batch([record("sched:sched_switch")]))

    assert [json.loads(line)["comm"] for line in stream.getvalue().splitlines()] == [None, "late"]


def test_the_thread_group_is_there_when_the_recording_knows_groups():
    data = trace_data(tgids={4711: 4700})

    assert one("sched:sched_switch", data=data)["tgid"] == 4700
    assert one("sched:sched_switch", data=data, common_pid=0)["tgid"] == 0
    assert one("sched:sched_switch", data=data, common_pid=8)["tgid"] is None
    assert "tgid" not in one("sched:sched_switch")


def test_the_buffer_is_there_when_there_are_several():
    records = [record("sched:sched_switch"), record("sched:sched_switch")]
    found = lines(batch(records, buffers=2), data=trace_data(buffers=BUFFERS))

    assert [line["buffer"] for line in found] == ["", "mount-audit"]
    assert "buffer" not in one("sched:sched_switch")


def test_a_gap_stands_before_the_event_that_follows_it():
    gaps = (
        Gap(0, 0, FIRST_NS, None, 0),
        Gap(1, 1, FIRST_NS + 1000, 39061, 1),
        Gap(0, 0, FIRST_NS + 1000, 5, 1),
        Gap(0, 0, FIRST_NS + 9000, 7, 2),
    )
    records = [record("sched:sched_switch"), record("irq:irq_handler_entry", name=b"x\0")]
    found = lines(batch(records, gaps=gaps), data=trace_data(buffers=BUFFERS))

    assert [(line.get("event", "")[:3], line.get("lost", "")) for line in found] == [
        ("", None), ("sch", ""), ("", 39061), ("", 5), ("irq", ""), ("", 7),
    ]  # fmt: skip
    assert found[2] == {
        "ts": FIRST_NS + 1000,
        "wall": "2026-11-22T21:35:43.987039893Z",
        "cpu": 1,
        "buffer": "mount-audit",
        "lost": 39061,
    }


def test_damage_is_told_with_its_place():
    damages = (Damage(0, 1, 4096, "a record's length is wrong\n"),)
    (line,) = lines(Events(0, (), (), damages))

    assert line == {"cpu": 1, "damage": "a record's length is wrong\n", "offset": 4096}


def test_a_drift_stands_among_gaps_and_events_where_it_was_seen():
    drift = Drift("instances/x/set_event", "sched:sched_switch", None, FIRST_NS + 1, 1_000_000_001)
    gaps = (Gap(0, 0, FIRST_NS + 1000, 5, 1),)
    events = batch([record("sched:sched_switch")] * 2, gaps=gaps, drifts=[DriftMark(drift, 1)])

    found = lines(events)

    assert ["lost" in one or "drift" in one for one in found] == [False, True, True, False]
    assert found[2] == {
        "ts": FIRST_NS + 1,
        "wall": "1970-01-01T00:00:01.000000001Z",
        "drift": "instances/x/set_event",
        "applied": "sched:sched_switch",
        "found": None,
    }


def test_no_events_write_nothing():
    assert lines(Events(0, ())) == []
    assert lines() == []


def test_a_stack_is_a_list_of_addresses_with_their_symbols():
    line = one("ftrace:kernel_stack", caller=[0xFFFFFFFF81000010, 0x1000, (1 << 64) - 1])

    assert line["fields"]["caller"] == [
        {"address": "0xffffffff81000010", "symbol": "schedule+0x10"},
        {"address": "0x1000", "symbol": None},
    ]


def test_arrays_masks_truth_values_and_addresses_keep_their_types():
    mapped = one(
        "dma:dma_map_sg", device=b"usb1\0", truncated=1, phys_addrs=[(1 << 64) - 1, 0], lengths=[7]
    )
    assert mapped["fields"]["truncated"] is True
    assert mapped["fields"]["phys_addrs"] == [(1 << 64) - 1, 0]
    assert mapped["fields"]["dma_addrs"] == []

    assert one("ipi:ipi_send_cpumask", cpumask=[5])["fields"]["cpumask"] == [0, 2]
    sent = one("tcp:tcp_retransmit_skb", saddr=[10, 0, 0, 1])
    assert sent["fields"]["saddr"] == "10.0.0.1"


def test_names_tell_the_errno_of_a_failed_system_call():
    def names(ret):
        return one("syscalls:sys_exit_mount", options={"names": True}, ret=ret)["names"]

    assert names(-2) == {"ret": "ENOENT"}
    assert names(-4095) == {}
    assert names(0) == {}
    assert "names" not in one("syscalls:sys_exit_mount", ret=-2)


def test_names_tell_the_flags_of_a_system_call():
    line = one("syscalls:sys_enter_mount", options={"names": True}, flags=0x1001, dev_name=1)

    assert line["names"] == {"flags": "MS_RDONLY|MS_BIND"}
    assert line["fields"]["flags"] == 0x1001


def test_the_text_of_trace_printk_is_there():
    data = trace_data(printk_formats={0xFFFF_0000: "took %d us", 0xFFFF_1000: "here"})
    ip = 0xFFFFFFFF81000000
    printed = one("ftrace:bprint", data=data, ip=ip, fmt=0xFFFF_0000, buf=[12])
    put = one("ftrace:bputs", data=data, ip=ip, str=0xFFFF_1000)

    assert (printed["text"], put["text"]) == ("schedule: took 12 us", "schedule: here")
    assert printed["fields"]["buf"] == [12]


def test_names_tell_the_symbol_of_a_function():
    fields = {"timer": 1, "function": 0xFFFFFFFF81000010}
    line = one("timer:timer_start", options={"names": True}, **fields)
    assert line["names"] == {"function": "schedule+0x10"}

    bare = trace_data(symbols=None)
    assert one("timer:timer_start", data=bare, options={"names": True}, **fields)["names"] == {}


def test_a_percent_sign_in_a_name_is_just_text():
    layout = event_format("sched:sched_switch")
    odd = type(layout)("s%s", 'n"%d', layout.id, layout.common_fields, layout.fields, "", "")
    (line,) = lines(batch([(odd, payload(odd))]))

    assert line["event"] == 's%s:n"%d'


def test_half_a_surrogate_pair_does_not_reach_the_output():
    data = trace_data(cmdlines={4711: "a\udcffb"})

    assert one("sched:sched_switch", data=data)["comm"] == "a\\udcffb"


@settings(max_examples=150, deadline=None)
@given(
    comm=st.binary(max_size=20),
    text=st.binary(max_size=60),
    ret=st.integers(-(1 << 63), (1 << 63) - 1),
)
def test_any_bytes_give_valid_json_with_the_same_text(comm, text, ret):
    data = trace_data(cmdlines={4711: text.decode("utf-8", "surrogateescape")})
    events = batch([
        record("sched:sched_switch", prev_comm=comm),
        record("irq:irq_handler_entry", name=text),
        record("ftrace:print", buf=text),
        record("syscalls:sys_exit_mount", ret=ret),
    ])  # fmt: skip
    switched, interrupted, _, left = lines(events, data=data, names=True)

    def shown(raw):
        return raw.partition(b"\0")[0].decode("utf-8", "backslashreplace")

    assert switched["fields"]["prev_comm"] == shown(comm[:16])
    assert interrupted["fields"]["name"] == shown(text)
    assert left["fields"]["ret"] == ret


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    extra=st.binary(max_size=80),
    seed=st.binary(min_size=160, max_size=160),
    byte_order=st.sampled_from("<>"),
)
def test_a_record_of_any_bytes_is_valid_json(name, extra, seed, byte_order):
    layout = event_format(name)
    raw = seed[: layout.fixed_size] + extra
    lines(batch([(layout, raw)], byte_order), data=trace_data(byte_order=byte_order), names=True)


def test_the_published_schema_is_the_generated_one():
    assert json.loads(SCHEMA_FILE.read_text()) == event_schema()


def test_the_schema_is_valid_and_describes_every_property_with_examples_that_fit():
    jsonschema.Draft202012Validator.check_schema(event_schema())

    def properties(node):
        if isinstance(node, dict):
            yield from node.get("properties", {}).values()
            for child in node.values():
                yield from properties(child)
        elif isinstance(node, list):
            for child in node:
                yield from properties(child)

    found = list(properties(event_schema()))
    assert len(found) > 15
    for one_property in found:
        assert one_property["description"].endswith((".", ")"))
        whole = one_property | {"$defs": event_schema()["$defs"]}
        for example in one_property["examples"]:
            jsonschema.Draft202012Validator(whole).validate(example)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"ts": 1, "cpu": 0},
        {"ts": 1.5, "cpu": 0, "lost": 1},
        {"ts": 1, "cpu": 0, "lost": 1, "event": "a:b"},
        {"ts": 1, "cpu": 0, "comm": None, "pid": 1, "event": "ab", "flags": ".....", "fields": {}},
        {"ts": 1, "cpu": 0, "comm": None, "pid": 1, "event": "a:b", "flags": ".....",
         "fields": {"x": 1.5}},
        {"cpu": 0, "damage": "x"},
    ],
)  # fmt: skip
def test_the_schema_refuses_what_is_no_record(wrong):
    assert not VALIDATOR.is_valid(wrong)
