"""What the columns of real events become as Python values."""

import struct
import time
from dataclasses import replace

import pytest

from tests.sink_events import FIRST_NS, batch, event_format, payload, trace_data
from trace_recipe.formats import parse_event_format
from trace_recipe.sinks.columns import Cache, ColumnReader, Shape, text_of

ORDERS = pytest.mark.parametrize("byte_order", ["<", ">"])
SWITCH = "sched:sched_switch"


def values(full_name, byte_order="<", layout=None, raw=None, /, **fields):
    layout = layout or event_format(full_name)
    events = batch([(layout, raw or payload(layout, byte_order, **fields))], byte_order)
    reader = ColumnReader(trace_data(byte_order=byte_order))
    return {
        one.field.name: reader.values(events.columns[0], one)[0] for one in reader.fields(layout)
    }


def shapes(name):
    layout = event_format(name)
    return {one.field.name: one.shape for one in ColumnReader(trace_data()).fields(layout)}


def field_line(declaration, offset, size, signed=0):
    return f"\tfield:{declaration};\toffset:{offset};\tsize:{size};\tsigned:{signed};\n"


def made_format(*lines, print_fmt='""', name="made", system="test"):
    common = "".join(
        line for line in event_format(SWITCH).text.splitlines(keepends=True) if "common_" in line
    )
    text = f"name: {name}\nID: 9\nformat:\n{common}\n{''.join(lines)}\nprint fmt: {print_fmt}\n"
    return parse_event_format(text, system)


@ORDERS
def test_integers_have_their_width_and_sign(byte_order):
    found = values(
        SWITCH, byte_order, prev_pid=7, prev_prio=-1, prev_state=-(1 << 63), next_prio=120
    )

    assert (found["prev_pid"], found["prev_prio"], found["next_prio"]) == (7, -1, 120)
    assert found["prev_state"] == -(1 << 63)


@ORDERS
def test_unsigned_longs_keep_all_their_digits(byte_order):
    found = values("timer:timer_start", byte_order, expires=(1 << 64) - 1, now=(1 << 53) + 1)

    assert found["expires"] == (1 << 64) - 1
    assert found["now"] == (1 << 53) + 1


def test_pointers_are_addresses_without_a_sign():
    assert shapes("syscalls:sys_enter_mount") == {
        "__syscall_nr": Shape.INTEGER,
        "dev_name": Shape.ADDRESS,
        "dir_name": Shape.ADDRESS,
        "type": Shape.ADDRESS,
        "flags": Shape.INTEGER,
        "data": Shape.ADDRESS,
    }
    layout = made_format(field_line("void * p", 8, 8, signed=1))
    assert values("", "<", layout, p=0xFFFF_8000_0000_0000) == {"p": 0xFFFF_8000_0000_0000}


def test_an_integer_that_the_kernel_prints_as_a_symbol_is_an_address():
    assert shapes("ftrace:print")["ip"] is Shape.ADDRESS
    (function,) = (
        one
        for one in ColumnReader(trace_data()).fields(event_format("timer:timer_start"))
        if one.is_symbol
    )
    assert function.field.name == "function"


def test_the_place_of_a_probe_is_an_address_with_a_symbol():
    layout = made_format(
        field_line("unsigned long __probe_ip", 8, 8), print_fmt='"(%lx)", REC->__probe_ip'
    )
    (one,) = ColumnReader(trace_data()).fields(layout)

    assert (one.shape, one.is_symbol) == (Shape.ADDRESS, True)


def test_char_arrays_are_text_up_to_the_first_nul():
    found = values(SWITCH, prev_comm=b"bash\0stale bytes", next_comm=b"sixteen bytes!!!")

    assert (found["prev_comm"], found["next_comm"]) == ("bash", "sixteen bytes!!!")


@ORDERS
def test_dynamic_strings_are_text(byte_order):
    found = values("irq:irq_handler_entry", byte_order, irq=24, name=b"nvme0q1\0")

    assert found == {"irq": 24, "name": "nvme0q1"}


@ORDERS
def test_relative_dynamic_strings_and_arrays_are_found_behind_their_word(byte_order):
    layout = made_format(
        field_line("__rel_loc char[] s", 8, 4), field_line("__rel_loc s16[] a", 12, 4)
    )
    found = values("", byte_order, layout, s=b"rel\0", a=[-1, 2, -32768])

    assert found == {"s": "rel", "a": [-1, 2, -32768]}


def test_bytes_that_are_not_utf_8_stand_as_escapes():
    assert text_of("é€".encode() + b"\xff\xed\xa0\x80\0x") == "é€\\xff\\xed\\xa0\\x80"


def test_the_text_of_a_marker_ends_without_the_kernels_line_feed():
    assert values("ftrace:print", buf=b"one\ntwo\n\0")["buf"] == "one\ntwo"
    assert values("ftrace:print", buf=b"no line feed\0")["buf"] == "no line feed"


def test_raw_data_is_a_list_of_bytes():
    found = values("ftrace:raw_data", id=42, buf=b"\x00\xff\x00\x01")

    assert found == {"id": 42, "buf": [0, 255, 0, 1]}


@ORDERS
def test_dynamic_arrays_are_lists_by_their_stride(byte_order):
    found = values(
        "dma:dma_map_sg", byte_order,
        device=b"0000:00:1f.2\0", truncated=1, phys_addrs=[1 << 40, (1 << 64) - 1],
        dma_addrs=[], lengths=[4096, (1 << 32) - 1],
    )  # fmt: skip

    assert found["device"] == "0000:00:1f.2"
    assert found["truncated"] is True
    assert found["phys_addrs"] == [1 << 40, (1 << 64) - 1]
    assert found["dma_addrs"] == []
    assert found["lengths"] == [4096, (1 << 32) - 1]


@ORDERS
def test_fixed_arrays_are_lists_also_of_one_element(byte_order):
    layout = made_format(
        field_line("long a[3]", 8, 24, signed=1),
        field_line("u16 b[1]", 32, 2),
        field_line("char c[1]", 34, 1),
        field_line("struct s d[2]", 36, 24),
    )
    found = values(
        "", byte_order, layout, a=[-1, 0, 1 << 62], b=[65535], c=b"x", d=bytes(range(24))
    )

    assert found == {"a": [-1, 0, 1 << 62], "b": [65535], "c": "x", "d": list(range(24))}


@ORDERS
def test_a_cpumask_is_the_list_of_its_cpus(byte_order):
    found = values("ipi:ipi_send_cpumask", byte_order, cpumask=[1 << 63 | 0b101, 0b10])

    assert found["cpumask"] == [0, 2, 63, 65]


def test_a_bitmask_of_32_bit_longs_is_read_word_by_word():
    layout = made_format(
        field_line("__data_loc unsigned long[] m", 8, 4), print_fmt='"%s", __get_bitmask(m)'
    )
    data = trace_data(byte_order=">", long_size=4)
    raw = payload(layout, ">", m=struct.pack(">II", 1, 2))
    reader = ColumnReader(data)
    (one,) = reader.fields(layout)

    assert reader.values(batch([(layout, raw)], ">").columns[0], one) == [[0, 33]]


@ORDERS
def test_what_the_kernel_prints_as_an_address_is_text(byte_order):
    found = values(
        "tcp:tcp_retransmit_skb", byte_order,
        saddr=[10, 0, 0, 1], daddr=[192, 168, 255, 254],
        saddr_v6=[*[0] * 10, 255, 255, 10, 0, 0, 1], daddr_v6=[0x20, 1, 0xD, 0xB8, *[0] * 11, 1],
        sport=443,
    )  # fmt: skip

    assert (found["saddr"], found["daddr"]) == ("10.0.0.1", "192.168.255.254")
    assert (found["saddr_v6"], found["daddr_v6"]) == ("::ffff:10.0.0.1", "2001:db8::1")
    assert found["sport"] == 443


@ORDERS
@pytest.mark.parametrize(
    ("family", "rest", "text"),
    [
        (2, b"\x00\x50" + bytes([1, 2, 3, 4]) + bytes(20), "1.2.3.4:80"),
        (10, b"\x01\xbb" + bytes(4) + bytes(15) + b"\x01" + bytes(4), "[::1]:443"),
        (1, b"/run/x\0" + bytes(19), "unix:/run/x"),
        (1, b"\0name\0" + bytes(20), "unix:@name"),
        (0, bytes(26), None),
    ],
)
def test_a_socket_address_is_text(byte_order, family, rest, text):
    raw = struct.pack(f"{byte_order}H", family) + rest
    found = values("tcp:tcp_send_reset", byte_order, saddr=raw)

    assert found["saddr"] == (f"0x{raw.hex()}" if text is None else text)


def test_a_dynamic_socket_address_is_found_by_its_helper_and_may_be_empty():
    layout = made_format(
        field_line("__data_loc __u8[] addr", 8, 4), print_fmt='"%pISpc", __get_sockaddr(addr)'
    )

    raw = struct.pack("<H", 2) + b"\x00\x50\x01\x02\x03\x04" + bytes(8)
    assert values("", "<", layout, addr=raw) == {"addr": "1.2.3.4:80"}
    assert values("", "<", layout, addr=raw[:5]) == {"addr": f"0x{raw[:5].hex()}"}
    assert values("", "<", layout, addr=b"") == {"addr": ""}


def test_mac_addresses_and_uuids_are_text():
    mac = values("bridge:br_mdb_full", grpmac=[1, 0, 0x5E, 0, 0, 0xFB])
    fsid = values("btrfs:add_delayed_tree_ref", fsid=list(range(16)))

    assert mac["grpmac"] == "01:00:5e:00:00:fb"
    assert fsid["fsid"] == "00010203-0405-0607-0809-0a0b0c0d0e0f"


def test_an_unsigned_char_array_is_numbers_unless_the_kernel_prints_it_as_text():
    layout = made_format(field_line("unsigned char a[6]", 8, 6), print_fmt='"%02x", REC->a[0]')

    assert values("", "<", layout, a=[1, 0, 3, 0, 0, 255]) == {"a": [1, 0, 3, 0, 0, 255]}


@pytest.mark.parametrize("unit", ["(", "((void *)", "REC->", '"', "%d", ",", "{", "x("])
def test_a_hostile_print_fmt_costs_no_time(unit):
    layout = made_format(
        field_line("int a", 8, 4, 1), print_fmt='"%pI4 %d", ' + unit * (200_000 // len(unit))
    )
    before = time.process_time()

    assert values("", "<", layout, a=-3) == {"a": -3}
    assert time.process_time() - before < 3


@ORDERS
def test_a_stack_is_as_long_as_its_record_and_ends_at_the_end_mark(byte_order):
    long_stack = list(range(0xFFFF_FFFF_8100_0000, 0xFFFF_FFFF_8100_000B))
    found = values("ftrace:kernel_stack", byte_order, size=11, caller=long_stack)
    assert found["caller"] == long_stack

    short = [0xFFFF_FFFF_8100_0000, (1 << 64) - 1, 5]
    assert values("ftrace:kernel_stack", byte_order, caller=short)["caller"] == short[:1]
    assert values("ftrace:user_stack", byte_order, caller=[1, 2, *[0] * 6])["caller"] == [1, 2]


def test_a_record_that_ends_early_reads_as_zero_and_nothing_of_its_neighbour():
    layout = event_format(SWITCH)
    whole = payload(layout, next_comm=b"neighbour", prev_pid=99)
    events = batch([(layout, whole[:28]), (layout, whole)])
    reader = ColumnReader(trace_data())
    found = {one.field.name: reader.values(events.columns[0], one) for one in reader.fields(layout)}

    assert found["prev_pid"] == [99, 99]
    assert found["next_comm"] == ["", "neighbour"]
    assert found["prev_state"] == [0, 0]


def test_a_dynamic_string_that_points_outside_its_record_is_clipped():
    layout = event_format("irq:irq_handler_entry")
    raw = bytearray(payload(layout, name=b"eth0\0"))
    raw[12:16] = struct.pack("<I", 0xFFFF << 16 | 16)
    neighbour = payload(layout, name=b"secret\0")
    events = batch([(layout, bytes(raw)), (layout, neighbour)])
    reader = ColumnReader(trace_data())

    assert reader.values(events.columns[0], reader.fields(layout)[1]) == ["eth0", "secret"]


def test_every_format_gives_a_value_for_every_field_of_any_bytes():
    for byte_order in "<>":
        for path in ("sched:sched_switch", "dma:dma_map_sg", "ftrace:bprint", "ftrace:print",
                     "tcp:tcp_send_reset", "ftrace:kernel_stack", "ipi:ipi_send_cpumask"):  # fmt: skip
            layout = event_format(path)
            found = values(path, byte_order, layout, b"\xff" * (layout.fixed_size + 8))
            assert list(found) == [one.name for one in layout.fields]


@pytest.mark.parametrize(
    ("flags", "preempt_count", "text"),
    [
        (0x00, 0x00, "....."),
        (0x01, 0x01, "d..1."),
        (0x81, 0x10, "D...1"),
        (0x80, 0x00, "b...."),
        (0x04, 0x00, ".n..."),
        (0x24, 0x00, ".N..."),
        (0x20, 0x00, ".p..."),
        (0x02, 0x00, ".l..."),
        (0x06, 0x00, ".b..."),
        (0x22, 0x00, ".L..."),
        (0x26, 0x00, ".B..."),
        (0x08, 0x00, "..h.."),
        (0x10, 0x00, "..s.."),
        (0x18, 0x00, "..H.."),
        (0x40, 0x00, "..z.."),
        (0x48, 0x00, "..Z.."),
        (0x19, 0xA2, "d.H2a"),
    ],
)
def test_the_latency_characters_are_the_kernels(flags, preempt_count, text):
    layout = event_format(SWITCH)
    raw = payload(layout, common_flags=flags, common_preempt_count=preempt_count)

    assert ColumnReader(trace_data()).irq_infos(batch([(layout, raw)]).columns[0]) == [text]


def test_the_wall_time_has_nine_digits_and_carries_over_the_second():
    reader = ColumnReader(trace_data(wall_offset_ns=1_795_380_300_999_999_999 - FIRST_NS))

    assert reader.wall(FIRST_NS) == "2026-11-22T20:45:00.999999999Z"
    assert reader.wall(FIRST_NS + 1) == "2026-11-22T20:45:01.000000000Z"


@pytest.mark.parametrize("offset", [None, 1 << 70, -(1 << 70)])
def test_there_is_no_wall_time_without_a_believable_offset(offset):
    reader = ColumnReader(trace_data(wall_offset_ns=offset))

    assert reader.wall(FIRST_NS) is None


@pytest.mark.parametrize("timestamp_ns", [0, (1 << 63) - 1, (1 << 64) - 1])
def test_a_damaged_time_stamp_still_has_a_wall_time(timestamp_ns):
    wall = ColumnReader(trace_data()).wall(timestamp_ns)

    assert wall is not None
    assert len(wall) == 30


def test_tasks_have_names_and_the_idle_task_its_own():
    reader = ColumnReader(trace_data())

    assert (reader.comm(0), reader.comm(4711), reader.comm(1)) == ("<idle>", "mount", None)


def test_symbols_have_an_offset_and_a_module():
    reader = ColumnReader(trace_data())

    assert reader.symbol(0xFFFFFFFF81000000) == "schedule"
    assert reader.symbol(0xFFFFFFFF81000010) == "schedule+0x10"
    assert reader.symbol(0xFFFFFFFF81000104) == "btrfs_x+0x4 [btrfs]"
    assert reader.symbol(0x1000) is None
    assert ColumnReader(trace_data(symbols=None)).symbol(0xFFFFFFFF81000000) is None


def test_no_events_give_no_values():
    layout = event_format(SWITCH)
    columns = batch([(layout, payload(layout))]).columns[0]
    arrays = ("timestamp_ns", "cpu", "buffer", "position", "data", "offset", "length")
    empty = replace(columns, **{name: getattr(columns, name)[:0] for name in arrays})
    reader = ColumnReader(trace_data())

    assert all(reader.values(empty, one) == [] for one in reader.fields(layout))


def test_a_cache_forgets_when_it_has_grown_large(monkeypatch):
    monkeypatch.setattr("trace_recipe.sinks.columns.CACHE_ENTRIES", 3)
    cache = Cache(str)

    assert [cache[number] for number in range(7)] == [str(number) for number in range(7)]
    assert len(cache) <= 3
