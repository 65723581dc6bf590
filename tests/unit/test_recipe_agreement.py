"""The JSON Schema and the models accept the same recipes; random input never ends in a traceback."""

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from trace_recipe.errors import RecipeError
from trace_recipe.recipe.load import load_recipe
from trace_recipe.recipe.messages import model_findings, schema_findings
from trace_recipe.recipe.model import RULES, Recipe
from trace_recipe.recipe.schema import resolved_schema

# What no JSON Schema can say: sums, comparisons of two values, bytes of text.
ONLY_MODELS_KNOW = {
    "duration_too_long",
    "size_too_large",
    "cpu_range_backwards",
    "marker_too_long",
    "min_over_max",
    "default_out_of_bounds",
    "default_not_a_choice",
    "pid_both_ways",
    "same_output_twice",
}
VALIDATOR = Draft202012Validator(resolved_schema())

STRANGE: list[Any] = [
    None, True, False, 0, 1, -1, 5, 100, 101, 1.0, 1.5, 2**63, 2**64, 1e30, "", " ", "\n", "-", "a",
    "A", "a\n", "a b", "é", "\u202e", "\t", "!a:b", "10s", "10", "8M", "command", "nop", [], ["a"],
    [1], [None], {}, {"a": 1}, {"any_of": []}, {"event": "a:b"}, {"path": "-"},
]  # fmt: skip


def near(*good, strange=STRANGE):
    """Return mostly good values, now and then a strange one."""
    return st.one_of(*[st.just(value) if not isinstance(value, st.SearchStrategy) else value for value in good] * 12, st.sampled_from(strange))  # fmt: skip


def mapping(**fields):
    """Return mappings with some of the fields."""
    named = {key.rstrip("_").replace("trace_dat", "trace-dat"): s for key, s in fields.items()}
    return st.fixed_dictionaries({}, optional=named)


def with_key(strategy, **required):
    named = {key.rstrip("_"): value for key, value in required.items()}
    return st.builds(lambda below, more: {**below, **more}, strategy, st.fixed_dictionaries(named))


def lists(item, least=0):
    return st.lists(item, min_size=least, max_size=3)


NAMES = near("a", "function", "x86-tsc", "nop")
DURATIONS = near("10s", "1m30s", "250ms", "1us", "5ns", "0s", "10s\n", "1.5s", "9999h", "s1")
SIZES = near("8M", "512K", 4096, 1.0, "0", "9999999G", "8m", "8M\n")
EXPRESSIONS = near("x > 1", "a\n&& b", "\t")
EVENT_NAMES = near("a:b", "sched:*", "!a:b", "a:b\n", " a:b")
TRIGGERS = near(
    "stacktrace:5 if x",
    with_key(
        mapping(event=near("c:d"), count=near(1, 5.0), if_=EXPRESSIONS),
        trigger=near("traceon", "stacktrace", "enable_event", "disable_event", "hist"),
    ),
)
EVENTS = near(
    EVENT_NAMES,
    with_key(
        mapping(filter=EXPRESSIONS, triggers=near(lists(TRIGGERS)), optional=near(True, False)),
        event=EVENT_NAMES,
    ),
)
EVENT_ENTRIES = near(EVENTS, with_key(mapping(optional=near(True)), any_of=near(lists(EVENTS, 1))))
FLAGS = near(
    st.dictionaries(
        near("a", "func-x", strange=["A", "", "a b", "a\n", "x" * 41]),
        near(True, False),
        max_size=2,
    )
)
PATTERNS = near(lists(near("vfs_*", "x", strange=["", "a b", "é", 5, None]), 0))
TRACERS = near(
    NAMES,
    with_key(
        mapping(
            options=FLAGS,
            threshold=DURATIONS,
            graph_functions=PATTERNS,
            graph_notrace=PATTERNS,
            max_graph_depth=near(1, 5),
        ),
        name=NAMES,
    ),
)
TRACER_ENTRIES = near(
    TRACERS,
    with_key(
        st.just({}),
        any_of=near(lists(near(TRACERS, with_key(st.just({}), events=near(lists(EVENTS, 1)))), 1)),
    ),
)
PIDS = near(lists(near(1, 77, "command", 4194304, 4194305), 0))
BOUND = near(1, 5, "1s", "5s", "1K", "5M", True, "a")
PARAMS = near(
    st.dictionaries(
        near("p", "q_1", strange=["", "1a", "a-b", "x" * 41]),
        near(
            with_key(
                mapping(default=BOUND, min=BOUND, max=BOUND, choices=near(["a", "b"]), description=near("d")),
                type=near("string", "int", "duration", "size", "pid", "bool", "choice", "path"),
            ),
            with_key(mapping(default=BOUND), type=near("string", "int", "duration", "size", "pid", "bool", "path")),
        ),
        max_size=2,
    )
)  # fmt: skip
PATHS = near("-", "a", "b/c", "a\n")
OUTPUTS = near(
    mapping(text=PATHS),
    mapping(jsonl=near(PATHS, with_key(mapping(names=near(True)), path=PATHS))),
    mapping(csv=near(PATHS, with_key(mapping(layout=near("wide", "per-event")), path=PATHS))),
    mapping(
        trace_dat=near(
            PATHS,
            with_key(
                mapping(version=near(6, 7, 7.0), compression=near("zstd", "none")), path=PATHS
            ),
        )
    ),
    mapping(text=PATHS, csv=PATHS),
)
MARKERS = near("begin", "é" * 501, "x" * 1001, "a\nb")
FIELDS = {
    "description": near("a\nb", "", "x" * 10_001),
    "tags": near(lists(near("a", "b.c-d"))),
    "links": near(lists(near("https://a/b", "http://x", "ftp://x", "https://a b"))),
    "owner": near("me"),
    "params": PARAMS,
    "include": near(lists(near("a.yaml", "../b", "/c"))),
    "requires": near(mapping(events=near(["a:b"]), tracers=near(lists(NAMES)), options=near(["a"]), files=PATTERNS)),
    "events": near(lists(EVENT_ENTRIES, 1)),
    "tracer": TRACER_ENTRIES,
    "functions": near(mapping(only=PATTERNS, not_=PATTERNS, module=NAMES)),
    "scope": near(mapping(pids=PIDS, exclude_pids=PIDS, follow=near(True, False), cpus=near("0-3,7", "3-0", 5, [0, 2.0], "0-", [-1]))),
    "options": FLAGS,
    "clock": NAMES,
    "buffer": near(mapping(size=SIZES, subbuf=SIZES, mode=near("overwrite", "discard"), watermark=near(0, 50, 100.0))),
    "instance": near("private", "top", "mine", "a/b", "x" * 64),
    "markers": near(mapping(start=MARKERS, stop=MARKERS, command_start=MARKERS, command_exit=MARKERS)),
    "duration": DURATIONS,
    "delay": DURATIONS,
    "run": near(
        with_key(
            mapping(as_user=near("root", "invoking"), directory=PATHS, timeout=DURATIONS, environment=near({"A": "b"}, {"A": ""}, {"1": "x"}, {"A": "a\n"})),
            command=near(lists(near("make", "-j8", "a\nb"), 1)),
        )
    ),
    "stop": near(mapping(events=near(1, 10), bytes=SIZES)),
    "allow": st.lists(near("function-all", "big-buffer", "no-such"), max_size=2),
    "loss": near(mapping(max=near(0, 10), action=near("mark", "fail"))),
    "outputs": near(lists(OUTPUTS)),
}  # fmt: skip
GOOD: dict[str, Any] = {
    "recipe": "v1",
    "name": "x",
    "events": ["a:b"],
    "tracer": "function",
    "run": {"command": ["make"]},
}


@st.composite
def documents(draw):
    """Draw a good recipe with one or two fields near what is valid, seldom without one."""
    document: dict[str, Any] = copy.deepcopy(GOOD)
    keys = draw(st.lists(st.sampled_from(sorted(FIELDS)), min_size=1, max_size=2, unique=True))
    for key in keys:
        document[key] = draw(FIELDS[key])
    for key in draw(
        st.lists(st.sampled_from(["recipe", "name", "events", "tracer", "run"]), max_size=1)
    ):
        if draw(st.booleans()):
            document.pop(key, None)
    if draw(st.integers(0, 20)) == 0:
        document[draw(st.sampled_from(["evnts", "", "Name"]))] = 1
    return document


def agree(document):
    """Assert that schema and models say the same of a recipe; return whether they accept it."""
    schema_accepts = VALIDATOR.is_valid(document)
    try:
        Recipe.model_validate_json(json.dumps(document))
    except ValidationError as error:
        findings = model_findings(document, error)
        only_models = {finding.rule for finding in findings} <= ONLY_MODELS_KNOW

        assert findings
        assert not schema_accepts or only_models, document
        return False
    assert schema_accepts, document
    return True


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents())
def test_schema_and_models_accept_the_same_recipes(document):
    accepted = agree(document)
    event("accepted" if accepted else "refused")

    assert VALIDATOR.is_valid(document) == (schema_findings(document) == [])


FULL: dict[str, Any] = {
    "recipe": "v1", "name": "x", "description": "d", "tags": ["a"], "links": ["https://a/b"], "owner": "me",
    "params": {
        "d": {"type": "duration", "default": "10s", "min": "1s", "max": "1h", "description": "d"},
        "c": {"type": "choice", "default": "a", "choices": ["a", "b"]},
        "s": {"type": "size", "default": "1M"}, "b": {"type": "bool", "default": True},
        "p": {"type": "pid", "default": 5}, "f": {"type": "path"}, "t": {"type": "string", "default": "x"},
    },
    "include": ["b.yaml"],
    "requires": {"events": ["a:b"], "tracers": ["f"], "options": ["o"], "clocks": ["c"], "triggers": ["h"], "files": ["f"]},
    "events": [
        "a:b", "!a:c",
        {"event": "a:b", "filter": "x > 1", "optional": True,
         "triggers": ["stacktrace:5", {"trigger": "enable_event", "event": "c:d", "count": 3, "if": "x"}, {"trigger": "traceon"}]},
        {"any_of": ["e:f", {"event": "g:h"}], "optional": False},
    ],
    "tracer": {"any_of": [
        {"name": "f", "options": {"a": True}, "threshold": "100us", "graph_functions": ["a"], "graph_notrace": ["b"], "max_graph_depth": 5},
        "g", {"events": ["p:q"]}]},
    "functions": {"only": ["a*"], "not": ["b"], "module": "m"},
    "scope": {"pids": ["command", 5], "exclude_pids": [6], "follow": True, "cpus": [0, 3]},
    "options": {"stacktrace": True}, "clock": "boot",
    "buffer": {"size": "8M", "subbuf": 4096, "mode": "discard", "watermark": 50}, "instance": "mine",
    "markers": {"start": "a", "stop": "b", "command_start": "c", "command_exit": "d"},
    "duration": "1m30s", "delay": "0s",
    "run": {"command": ["make", "-j8"], "as_user": "root", "environment": {"A": "b"}, "directory": "/", "timeout": "1h"},
    "allow": ["function-all", "stack-all"], "stop": {"events": 10, "bytes": "1G"}, "loss": {"max": 0, "action": "fail"},
    "outputs": [
        {"text": "-"}, {"text": {"path": "a", "names": True}}, {"jsonl": {"path": "b", "names": False}},
        {"csv": {"path": "c", "layout": "per-event"}}, {"trace-dat": {"path": "d", "version": 6, "compression": "none"}},
        {"trace-dat": "e"},
    ],
}  # fmt: skip


def paths(value, path=()):
    yield path
    steps = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for step, below in steps:
        yield from paths(below, (*path, step))


def changed(path, change):
    document: Any = copy.deepcopy({**GOOD, path[0]: FULL[path[0]]})
    *above, last = path
    holder: Any = document
    for step in above:
        holder = holder[step]
    change(holder, last)
    return document


def test_the_complete_recipe_is_accepted():
    assert agree(FULL)


@pytest.mark.parametrize("key", sorted(FULL))
def test_both_agree_whatever_one_value_of_a_complete_recipe_becomes(key):
    found = set()
    for path in paths(FULL):
        if path[:1] != (key,):
            continue
        for strange in STRANGE:
            found.add(
                agree(changed(path, lambda holder, last, s=strange: holder.__setitem__(last, s)))
            )
        found.add(agree(changed(path, lambda holder, last: holder.pop(last))))
        if isinstance(path[-1], str):
            found.add(agree(changed(path, lambda holder, last: holder.__setitem__(last + "_", 1))))

    assert False in found


@pytest.mark.parametrize("absent", sorted(GOOD))
def test_both_agree_when_a_key_that_another_needs_is_absent(absent):
    for key, value in FULL.items():
        document = {**GOOD, key: value}
        del document[absent]
        agree(document)
        agree(
            {k: v for k, v in document.items() if k not in {"run", "tracer", "events"} or k == key}
        )


def test_the_rules_without_a_schema_are_those_listed():
    assert {name for name, rule in RULES.items() if rule.schema is None} <= ONLY_MODELS_KNOW


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("duration_too_long", {"duration": "9999h"}),
        ("size_too_large", {"buffer": {"size": "9999999G"}}),
        ("cpu_range_backwards", {"scope": {"cpus": "3-0"}}),
        ("marker_too_long", {"markers": {"start": "é" * 501}}),
        ("min_over_max", {"params": {"p": {"type": "int", "min": 2, "max": 1}}}),
        ("default_out_of_bounds", {"params": {"p": {"type": "int", "min": 2, "default": 1}}}),
        ("default_not_a_choice", {"params": {"p": {"type": "choice", "choices": ["a"], "default": "b"}}}),
        ("pid_both_ways", {"scope": {"pids": [1], "exclude_pids": [1]}}),
        ("same_output_twice", {"outputs": [{"text": "a"}, {"csv": "a"}]}),
    ],
)  # fmt: skip
def test_each_listed_rule_is_one_that_the_schema_lets_pass(rule, change):
    document = {**GOOD, **change}

    assert VALIDATOR.is_valid(document)
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate_json(json.dumps(document))
    assert [finding.rule for finding in model_findings(document, caught.value)] == [rule]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents())
def test_every_refusal_is_in_our_words_with_a_place(document):
    try:
        load_recipe("r.yaml", json.dumps(document))
    except RecipeError as error:
        told = [(problem.place, problem.key, problem.what) for problem in error.problems]

        assert len(told) == len(set(told))
        for problem in error.problems:
            assert problem.place is not None
            assert "\n" not in problem.what
            assert "schema refuses" not in problem.what
            assert "models refuse" not in problem.what
            assert problem.lines()
        found: list[Any] = list(error.problems)
        places = [(p.place.line, p.place.column) for p in found]
        assert places == sorted(places)


VALID = """\
recipe: v1
name: fuzz
params: {d: {type: duration, default: 10s}, n: {type: int, default: 3, min: 1}}
events:
  - sched:sched_switch
  - {event: "a:b", filter: 'x > ${n} && c ~ "y*"', triggers: ["stacktrace:5 if x"]}
  - any_of: [c:d, e:f]
tracer: {name: function_graph, max_graph_depth: "${n}", threshold: 10us}
scope: {pids: [command], cpus: "0-3,7"}
duration: ${d}
run: {command: [make, "-j${n}"]}
description: |
  text
outputs:
  - text: "-"
  - trace-dat: {path: a.dat, version: 6}
"""
MUTATIONS = st.lists(
    st.tuples(
        st.integers(0, len(VALID)),
        st.integers(0, 12),
        st.one_of(
            st.text("ab01:-[]{}\"'\\|>#&*!%@$ \t\n,~<", max_size=6),
            st.sampled_from(["${d}", "${", "null", "  ", "\n", "- ", ": ", "events:", "\x00", "9" * 30]),
        ),
    ),
    min_size=1,
    max_size=5,
)  # fmt: skip


def test_the_recipe_that_is_mutated_is_valid():
    recipe: Any = load_recipe("r.yaml", VALID).recipe

    assert recipe.tracer.max_graph_depth == 3


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    MUTATIONS, st.dictionaries(st.sampled_from(["d", "n", "x"]), st.text(max_size=5), max_size=2)
)
def test_a_damaged_recipe_loads_or_is_refused_and_nothing_else(mutations, overrides):
    text = VALID
    for at, count, put in mutations:
        text = text[:at] + put + text[at + count :]
    try:
        loaded = load_recipe("r.yaml", text, overrides=overrides)
    except RecipeError as error:
        problems = error.problems
    else:
        problems = ()
        assert loaded.recipe.recipe == "v1"
    assert all(problem.place is not None and problem.lines() for problem in problems)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_refused_and_nothing_else(text):
    with pytest.raises(RecipeError):
        load_recipe("r.yaml", text)
