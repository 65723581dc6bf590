from trace_recipe.recorder import parse_stats

STATS = """entries: 3
overrun: 39061
commit overrun: 2
bytes: 1440
oldest event ts:  1181.245621
now ts:  1182.545121
dropped events: 5
read events: 129
"""


def test_stats_are_read_by_name():
    stats = parse_stats(1, STATS)

    assert (stats.entries, stats.overrun, stats.commit_overrun) == (3, 39061, 2)
    assert (stats.dropped_events, stats.read_events) == (5, 129)
    assert stats.lost == 39061 + 2 + 5
    assert stats.seen == 132


def test_stats_that_lack_a_line_count_nothing():
    assert parse_stats(0, "entries: 1\n").lost == 0
