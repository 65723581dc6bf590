"""Mistakes in the words of a command line: four parts, exit status 2, nothing touched."""

import importlib
import json
import pkgutil
import re
import sys
from typing import Any

import pytest
import typer.main

from trace_recipe import cli
from trace_recipe.cli import app, main


@pytest.fixture
def say(monkeypatch, capfd):
    """Run the command line in this process; return its exit status, stdout and stderr."""

    def run(*words: str):
        monkeypatch.setattr(sys, "argv", ["trace-recipe", *words])
        monkeypatch.setattr(sys, "stdout", sys.stdout)  # main() replaces both
        monkeypatch.setattr(sys, "stderr", sys.stderr)
        with pytest.raises(SystemExit) as leaving:
            main()
        sys.stderr.flush()
        out, err = capfd.readouterr()
        return leaving.value.code, out, err

    return run


@pytest.mark.parametrize(
    ("words", "what", "fix"),
    [
        (("frob",), "`trace-recipe` has no command 'frob'", "see `trace-recipe --help`"),
        (("statsu",), "`trace-recipe` has no command 'statsu'", "did you mean 'status'?"),
        (
            ("a.yaml",),
            "`trace-recipe` has no command 'a.yaml'",
            "to run a recipe: trace-recipe run a.yaml",
        ),
        (("list", "evnts"), "`trace-recipe list` has no command 'evnts'", "did you mean 'events'?"),
        (("run", "--frob"), "--frob: no such option", "see `trace-recipe run --help`"),
        (("run", "--recoding=x"), "--recoding: no such option", "did you mean '--recording'?"),
        (
            ("--quiet", "run"),
            "--quiet: no such option",
            "write a command's options after it: trace-recipe COMMAND --quiet",
        ),
        (("run",), "RECIPE: the argument is missing", "write it as: trace-recipe run RECIPE"),
        (
            ("list", "fields"),
            "EVENT: the argument is missing",
            "write it as: trace-recipe list fields EVENT",
        ),
        (("run", "--set"), "--set: its value is missing", "write --set VALUE"),
        (("run", "-q=1", "x"), "-=: no such option", "see `trace-recipe run --help`"),
        (("run", "--quiet=1", "x"), "--quiet: it takes no value", "write --quiet alone"),
        (
            ("plan", "a", "b", "c"),
            "`trace-recipe plan` takes no more words: b c",
            "take it out, or quote what belongs together",
        ),
        (("report", "x", "--as", "tex"), "--as: 'tex' is no choice", "did you mean 'text'?"),
        (("report", "x", "--version", "9"), "--version: '9' is no choice", "take one of them"),
        (
            ("report", "x", "--compression", "zst"),
            "--compression: 'zst' is no choice",
            "did you mean 'zstd'?",
        ),
        (("schema", "plans"), "CONTRACT: 'plans' is no choice", "did you mean 'plan'?"),
    ],
)
def test_a_mistake_in_the_words_is_told_in_four_parts(say, words, what, fix):
    status, out, err = say(*words)

    assert (status, out) == (2, "")
    lines = err.splitlines()
    assert lines[0] == f"error: {what}"
    assert re.match(r"  why: .*[a-z]", lines[1])
    assert lines[2:] == [f"  fix: {fix}", "  state: untouched"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (
            ("check", "--json"),
            {
                "key": "RECIPE",
                "what": "the argument is missing",
                "why": "`trace-recipe check` needs it: a recipe file, or the name of a recipe in the"
                " search path",
                "fix": "write it as: trace-recipe check RECIPE",
            },
        ),
        (
            ("list", "tracer", "--json"),
            {
                "key": "",
                "what": "`trace-recipe list` has no command 'tracer'",
                "why": "it has events, fields, tracers, functions, options, clocks, recipes",
                "fix": "did you mean 'tracers'?",
            },
        ),
        (
            ("explain", "--json", "--kernal", "x"),
            {
                "key": "--kernal",
                "what": "no such option",
                "why": "`trace-recipe explain` has --help, --json, --kernel",
                "fix": "did you mean '--kernel'?",
            },
        ),
    ],
)
def test_with_json_among_the_words_a_mistake_in_them_is_an_object(say, words, problem):
    status, out, err = say(*words)

    assert (status, out) == (2, "")
    nowhere = dict.fromkeys(("file", "line", "column", "source"))
    assert json.loads(err) == {
        "error": "RecipeError",
        "exit_status": 2,
        "state": "untouched",
        "problems": [nowhere | problem],
    }


@pytest.mark.parametrize(("words", "status"), [(("--help",), 0), ((), 2)])
def test_the_help_lists_every_command_also_when_nothing_is_asked_for(say, words, status):
    found, out, err = say(*words)

    assert (found, err) == (status, "")
    group: Any = typer.main.get_command(app)
    assert re.findall(r"^\W*(\w+)  ", out.partition("Commands")[2], re.MULTILINE) == (
        group.list_commands(None)
    )


@pytest.mark.parametrize("words", [("list",), ("catalog", "--help"), ("run", "--help")])
def test_the_help_of_a_command_is_typers(say, words):
    _, out, err = say(*words)

    assert err == ""
    assert f"Usage: trace-recipe {words[0]}" in out


def test_the_version_is_printed(say):
    status, out, _ = say("--version")

    assert status == 0
    assert re.fullmatch(r"trace-recipe (\d+\.\d+\.\d+|\(not installed\))\n", out)


def test_the_modules_hold_no_command_that_cannot_be_called():
    group: Any = typer.main.get_command(app)
    holder = typer.Typer()
    for found in pkgutil.iter_modules(cli.__path__):
        module = importlib.import_module(f"trace_recipe.cli.{found.name}")
        if hasattr(module, "register"):
            module.register(holder)

    assert sorted(typer.main.get_group(holder).commands) == sorted(group.list_commands(None))
