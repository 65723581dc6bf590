"""decoder.merge: the order over CPUs and buffers, gaps, damage, and batches that change nothing."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.merge_cases import FORMATS, damages, losses, rows, streams, trace, written
from tests.page_builder import UNKNOWN, PageBuilder, Writer
from trace_recipe.decoder import decode
from trace_recipe.drift import Drift
from trace_recipe.errors import DecodeError
from trace_recipe.events import ArrayPages, Buffer, TickScale, TraceData
from trace_recipe.held_files import hold_file
from trace_recipe.page_files import FilePages


def test_cpus_are_merged_by_time_and_equal_times_by_buffer_and_cpu():
    build = PageBuilder()
    first = {
        1: written(build, [(5, 1, 10), (7, 2, 11)]),
        0: written(build, [(5, 1, 12), (6, 1, 13)]),
    }
    second = {0: written(build, [(5, 3, 14), (9, 1, 15)])}
    assert rows(decode(trace([first, second]))) == [
        (5, 0, 0, 1, 12), (5, 0, 1, 1, 10), (5, 1, 0, 3, 14),
        (6, 0, 0, 1, 13), (7, 0, 1, 2, 11), (9, 1, 0, 1, 15),
    ]  # fmt: skip


def _drift(trace_ns: int | None) -> Drift:
    return Drift("trace_clock", "local", "mono", trace_ns, 1)


def test_drifts_stand_where_they_were_seen_whatever_the_batches():
    build = PageBuilder()
    cpus = {
        0: written(build, [(5, 1, 1), (9, 1, 2)]) + written(build, [(12, 1, 3)]),
        1: written(build, [(7, 1, 4)]) + written(build, [(11, 1, 5)]),
    }
    drifts = tuple(map(_drift, (None, 7, 10, 1 << 70)))
    data = replace(trace([cpus]), drifts=drifts)

    for size in (1, 2, 1000):
        found, before = [], 0
        for events in decode(data, batch_subbufs=size):
            found += [(before + mark.before, mark.drift.trace_ns) for mark in events.drifts]
            before += events.count
        assert found == [(2, 7), (3, 10), (5, None), (5, 1 << 70)]


def test_a_recording_without_events_still_has_its_drifts():
    (events,) = decode(replace(trace([{}]), drifts=(_drift(3),)))

    assert (events.count, [mark.before for mark in events.drifts]) == (0, [0])


def test_ticks_are_converted_before_buffers_are_merged():
    build = PageBuilder()
    writer = Writer(build)
    writer.write(1 << 50, build.event(1, 10))
    writer.lose(4)
    writer.write((1 << 50) + 9, build.event(1, 11))
    third = TickScale(0xAAAAAAAB, 33)  # a third of a nanosecond each
    data = trace(
        [{0: writer.close()}, {0: written(build, [(375299968900000, 2, 12), (1 << 49, 2, 13)])}]
    )
    data = replace(data, buffers=(replace(data.buffers[0], scale=third), data.buffers[1]))

    for batch in (1, 1000):
        batches = list(decode(data, batch_subbufs=batch))
        exact = [(number * 0xAAAAAAAB) >> 33 for number in (1 << 50, (1 << 50) + 9)]
        assert exact[0] > 375299968900000
        assert rows(batches) == [
            (375299968900000, 1, 0, 2, 12),
            (exact[0], 0, 0, 1, 10),
            (exact[1], 0, 0, 1, 11),
            (1 << 49, 1, 0, 2, 13),
        ]
        assert losses(batches) == [(2, 0, 0, 4, exact[1])]


def test_a_trace_without_pages_yields_nothing():
    assert list(decode(trace([{0: []}, {}]))) == []
    assert list(decode(trace([]))) == []


@given(made=streams(), batch=st.sampled_from([1, 2, 3, 1000]))
@settings(max_examples=80, deadline=None)
def test_any_batch_size_gives_the_order_of_a_plain_sort_and_every_gap(made, batch):
    build, buffers, expected, gaps = made
    data = trace(buffers, build)
    batches = list(decode(data, batch_subbufs=batch))
    order = sorted(expected, key=lambda row: row[:3])
    assert rows(batches) == order
    place = {row[4]: number for number, row in enumerate(order)}
    assert sorted(losses(batches)) == sorted((place[gap[0]], *gap[1:]) for gap in gaps)
    assert not damages(batches)


@given(made=streams(), batch=st.sampled_from([1, 3, 1000]), wanted=st.sets(st.integers(0, 7)))
@settings(max_examples=60, deadline=None)
def test_select_leaves_only_its_events_and_still_every_gap(made, batch, wanted):
    build, buffers, expected, gaps = made
    batches = list(decode(trace(buffers, build), batch_subbufs=batch, select=wanted))
    order = [row for row in sorted(expected, key=lambda row: row[:3]) if row[3] in wanted]
    assert rows(batches) == order
    got = [gap[1:] for gap in losses(batches)]
    assert sorted(got, key=repr) == sorted((gap[1:] for gap in gaps), key=repr)


@given(made=streams(), seed=st.integers(0, 1 << 32), batch=st.sampled_from([1, 2, 1000]))
@settings(max_examples=80, deadline=None)
def test_damaged_bytes_never_raise_never_hang_and_keep_the_order_within_each_cpu(made, seed, batch):
    build, buffers, _, _ = made
    random = np.random.default_rng(seed)
    for cpus in buffers:
        for cpu, pages in cpus.items():
            block = bytearray(b"".join(pages))
            for _ in range(int(random.integers(0, 6)) if block else 0):
                block[random.integers(len(block))] = random.integers(256)
            cpus[cpu] = [bytes(block)]
    data = trace(buffers, build)
    small, large = (list(decode(data, batch_subbufs=size)) for size in (batch, 1000))
    assert rows(small) == rows(large)
    assert losses(small) == losses(large)
    key = lambda one: (one.buffer, one.cpu, one.offset_bytes, one.reason)  # noqa: E731 - a key
    assert sorted(damages(small), key=key) == sorted(damages(large), key=key)
    for buffer, cpus in enumerate(buffers):
        for cpu, (block,) in cpus.items():
            alone = rows(decode(trace([{cpu: [block]}], build)))
            merged = [row for row in rows(small) if row[1:3] == (buffer, cpu)]
            assert [(row[0], *row[3:]) for row in alone] == [(row[0], *row[3:]) for row in merged]


@pytest.mark.parametrize("batch", [1, 1000])
def test_equal_times_over_several_sub_buffers_stay_with_their_cpu(batch):
    build = PageBuilder()
    pages = {
        cpu: [build.page(10, build.data(build.event(1, 10 * cpu + number))) for number in range(4)]
        for cpu in (2, 1)
    }
    got = rows(decode(trace([pages]), batch_subbufs=batch))
    assert [row[4] for row in got] == [10, 11, 12, 13, 20, 21, 22, 23]


@pytest.mark.parametrize("batch", [1, 1000])
def test_the_stamp_of_an_empty_sub_buffer_does_not_count(batch):
    build = PageBuilder()
    event = build.data(build.event(1, 1))
    pages = [build.page(10, event), build.page(1 << 60), build.page(20, event)]
    other = written(build, [(15, 2, 2), (25, 2, 3)])
    got = rows(decode(trace([{0: pages, 1: other}]), batch_subbufs=batch))
    assert [row[0] for row in got] == [10, 15, 20, 25]


@pytest.mark.parametrize("batch", [1, 1000])
def test_a_clock_that_goes_backwards_keeps_the_order_of_the_file_and_the_true_stamps(
    batch,
):
    build = PageBuilder()
    page = build.page(
        100,
        build.data(build.event(1, 1)) + build.stamp(50) + build.data(build.event(1, 2)),
    )
    later = build.page(60, build.data(build.event(1, 3)))
    other = written(build, [(70, 2, 4), (120, 2, 5)])
    got = rows(decode(trace([{0: [page, later], 1: other}]), batch_subbufs=batch))
    assert [row[4] for row in got] == [4, 1, 2, 3, 5]
    assert [row[0] for row in got] == [70, 100, 50, 60, 120]


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_a_sub_buffer_that_is_stamped_too_early_waits_for_the_one_before_it(batch):
    build = PageBuilder()
    pages = [build.page(time, build.data(build.event(1))) for time in (10, 100, 60, 200)]
    other = written(build, [(70, 2, 0), (80, 2, 0)])
    got = rows(decode(trace([{0: pages, 1: other}]), batch_subbufs=batch))
    assert [row[0] for row in got] == [10, 70, 80, 100, 60, 200]


def test_a_gap_stands_before_the_first_event_after_the_loss_among_other_cpus():
    build = PageBuilder()
    lossy = Writer(build)
    lossy.write(10, build.event(1))
    lossy.lose(3)
    lossy.write(30, build.event(1))
    other = written(build, [(5, 2, 0), (20, 2, 0), (40, 2, 0)])
    batches = list(decode(trace([{0: lossy.close(), 1: other}])))
    assert [row[0] for row in rows(batches)] == [5, 10, 20, 30, 40]
    assert losses(batches) == [(3, 0, 0, 3, 30)]


@pytest.mark.parametrize("batch", [1, 1000])
def test_a_gap_of_an_empty_page_waits_for_the_next_event_or_the_end(batch):
    build = PageBuilder()
    event = build.data(build.event(1))
    pages = [
        build.page(10, event),
        build.page(20, lost=UNKNOWN),
        build.page(30, lost=4),
        build.page(40, event),
        build.page(50, lost=9),
    ]
    batches = list(decode(trace([{2: pages}]), batch_subbufs=batch))
    assert losses(batches) == [(1, 0, 2, None, 40), (1, 0, 2, 4, 40), (2, 0, 2, 9, 50)]


def test_a_trace_of_nothing_but_a_gap_tells_it():
    (events,) = decode(trace([{0: [PageBuilder().page(7, lost=2)]}]))
    assert (events.count, events.columns) == (0, ())
    assert losses([events]) == [(0, 0, 0, 2, 7)]


@pytest.mark.parametrize("batch", [1, 1000])
@pytest.mark.parametrize(("lost", "behind"), [(20, [(2, 0, 0, 16, 30)]), (4, []), (0, [])])
def test_what_a_recording_that_broke_off_lost_and_no_page_tells_is_missing_at_its_end(
    tmp_path, batch, lost, behind
):
    build = PageBuilder()
    event = build.data(build.event(1))
    pages = [build.page(10, event), build.page(30, event, lost=4)]
    (tmp_path / "cpu0.raw").write_bytes(b"".join(pages))
    file = FilePages(hold_file(tmp_path / "cpu0.raw"), build.subbuf_size, lost=lost)
    batches = list(decode(trace([{0: file}], build), batch_subbufs=batch))
    assert sum(events.count for events in batches) == 2
    assert [gap[1:] for gap in losses(batches)] == [(0, 0, 4, 30), *(one[1:] for one in behind)]


def test_an_event_without_a_format_gets_a_name_and_the_common_fields():
    build = PageBuilder()
    pages = written(build, [(1, 777, 42)])
    for data in (trace([{0: pages}]), trace([{0: pages}])):
        ((columns,),) = decode(data)
        assert columns.format.full_name == "unknown:unknown_777"
        assert columns.column("common_pid").tolist() == [42]


def test_a_trace_without_any_format_still_shows_its_events():
    build = PageBuilder()
    buffer = Buffer("", "local", 4096, {0: ArrayPages(build.array(*written(build, [(1, 9, 42)])))})
    data = TraceData({}, "<", 8, 16, (buffer,), 1, "", "")
    ((columns,),) = decode(data)
    assert columns.column("common_pid").tolist() == [42]


def test_buffers_with_other_sub_buffer_sizes_merge():
    small, large = PageBuilder(), PageBuilder(subbuf_size=65536)
    expected = [[(time, 1 + time % 3, time) for time in range(start, 900, 2)] for start in (0, 1)]
    buffers = [{0: written(small, expected[0])}, {0: written(large, expected[1])}]
    got = rows(decode(trace(buffers, small, sizes=[4096, 65536]), batch_subbufs=2))
    assert [row[4] for row in got] == list(range(900))


def test_a_busy_and_many_quiet_cpus_make_few_batches():
    build = PageBuilder(subbuf_size=256)
    busy = written(build, [(time, 1, time) for time in range(6000)])
    quiet = {
        cpu: written(build, [(time * 50, 2, 0) for time in range(100)]) for cpu in range(1, 40)
    }
    batches = list(decode(trace([{0: busy, **quiet}], build), batch_subbufs=100))
    total = len(busy) + sum(len(pages) for pages in quiet.values())
    assert sum(events.count for events in batches) == 6000 + 39 * 100
    assert len(batches) <= total / 100 + 2


@pytest.mark.parametrize(
    ("byte_order", "long_size", "data_offset", "size"),
    [
        ("=", 8, 16, 4096),
        ("<", 2, 16, 4096),
        ("<", 8, 12, 4096),
        ("<", 8, 18, 4096),
        ("<", 8, 16, 16),
        ("<", 8, 16, 4098),
    ],
)
def test_a_layout_that_no_kernel_has_is_a_decode_error(byte_order, long_size, data_offset, size):
    buffer = Buffer("", "local", size, {})
    data = TraceData(FORMATS, byte_order, long_size, data_offset, (buffer,), 1, "", "")
    with pytest.raises(DecodeError):
        list(decode(data))


def test_a_file_decodes_like_memory_and_a_cut_tail_is_told(tmp_path):
    build = PageBuilder()
    events = [(time, 1, time) for time in range(1000)]
    pages = written(build, events)
    assert len(pages) > 2
    path = tmp_path / "cpu0.raw"
    path.write_bytes(b"head" + b"".join(pages))
    whole = FilePages(hold_file(path), 4096, 4)
    assert (whole.count, whole.truncated_bytes) == (len(pages), 0)
    assert [row[4] for row in rows(decode(trace([{0: whole}]), batch_subbufs=1))] == list(
        range(1000)
    )

    path.write_bytes(b"head" + b"".join(pages)[: 2 * 4096 + 1000])
    cut = FilePages(hold_file(path), 4096, 4)
    assert (cut.count, cut.truncated_bytes) == (3, 1000)
    assert cut.read(2, 5).shape == (1, 4096)
    batches = list(decode(trace([{0: cut}])))
    got = [row[4] for row in rows(batches)]
    assert got == list(range(len(got)))
    assert len(got) > 2 * 4080 // 12
    places = [(one.offset_bytes, one.reason) for one in damages(batches)]
    assert (2 * 4096, "the file ends after 1000 bytes of a sub-buffer") in places


def test_a_file_that_shrinks_decodes_up_to_its_new_end(tmp_path):
    build = PageBuilder()
    pages = written(build, [(time, 1, time) for time in range(2000)])
    path = tmp_path / "cpu0.raw"
    path.write_bytes(b"".join(pages))
    source = FilePages(hold_file(path), 4096)
    path.write_bytes(b"".join(pages)[: 3 * 4096])
    batches = list(decode(trace([{0: source}])))
    assert len(rows(batches)) == len(rows(decode(trace([{0: pages[:3]}]))))
    ((damage),) = damages(batches)
    assert damage.offset_bytes == 3 * 4096
    assert "became shorter" in damage.reason


def test_damages_that_the_pages_know_of_are_told():
    class Holed(ArrayPages):
        damages = ((4711, "chunk of 4 sub-buffers: bad frame"),)

    build = PageBuilder()
    pages = Holed(build.array(*written(build, [(1, 1, 1)])))
    (damage,) = damages(decode(trace([{3: pages}])))
    assert (damage.cpu, damage.offset_bytes, damage.reason[:5]) == (3, 4711, "chunk")


def test_a_damage_is_placed_in_the_stream_of_its_cpu_and_told_once():
    build = PageBuilder()
    event = build.data(build.event(1))
    good = [build.page(time, event + build.data(build.event(1), 90)) for time in (0, 100, 200)]
    bad = build.page(300, event + build.data(build.event(1), 90) + build.head(28, 0))
    other = written(build, [(time, 2, 0) for time in range(0, 400, 2)])
    batches = list(decode(trace([{0: [*good, bad], 1: other}]), batch_subbufs=1))
    (damage,) = damages(batches)
    assert (damage.cpu, damage.offset_bytes) == (0, 3 * 4096 + 16 + 2 * len(event))


def test_more_instances_than_a_byte_can_number_keep_their_numbers():
    build = PageBuilder()
    pages = written(build, [(5, 1, 10)])
    got = rows(decode(trace([{3: pages} for _ in range(300)])))
    assert got == [(5, number, 3, 1, 10) for number in range(300)]
