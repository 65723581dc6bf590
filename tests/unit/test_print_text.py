"""Print fmt texts evaluated over rows: C's integers, the helpers, printf, and what fails."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sink_events import batch, event_format, payload
from trace_recipe.decoder.print_text import PrintContext, compile_format
from trace_recipe.decoder.print_values import visible
from trace_recipe.events import Symbols
from trace_recipe.formats import FieldKind, parse_event_format

GOLDEN = Path(__file__).parent.parent / "golden"
SYMBOLS = Symbols(
    np.array([0xFFFFFFFF81000000, 0xFFFFFFFF81000000, 0xFFFFFFFF81000100, 0xFFFFFFFF82000000],
             np.uint64),
    ["schedule", "schedule_alias", "btrfs_x\t[btrfs]", "_end"],
)  # fmt: skip
FIELDS = """\
name: made
ID: 4000
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:u8 b;\toffset:8;\tsize:1;\tsigned:0;
\tfield:s8 c;\toffset:9;\tsize:1;\tsigned:1;
\tfield:u16 h;\toffset:10;\tsize:2;\tsigned:0;
\tfield:int i;\toffset:12;\tsize:4;\tsigned:1;
\tfield:unsigned int u;\toffset:16;\tsize:4;\tsigned:0;
\tfield:__data_loc char[] text;\toffset:20;\tsize:4;\tsigned:0;
\tfield:s64 l;\toffset:24;\tsize:8;\tsigned:1;
\tfield:u64 q;\toffset:32;\tsize:8;\tsigned:0;
\tfield:void * p;\toffset:40;\tsize:8;\tsigned:0;
\tfield:const char * s;\toffset:48;\tsize:8;\tsigned:0;
\tfield:char comm[16];\toffset:56;\tsize:16;\tsigned:0;
\tfield:u8 raw[16];\toffset:72;\tsize:16;\tsigned:0;
\tfield:unsigned long args[2];\toffset:88;\tsize:16;\tsigned:0;
\tfield:__data_loc u32[] words;\toffset:104;\tsize:4;\tsigned:0;
\tfield:__rel_loc char[] rel;\toffset:108;\tsize:4;\tsigned:0;
\tfield:__data_loc cpumask_t[] cpus;\toffset:112;\tsize:4;\tsigned:0;

print fmt: """
PRINTK = {0x1000: "constant text", 0x2000: "%s"}


def context(**changes):
    return PrintContext(symbols=SYMBOLS, printk_formats=PRINTK, **changes)


def rendered(print_fmt, *rows, **changes):
    order = changes.get("byte_order", "<")
    event = parse_event_format(FIELDS + print_fmt + "\n", "made")
    printer = compile_format(event, context(**changes))
    (columns,) = batch([(event, payload(event, order, **row)) for row in rows], order)
    return printer, printer.render(columns)


def said(print_fmt, **row):
    printer, (text,) = rendered(print_fmt, row)
    assert printer.failure == "", printer.failure
    return text


@pytest.mark.parametrize(
    ("expression", "row", "text"),
    [
        ("REC->b - REC->u", {"b": 1, "u": 2}, "ffffffff"),
        ("REC->b - REC->i", {"b": 1, "i": 2}, "ffffffffffffffff"),
        ("REC->c", {"c": -1}, "ffffffffffffffff"),
        ("(u8)REC->c", {"c": -1}, "ff"),
        ("(unsigned int)REC->i", {"i": -1}, "ffffffff"),
        ("REC->i < REC->u", {"i": -1, "u": 1}, "0"),
        ("REC->i < REC->l", {"i": -1, "l": 1}, "1"),
        ("REC->i / 2", {"i": -7}, "fffffffffffffffd"),
        ("REC->i % 4", {"i": -7}, "fffffffffffffffd"),
        ("REC->i / 0", {"i": -7}, "0"),
        ("REC->i >> 1", {"i": -4}, "fffffffffffffffe"),
        ("REC->u >> 33", {"u": 4}, "2"),
        ("REC->b << 24", {"b": 0x80}, "ffffffff80000000"),
        ("((u64)REC->b << 32) | REC->u", {"b": 1, "u": 5}, "100000005"),
        ("~REC->b", {"b": 0}, "ffffffffffffffff"),
        ("!REC->b", {"b": 0}, "1"),
        ("REC->b ? REC->u : -1", {"b": 0, "u": 1}, "ffffffff"),
        ("REC->b ?: 7", {"b": 0}, "7"),
        ("REC->b && REC->c || 0", {"b": 1, "c": 0}, "0"),
        ("(bool)REC->u", {"u": 256}, "1"),
        ("sizeof(unsigned long) + sizeof(REC->comm) + sizeof(REC->h)", {}, "1a"),
        ("REC->args[1]", {"args": [1, 2]}, "2"),
        ("REC->args[REC->b]", {"args": [1, 2], "b": 1}, "2"),
        ("REC->args[REC->b]", {"args": [1, 2], "b": 200}, "0"),
        ("*(u32 *)__get_dynamic_array(words)", {"words": [7, 8]}, "7"),
        ("((u32 *)__get_dynamic_array(words))[1]", {"words": [7, 8]}, "8"),
        ("((u32 *)__get_dynamic_array(words))[2]", {"words": [7, 8], "cpus": [9]}, "0"),
        ("__get_dynamic_array_len(words)", {"words": [7, 8]}, "8"),
        ("__builtin_expect(!!(REC->u), 0)", {"u": 5}, "1"),
        ("__builtin_constant_p(1) ? 1 : REC->u", {"u": 5}, "5"),
        ("__print_ns_to_secs(REC->q)", {"q": 5_000_000_007}, "5"),
        ("__print_ns_without_secs(REC->q)", {"q": 5_000_000_007}, "7"),
        ("UNKNOWN_THING", {}, "0"),
        ("0xffffffff", {}, "ffffffff"),
        ("4294967295", {}, "ffffffff"),
        ("2147483648 + REC->i", {"i": -1}, "7fffffff"),
    ],
)  # fmt: skip
def test_integers_follow_c(expression, row, text):
    assert said(f'"%llx", (u64)({expression})', **row) == text


@pytest.mark.parametrize(
    ("conversion", "row", "text"),
    [
        ('"%d", REC->l', {"l": 0x1_FFFF_FFFF}, "-1"),
        ('"%u", REC->i', {"i": -1}, "4294967295"),
        ('"%ld", (long)REC->i', {"i": -1}, "-1"),
        ('"%hhu %hd", REC->u, REC->u', {"u": 0x18001}, "1 -32767"),
        ('"%zu %zd %Lu", REC->q, REC->q, REC->q', {"q": 2**64 - 1},
         f"{2**64 - 1} -1 {2**64 - 1}"),
        ('"%#x %#010x %#X %X", REC->u, REC->u, REC->u, REC->u', {"u": 171},
         "0xab 0x000000ab 0XAB AB"),
        ('"%o %#o %#o", REC->u, REC->u, REC->b', {"u": 8}, "10 010 0"),
        ('"[%5d|%-5d|%05d|%+d|% d]", REC->i, REC->i, REC->i, REC->i, REC->i', {"i": 42},
         "[   42|42   |00042|+42| 42]"),
        ('"[%*d|%-*d]", REC->b, REC->i, 4, REC->i', {"b": 4, "i": 7}, "[   7|7   ]"),
        ('"%.3d", REC->i', {"i": 7}, "007"),
        ('"%c%c", REC->b, 0x41', {"b": 27}, "\\x1bA"),
        ('"100%% %d", REC->i', {"i": 1}, "100% 1"),
        ('"%s", REC->comm', {"comm": b"cat\0stale"}, "cat"),
        ('"[%8s|%-8s|%.2s]", REC->comm, REC->comm, REC->comm', {"comm": b"cat"},
         "[     cat|cat     |ca]"),
        ('"%.*s|%.*s", REC->b, __get_str(text), REC->c, __get_str(text)',
         {"b": 2, "c": -1, "text": b"abc\0"}, "ab|abc"),
        ('"%s", __get_str(text)', {"text": b""}, ""),
        ('"%s", __get_rel_str(rel)', {"rel": b"there\0"}, "there"),
        ('"%s", REC->s', {"s": 0x1000}, "constant text"),
        ('"%s", REC->s', {"s": 0x1234}, "0x1234"),
        ('"%s", REC->s', {"s": 0}, "(null)"),
        ('"%s", REC->b ? "yes" : "no"', {"b": 1}, "yes"),
        ('"%s", REC->b ? __get_str(text) : "none"', {"text": b"x\0"}, "none"),
        ('"%p %lx", REC->p, (unsigned long)REC->p', {"p": 0xFFFF888012345678},
         "ffff888012345678 ffff888012345678"),
        ('"%p", REC->p', {"p": 0}, "0000000000000000"),
        ('"%ps|%pS|%pB", (void *)REC->q, (void *)REC->q, (void *)REC->q',
         {"q": 0xFFFFFFFF81000010}, "schedule|schedule+0x10/0x100|schedule+0x10/0x100"),
        ('"%ps|%pS", REC->p, REC->p', {"p": 0xFFFFFFFF81000104},
         "btrfs_x [btrfs]|btrfs_x+0x4/0xffff00 [btrfs]"),
        ('"%pS|%ps", REC->p, (void *)0', {"p": 0x1234}, "0x1234|0x0"),
        ('"%pB", REC->p', {"p": 0xFFFFFFFF81000100}, "schedule+0x100/0x100"),
        ('"%pe", REC->p', {"p": 2**64 - 2}, "-ENOENT"),
        ('"%pI4 %pi4", REC->raw, REC->raw', {"raw": b"\x7f\0\0\1"}, "127.0.0.1 127.000.000.001"),
        ('"%pI6c %pM", REC->raw, REC->raw', {"raw": b"\1\2\3\4\5\6"},
         "102:304:506:: 01:02:03:04:05:06"),
        ('"%pU", REC->raw', {"raw": bytes(range(16))}, "00010203-0405-0607-0809-0a0b0c0d0e0f"),
        ('"%4ph %*phN", REC->raw, REC->b, REC->raw', {"raw": b"\1\2\3\4", "b": 2}, "01 02 03 04 0102"),
        ('"%*pbl", 64, REC->raw', {"raw": b"\x0f"}, "0-3"),
        ('"%pa", REC->raw', {"raw": b"\1\2"}, "0x0000000000000201"),
        ('"%d\\n", REC->i', {"i": 3}, "3"),
    ],
)  # fmt: skip
def test_conversions_are_the_kernels(conversion, row, text):
    assert said(conversion, **row) == text


@pytest.mark.parametrize(
    ("value", "flags", "symbol"),
    [
        (0, "", "zero"),
        (1, "A", "0x1"),
        (3, "A|B", "three"),
        (0x13, "A|B|0x10", "0x13"),
        (8, "0x8", "0x8"),
    ],
)
def test_flags_and_symbols_are_named_and_the_rest_is_hex(value, flags, symbol):
    assert said('"%s", __print_flags(REC->u, "|", {1, "A"}, {2, "B"}, {NOBODY, "C"})', u=value) == (
        flags
    )
    assert said('"%s", __print_symbolic(REC->u, {0, "zero"}, {NOBODY, "x"}, {3, "three"})',
                u=value) == symbol  # fmt: skip


def test_a_negative_flag_word_is_extended_as_the_helpers_parameter_is():
    assert said('"%s", __print_flags(REC->i, "|", {1, "A"})', i=-(2**31)) == "0xffffffff80000000"
    assert said('"%s", __print_symbolic(REC->i, {-1, "minus"})', i=-1) == "minus"


def test_unnamed_inode_states_are_named_where_their_numbers_are_certain():
    table = '{I_NEW, "I_NEW"}, {I_DIRTY_PAGES, "I_DIRTY_PAGES"}'
    plain = said(f'"%s", __print_flags(REC->u, "|", {table})', u=0x41)
    known = '{I_LRU_ISOLATING, "I_LRU_ISOLATING"}'
    assert plain == "0x41"
    assert said(f'"%s", __print_flags(REC->u, "|", {table}, {known})', u=0x41) == (
        "I_NEW|I_DIRTY_PAGES"
    )


def test_arrays_masks_and_dumps_are_printed_by_their_helpers():
    row = {"words": [1, 2], "cpus": [0x8F], "raw": b"\xab\xcd"}
    assert said('"%s", __print_array(__get_dynamic_array(words), 2, 4)', **row) == "{0x1,0x2}"
    assert said('"%s", __print_array(REC->raw, REC->b, 1)', b=2, **row) == "{0xab,0xcd}"
    assert said('"%s", __print_dynamic_array(words, 4)', **row) == "{0x1,0x2}"
    assert said('"%s", __print_hex(REC->raw, 2)', **row) == "ab cd"
    assert said('"%s", __print_hex_str(REC->raw, 2)', **row) == "abcd"
    assert said('"%s", __get_cpumask(cpus)', **row) == "0-3,7"
    assert said('"%s", __get_bitmask(cpus)', **row) == "00000000,0000008f"
    dump = '__print_hex_dump("", DUMP_PREFIX_NONE, 16, 1, REC->raw, 2, false)'
    assert said(f'"%s", {dump}', **row) == "\nab cd\n"


def test_lengths_that_the_record_does_not_hold_are_cut():
    assert said('"%s", __print_hex_str(REC->raw, REC->u)', u=2**31, raw=b"\1") == "01" + "00" * 15
    assert said('"%s", __print_array(REC->raw, REC->i, 1)', i=-5) == "{}"


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_are_read(order):
    _, texts = rendered(
        '"%d %llu %s %x", REC->i, REC->q, __print_array(__get_dynamic_array(words), 1, 4),'
        " REC->args[1]",
        {"i": -2, "q": 1 << 40, "words": [5], "args": [1, 0xAB]},
        byte_order=order,
    )
    assert texts == ["-2 1099511627776 {0x5} ab"]


def test_control_characters_of_the_trace_do_not_reach_the_terminal():
    text = said('"%s", __get_str(text)', text=b"a\x1b[31m\tb\nc\x9b\xc2\x9b\xc3\xa9\0")
    assert text == "a\\x1b[31m\tb\\x0ac\\x9b\\x9bé"
    assert said('"\x1b]0;%d", REC->i', i=1) == "\\x1b]0;1"


@pytest.mark.parametrize(
    "print_fmt",
    ["", "junk", '"%d", REC->nothing', '"%d", driver_function(1)', '"%d %d", REC->i',
     '"%f", REC->i', '"%d", ({ int a = 1; a; })', '"%d", __get_str(text)', '"%s", REC->i + "a"',
     '"%d", sizeof(struct secret)', '"%d", REC->args[7]', '"%pI4", "x"', '"%d", REC->comm'],
)  # fmt: skip
def test_what_cannot_be_evaluated_lists_the_fields(print_fmt):
    printer, (text,) = rendered(
        print_fmt, {"b": 1, "i": -5, "comm": b"cat", "text": b"hello\0", "p": 16, "words": [3]}
    )
    assert printer.failure
    assert text.startswith(
        "b=1 c=0 h=0 i=-5 u=0 text=hello l=0 q=0 p=0x10 s=0x0 comm=cat raw={0x0,"
    )
    assert "words={0x3}" in text


def test_huge_widths_do_not_ask_for_memory():
    text = said('"%999999999d|%*d|%.99999999s|%.99999999d", REC->i, REC->u, REC->i, REC->comm, 1',
                i=1, u=2**31 - 1)  # fmt: skip
    assert len(text) < 5000


def test_short_records_print_zeros_and_empty_texts():
    event = parse_event_format(FIELDS + '"%d %s %s %llu", REC->i, REC->comm, __get_str(text), REC->q\n',
                               "made")  # fmt: skip
    (columns,) = batch([(event, payload(event, i=7)[:16]), (event, b"")])
    assert compile_format(event, context()).render(columns) == ["7   0", "0   0"]


def test_known_events_read_as_in_the_kernels_trace_file():
    switch = event_format("sched:sched_switch")
    row = {
        "prev_comm": b"cat", "prev_pid": 7, "prev_prio": 120, "prev_state": 256 | 1,
        "next_comm": b"swapper/1", "next_pid": 0, "next_prio": 120,
    }  # fmt: skip
    (columns,) = batch([(switch, payload(switch, **row))])
    printer = compile_format(switch, context())
    assert printer.label == "sched_switch: "
    (text,) = printer.render(columns)
    assert text == (
        "prev_comm=cat prev_pid=7 prev_prio=120 prev_state=S+ ==> "
        "next_comm=swapper/1 next_pid=0 next_prio=120"
    )


@pytest.mark.parametrize("name", ["locked-6.18", "rich-6.12"])
def test_of_all_formats_of_a_kernel_only_the_known_few_list_their_fields(name):
    texts = json.loads((GOLDEN / f"kernels/{name}.json").read_text())["formats"]
    failures = {}
    for full_name, text in texts.items():
        system = full_name.partition(":")[0]
        printer = compile_format(parse_event_format(text, system), PrintContext())
        if printer.failure:
            failures[full_name] = printer.failure
    kernel_only = {"dma:dma_map_sg", "ras:mc_event"}
    assert {one for one in failures if not one.startswith("kvmmmu:")} <= kernel_only, failures
    assert len(failures) <= 12


EXPRESSIONS = st.recursive(
    st.sampled_from(["REC->i", "REC->q", "REC->b", "REC->comm", "REC->raw", "__get_str(text)", "1",
                     "0xffffffffffffffff", "-1", "REC->args[1]", "NAME", '"s"']),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from("+-*/%&|^<>"), inner, inner).map(lambda t: f"({t[1]} {t[0]} {t[2]})"),
        st.tuples(st.sampled_from(["<<", ">>", "&&", "==", "<="]), inner, inner).map(
            lambda t: f"({t[1]} {t[0]} {t[2]})"),
        st.tuples(st.sampled_from(["~", "-", "!", "*", "&", "(u8)", "(s64)", "(char *)"]), inner).map(
            "".join),
        st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} ? {t[1]} : {t[2]})"),
        st.tuples(inner, inner).map(lambda t: f"{t[0]}[{t[1]}]"),
        inner.map(lambda one: f'__print_flags({one}, "|", {{1, "A"}})'),
        inner.map(lambda one: f"__print_hex({one}, REC->i)"),
    ),
    max_leaves=8,
)  # fmt: skip
CONVERSIONS = st.lists(
    st.sampled_from(["%d", "%s", "%p", "%pS", "%pI4", "%*d", "%.*s", "%llx", "%c", "%pU", "%*ph", "%hhx",
                     "%%", "x", "%", "%pIS"]), max_size=4
).map("".join)  # fmt: skip


@settings(max_examples=250, deadline=None)
@given(CONVERSIONS, st.lists(EXPRESSIONS, max_size=4), st.binary(max_size=120), st.booleans())
def test_random_formats_over_random_records_never_raise(conversions, arguments, raw, is_big):
    order = ">" if is_big else "<"
    print_fmt = ", ".join([json.dumps(conversions), *arguments])
    event = parse_event_format(FIELDS + print_fmt + "\n", "made")
    (columns,) = batch([(event, raw.ljust(8, b"\0")), (event, b"\xff" * 150)], order)
    texts = compile_format(event, context(byte_order=order)).render(columns)
    assert len(texts) == 2
    assert all("\x1b" not in text for text in texts)


def test_a_width_of_more_digits_than_int_takes_lists_the_fields():
    event = parse_event_format(f'{FIELDS}"%{"9" * 5000}d", REC->i\n', "made")
    (columns,) = batch([(event, bytes(150))])
    printer = compile_format(event, context())
    assert "conversion" in printer.failure
    assert printer.render(columns)[0].startswith("b=")


def test_there_is_a_text_for_every_event_even_when_nothing_can_be_printed():
    event = parse_event_format(f'{FIELDS}"%q", REC->i\n', "made")
    twice = replace(event, fields=(replace(event.fields[0], kind=FieldKind.REST), *event.fields))
    (columns,) = batch([(twice, bytes(150)), (twice, bytes(150))])
    assert compile_format(twice, context()).render(columns) == ["?", "?"]


def test_what_hides_or_turns_text_is_shown_as_its_number():
    assert visible("a\u202eb\u2066c\ufeff\u2028\x9b\tä") == (
        r"a\u202eb\u2066c\ufeff\u2028\x9b" + "\tä"
    )
