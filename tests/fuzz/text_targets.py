"""Targets that read text: recipes, filters, triggers, event names, formats, print fmts."""

from __future__ import annotations

import contextlib
import functools
import json
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from tests.fuzz.languages import (
    FILTER_WORDS,
    FORMAT_WORDS,
    PRINT_FMT_WORDS,
    TRIGGER_WORDS,
    YAML_WORDS,
    event_names_text,
    filter_text,
    format_text,
    print_fmt_text,
    recipe_tree,
    trigger_text,
)
from tests.fuzz.mutations import HARD_TEXTS, mutated_bytes, mutated_text
from trace_recipe.decoder.print_text import PrintContext, compile_format
from trace_recipe.errors import KernelLacksError, RecipeError
from trace_recipe.event_names import EventNameError, Glob, parse_event_names
from trace_recipe.events import EventColumns, Symbols
from trace_recipe.filter_checks import check_filter
from trace_recipe.filters import FilterSyntaxError, comparisons, parse_filter
from trace_recipe.formats import (
    FieldKind,
    FormatError,
    parse_event_format,
    parse_header_page,
)
from trace_recipe.kernel import kernel_from_json
from trace_recipe.planner import make_plan
from trace_recipe.recipe.load import load_recipe
from trace_recipe.recipe.yaml_reader import decode_text
from trace_recipe.resolver import check_without_kernel, resolve
from trace_recipe.sinks.columns import shape_fields
from trace_recipe.triggers import (
    TriggerSyntaxError,
    check_trigger,
    check_trigger_set,
    parse_trigger,
    render_trigger,
)

if TYPE_CHECKING:
    from random import Random

    from trace_recipe.errors import Problem
    from trace_recipe.formats import EventFormat
    from trace_recipe.kernel import Kernel

__all__ = [
    "check_problem",
    "make_event_names",
    "make_filter",
    "make_format",
    "make_print_fmt",
    "make_recipe",
    "make_trigger",
    "real_formats",
    "run_event_names",
    "run_filter",
    "run_format",
    "run_print_fmt",
    "run_recipe",
    "run_trigger",
]

TESTS = Path(__file__).resolve().parent.parent
GOLDEN = TESTS / "golden"


@functools.cache
def _kernels() -> tuple[Kernel, ...]:
    return tuple(
        kernel_from_json(json.loads(path.read_text()), origin=path.stem)
        for path in sorted((GOLDEN / "kernels").glob("*.json"))
    )


@functools.cache
def _event_names() -> tuple[str, ...]:
    return tuple(sorted({name for kernel in _kernels() for name in kernel.events}))


@functools.cache
def real_formats() -> tuple[tuple[str, str], ...]:
    """Return (system, format text) of every format that is among the tests."""
    files = sorted((GOLDEN / "formats").glob("*.format"))
    found = [(path.name.partition(".")[0], path.read_text()) for path in files]
    for kernel in _kernels():
        found += ((name.partition(":")[0], text) for name, text in kernel.format_texts.items())
    return tuple(found)


def check_problem(problem: Problem) -> None:
    assert problem.what
    assert all(line.isprintable() for line in problem.lines())
    json.dumps(problem.as_json())


def _check_error(error: Any, text: str) -> None:
    """Check an error that points into a text: its place, and a message fit for a terminal."""
    assert 0 <= error.offset <= len(text), (error.offset, len(text))
    check_problem(error.problem)


# -- recipes


@dataclass(frozen=True, slots=True)
class RecipeInput:
    """The bytes of a recipe, what it may include, and what the command line adds."""

    data: bytes
    included: str
    overrides: tuple[tuple[str, str], ...]
    kernel: int


@functools.cache
def _recipes() -> tuple[bytes, ...]:
    folders = (TESTS / "wrong_recipes", TESTS.parent / "recipes")
    return tuple(path.read_bytes() for folder in folders for path in sorted(folder.glob("*.yaml")))


@functools.cache
def _recipe_texts() -> tuple[str, ...]:
    return tuple(data.decode("utf-8", "replace") for data in _recipes())


@functools.cache
def _recipe_trees() -> tuple[Any, ...]:
    trees = []
    for text in _recipe_texts():
        try:
            tree = yaml.safe_load(text)
            json.dumps(tree)
        except (yaml.YAMLError, ValueError, TypeError, RecursionError):
            continue
        if isinstance(tree, dict) and "recipe" in tree:
            trees.append(tree)
    return tuple(trees)


@functools.cache
def _examples() -> dict[str, list[Any]]:
    """Return values by the name of their key, from the schema's examples and the recipes."""
    found: dict[str, list[Any]] = {}
    schema = json.loads((TESTS.parent / "schema" / "recipe.v1.schema.json").read_text())
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            for name, value in one.get("properties", {}).items():
                found.setdefault(name, []).extend(value.get("examples", ()))
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    for tree in _recipe_trees():
        for name, value in tree.items():
            found.setdefault(str(name), []).append(value)
    return {name: values for name, values in found.items() if values}


@functools.cache
def _keys() -> tuple[str, ...]:
    return tuple(f"{name}: " for name in _examples())


def make_recipe(random: Random) -> RecipeInput:
    """Return a recipe: changed as data, as text or as bytes."""
    way = random.random()
    if way < 0.55:
        tree = recipe_tree(
            random, random.choice(_recipe_trees()), _examples(), lambda: _any_text(random)
        )
        indent = random.choice((None, None, 1))
        data = _utf8(json.dumps(tree, ensure_ascii=random.random() < 0.5, indent=indent))
    elif way < 0.9:
        words = (*YAML_WORDS, *_keys()) if random.random() < 0.8 else FILTER_WORDS
        texts = _recipe_texts()
        data = _utf8(mutated_text(random, random.choice(texts), words=words, others=texts))
    else:
        data = mutated_bytes(random, random.choice(_recipes()), others=_recipes())
    overrides: tuple[tuple[str, str], ...] = ()
    if random.random() < 0.1:
        overrides = ((random.choice(("duration", "x", "pid", "")), random.choice(HARD_TEXTS)),)
    included = random.choice(_recipe_texts()) if random.random() < 0.5 else ""
    return RecipeInput(data, included, overrides, random.randrange(3))


def _any_text(random: Random) -> str:
    match random.randrange(4):
        case 0:
            return filter_text(random, ("prev_pid", "comm", "filename", "CPU"))
        case 1:
            return trigger_text(random, ("prev_pid", "comm"), _event_names())
        case 2:
            return event_names_text(random, _event_names())
        case _:
            return mutated_text(random, "${duration}", words=YAML_WORDS)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def run_recipe(made: RecipeInput) -> None:
    """Load a recipe, check it alone, and sometimes make a plan of it."""

    def read(_path: str) -> str:
        if not made.included:
            raise FileNotFoundError(2, "No such file or directory")
        return made.included

    try:
        text = decode_text("fuzz.yaml", made.data)
        loaded = load_recipe("fuzz.yaml", text, overrides=dict(made.overrides), read=read)
        problems = check_without_kernel(loaded)
        for problem in problems:
            check_problem(problem)
        if not problems and made.kernel < len(_kernels()):
            resolved = resolve(loaded, _kernels()[made.kernel])
            make_plan(
                resolved, run_id="0", current=lambda _: "0\n", instance_exists=lambda _: False
            )
    except (RecipeError, KernelLacksError) as error:
        check_problem(error.problems[0])
        for problem in error.problems[1:]:
            check_problem(problem)


# -- filters, triggers and event names


@dataclass(frozen=True, slots=True)
class FilterInput:
    """A filter or trigger, and the event that it is for."""

    text: str
    event: str
    kernel: int


def _event(random: Random) -> tuple[int, str, list[str]]:
    number = random.randrange(len(_kernels()))
    kernel = _kernels()[number]
    name = random.choice(kernel.events)
    return (
        number,
        name,
        [*(one.name for one in kernel.event_format(name).all_fields), "CPU", "COMM"],
    )


def make_filter(random: Random) -> FilterInput:
    """Return a filter: by the grammar, or that with a few changes."""
    kernel, event, fields = _event(random)
    text = filter_text(random, fields)
    if random.random() < 0.6:
        text = mutated_text(random, text, words=(*FILTER_WORDS, *fields))
    return FilterInput(text, event, kernel)


def run_filter(made: FilterInput) -> None:
    """Parse a filter and check it against its event."""
    kernel = _kernels()[made.kernel]
    try:
        node = parse_filter(made.text)
    except FilterSyntaxError as error:
        _check_error(error, made.text)
        return
    assert list(comparisons(node))
    for offset, problem in check_filter(node, kernel.event_format(made.event), kernel):
        assert 0 <= offset <= len(made.text)
        check_problem(problem)


def make_trigger(random: Random) -> FilterInput:
    """Return a trigger: by the grammar, or that with a few changes."""
    kernel, event, fields = _event(random)
    text = trigger_text(random, fields, _event_names())
    if random.random() < 0.6:
        text = mutated_text(random, text, words=TRIGGER_WORDS)
    return FilterInput(text, event, kernel)


def run_trigger(made: FilterInput) -> None:
    """Parse a trigger, check it against its event, and parse what is written of it."""
    kernel = _kernels()[made.kernel]
    try:
        spec = parse_trigger(made.text)
    except TriggerSyntaxError as error:
        _check_error(error, made.text)
        return
    again = parse_trigger(render_trigger(spec))
    assert (again.name, again.target, again.count) == (spec.name, spec.target, spec.count)
    event = kernel.event_format(made.event)
    for offset, problem in check_trigger(spec, event, kernel):
        assert 0 <= offset <= len(made.text)
        check_problem(problem)
    assert check_trigger_set([spec, again])


def make_event_names(random: Random) -> str:
    """Return a pattern of event names: by the grammar, or that with a few changes."""
    text = event_names_text(random, _event_names())
    if random.random() < 0.5:
        text = mutated_text(random, text, words=("{", "}", ",", "*", "?", "[", "]", "!", ":", "-"))
    return text


def run_event_names(text: str) -> None:
    """Parse a pattern and match what it stands for."""
    try:
        names = parse_event_names(text)
    except EventNameError as error:
        _check_error(error, text)
        return
    assert names.expansions
    for one in names.expansions[:20]:
        assert 0 <= one.offset <= len(text)
        assert 0 <= one.name_offset <= len(text)
        one.among(_event_names()[:40])
        Glob(one.name).matches("sys_enter_" + "a" * 100)


# -- formats and print fmts


@dataclass(frozen=True, slots=True)
class FormatInput:
    """The text of a format file and records that claim to be of it."""

    system: str
    text: str
    records: tuple[bytes, ...]
    byte_order: str
    long_size: int


def _records(random: Random) -> tuple[bytes, ...]:
    records = []
    for _ in range(random.choice((1, 2, 5))):
        size = random.choice((4, 8, 12, 40, 100, 120, 300))
        record = bytearray(random.randbytes(size) if random.random() < 0.7 else bytes(size))
        if size > 8 and random.random() < 0.7:  # places of dynamic data that lie in the record
            at = random.randrange(8, size, 4)
            where, length = random.randrange(size), random.randrange(size)
            record[at : at + 4] = struct.pack("<HH", where, length)
        records.append(bytes(record[:size]) + bytes(-size % 4))
    return tuple(records)


def make_format(random: Random) -> FormatInput:
    """Return a format text: a real or a made one, mostly changed."""
    system, text = random.choice(real_formats())
    if random.random() < 0.5:
        text = format_text(random)
    if random.random() < 0.8:
        text = mutated_text(
            random, text, words=FORMAT_WORDS, others=(random.choice(real_formats())[1],)
        )
    return FormatInput(
        system, text, _records(random), random.choice("<<<>"), random.choice((8, 8, 8, 4))
    )


def run_format(made: FormatInput) -> None:
    """Parse a format, and read every field of the records by it."""
    with contextlib.suppress(FormatError):
        parse_header_page(made.text)
    try:
        event = parse_event_format(made.text, made.system, long_size=made.long_size)
    except FormatError:
        return
    shape_fields(event, made.byte_order, made.long_size)
    columns = _columns(event, made)
    for one in event.all_fields:
        if event.find(one.name) is not one:
            continue
        if one.kind in {FieldKind.SCALAR, FieldKind.ARRAY}:
            assert len(columns.column(one.name)) == columns.count
        start, size = columns.dynamic(one.name)
        end = columns.offset + columns.length
        assert ((start >= columns.offset) & (size >= 0) & (start + size <= end)).all()


def _columns(event: EventFormat, made: FormatInput) -> EventColumns:
    count = len(made.records)
    length = np.array([len(one) for one in made.records], np.int64)
    return EventColumns(
        format=event,
        byte_order=made.byte_order,
        timestamp_ns=np.arange(count, dtype=np.uint64),
        cpu=np.zeros(count, np.uint16),
        buffer=np.zeros(count, np.uint8),
        position=np.arange(count),
        data=np.frombuffer(b"".join(made.records), np.uint8),
        offset=np.cumsum(length) - length,
        length=length,
    )


@functools.cache
def _parsed_formats() -> tuple[EventFormat, ...]:
    return tuple(parse_event_format(text, system) for system, text in real_formats())


@dataclass(frozen=True, slots=True)
class PrintFmtInput:
    """A print fmt for the fields of a format, and records of it."""

    event: EventFormat
    made: FormatInput
    names: bool


def make_print_fmt(random: Random) -> PrintFmtInput:
    """Return a print fmt for a real format: its own, another's or a made one, mostly changed."""
    event = random.choice(_parsed_formats())
    if random.random() < 0.5:
        with contextlib.suppress(FormatError):
            event = parse_event_format(format_text(random), "made")
    fields = [one.name for one in event.all_fields] or ["none"]
    text = event.print_fmt if random.random() < 0.3 else print_fmt_text(random, fields)
    if random.random() < 0.6:
        other = random.choice(_parsed_formats()).print_fmt
        text = mutated_text(random, text, words=(*PRINT_FMT_WORDS, *fields), others=(other,))
    system = event.system if random.random() < 0.5 else "made"
    event = replace(event, print_fmt=text, system=system)
    made = FormatInput(system, "", _records(random), random.choice("<>"), random.choice((4, 8)))
    return PrintFmtInput(event, made, random.random() < 0.2)


_SYMBOLS = Symbols(np.array([0xFFFFFFFF81000000], np.uint64), ["schedule"])


def run_print_fmt(made: PrintFmtInput) -> None:
    """Compile a print fmt and print the records with it."""
    context = PrintContext(
        symbols=_SYMBOLS,
        printk_formats={1: "%s %d %*d\n"},
        byte_order=made.made.byte_order,
        long_size=made.made.long_size,
        names=made.names,
    )
    printer = compile_format(made.event, context)
    texts = printer.render(_columns(made.event, made.made))
    assert len(texts) == len(made.made.records)
    assert not any("\x1b" in text or "\0" in text for text in texts)
