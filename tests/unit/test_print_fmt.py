"""The parser of print fmt texts: what it understands, and that nothing harms it."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trace_recipe.decoder.print_fmt import (
    Binary,
    Call,
    Cast,
    Dereference,
    FieldRef,
    Index,
    Name,
    Number,
    PrintFmtError,
    SizeOf,
    Table,
    Ternary,
    Text,
    TypeName,
    Unary,
    parse_print_fmt,
)


def one(expression):
    return parse_print_fmt(f'"%d", {expression}').arguments[0]


def test_adjacent_literals_are_one_format_and_escapes_are_resolved():
    parsed = parse_print_fmt('"a\\t" "b\\n%d\\"\\x41\\101", REC->x')
    assert parsed.format == 'a\tb\n%d"AA'
    assert parsed.arguments == (FieldRef("x"),)


def test_a_newline_inside_a_literal_stays():
    assert parse_print_fmt('"a\nb"').format == "a\nb"


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("REC->a + REC->b * 2", ("+", "a", ("*", "b", 2))),
        ("REC->a * REC->b + 2", ("+", ("*", "a", "b"), 2)),
        ("REC->a - REC->b - 1", ("-", ("-", "a", "b"), 1)),
        ("REC->a | REC->b & 1", ("|", "a", ("&", "b", 1))),
        ("REC->a << 2 + 1", ("<<", "a", ("+", 2, 1))),
        ("REC->a == 1 && REC->b != 2", ("&&", ("==", "a", 1), ("!=", "b", 2))),
        ("(REC->a + REC->b) * 2", ("*", ("+", "a", "b"), 2)),
    ],
)
def test_precedence_is_that_of_c(text, node):
    def built(shape):
        if isinstance(shape, tuple):
            return Binary(shape[0], built(shape[1]), built(shape[2]))
        return Number(shape) if isinstance(shape, int) else FieldRef(shape)

    assert one(text) == built(node)


@pytest.mark.parametrize(
    ("text", "type_name"),
    [
        ("(unsigned long)REC->a", TypeName("unsigned long")),
        ("( gfp_t)REC->a", TypeName("gfp_t")),
        ("(struct page *)REC->a", TypeName("struct page", 1)),
        ("(const char *)REC->a", TypeName("char", 1)),
        ("(thing *)REC->a", TypeName("thing", 1)),
        ("(void **)REC->a", TypeName("void", 2)),
    ],
)
def test_casts_are_told_from_parentheses(text, type_name):
    assert one(text) == Cast(type_name, FieldRef("a"))


def test_a_name_in_parentheses_is_no_cast():
    assert one("(THING) - 1") == Binary("-", Name("THING"), Number(1))


def test_the_record_itself_may_stand_in_parentheses():
    assert one("(u64)(REC)->top << 32") == Binary(
        "<<", Cast(TypeName("u64"), FieldRef("top")), Number(32)
    )


def test_ternaries_nest_to_the_right_and_gnu_omits_the_middle():
    assert one("REC->a ? 1 : REC->b ? 2 : 3") == Ternary(
        FieldRef("a"), Number(1), Ternary(FieldRef("b"), Number(2), Number(3))
    )
    assert one("REC->a ?: 3") == Ternary(FieldRef("a"), None, Number(3))


def test_tables_end_at_an_empty_entry_or_a_null():
    node = one('__print_symbolic(REC->a, { 1, "#" "DE" }, { -1, ((void *)0) }, { 0, 0 }, {})')
    assert node == Call("__print_symbolic", (FieldRef("a"), Table(((Number(1), "#DE"),))))


def test_indexing_dereferencing_and_sizes_are_understood():
    assert one("REC->args[3]") == Index(FieldRef("args"), Number(3))
    assert one("*(u32 *)__get_dynamic_array(x)") == Dereference(
        Cast(TypeName("u32", 1), Call("__get_dynamic_array", (Name("x"),)))
    )
    assert one("sizeof(struct thing)") == SizeOf(TypeName("struct thing"))
    assert one("~REC->a") == Unary("~", FieldRef("a"))


def test_numbers_keep_base_and_suffix():
    assert one("0x1FUL") == Number(31, "ul", is_decimal=False)
    assert one("010") == Number(8, "", is_decimal=False)
    assert one("'a'") == Number(97)
    assert one('"x"') == Text("x")


@pytest.mark.parametrize(
    "text",
    [
        "", "REC->a", '"%d" REC->a', '"%d", ', '"%d", REC->', '"%d", REC->a->b', '"%d", (1',
        '"%d", ({ int x = 1; x; })', '"%d", f(1', '"%d", a.b', '"unfinished', '"%d", 1 +',
        '"%d", ' + "(" * 5000 + "1", '"%d", ' + "-" * 5000 + "1", '"%d", 1' + "+1" * 5000,
        '"%d", ' + "f(" * 5000, '"%d", a' + "[0" * 5000, '"%d", ' + "1 ? " * 5000,
        '"%d", 09', '"%d", ' + "9" * 100, '"' + "x" * 300_000 + '"', '"%d", {1, REC->a}',
    ],
)  # fmt: skip
def test_what_is_not_understood_is_one_error(text):
    with pytest.raises(PrintFmtError):
        parse_print_fmt(text)


PIECES = st.sampled_from(
    ['"%s"', '"', "REC->", "a", "(", ")", "{", "}", ",", "?", ":", "*", "&", "&&", "<<", "1", "0x",
     "__print_flags", "sizeof", "(int)", "[", "]", "'a'", "\\", "struct", "unsigned", " ", "\n", "-"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=60).map("".join) | st.text(max_size=80))
def test_random_texts_raise_nothing_else(text):
    for candidate in (text, f'"%d", {text}'):
        with contextlib.suppress(PrintFmtError):
            parse_print_fmt(candidate)
