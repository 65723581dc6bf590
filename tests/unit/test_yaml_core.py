"""Our YAML: core types of YAML 1.2 only, and everything else refused with its place."""

import contextlib
import re
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from trace_recipe.errors import RecipeError
from trace_recipe.recipe.yaml_reader import MAX_BYTES, decode_text, parse_yaml


def plain(text):
    return parse_yaml("r.yaml", text).plain()


def problems(text):
    with pytest.raises(RecipeError) as caught:
        parse_yaml("r.yaml", text)
    found: list[Any] = list(caught.value.problems)
    return [(p.place.line, p.place.column, p.what) for p in found]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("yes", "yes"),
        ("No", "No"),
        ("y", "y"),
        ("true", True),
        ("FALSE", False),
        ("tRUE", "tRUE"),
        ("~", None),
        ("", None),
        ("Null", None),
        ("12:30:45", "12:30:45"),
        ("2024-01-31", "2024-01-31"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("-5", -5),
        ("+5", 5),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("=", "="),
        ('"5"', "5"),
        ("'true'", "true"),
        ("1.2.3", "1.2.3"),
        ("inf", "inf"),
        ("-", None),
    ],
)
def test_plain_scalars_resolve_by_the_core_schema(text, value):
    if text == "-":
        assert plain("a:\n  -\n") == {"a": [None]}
    else:
        found = plain(f"a: {text}\n")["a"]

        assert found == value
        assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("", (1, 1), "the file is empty"),
        ("# nothing\n", (1, 1), "the file is empty"),
        ("---\n", (2, 1), "the file is empty"),
        ("- a\n", (1, 1), "a recipe is a mapping of keys"),
        ("text\n", (1, 1), "a recipe is a mapping of keys"),
        ("a: 1\nb: 2\na: 3\n", (3, 1), "the key 'a' stands here twice"),
        ("a: {b: 1, b: 2}\n", (1, 11), "the key 'b' stands here twice"),
        ("a: &x 1\n", (1, 4), "an anchor: '&x'"),
        ("a: *x\n", (1, 4), "an alias: '*x'"),
        ("a: [*:exec]\n", (1, 5), "an alias: '*:exec'"),
        ("a: !sched:sched_switch\n", (1, 4), "a tag: '!sched:sched_switch'"),
        ("a: !sched:*\n", (1, 4), "a tag: '!sched:*'"),
        ("a: !!python/object:os.system x\n", (1, 4), "a tag: '!!python/object:os.system'"),
        ("a: [!x:{b,c}]\n", (1, 5), "a tag: '!x:{b,c}'"),
        ("a: ! x\n", (1, 4), "a tag: '!'"),
        ("<<: {a: 1}\n", (1, 1), "a merge key '<<'"),
        ("1: x\n", (1, 1), "the key '1' is a number, not text"),
        ("true: x\n", (1, 1), "the key 'true' is true or false, not text"),
        ("?\n: x\n", (1, 2), "a key without text"),
        ("? [a]\n: x\n", (1, 3), "a key that is a list"),
        ("a: 1\n---\nb: 1\n", (2, 1), "a second document begins"),
        ("%YAML 1.1\n---\na: 1\n", (1, 1), "a recipe has no directives"),
        ("%TAG ! tag:x,2000:\n---\na: 1\n", (1, 1), "a recipe has no directives"),
        ("a:\n\t- x\n", (2, 1), "a tab"),
        ("a: b: c\n", (1, 5), "a ':' that YAML does not expect"),
        ("a: 'x\n", (1, 4), "the quote is never closed"),
        ('a: "x\n', (1, 4), "the quote is never closed"),
        ('a: "\\q"\n', (1, 6), "an unknown escape in double quotes"),
        ('a: "\\UFFFFFFFF"\n', (1, 7), "this is not YAML"),
        ('a: "\\0"\n', (1, 4), "the escape for U+0000 in quoted text"),
        ('a: "\\ud800"\n', (1, 4), "the escape for U+D800 in quoted text"),
        ("a: @x\n", (1, 4), "a value begins with '@'"),
        ("a: [1, 2\n", (1, 4), "this '[' list cannot be read"),
        ("a: {b: 1\n", (1, 4), "this '{' mapping cannot be read"),
        ("a: |x\n  y\n", (1, 5), "the first line of this block is malformed"),
        ("a\nb\n: 1\n", (3, 1), "this does not fit what stands before it"),
        ("a:\n  b: 1\n c: 2\n", (3, 2), "this does not fit what stands before it"),
        ("a: .inf\n", (1, 4), "'.inf' is no number that a recipe can use"),
        ("a: 1e999\n", (1, 4), "'1e999' is no number that a recipe can use"),
        ("a: 18446744073709551616\n", (1, 4), "the number has more than 64 bits"),
        (f"a: {'9' * 5000}\n", (1, 4), "the number has too many digits"),
        (f"a: 0x{'f' * 5000}\n", (1, 4), "the number has more than 64 bits"),
        ("a: \x00\n", (1, 4), "the character U+0000 is not allowed"),
        ("a: \x1b[31m\n", (1, 4), "the character U+001B is not allowed"),
        ("a: b\u202e # c\n", (1, 5), "the character U+202E is not allowed"),
        ("a: 1\rb: 2\n", (1, 5), "the character U+000D is not allowed"),
        ("a: b\u2028c\n", (1, 5), "the character U+2028 is not allowed"),
        ("a: b\ufeff\n", (1, 5), "the character U+FEFF is not allowed"),
    ],
)
def test_what_a_recipe_may_not_hold_is_refused_with_its_place(text, place, what):
    found = problems(text)

    assert found[0][2] == what
    assert found[0][:2] == place


def test_independent_problems_are_all_told():
    text = "a: 1\na: 2\nb: *x\nc: !t 1\n3: x\nd: {e: 1, e: 2}\n"

    assert [line for line, _, _ in problems(text)] == [2, 3, 4, 5, 6]


def test_a_byte_order_mark_in_front_is_skipped_and_does_not_move_the_marks():
    root = parse_yaml("r.yaml", "\ufeffa: b\n")

    assert root.plain() == {"a": "b"}
    assert root.value["a"].place().column == 4


def test_windows_line_ends_are_line_ends():
    root = parse_yaml("r.yaml", "a: 1\r\nb: |\r\n  x\r\n  y\r\n")

    assert root.plain() == {"a": 1, "b": "x\ny\n"}
    assert root.value["b"].place().source_line == "b: |"


def test_nesting_stops_at_a_limit_long_before_recursion_does():
    assert "nested too deeply" in problems("a: " + "[" * 10_000)[0][2]
    assert "nested too deeply" in problems("a: " + "{b: " * 10_000)[0][2]
    assert plain("a: " + "[" * 30 + "]" * 30) is not None


def test_the_number_of_values_has_a_limit():
    assert problems("a: [" + "1," * 25_000 + "]")[0][2] == "there are too many values"


def test_the_size_of_the_text_has_a_limit_in_bytes():
    assert problems("#" * (MAX_BYTES + 1))[0][2] == "the file is too large for a recipe"
    assert problems("#" + "é" * (MAX_BYTES // 2))[0][2] == "the file is too large for a recipe"
    assert plain("#" * (MAX_BYTES - 6) + "\na: 1\n") == {"a": 1}


def test_bytes_that_are_not_utf8_are_refused_at_their_place():
    with pytest.raises(RecipeError) as caught:
        decode_text("r.yaml", b"a: 1\nb: \xff\n")

    (problem,) = caught.value.problems
    assert str(problem.place) == "r.yaml:2:4"
    assert problem.what == "the byte 0xff is not UTF-8 text"
    assert decode_text("r.yaml", "ä".encode()) == "ä"


SCALARS = st.one_of(
    st.integers(-(2**63), 2**63), st.booleans(), st.none(), st.text("ab #:-'\"\\\n", max_size=20)
)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.text("abc:# '\"", min_size=1, max_size=8),
        st.recursive(
            SCALARS,
            lambda below: (
                st.lists(below, max_size=4)
                | st.dictionaries(st.text("xyz", min_size=1, max_size=3), below, max_size=4)
            ),
            max_leaves=8,
        ),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
)
def test_what_a_dumper_writes_reads_back(value, flow):
    """PyYAML quotes what YAML 1.1 would misread, so its text means the same in 1.2."""
    text = yaml.dump(value, Dumper=NoAliases, default_flow_style=flow, width=40)

    assert plain(text) == value


class NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data):
        return True


@settings(max_examples=400, deadline=None)
@given(st.text("ab:-[]{}\"'\\|>#&*!%@` \t\n?,0x1~<", max_size=60))
def test_random_text_ends_in_a_value_or_in_problems_with_places(text):
    try:
        root = parse_yaml("r.yaml", text)
    except RecipeError as error:
        for problem in error.problems:
            assert problem.place is not None
            assert problem.place.line >= 1
            assert problem.place.column >= 1
            assert not re.search("[\n]", problem.what)
    else:
        assert isinstance(root.plain(), dict)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_text_of_any_characters_ends_the_same_way(text):
    with contextlib.suppress(RecipeError):
        parse_yaml("r.yaml", text)
