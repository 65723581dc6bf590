"""Parameters: declared, typed, bounded, and put in once."""

import json

import pytest

from trace_recipe.errors import RecipeError
from trace_recipe.recipe.load import load_recipe

HEAD = "recipe: v1\nname: x\nevents: [a:b]\n"


def load(text, **overrides):
    return load_recipe("r.yaml", HEAD + text, overrides=overrides)


def problems(text, **overrides):
    with pytest.raises(RecipeError) as caught:
        load(text, **overrides)
    return [(str(p.place), p.what, p.why, p.fix) for p in caught.value.problems]


def test_a_default_is_put_in_and_set_replaces_it():
    text = "params: {d: {type: duration, default: 10s}}\nduration: ${d}\n"

    assert load(text).recipe.duration == 10 * 10**9
    assert load(text, d="1m").recipe.duration == 60 * 10**9
    assert load(text, d="1m").params == {"d": "1m"}


@pytest.mark.parametrize(
    ("declared", "given", "value"),
    [
        ("string", "a b", "a b"),
        ("string", "", ""),
        ("string", "5", "5"),
        ("int", "-5", -5),
        ("duration", "1h", "1h"),
        ("size", "8M", "8M"),
        ("size", "4096", 4096),
        ("pid", "77", 77),
        ("bool", "true", True),
        ("path", "/tmp/x y", "/tmp/x y"),
        ("choice, choices: [a, b]", "b", "b"),
    ],
)
def test_set_texts_take_the_declared_type(declared, given, value):
    loaded = load(f"params: {{p: {{type: {declared}}}}}\n", p=given)

    assert loaded.params == {"p": value}
    assert type(loaded.params["p"]) is type(value)


@pytest.mark.parametrize(
    ("declared", "given", "what"),
    [
        ("int", "five", "must be a whole number, not 'five'"),
        ("int, min: 5", "4", "'4' is too small"),
        ("int, max: 5", "6", "'6' is too large"),
        ("duration", "10", "'10' is not a duration"),
        ("duration, max: 1m", "61s", "'61s' is too large"),
        ("size, min: 1M", "1K", "'1K' is too small"),
        ("pid", "0", "0 is not a process id"),
        ("bool", "yes", "must be true or false, not 'yes'"),
        ("choice, choices: [a, b]", "c", "'c' is not one of the choices"),
        ("path", "", "must be a path, not empty text"),
        ("path", "a\nb", "'a\\nb' is not a path"),
        ("string", "a\0b", "'a\\x00b' is not printable text"),
        ("int", "9" * 30, "must be a whole number, not '999999999999999999999999999999'"),
    ],
)
def test_a_bad_set_text_is_shown_as_it_was_given(declared, given, what):
    ((place, found, why, _),) = problems(f"params: {{p: {{type: {declared}}}}}\n", p=given)

    assert place == "--set:1:3"
    assert found == what
    assert why


def test_a_parameter_without_default_must_be_given():
    text = "params:\n  d: {type: duration}\nduration: ${d}\n"
    ((place, what, _, fix),) = problems(text)

    assert (place, what) == ("r.yaml:5:3", "the parameter 'd' has no value")
    assert fix == "give it on the command line: --set d=VALUE"
    assert load(text, d="1s").recipe.duration == 10**9


def test_set_of_an_unknown_parameter_suggests_one():
    text = "params: {duration: {type: duration, default: 1s}}\n"
    ((place, what, _, fix),) = problems(text, durtion="5s")

    assert (place, what) == ("--set:1:1", "the recipe has no parameter 'durtion'")
    assert fix == "did you mean 'duration'?"


@pytest.mark.parametrize(
    ("reference", "column", "what"),
    [
        ("'a ${nmae}'", 17, "there is no parameter 'nmae'"),
        ("'a ${name'", 17, "'${' is never closed"),
        ("'${}'", 15, "'${}' is no parameter"),
        ("'${a b}'", 15, "'${a b}' is no parameter"),
    ],
)
def test_a_wrong_reference_is_told_at_its_characters(reference, column, what):
    text = f"params: {{name: {{type: string, default: x}}}}\ndescription: {reference}\n"
    ((place, found, _, fix),) = problems(text)

    assert (place, found) == (f"r.yaml:5:{column}", what)
    assert fix


def test_a_whole_reference_takes_the_typed_value_and_an_embedded_one_its_text():
    text = (
        "params: {n: {type: int, default: 4}, b: {type: bool, default: true}}\n"
        "buffer: {watermark: '${n}'}\noptions: {stacktrace: '${b}'}\n"
        "description: n is ${n}, b is ${b}\n"
        "run: {command: [make, '-j${n}', '${n}', '${b}']}\n"
    )
    recipe = load(text).recipe

    assert recipe.buffer.watermark == 4
    assert recipe.options == {"stacktrace": True}
    assert recipe.description == "n is 4, b is true"
    assert recipe.run.command == ("make", "-j4", "4", "true")


def test_a_typed_value_that_does_not_fit_names_its_parameter():
    text = "params: {n: {type: int, default: 400}}\nbuffer: {watermark: '${n}'}\n"
    ((place, what, why, _),) = problems(text)

    assert (place, what) == ("r.yaml:5:21", "400 is too large")
    assert why == "the most is 100; the value is that of the parameter 'n'"


def test_what_is_put_in_is_never_looked_through_again():
    text = (
        "params: {a: {type: string}, b: {type: string, default: secret}}\n"
        "description: '${a}'\nowner: 'x ${a}'\n"
    )
    recipe = load(text, a="${b} $${b}").recipe

    assert recipe.description == "${b} $${b}"
    assert recipe.owner == "x ${b} $${b}"


def test_a_default_cannot_refer_to_another_parameter():
    text = "params:\n  a: {type: string, default: '${b}'}\n  b: {type: string, default: x}\n"

    assert [what for _, what, _, _ in problems(text)] == ["a default cannot refer to a parameter"]


def test_values_put_in_stay_one_value_whatever_they_hold():
    text = "params: {p: {type: string}}\nrun: {command: [echo, '${p}', 'x${p}']}\n"
    recipe = load(text, p="a, b]\nc: {d").recipe

    assert recipe.run.command == ("echo", "a, b]\nc: {d", "xa, b]\nc: {d")


def test_two_dollars_write_the_characters_themselves():
    assert load("description: $${x} costs $5 $$\n").recipe.description == "${x} costs $5 $$"


def test_declarations_are_not_touched():
    text = "params: {p: {type: string, default: x, description: 'put in with ${p} or ${q}'}}\n"

    assert load(text).recipe.params["p"].description == "put in with ${p} or ${q}"


def test_keys_are_not_touched():
    text = "params: {p: {type: string, default: x}}\noptions: {'${p}': true}\n"

    assert problems(text)[0][1] == "'${p}' is not the name of an option"


def test_places_in_text_with_parameters_are_those_in_the_file():
    text = "params: {p: {type: string, default: 'long value'}}\nowner: 'ab ${p} cd $${e'\n"
    loaded = load(text)
    value = loaded.recipe.owner

    def column(part):
        return loaded.marks.place(("owner",), offset=value.index(part)).column

    assert value == "ab long value cd ${e"
    line = "owner: 'ab ${p} cd $${e'"
    assert column("b long") == line.index("b $") + 1
    assert column("long") == line.index("${p}") + 1
    assert column("value") == line.index("${p}") + 1
    assert column("cd") == line.index("cd") + 1
    assert column("e") < column("{e") == line.index("{e") + 1


@pytest.mark.parametrize(
    ("declared", "what"),
    [
        (
            "{type: strin}",
            "must be 'string', 'int', 'duration', 'size', 'pid', 'bool', 'choice' or 'path', not 'strin'",
        ),
        ("{default: 1}", "the key 'type' is missing"),
        ("30s", "must be a mapping, not '30s'"),
        ("{type: int, default: x}", "must be a whole number, not 'x'"),
        ("{type: duration, default: 10}", "the duration 10 has no unit"),
        ("{type: string, default: 1}", "must be printable text, not the number 1"),
        ("{type: int, min: 3, max: 1}", "min '3' is above max '1'"),
        ("{type: int, min: 3, default: 1}", "'1' is too small"),
        ("{type: choice, default: a}", "a choice needs its choices"),
        ("{type: choice, choices: [a], default: b}", "'b' is not one of the choices"),
        ("{type: choice, choices: []}", "the list is empty"),
        ("{type: int, choices: [a]}", "choices are for parameters of type choice"),
        ("{type: bool, min: 1}", "min and max are for parameters of type int, duration and size"),
    ],
)
def test_a_wrong_declaration_is_told_once_and_its_uses_are_not(declared, what):
    found = problems(f"params: {{p: {declared}}}\nduration: ${{p}}\n", p="1s")

    assert [f[1] for f in found if "no value" not in f[1]] == [what]


@pytest.mark.parametrize(
    ("filter_", "value"),
    [
        ('prev_comm == "${who}"', 'a" || prev_comm != "b'),
        ("prev_comm == '${who}'", "a' || prev_comm != 'b"),
        ('prev_comm ~ "it\'s*${who}"', 'x"'),
    ],
)
def test_a_value_inside_the_quotes_of_a_filter_cannot_close_them(filter_, value):
    text = (
        "recipe: v1\nname: a\nparams: {who: {type: string, default: a}}\n"
        f"events:\n  - event: sched:sched_switch\n    filter: {json.dumps(filter_)}\n"
    )

    with pytest.raises(RecipeError) as refused:
        load_recipe("a.yaml", text, overrides={"who": value})

    assert [problem.key for problem in refused.value.problems] == ["events[0].filter"]
    assert "would close the quotes" in refused.value.problems[0].what


def test_a_value_inside_quotes_may_hold_the_other_quote():
    text = (
        "recipe: v1\nname: a\nparams: {who: {type: string, default: a}}\n"
        "events: [{event: 'sched:sched_switch', filter: 'prev_comm == \"${who}\"'}]\n"
    )

    loaded = load_recipe("a.yaml", text, overrides={"who": "it's"})

    assert loaded.recipe.events[0].filter == 'prev_comm == "it\'s"'


def test_parameters_cannot_make_a_recipe_of_any_size():
    declared = f"params: {{x: {{type: string, default: {'y' * 4000}}}}}\n"
    texts = ", ".join("'" + "${x}" * 50 + "'" for _ in range(6))
    assert problems(f"{declared}tags: [{texts}]\n")[0][1] == (
        "parameters put more than 1048576 characters into the recipe"
    )


def test_of_what_is_never_closed_the_first_is_told():
    ((place, what, _, _),) = problems(f"description: '{'${ ' * 5000}'\n")
    assert (place, what) == ("r.yaml:4:15", "'${' is never closed")


def test_names_are_guessed_for_the_first_of_very_many_unknown_parameters():
    tags = ", ".join(["'${durtion}'"] * 50)
    found = problems(f"params: {{duration: {{type: duration, default: 1s}}}}\ntags: [{tags}]\n")
    fixes = [fix for *_, fix in found]
    assert fixes == ["did you mean 'duration'?"] * 20 + ["declare 'durtion' under 'params'"] * 30


def test_an_unknown_parameter_is_told_once_for_each_value_that_names_it():
    text = "description: '" + "${one}" * 20_000 + " ${two}'\nowner: ${one}\n"

    with pytest.raises(RecipeError) as caught:
        load(text)

    told = [(one.key, one.what) for one in caught.value.problems]
    assert told == [
        ("description", "there is no parameter 'one'"),
        ("description", "there is no parameter 'two'"),
        ("owner", "there is no parameter 'one'"),
    ]
    assert len(json.dumps([one.as_json() for one in caught.value.problems])) < 2000
