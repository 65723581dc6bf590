"""events: columns of fields at any offset, in both byte orders, of records of any length."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trace_recipe.events import Buffer, EventColumns, Symbols, TickScale
from trace_recipe.formats import parse_event_format

COMMON = "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n"
OWN = (
    "\tfield:u8 tiny;\toffset:2;\tsize:1;\tsigned:0;\n"
    "\tfield:s8 minus;\toffset:3;\tsize:1;\tsigned:1;\n"
    "\tfield:int number;\toffset:4;\tsize:4;\tsigned:1;\n"
    "\tfield:u64 wide;\toffset:8;\tsize:8;\tsigned:0;\n"
    "\tfield:u16 three[3];\toffset:16;\tsize:6;\tsigned:0;\n"
    "\tfield:char comm[5];\toffset:22;\tsize:5;\tsigned:0;\n"
    "\tfield:u32 odd;\toffset:27;\tsize:4;\tsigned:0;\n"
    "\tfield:__data_loc char[] text;\toffset:31;\tsize:4;\tsigned:0;\n"
    "\tfield:__rel_loc u8[] near;\toffset:35;\tsize:4;\tsigned:0;\n"
    "\tfield:__data_loc u8[] old;\toffset:39;\tsize:2;\tsigned:0;\n"
    "\tfield:char rest[];\toffset:41;\tsize:0;\tsigned:0;\n"
)
FORMAT = parse_event_format(f'name: e\nID: 5\nformat:\n{COMMON}\n{OWN}\nprint fmt: ""\n', "test")
FIXED = 41
orders = pytest.mark.parametrize("order", "<>")


def record(order, number, *, text=b"hello\0", near=b"\1\2\3"):
    head = struct.pack(
        f"{order}HBbiQHHH5sI", 5, number % 256, -number, -1000 * number, (1 << 60) + number,
        number, number + 1, number + 2, b"abcde", 0xDEAD0000 + number,
    )  # fmt: skip
    locs = struct.pack(
        f"{order}IIH",
        len(text) << 16 | FIXED,
        len(near) << 16 | (FIXED + len(text) - 39),
        FIXED + 2,
    )
    return head + locs + text + near


def columns(order, payloads, *, lead=3, tail=0):
    data, offset = b"\xee" * lead, []
    for payload in payloads:
        offset.append(len(data))
        data += payload
    count = len(payloads)
    return EventColumns(
        FORMAT, order, np.arange(count, dtype=np.uint64), np.zeros(count, np.uint16),
        np.zeros(count, np.uint8), np.arange(count), np.frombuffer(data + b"\xee" * tail, np.uint8),
        np.array(offset, np.int64), np.array([len(one) for one in payloads], np.int64),
    )  # fmt: skip


@orders
@pytest.mark.parametrize("lead", range(4))
@pytest.mark.parametrize("tail", [0, 100])
def test_fixed_fields_read_at_any_alignment_in_either_byte_order(order, lead, tail):
    many = columns(order, [record(order, number) for number in range(1, 8)], lead=lead, tail=tail)
    numbers = list(range(1, 8))
    assert many.column("common_type").tolist() == [5] * 7
    assert many.column("tiny").tolist() == numbers
    assert many.column("minus").tolist() == [-one for one in numbers]
    assert many.column("number").tolist() == [-1000 * one for one in numbers]
    assert many.column("wide").tolist() == [(1 << 60) + one for one in numbers]
    assert many.column("odd").tolist() == [0xDEAD0000 + one for one in numbers]
    assert many.column("three").tolist() == [[one, one + 1, one + 2] for one in numbers]
    assert many.column("comm").tobytes() == b"abcde" * 7
    assert many.column("wide").dtype == np.dtype("u8")
    assert many.column("number").dtype == np.dtype("i4")
    assert many.column("three").shape == (7, 3)


def taken(many, name):
    start, size = many.dynamic(name)
    return [
        many.data[a : a + b].tobytes() for a, b in zip(start.tolist(), size.tolist(), strict=True)
    ]


@orders
def test_dynamic_fields_give_their_place_and_size(order):
    many = columns(order, [record(order, 1), record(order, 2, text=b"", near=b"\7" * 9)])
    assert taken(many, "text") == [b"hello\0", b""]
    assert taken(many, "near") == [b"\1\2\3", b"\7" * 9]
    assert taken(many, "rest") == [b"hello\0\1\2\3", b"\7" * 9]
    assert taken(many, "old") == [b"llo\0\1\2\3", b"\7" * 7]
    assert taken(many, "comm") == [b"abcde"] * 2


@orders
def test_a_dynamic_field_that_lies_about_its_place_is_clipped_to_the_record(order):
    lying = bytearray(record(order, 1))
    lying[31:35] = struct.pack(f"{order}I", 60000 << 16 | 45)
    far = bytearray(record(order, 1))
    far[31:35] = struct.pack(f"{order}I", 8 << 16 | 60000)
    assert taken(columns(order, [bytes(lying), bytes(far)]), "text") == [b"o\0\1\2\3"[-5:], b""]


@orders
@pytest.mark.parametrize("length", range(41))
def test_a_record_that_ends_early_reads_as_zero_there_and_never_as_its_neighbour(order, length):
    whole = record(order, 9)
    many = columns(order, [whole[:length], whole], lead=1)
    for name, offset, size in (("number", 4, 4), ("wide", 8, 8), ("odd", 27, 4)):
        first, second = many.column(name).tolist()
        assert second != 0
        assert first == (second if length >= offset + size else 0)
    for name in ("text", "near", "old", "rest", "comm"):
        start, size = many.dynamic(name)
        assert (start[0], start[0] + size[0]) <= (1 + length, 1 + length)
        assert size[0] >= 0


def test_an_array_that_a_short_record_cuts_keeps_the_elements_it_has():
    many = columns("<", [record("<", 9)[:20]])
    assert many.column("three").tolist() == [[9, 10, 0]]
    assert many.column("comm").tolist() == [[0] * 5]


def test_no_events_give_empty_columns():
    many = columns("<", [], lead=0)
    assert many.count == 0
    assert many.column("wide").tolist() == []
    assert many.column("three").shape == (0, 3)
    assert [one.tolist() for one in many.dynamic("text")] == [[], []]


def test_unknown_and_dynamic_names_are_refused():
    many = columns("<", [record("<", 1)])
    with pytest.raises(KeyError):
        many.column("nope")
    with pytest.raises(KeyError):
        many.dynamic("nope")
    with pytest.raises(TypeError):
        many.column("text")


def test_a_symbol_is_the_one_at_or_below_the_address():
    symbols = Symbols(np.array([100, 200], np.uint64), ["a", "b"])
    assert symbols.find(99) is None
    assert symbols.find(100) == ("a", 0)
    assert symbols.find(0xFFFF_FFFF_FFFF_FFFF) == ("b", 0xFFFF_FFFF_FFFF_FFFF - 200)


@given(
    ticks=st.lists(st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 2**32, 2**64 - 1]))),
    mult=st.one_of(st.integers(0, 2**32 - 1), st.just(2**32 - 1)),
    shift=st.integers(0, 63),
)
def test_ticks_become_nanoseconds_to_the_last_of_128_bits(ticks, mult, shift):
    exact = [(tick * mult >> shift) % 2**64 for tick in ticks]
    assert TickScale(mult, shift).nanoseconds(np.array(ticks, np.uint64)).tolist() == exact


@pytest.mark.parametrize(
    ("clock", "scale", "in_ns"),
    [
        ("local", None, True), ("mono_raw", None, True), ("tai", None, True),
        ("counter", None, False), ("uptime", None, False), ("x86-tsc", None, False),
        ("x86-tsc", TickScale(1, 0), True),
    ],
)  # fmt: skip
def test_a_buffer_is_in_nanoseconds_by_its_clock_or_by_its_scale(clock, scale, in_ns):
    assert Buffer("", clock, 4096, {}, scale=scale).in_ns is in_ns
