"""Where values, keys and characters of a recipe stand."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from trace_recipe.errors import RecipeError
from trace_recipe.recipe.marks import Marks
from trace_recipe.recipe.yaml_reader import parse_yaml

TEXT = """\
recipe: v1
events:
  - sched:sched_switch
  - event: a:b
    filter: 'x == "it''s"'
buffer: {size: 8M, "mode": discard}
"""


def marks(text):
    return Marks(parse_yaml("r.yaml", text))


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        ((), "1:1", "1:1"),
        (("recipe",), "1:9", "1:1"),
        (("events",), "3:3", "2:1"),
        (("events", 0), "3:5", "3:5"),
        (("events", 1), "4:5", "4:5"),
        (("events", 1, "filter"), "5:13", "5:5"),
        (("buffer", "mode"), "6:28", "6:20"),
        (("buffer", "subbuf"), "6:9", "6:9"),
        (("events", 7, "filter"), "3:3", "3:3"),
        (("recipe", "x"), "1:9", "1:9"),
    ],
)
def test_values_and_keys_have_places_and_missing_ones_those_of_their_parent(path, value, key):
    found = marks(TEXT)

    assert str(found.place(path)) == f"r.yaml:{value}"
    assert str(found.key_place(path)) == f"r.yaml:{key}"
    assert found.place(path).source_line == TEXT.splitlines()[int(value.split(":")[0]) - 1]


def char_at(text, place):
    line = text.split("\n")[place.line - 1]
    return line[place.column - 1] if place.column <= len(line) else "\n"


@pytest.mark.parametrize(
    "scalar",
    [
        "prev_prio < 10",
        "'prev_prio < 10'",
        "'it''s < ''x'' '",
        '"a \\"b\\" \\x41 \\u00e9 < \\t 1"',
        "a < 1\n   && b < 2\n\n   || c",
        "'a < 1\n\n\n   && b'",
        '"a < 1 \\\n   && b\n   c"',
        "|\n    a < 1\n    b < 2\n",
        "|-\n    a < 1\n\n      b < 2",
        ">\n    a < 1\n    b < 2\n\n    c\n      d\n    e\n",
        ">-\n    a < 1\n    b < 2\n",
        "|+\n    a < 1\n\n\n",
        "|2\n      a < 1\n    b\n",
        "| # why\n\n    a < 1\n",
    ],
)
def test_every_character_of_a_scalar_is_found_in_the_text(scalar):
    text = f"a:\n  f: {scalar}\nz: 1\n"
    root = parse_yaml("r.yaml", text)
    value = root.plain()["a"]["f"]
    found = Marks(root)

    assert value == yaml.safe_load(text)["a"]["f"]
    places = [found.place(("a", "f"), offset=i) for i in range(len(value))]
    assert places == sorted(places, key=lambda place: (place.line, place.column))
    for i, char in enumerate(value):
        if char not in " \n\t\"'Aé":
            assert char_at(text, places[i]) == char


def test_folded_spaces_and_escapes_have_the_place_of_what_they_came_from():
    text = 'a: "x \\x41 y"\nb: one\n  two\n'
    found = marks(text)

    assert str(found.place(("a",), offset=2)) == "r.yaml:1:7"
    assert str(found.place(("a",), offset=4)) == "r.yaml:1:12"
    assert str(found.place(("b",), offset=4)) == "r.yaml:3:3"


def test_the_end_of_a_scalar_is_behind_its_last_character():
    assert str(marks("a: 'xy'\n").place(("a",), offset=2)) == "r.yaml:1:7"
    assert str(marks("a: 'xy'\n").place(("a",), offset=99)) == "r.yaml:1:7"
    assert str(marks("a: ''\n").place(("a",), offset=0)) == "r.yaml:1:4"
    assert str(marks("a: 12\n").place(("a",), offset=1)) == "r.yaml:1:4"


def test_an_offset_below_a_missing_path_does_not_count():
    assert str(marks("a: xyz\n").place(("a", "b"), offset=2)) == "r.yaml:1:4"


def test_a_tab_in_the_line_does_not_move_the_caret():
    place = marks("a: 'x\ty'\n").place(("a",), offset=2)

    assert place.source_line[place.column - 1] == "y"


WORDS = st.text("abé'\"\\ #:-\t\n", min_size=1, max_size=40)


@settings(max_examples=300, deadline=None)
@given(WORDS, st.sampled_from([None, "'", '"', "|", ">"]), st.sampled_from([20, 80]))
def test_offsets_of_random_text_in_any_style_lead_to_their_characters(value, style, width):
    text = yaml.dump({"k": {"f": value}}, default_style=style, width=width, allow_unicode=True)
    root = parse_yaml("r.yaml", text)

    assert root.plain() == {"k": {"f": value}}
    located = root.value["k"].value["f"]
    places = [located.place(i) for i in range(len(value))]
    for char, place in zip(value, places, strict=True):
        if char in "abé#":
            shown = char_at(text, place)
            assert shown in {char, "\\"}


def test_many_problems_of_one_long_line_share_its_text_and_show_a_part_of_it():
    text = "a: {b: 1" + ", b: 1" * 500 + ", c: " + "x" * 100_000 + "}\n"
    with pytest.raises(RecipeError) as caught:
        parse_yaml("long.yaml", text)
    problems = caught.value.problems
    places = [one.place for one in problems if one.place is not None]
    assert len(places) == 500
    assert all(place.source_line is places[0].source_line for place in places)
    assert len(places[0].source_line) > 100_000
    for problem in problems:
        _, line, caret, *_ = problem.lines()
        assert line[caret.index("^") :].startswith("b: 1")
        assert len(line) < 200
