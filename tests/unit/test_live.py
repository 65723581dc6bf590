"""decoder.live: what is older than the horizon comes out, in order, once."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.merge_cases import losses, rows, streams, trace, written
from tests.page_builder import PageBuilder
from trace_recipe.decoder import LiveDecoder, decode


def test_events_up_to_the_horizon_come_out_and_the_rest_at_the_end():
    build = PageBuilder()
    live = LiveDecoder(trace([{}]))
    live.feed(0, 1, build.array(*written(build, [(10, 1, 1), (20, 1, 2), (30, 1, 3)])))
    live.feed(0, 0, build.array(*written(build, [(20, 2, 4), (25, 2, 5)])))
    assert live.take(9) is None
    assert [row[4] for row in rows([live.take(20)])] == [1, 4, 2]
    assert live.take(20) is None
    assert [row[4] for row in rows([live.take(26)])] == [5]
    live.feed(0, 0, build.array(*written(build, [(28, 2, 6)])))
    assert [row[4] for row in rows([live.finish()])] == [6, 3]
    assert live.finish() is None


def test_a_late_sub_buffer_comes_out_late_and_is_not_lost():
    build = PageBuilder()
    live = LiveDecoder(trace([{}]))
    live.feed(0, 0, build.array(*written(build, [(100, 1, 1)])))
    assert [row[4] for row in rows([live.take(200)])] == [1]
    live.feed(0, 1, build.array(*written(build, [(50, 1, 2)])))
    assert [row[4] for row in rows([live.take(200)])] == [2]


def test_a_horizon_outside_the_clock_is_no_error():
    build = PageBuilder()
    live = LiveDecoder(trace([{}]))
    live.feed(0, 0, build.array(*written(build, [(0, 1, 1)])))
    assert live.take(-1) is None
    assert [row[4] for row in rows([live.take(1 << 70)])] == [1]


def test_only_selected_events_come_out():
    build = PageBuilder()
    live = LiveDecoder(trace([{}]), select={2})
    live.feed(0, 0, build.array(*written(build, [(1, 1, 1), (2, 2, 2), (3, 1, 3)])))
    assert [row[4] for row in rows([live.finish()])] == [2]


@given(made=streams(), data=st.data())
@settings(max_examples=60, deadline=None)
def test_feeding_in_any_pieces_gives_what_decode_gives(made, data):
    build, buffers, _, _ = made
    whole = trace(buffers, build)
    live = LiveDecoder(trace([{} for _ in buffers], build))
    waiting = {
        (buffer, cpu): list(pages)
        for buffer, cpus in enumerate(buffers)
        for cpu, pages in cpus.items()
    }
    batches = []
    while any(waiting.values()):
        place = data.draw(st.sampled_from([key for key, pages in waiting.items() if pages]))
        count = data.draw(st.integers(1, 4))
        pages, waiting[place] = waiting[place][:count], waiting[place][count:]
        live.feed(
            place[0],
            place[1],
            np.frombuffer(b"".join(pages), np.uint8).reshape(-1, build.subbuf_size),
        )
        # A recorder knows a time before which every CPU is complete: here, the first unread page.
        unread = [
            int(np.frombuffer(pages[0][:8], f"{build.byte_order}u8")[0])
            for pages in waiting.values()
            if pages
        ]
        batches.append(live.take(min(unread, default=1 << 62) - 1 - data.draw(st.integers(0, 50))))
    batches.append(live.finish())
    got = [one for one in batches if one is not None]
    expected = list(decode(whole))
    assert rows(got) == rows(expected)
    assert losses(got) == losses(expected)
