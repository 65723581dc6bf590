"""The linters are tests: `pytest -k mypy` works, and nothing passes that they refuse."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINTERS = {
    "ruff-format": ["ruff", "format", "--check", "--diff", "."],
    "ruff-check": ["ruff", "check", "."],
    "mypy": [sys.executable, "-m", "mypy"],
    "import-linter": ["lint-imports"],
    "codespell": ["codespell", "runner", "recipes", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"],
}


@pytest.mark.parametrize("name", LINTERS)
def test_the_linter_has_nothing_to_say(name):
    command = LINTERS[name]
    tool = Path(sys.executable).parent / command[0]
    words = [str(tool), *command[1:]] if tool.exists() else command

    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)

    if done.returncode:
        pytest.fail(f"{' '.join(command)}\n{done.stdout}{done.stderr}", pytrace=False)
