from trace_recipe.recorder import parse_stats
from trace_recipe.recording import parse_cmdlines, parse_printk_formats, parse_symbols

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


def test_command_names_may_hold_blanks_and_odd_lines_are_passed_over():
    assert parse_cmdlines("1 systemd\n22 Web Content\nx y\n\n7\n") == {
        1: "systemd",
        22: "Web Content",
    }


def test_printk_formats_resolve_their_escapes():
    text = '0xffffffff81000000 : "a %s\\n\\"b\\" \\t"\nrubbish\n'

    assert parse_printk_formats(text) == {0xFFFFFFFF81000000: 'a %s\n"b" \t'}


def test_symbols_are_found_with_their_offset():
    text = (
        "0000000000000000 A fixed\nffffffff81000100 T second\n"
        "ffffffff81000000 t first\nffffffff81000050 t $local\nffffffffc0000000 t m\t[mod]\n"
    )
    symbols = parse_symbols(text)

    assert symbols.find(0xFFFFFFFF81000010) == ("first", 0x10)
    assert symbols.find(0xFFFFFFFF81000060) == ("first", 0x60)
    assert symbols.find(0xFFFFFFFF81000100) == ("second", 0)
    assert symbols.find(0x10) is None


def test_hidden_addresses_give_no_symbols():
    assert parse_symbols("0000000000000000 T a\n0000000000000000 T b\n") is None
