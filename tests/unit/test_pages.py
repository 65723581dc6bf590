"""decoder.pages: every kind of record, every layout, and bytes that no kernel wrote."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.page_builder import UNKNOWN, PageBuilder, Writer
from trace_recipe.decoder import pages as pages_module
from trace_recipe.decoder.pages import read_headers, scan

LAYOUTS = [(order, size) for order in "<>" for size in (4, 8)]
BUILDERS = [PageBuilder(order, size) for order, size in LAYOUTS]
each_layout = pytest.mark.parametrize(
    "build", BUILDERS, ids=lambda b: f"{b.byte_order}{b.long_size}"
)


@pytest.fixture(params=["one by one", "in lockstep"])
def walk(request, monkeypatch):
    limit = 1 << 30 if request.param == "one by one" else 0
    monkeypatch.setattr(pages_module, "_LOCKSTEP_PAGES", limit)


def decoded(build, *pages):
    block = build.array(*pages)
    records = scan(block, build.layout)
    flat = block.reshape(-1)
    payloads = [
        flat[start : start + length].tobytes()
        for start, length in zip(records.offset, records.length, strict=True)
    ]
    return list(zip(records.timestamp.tolist(), payloads, strict=True)), records


def times(build, *pages):
    return decoded(build, *pages)[1].timestamp.tolist()


@each_layout
def test_a_short_and_a_long_record_give_their_payload_and_id(walk, build):
    short, long = build.event(300, body=b"abcd"), build.event(65535, body=bytes(range(200)))
    page = build.page(
        1000, build.data(short) + build.data(long, 5) + build.data(short, 7, long_form=True)
    )
    events, records = decoded(build, page)
    assert events == [(1000, short), (1005, long), (1012, short)]
    assert records.event_id.tolist() == [300, 65535, 300]
    assert not records.damages


@each_layout
def test_a_time_extend_adds_59_bits(walk, build):
    event = build.data(build.event(1))
    delta = (0xABCDEF << 27) + 0x123456
    assert times(build, build.page(9, event + build.extend(delta) + event)) == [9, 9 + delta]


@each_layout
def test_an_absolute_stamp_replaces_the_time_forwards_and_backwards(walk, build):
    event = build.data(build.event(1), 1)
    page = build.page(
        1000,
        event + build.stamp(5000) + build.data(build.event(1)) + event + build.stamp(400) + event,
    )
    assert times(build, page) == [1001, 5000, 5001, 401]


@each_layout
def test_an_absolute_stamp_before_the_first_record_wins_over_the_page_time(walk, build):
    page = build.page(1000, build.stamp(990) + build.data(build.event(1)))
    assert times(build, page, page) == [990, 990]


def test_stamps_of_a_clock_beyond_59_bits_get_their_top_bits_from_the_running_time(walk):
    build = PageBuilder()
    tai = 1_790_000_000_000_000_000
    event = build.data(build.event(1))
    page = build.page(tai, event + build.stamp(tai + 50) + event + build.stamp(tai + 70) + event)
    assert times(build, page) == [tai, tai + 50, tai + 70]


def test_stamps_that_overflow_their_59_bits_within_a_page_carry_into_the_top_bits(walk):
    build = PageBuilder()
    event = build.data(build.event(1))
    edge = 5 << 59
    first, second = edge - 10, edge + 10
    page = build.page(first, event + build.stamp(second) + event + build.stamp(second + 3) + event)
    ordinary = build.page(77, event + build.stamp(80) + event)
    assert times(build, ordinary, page, ordinary) == [77, 80, first, second, second + 3, 77, 80]


def test_a_running_time_that_crosses_59_bits_by_deltas_lends_its_new_top_bits(walk):
    build = PageBuilder()
    event = build.data(build.event(1))
    first = (1 << 59) - 10
    page = build.page(first, build.data(build.event(1), 20) + build.stamp(first + 30) + event)
    assert times(build, page) == [first + 20, first + 30]


@each_layout
def test_the_delta_of_padding_counts_unless_it_is_one(walk, build):
    event = build.data(build.event(1))
    page = build.page(100, event + build.padding(16, 1) + event + build.padding(12, 40) + event)
    assert times(build, page) == [100, 100, 140]


@each_layout
def test_padding_without_a_delta_ends_the_page(walk, build):
    event = build.data(build.event(1))
    events, records = decoded(build, build.page(1, event + build.padding(20, 0) + event))
    assert len(events) == 1
    assert not records.damages


def test_filler_up_to_the_end_of_the_page_is_no_damage_even_when_commit_ends_before_it(walk):
    build = PageBuilder()
    event = build.data(build.event(1))
    room = 4096 - 16 - len(event)
    inside = build.page(1, event + build.padding(room, 1))
    behind = build.page(1, event + build.padding(room, 1), commit=len(event) + 8)
    events, records = decoded(build, inside, behind)
    assert len(events) == 2
    assert not records.damages


@each_layout
def test_lost_marks_are_counted_unknown_or_none(build):
    event = build.data(build.event(1))
    pages = build.array(
        build.page(1, event), build.page(2, event, lost=UNKNOWN), build.page(3, event, lost=39061)
    )
    assert read_headers(pages, build.layout).lost.tolist() == [0, -1, 39061]


def test_a_lost_count_for_which_there_is_no_room_is_unknown():
    build = PageBuilder()
    full = build.page(1, bytes(4080), commit=4080 | 1 << 30, lost=UNKNOWN)
    headers = read_headers(build.array(full), build.layout)
    assert (headers.lost.tolist(), headers.length.tolist()) == ([-1], [4080])


@each_layout
def test_an_empty_page_has_no_events_and_keeps_its_lost_mark(walk, build):
    events, records = decoded(
        build, build.page(5, lost=7), build.page(9, build.data(build.event(2)))
    )
    assert [time for time, _ in events] == [9]
    assert records.headers.lost.tolist() == [7, 0]
    assert records.page.tolist() == [1]


def test_no_pages_at_all_give_no_events(walk):
    build = PageBuilder()
    records = scan(np.zeros((0, 4096), np.uint8), build.layout)
    assert records.count == 0
    assert not records.damages


def test_a_commit_beyond_the_page_is_clipped_and_reported(walk):
    build = PageBuilder()
    events, records = decoded(build, build.page(1, build.data(build.event(3), 4), commit=1 << 20))
    assert [time for time, _ in events] == [5]
    assert [(one.page, one.offset_bytes) for one in records.damages] == [(0, 8), (0, 28)]
    assert "claims 1048576 bytes" in records.damages[0].reason


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (lambda b: b.head(28, 1) + bytes(8), "record of 116 bytes, only 12 are left"),
        (
            lambda b: b.head(0, 1) + b.word(4000) + bytes(4),
            "record of 4004 bytes, only 12 are left",
        ),
        (lambda b: b.head(0, 1) + b.word(0xFFFF_FFFF) + bytes(4), "record of 4294967300 bytes"),
        (lambda b: b.head(0, 1) + b.word(0) + bytes(4), "record without a valid length"),
        (lambda b: b.head(0, 1), "record without a valid length"),
        (lambda b: b.head(29, 3) + b.word(0), "record without a valid length"),
        (lambda b: b.head(29, 3) + b.word(5000), "record of 5004 bytes"),
        (lambda b: b.head(30, 3), "record of 8 bytes, only 4 are left"),
        (lambda b: b.head(31, 3), "record of 8 bytes, only 4 are left"),
    ],
)
@each_layout
def test_a_broken_record_ends_its_page_only_and_says_where(walk, build, broken, reason):
    event = build.data(build.event(1))
    good = build.page(1, event)
    events, records = decoded(build, good, build.page(2, event + broken(build)), good)
    assert [time for time, _ in events] == [1, 2, 1]
    (damage,) = records.damages
    assert (damage.page, damage.offset_bytes) == (1, build.data_offset + len(event))
    assert damage.reason.startswith(reason)


@pytest.mark.parametrize("size", [8192, 65536, 1 << 20])
def test_larger_sub_buffers_hold_more_and_longer_events(walk, size):
    build = PageBuilder(subbuf_size=size)
    payloads = [build.event(index % 50, body=bytes(index % 3000)) for index in range(500)]
    writer = Writer(build)
    for index, payload in enumerate(payloads):
        writer.write(index, payload)
    events, records = decoded(build, *writer.close())
    assert [time for time, _ in events] == list(range(500))
    assert all(got.startswith(put) for (_, got), put in zip(events, payloads, strict=True))
    assert not records.damages


@st.composite
def page_contents(draw, build):
    """Records and the events a reader must see, by a simple model of the format."""
    start = now = draw(st.integers(0, (1 << 62) - 1))
    records, expected = b"", []
    for kind in draw(st.lists(st.sampled_from("eeeeexap"), max_size=25)):
        delta = draw(st.integers(0, (1 << 27) - 1))
        if kind == "e":
            payload = build.event(draw(st.integers(0, 65535)), body=draw(st.binary(max_size=130)))
            payload += bytes(-len(payload) % 4)
            records += build.data(payload, delta, long_form=draw(st.booleans()))
            now += delta
            expected.append((now, payload))
        elif kind == "x":
            records += build.extend(long := draw(st.integers(0, 1 << 50)))
            now += long
        elif kind == "a":
            now += draw(st.integers(0, 1 << 50))
            records += build.stamp(now)
        else:
            records += build.padding(4 * draw(st.integers(2, 10)), max(delta, 1))
            now += delta if delta > 1 else 0
        if len(records) > 3500:
            break
    lost = draw(st.sampled_from([None, None, UNKNOWN, 12]))
    return build.page(start, records, lost=lost), expected


@pytest.mark.parametrize("limit", [0, 1 << 30])
@each_layout
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_what_was_written_is_read(build, limit, data):
    before = pages_module._LOCKSTEP_PAGES
    pages_module._LOCKSTEP_PAGES = limit
    try:
        written = data.draw(st.lists(page_contents(build), min_size=1, max_size=5))
        events, records = decoded(build, *(page for page, _ in written))
    finally:
        pages_module._LOCKSTEP_PAGES = before
    assert events == [event for _, expected in written for event in expected]
    assert records.page.tolist() == [
        number for number, (_, expected) in enumerate(written) for _ in expected
    ]
    assert not records.damages


@each_layout
@given(data=st.data(), seed=st.integers(0, 1 << 32))
@settings(max_examples=60, deadline=None)
def test_any_bytes_decode_without_an_error_and_both_walks_agree(build, data, seed):
    written = data.draw(st.lists(page_contents(build), min_size=1, max_size=3))
    block = build.array(*(page for page, _ in written)).copy()
    random = np.random.default_rng(seed)
    if seed % 4 == 0:
        block[:] = random.integers(0, 256, block.shape)
    else:
        for _ in range(random.integers(1, 40)):
            block[random.integers(len(block)), random.integers(400)] = random.integers(256)
    before = pages_module._LOCKSTEP_PAGES
    results = []
    try:
        for limit in (0, 1 << 30):
            pages_module._LOCKSTEP_PAGES = limit
            results.append(scan(block, build.layout))
    finally:
        pages_module._LOCKSTEP_PAGES = before
    one, other = results
    assert one.damages == other.damages
    for name in ("page", "offset", "length", "timestamp", "event_id"):
        assert getattr(one, name).tolist() == getattr(other, name).tolist()
    page_end = (one.page + 1) * build.subbuf_size
    assert (one.offset + one.length <= page_end).all()
    assert (one.offset >= one.page * build.subbuf_size + build.data_offset).all()
