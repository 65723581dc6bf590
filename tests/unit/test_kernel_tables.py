"""The tables that name numbers."""

from __future__ import annotations

import pytest

from trace_recipe.kernel_tables import (
    cmdlines_text,
    parse_cmdlines,
    parse_kallsyms,
    parse_printk_formats,
)


def test_symbols_are_sorted_and_absolute_and_mapping_symbols_left_out():
    symbols = parse_kallsyms(
        "0000000000000000 A fixed_percpu_data\n"
        "ffffffff81000300 t third [mod]\n"
        "ffffffff81000100 T first\n"
        "ffffffff81000100 T alias\n"
        "ffffffff81000180 a absolute\n"
        "ffffffff81000190 t $x\n"
        "nonsense\n-1 t negative\nxyz t word\n1ffffffff81000100 t too_large\n"
    )

    assert symbols is not None
    assert symbols.addresses.tolist() == [0xFFFFFFFF81000100, 0xFFFFFFFF81000300]
    assert symbols.names == ["first", "third\t[mod]"]
    assert symbols.find(0xFFFFFFFF81000200) == ("first", 0x100)


@pytest.mark.parametrize("text", ["", "0000000000000000 T _text\n0000000000000000 t hidden\n"])
def test_hidden_addresses_give_no_symbols(text):
    assert parse_kallsyms(text) is None


def test_the_kernels_three_escapes_are_undone_and_nothing_else():
    text = '0xffff : "a\\tb\\n"\n0x10 : "say \\"x\\" 100%\\x \\\\"\nrubbish\n0xzz : "no"\n\0'

    assert parse_printk_formats(text) == {0xFFFF: "a\tb\n", 0x10: 'say "x" 100%\\x \\\\'}


def test_command_lines_may_have_blanks_and_junk_behind_them():
    text = "1 init\n42 two words \n7 kworker/0:1\n-5 no\n99999999999 no\n\u00b2 no\nx y\n3\n\0\0"

    assert parse_cmdlines(text) == {1: "init", 42: "two words ", 7: "kworker/0:1"}
    assert parse_cmdlines(cmdlines_text({2: "b", 1: "a c"})) == {1: "a c", 2: "b"}


@pytest.mark.parametrize("text", ["1 init\n7 x\n1 forged\n", "7 x\n1 forged\n1 init\n"])
def test_a_second_name_that_a_comm_with_a_line_end_forges_is_not_believed(text):
    assert parse_cmdlines(text) == {7: "x"}
    assert parse_cmdlines("1 init\n1 init\n") == {1: "init"}


@pytest.mark.parametrize("blank", [" ", "\t", "\r", "\v\f "])
def test_a_name_that_is_blank_is_none(blank):
    assert parse_cmdlines(f"1 {blank}\n7  x\n") == {7: " x"}
