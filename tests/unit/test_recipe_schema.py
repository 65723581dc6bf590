"""The published JSON Schema: generated, complete, and no stricter than the language."""

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from trace_recipe.recipe.kinds import KINDS
from trace_recipe.recipe.schema import recipe_schema, resolved_schema, schema_text

FILE = Path(__file__).parents[2] / "schema" / "recipe.v1.schema.json"


def objects(schema, path=""):
    """Yield every part of the schema that has the keys of a mapping of the language."""
    if isinstance(schema, dict):
        if "additionalProperties" in schema and "properties" in schema:
            yield path, schema
        for key, below in schema.items():
            yield from objects(below, f"{path}/{key}")
    elif isinstance(schema, list):
        for index, below in enumerate(schema):
            yield from objects(below, f"{path}/{index}")


def test_the_file_is_what_the_models_say():
    assert FILE.read_text() == schema_text(), "run `trace-recipe schema recipe`"


@pytest.mark.parametrize("schema", [recipe_schema(), resolved_schema()])
def test_it_is_a_schema_of_draft_2020_12(schema):
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"].endswith("recipe.v1.schema.json")
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("schema", [recipe_schema(), resolved_schema()])
def test_every_key_has_a_title_a_description_and_an_example_that_is_valid(schema):
    found = list(objects(schema))

    assert len(found) >= 20
    for path, below in found:
        for key, field in below["properties"].items():
            assert field.get("title"), f"{path}.{key}"
            assert field.get("description", "").endswith("."), f"{path}.{key}"
            assert field.get("examples"), f"{path}.{key}"
            validator = Draft202012Validator({**field, "$defs": schema["$defs"]})
            for example in field["examples"]:
                assert validator.is_valid(example), f"{path}.{key}: {example}"


def test_the_whole_example_is_valid():
    schema = recipe_schema()

    for example in schema["examples"]:
        Draft202012Validator(schema).validate(example)


@pytest.mark.parametrize("schema", [recipe_schema(), resolved_schema()])
def test_no_mapping_takes_unknown_keys(schema):
    for path, below in objects(schema):
        assert below["additionalProperties"] is False, path


def test_every_definition_has_a_description():
    for name, below in recipe_schema()["$defs"].items():
        branches = [below, *below.get("anyOf", ())]
        assert any(branch.get("description") for branch in branches), name


RECIPE = {
    "recipe": "v1",
    "name": "${n}",
    "events": [
        "${e}",
        {"event": "${e}", "filter": "${f}", "optional": "${b}", "triggers": ["${t}"]},
        {"any_of": ["${e}"], "optional": "${b}"},
        {"event": "a:b", "triggers": [{"trigger": "${t}", "count": "${n}", "event": "${e}"}]},
    ],
    "tracer": {"name": "${t}", "threshold": "${d}", "max_graph_depth": "${n}"},
    "scope": {"pids": ["${p}"], "exclude_pids": ["${p}"], "follow": "${b}", "cpus": ["${c}"]},
    "options": {"stacktrace": "${b}"},
    "clock": "${c}",
    "buffer": {"size": "${s}", "subbuf": "${s}", "mode": "${m}", "watermark": "${w}"},
    "instance": "${i}",
    "duration": "${d}",
    "delay": "${d}",
    "run": {"command": ["${c}"], "as_user": "${u}", "timeout": "${d}"},
    "stop": {"events": "${n}", "bytes": "${s}"},
    "loss": {"max": "${n}", "action": "${a}"},
    "outputs": [{"trace-dat": {"path": "${p}", "version": "${v}", "compression": "${c}"}}],
    "tags": ["${t}"],
    "links": ["${l}", "https://example.org/${l}"],
    "requires": {"options": ["${o}"]},
}


def test_the_published_schema_takes_a_parameter_in_any_value_and_the_resolved_one_does_not():
    assert [e.message for e in Draft202012Validator(recipe_schema()).iter_errors(RECIPE)] == []

    found = {
        tuple(e.absolute_path) for e in Draft202012Validator(resolved_schema()).iter_errors(RECIPE)
    }
    assert {("duration",), ("name",), ("buffer", "size"), ("loss", "max")} <= found


@pytest.mark.parametrize(
    "change",
    [
        {"options": {"${o}": True}},
        {"recipe": "${v}"},
        {"duration": "10"},
        {"duration": 10},
        {"duration": "${"},
        {"duration": "${a b}"},
        {"buffer": {"watermark": "50"}},
        {"params": {"p": {"type": "${t}"}}},
        {"params": {"${p}": {"type": "int"}}},
        {"run": {"command": ["x"], "environment": {"${e}": "x"}}},
    ],
)
def test_the_published_schema_takes_no_other_text_for_a_value_and_no_parameter_in_a_key(change):
    assert not Draft202012Validator(recipe_schema()).is_valid({**RECIPE, **change})


def test_each_kind_of_scalar_checks_what_its_schema_checks():
    values = [
        "", " ", "-", "a", "a b", "a\n", "\n", "a\nb", "\ta", "é", "\u202e", "\0", "x" * 5000,
        "10s", "10s\n", "0s", "10", "1ns", "8M", "0", "0-3", "/a", "../a", "http://x", "http://",
        "A", "1", "_a", "-a", "!a", "private", "traceon", 0, 1, -1, 1.0, 1.5, 1e30, 2**63, 2**64,
        10_000, 4_194_305, True, False, None, [], [0], [True], ["0"], [1.0], {},
    ]  # fmt: skip
    for kind in KINDS.values():
        validator = Draft202012Validator(kind.schema)
        for value in values:
            try:
                kind.parse(value)
                accepted = True
            except ValueError:
                accepted = False
            assert accepted == validator.is_valid(value), (kind.name, value)
