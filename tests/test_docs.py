"""The documents say what is there: every command, every key, every exit status, valid recipes."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from trace_recipe import errors
from trace_recipe.cli import app
from trace_recipe.recipe.load import load_recipe
from trace_recipe.recipe.model import Recipe

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
GROUP: Any = typer.main.get_command(app)
COMMANDS = sorted(GROUP.list_commands(None))


def _section(title: str) -> str:
    return README.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_stands_in_the_readme_and_has_help(name):
    assert re.search(rf"^\| `{name}[ `]", _section("Commands"), re.MULTILINE)
    assert GROUP.get_command(None, name).help


def test_the_readme_names_no_command_that_is_not_there():
    named = re.findall(r"^\| `(\w+)", _section("Commands"), re.MULTILINE)

    assert sorted(named) == COMMANDS


def test_every_key_of_a_recipe_stands_in_the_readme():
    table = _section("A recipe")

    assert [key for key in Recipe.model_fields if f"`{key}`" not in table] == []


def test_the_exit_statuses_in_the_readme_are_those_of_the_errors():
    named = set(
        map(int, re.findall(r"^\| (\d+) \|", _section("What it answers with"), re.MULTILINE))
    )
    statuses = {
        one.exit_status
        for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, errors.TraceRecipeError)
    }

    assert named == statuses | {0}


def test_the_recipe_in_the_readme_is_right():
    text = re.search(r"```yaml\n(.*?)```", _section("A recipe"), re.DOTALL)[1]

    assert load_recipe("readme.yaml", text).recipe.name == "slow-wakeups"


def test_the_error_in_the_readme_is_what_check_prints(tmp_path):
    shown = re.search(r"```\n\$ trace-recipe check wakeups.yaml\n(.*?)```", README, re.DOTALL)[1]
    (tmp_path / "wakeups.yaml").write_text(
        "recipe: v1\nname: wakeups\nevents:\n  - event: sched:sched_wakeup\n"
        "    filter: prio < 100\n  - event: sched:sched_switch\n    filter: prev_pio > 100\n"
        "duration: 10s\n"
    )
    kernel = ROOT / "tests/golden/kernels/locked-6.18.json"

    done = subprocess.run(
        [sys.executable, "-m", "trace_recipe", "check", "wakeups.yaml", "--kernel", str(kernel)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT / "runner")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == shown


def test_ci_calls_the_test_command_of_the_readme():
    command = re.search(r"```sh\n(bash .*)\n```", README)[1]

    assert f"exec {command}" in (ROOT / ".ci/run").read_text()
    assert Path(ROOT, shlex.split(command)[1]).exists()
