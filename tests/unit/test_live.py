"""decoder.live: what is older than the horizon comes out, in order, once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.merge_cases import damages, losses, rows, streams, trace, written
from tests.page_builder import PageBuilder
from trace_recipe.decoder import LiveDecoder, decode
from trace_recipe.drift import Drift
from trace_recipe.errors import DecodeError
from trace_recipe.events import ArrayPages, Events


class Growing:
    """The sub-buffers of every CPU so far, as the files of a recording hold them."""

    def __init__(self, build):
        self.build = build
        self.held = {}

    def add(self, buffer, cpu, pages):
        self.held.setdefault((buffer, cpu), []).extend(pages)

    @property
    def pages(self):
        return {place: self.as_array(pages) for place, pages in self.held.items()}

    def as_array(self, pages):
        data = np.frombuffer(b"".join(pages), np.uint8)
        return ArrayPages(data.reshape(-1, self.build.subbuf_size))


def test_events_up_to_the_horizon_come_out_and_the_rest_at_the_end():
    build = PageBuilder()
    live, grown = LiveDecoder(trace([{}])), Growing(build)
    grown.add(0, 1, written(build, [(10, 1, 1), (20, 1, 2), (30, 1, 3)]))
    grown.add(0, 0, written(build, [(20, 2, 4), (25, 2, 5)]))
    assert list(live.take(9, grown.pages)) == []
    assert [row[4] for row in rows(live.take(20, grown.pages))] == [1, 4, 2]
    assert list(live.take(20, grown.pages)) == []
    assert [row[4] for row in rows(live.take(26, grown.pages))] == [5]
    grown.add(0, 0, written(build, [(28, 2, 6)]))
    assert [row[4] for row in rows(live.finish(grown.pages))] == [6, 3]
    assert list(live.finish(grown.pages)) == []


def test_a_late_sub_buffer_comes_out_late_and_is_not_lost():
    build = PageBuilder()
    live, grown = LiveDecoder(trace([{}])), Growing(build)
    grown.add(0, 0, written(build, [(100, 1, 1)]))
    assert [row[4] for row in rows(live.take(200, grown.pages))] == [1]
    grown.add(0, 1, written(build, [(50, 1, 2)]))
    assert [row[4] for row in rows(live.take(200, grown.pages))] == [2]


def test_a_drift_comes_out_with_the_events_of_its_time():
    build = PageBuilder()
    live, grown = LiveDecoder(trace([{}])), Growing(build)
    grown.add(0, 0, written(build, [(10, 1, 1), (20, 1, 2), (30, 1, 3)]))
    live.mark([Drift("trace_clock", "local", "mono", 20, 1)])

    places = [
        [mark.before for events in batches for mark in events.drifts]
        for batches in (
            live.take(19, grown.pages), live.take(25, grown.pages), live.finish(grown.pages)
        )
    ]  # fmt: skip

    assert places == [[], [1], []]


def test_a_horizon_outside_the_clock_is_no_error():
    build = PageBuilder()
    live, grown = LiveDecoder(trace([{}])), Growing(build)
    grown.add(0, 0, written(build, [(0, 1, 1)]))
    assert list(live.take(-1, grown.pages)) == []
    assert [row[4] for row in rows(live.take(1 << 70, grown.pages))] == [1]


@given(made=streams(), data=st.data())
@settings(max_examples=60, deadline=None)
def test_taking_in_any_pieces_gives_what_decode_gives(made, data):
    build, buffers, _, _ = made
    whole = trace(buffers, build)
    live, grown = LiveDecoder(trace([{} for _ in buffers], build)), Growing(build)
    waiting = {
        (buffer, cpu): list(pages)
        for buffer, cpus in enumerate(buffers)
        for cpu, pages in cpus.items()
    }
    batches: list[Events] = []
    while any(waiting.values()):
        place = data.draw(st.sampled_from([key for key, pages in waiting.items() if pages]))
        count = data.draw(st.integers(1, 4))
        pages, waiting[place] = waiting[place][:count], waiting[place][count:]
        grown.add(place[0], place[1], pages)
        # A recorder knows a time before which every CPU is complete: here, the first unread page.
        unread = [
            int(np.frombuffer(pages[0][:8], f"{build.byte_order}u8")[0])
            for pages in waiting.values()
            if pages
        ]
        horizon = min(unread, default=1 << 62) - 1 - data.draw(st.integers(0, 50))
        batches += live.take(horizon, grown.pages)
    batches += live.finish(grown.pages)
    expected = list(decode(whole))
    assert rows(batches) == rows(expected)
    assert losses(batches) == losses(expected)


class Watched:
    """Pages that know how many of them were given away."""

    def __init__(self, pages):
        self._pages = pages
        self.count = pages.count
        self.given = 0

    def read(self, first, count):
        assert first == self.given  # each once, in order
        self.given += count
        return self._pages.read(first, count)


def many_pages(build, cpus, count):
    """Pages of one event each, in turns over the CPUs."""
    grown = Growing(build)
    for number in range(count):
        for cpu in range(cpus):
            place = number * cpus + cpu
            grown.add(0, cpu, written(build, [(10 * place, 1, place)]))
    return {place: Watched(pages) for place, pages in grown.pages.items()}


@pytest.mark.parametrize("way", ["take", "finish"])
def test_a_long_remainder_is_read_as_it_is_handed_out(way):
    build, cpus, count = PageBuilder(), 2, 3000
    live, pages = LiveDecoder(trace([{}], build)), many_pages(build, cpus, count)
    batches = live.finish(pages) if way == "finish" else live.take(1 << 62, pages)

    seen = []
    for events in batches:
        seen += [row[4] for row in rows([events])]
        assert sum(one.given for one in pages.values()) - len(seen) <= 1000

    assert seen == list(range(cpus * count))


def test_whoever_leaves_off_between_two_batches_gets_the_rest_later():
    build = PageBuilder()
    live, pages = LiveDecoder(trace([{}], build)), many_pages(build, 2, 3000)

    first = next(live.take(40_000, pages))
    middle = list(live.take(40_000, pages))
    last = list(live.finish(pages))

    assert [row[4] for row in rows([first, *middle])] == list(range(4001))
    assert [row[4] for row in rows(last)] == list(range(4001, 6000))


def test_what_lies_behind_the_horizon_stays_unread():
    build = PageBuilder()
    live, pages = LiveDecoder(trace([{}], build)), many_pages(build, 1, 3000)

    assert len(rows(live.take(10, pages))) == 2
    assert len(rows(live.take(20, pages))) == 1

    assert pages[0, 0].given <= 1000


class Refused:
    """Pages of a file that was made shorter meanwhile."""

    count = 1

    def read(self, first, count):
        raise DecodeError("the file became shorter")


def test_pages_that_cannot_be_read_any_more_are_one_damage():
    build = PageBuilder()
    live, grown = LiveDecoder(trace([{}], build)), Growing(build)
    grown.add(0, 0, written(build, [(1, 1, 1)]))
    pages = {**grown.pages, (0, 1): Refused()}
    batches = [*live.take(5, pages), *live.take(6, pages), *live.finish(pages)]

    assert [row[4] for row in rows(batches)] == [1]
    assert [one.reason for one in damages(batches)] == ["the file became shorter"]
