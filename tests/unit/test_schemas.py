"""The published schemas: generated, valid, described, and true of what the tool writes."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from trace_recipe.catalogue import catalogue_schema
from trace_recipe.errors import Place
from trace_recipe.manifest import manifest_schema
from trace_recipe.plan import MakeInstance, Plan, Scope, SetFile, plan_schema, plan_to_json
from trace_recipe.policy import policy_schema
from trace_recipe.receipt import Outcome, Receipt, ReceiptLine, receipt_schema
from trace_recipe.recipe.schema import recipe_schema, resolved_schema
from trace_recipe.sinks.event_schema import event_schema

SCHEMA = Path(__file__).parent.parent.parent / "schema"
GENERATORS = {
    "event": event_schema,
    "kernel": catalogue_schema,
    "manifest": manifest_schema,
    "plan": plan_schema,
    "policy": policy_schema,
    "receipt": receipt_schema,
    "recipe": recipe_schema,
    "resolved-recipe": resolved_schema,
}
NAMES = sorted(GENERATORS)
VALUES = {"examples", "default", "const", "enum"}
CONDITIONS = {"allOf", "not", "if"}  # on what is described elsewhere


def undescribed(schema):
    """Yield where a property of an object has no description, of its own or through its $ref."""

    def described(value) -> bool:
        if "$ref" in value and "description" not in value:
            return described(schema["$defs"][value["$ref"].rpartition("/")[2]])
        return bool(value.get("description"))

    def walk(node, path):
        if isinstance(node, dict):
            if node.get("type") == "object":
                for name, value in node.get("properties", {}).items():
                    if not described(value):
                        yield f"{path}/{name}"
            for key, value in node.items():
                if key not in VALUES | CONDITIONS:
                    yield from walk(value, f"{path}/{key}")
        elif isinstance(node, list):
            for number, value in enumerate(node):
                yield from walk(value, f"{path}/{number}")

    return list(walk(schema, ""))


def test_every_file_in_the_schema_directory_has_a_generator():
    assert {path.name for path in SCHEMA.iterdir()} == {f"{name}.v1.schema.json" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_published_schema_is_the_generated_one(name):
    published = json.loads((SCHEMA / f"{name}.v1.schema.json").read_text())

    assert published == GENERATORS[name](), "run: trace-recipe schema --write schema"


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_passes_the_meta_schema_and_names_its_own_file(name):
    schema = GENERATORS[name]()

    Draft202012Validator.check_schema(schema)
    assert schema["$id"].endswith(f"/{name}.v1.schema.json")
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"]


@pytest.mark.parametrize("name", NAMES)
def test_every_property_of_a_schema_has_a_description(name):
    schema = GENERATORS[name]()

    assert '"properties": ' in json.dumps(schema)
    assert undescribed(schema) == []


def make_plan(place: Place | None) -> Plan:
    return Plan(
        recipe="a",
        recipe_path="a.yaml",
        instance_kind="private",
        instance="i",
        steps=(
            MakeInstance("i", place),
            SetFile("i/x", "x", None, "1", "1", Scope.PRIVATE, place, "clock"),
            SetFile("x", "x", "0", "1", "1", Scope.SHARED, None, "", starts=True),
        ),
        notes=("shared",),
        skipped=(("sched:gone", "no such event"),),
        events=("sched:sched_switch",),
    )


@pytest.mark.parametrize("place", [None, Place("a.yaml", 3, 1, "clock: mono")])
def test_a_printed_plan_is_what_its_schema_says(place):
    errors = list(Draft202012Validator(plan_schema()).iter_errors(plan_to_json(make_plan(place))))

    assert errors == []


def test_the_plan_schema_refuses_a_step_with_a_part_too_many_or_too_few():
    data = plan_to_json(make_plan(None))
    data["steps"][0]["undo"] = "x"
    del data["steps"][1]["scope"]

    errors = list(Draft202012Validator(plan_schema()).iter_errors(data))

    assert [list(error.absolute_path) for error in errors] == [["steps", 0], ["steps", 1]]


def test_a_receipt_with_every_outcome_is_what_its_schema_says():
    lines = tuple(ReceiptLine("x", outcome, "0", "1", "why") for outcome in Outcome)
    data = Receipt("0123", lines).as_json()

    assert list(Draft202012Validator(receipt_schema()).iter_errors(data)) == []
    data["files"][0]["outcome"] = "lost"
    assert list(Draft202012Validator(receipt_schema()).iter_errors(data)) != []
