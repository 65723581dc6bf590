"""What a command imports: the libraries that it has no use for would cost more than its work."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

SHOW = """
import sys
from trace_recipe.cli import main
try:
    main()
finally:
    print(*sys.modules, sep="\\n", file=sys.__stderr__)
"""
LARGE = {"jsonschema", "numpy", "trace_recipe.recipe.model", "yaml", "zstandard"}


def imported(words, cwd) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", SHOW, *words],
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT / "runner")},
        capture_output=True,
        text=True,
        check=False,
    )
    return set(done.stderr.splitlines())


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["status", "--state-dir", "none"],
        ["restore", "no-such-run", "--state-dir", "none"],
        ["list", "tracers", "--kernel", "none"],
        ["recover", "--state-dir", "none"],
    ],
    ids=" ".join,
)
def test_a_command_without_a_recipe_does_without_what_checks_and_decodes(tmp_path, words):
    found = imported(words, tmp_path)

    assert "trace_recipe.cli" in found
    wanted = {"jsonschema"} if "--kernel" in words else set()  # a catalogue is checked by it
    assert found & LARGE == wanted


def test_a_command_imports_no_other_commands_module(tmp_path):
    found = imported(["status", "--state-dir", "none"], tmp_path)

    commands = {"run", "state", "report", "look", "make", "trial"}
    assert {name for name in commands if f"trace_recipe.cli.{name}" in found} == {"state"}


@pytest.mark.parametrize("words", [["validate"], ["check", "--kernel", "none"]], ids=" ".join)
def test_checking_a_recipe_does_without_what_runs_it(tmp_path, words):
    found = imported([words[0], str(ROOT / "recipes/mount-audit.yaml"), *words[1:]], tmp_path)

    assert "trace_recipe.recipe.model" in found
    assert not found & {"numpy", "zstandard", "trace_recipe.conductor", "trace_recipe.decoder"}
