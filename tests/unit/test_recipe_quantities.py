"""Durations, sizes and CPU lists."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trace_recipe.recipe.quantities import (
    RefusedValue,
    parse_cpu_list,
    parse_duration_ns,
    parse_size_bytes,
)


@pytest.mark.parametrize(
    ("text", "duration_ns"),
    [
        ("250ms", 250 * 10**6),
        ("10s", 10**10),
        ("5m", 300 * 10**9),
        ("1h", 3600 * 10**9),
        ("1m30s", 90 * 10**9),
        ("1h2m3s4ms5us6ns", 3723 * 10**9 + 4_005_006),
        ("0s", 0),
        ("007s", 7 * 10**9),
    ],
)
def test_durations_are_nanoseconds(text, duration_ns):
    assert parse_duration_ns(text) == duration_ns


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("", "write it as 10s"),
        ("10", "write a unit: 10s"),
        ("1.5s", "write '1s500ms'"),
        ("10 s", "write '10s'"),
        ("10sec", "write '10s'"),
        ("2 minutes", "write '2m'"),
        ("1d", "write '24h'"),
        ("5 µs", "write '5us'"),
        ("30s1m", "write '1m30s'"),
        ("1:30", "write '1m30s'"),
        ("-5s", "write '5s'"),
        ("5s\n", "write '5s'"),
        ("٣s", "write it as 10s"),
        ("10s10s", "write '20s'"),
    ],
)
def test_what_is_no_duration_is_refused_with_what_was_meant(text, fix):
    with pytest.raises(RefusedValue) as caught:
        parse_duration_ns(text)

    assert caught.value.fix == fix


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("1", 1), ("512K", 512 << 10), ("8M", 8 << 20), ("1G", 1 << 30), ("4096", 4096)],
)
def test_sizes_are_bytes(text, size_bytes):
    assert parse_size_bytes(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("8MB", "write '8M'"),
        ("8 MiB", "write '8M'"),
        ("8m", "write '8M'"),
        ("1.5G", "write '1536M'"),
        ("0", "a size is at least 1"),
        ("lots", "write it as 8M"),
        ("8M\n", "write '8M'"),
        ("", "write it as 8M"),
    ],
)
def test_what_is_no_size_is_refused_with_what_was_meant(text, fix):
    with pytest.raises(RefusedValue) as caught:
        parse_size_bytes(text)

    assert caught.value.fix == fix


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("0", (0,)), ("0-3,7", (0, 1, 2, 3, 7)), ("7,1,1-2", (1, 2, 7)), ("3-3", (3,))],
)
def test_cpu_lists_are_sorted_and_hold_each_cpu_once(text, cpus):
    assert parse_cpu_list(text) == cpus


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("3-0", "write '0-3'"),
        ("0, 1", "write '0,1'"),
        ("0-", "write it as '0-3,7'"),
        ("", "take the key out to trace every CPU"),
        ("0 1", "write '0,1'"),
        ("0x3", "write it as '0-3,7'"),
        ("0 " * 100_000, "write it as '0-3,7'"),
    ],
)
def test_what_is_no_cpu_list_is_refused_with_what_was_meant(text, fix):
    with pytest.raises(RefusedValue) as caught:
        parse_cpu_list(text)

    assert caught.value.fix == fix


@pytest.mark.parametrize(
    ("parse", "text", "rule"),
    [
        (parse_duration_ns, "9999h", "duration_too_long"),
        (parse_size_bytes, "9999999G", "size_too_large"),
        (parse_cpu_list, "5-1", "cpu_range_backwards"),
    ],
)
def test_limits_that_no_schema_can_say_have_a_name(parse, text, rule):
    with pytest.raises(RefusedValue) as caught:
        parse(text)

    assert caught.value.rule == rule


@given(st.text(max_size=12))
def test_any_text_is_parsed_or_refused(text):
    for parse in (parse_duration_ns, parse_size_bytes, parse_cpu_list):
        with contextlib.suppress(RefusedValue):
            parse(text)


def test_a_long_list_of_ranges_costs_no_more_than_its_length():
    assert parse_cpu_list(",".join(["0-9999"] * 100_000)) == tuple(range(10_000))


def test_nothing_is_guessed_of_what_is_too_long_to_be_meant():
    with pytest.raises(RefusedValue) as caught:
        parse_duration_ns("9" * 200_000)

    assert caught.value.fix == "write it as 10s"
