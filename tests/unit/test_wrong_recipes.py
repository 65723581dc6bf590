"""Wrong recipes and the exact message that each one gets; nothing here needs root or tracefs.

`tests/wrong_recipes/cases.json` has one entry per recipe: the exit status, the catalogue that it is
checked against (validated alone without one) and --set arguments. After a change of the messages,
`TRACE_RECIPE_REGENERATE=1 pytest tests/unit/test_wrong_recipes.py` rewrites the `.expected` files;
read the difference before it is committed.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from trace_recipe import cli

TESTS = Path(__file__).parent.parent
WRONG = TESTS / "wrong_recipes"
CASES = json.loads((WRONG / "cases.json").read_text())
REGENERATES = os.environ.get("TRACE_RECIPE_REGENERATE") == "1"
PROBLEM = re.compile(r"(?:(?P<file>[^ :]+):(?P<line>\d+):(?P<column>\d+): )?error: (?P<what>.+)")


def arguments(name):
    """Return the command line of a case, as typed in the directory of the recipes."""
    case = CASES[name]
    words = ["validate"]
    if "kernel" in case:
        words = ["check", "--kernel", f"../golden/kernels/{case['kernel']}.json"]
    for text in case.get("set", ()):
        words += ["--set", text]
    return [*words, f"{name}.yaml"]


@dataclass
class Answer:
    """What the command line printed, and how it ended."""

    stdout: str
    stderr: str
    exit_status: int


@pytest.fixture
def answer(monkeypatch, capfd):
    """Run the command line in this process, in the directory of the recipes."""
    monkeypatch.chdir(WRONG)

    def run(words):
        monkeypatch.setattr(sys, "argv", ["trace-recipe", *words])
        for name in ("stdout", "stderr"):  # the command line puts its own in their place
            monkeypatch.setattr(sys, name, getattr(sys, name))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        sys.stdout.flush()
        printed = capfd.readouterr()
        return Answer(printed.out, printed.err, int(ended.value.code or 0))

    return run


def problems_of(message):
    """Return the lines of each problem of a message, the state line left out."""
    blocks: list[list[str]] = []
    for line in message.splitlines():
        if PROBLEM.match(line):
            blocks.append([])
        if not line.startswith("  state: "):
            blocks[-1].append(line)
    return blocks


def shown_from(file, line, column):
    """Return a recipe's text from a place to the end of the line, hidden characters escaped."""
    text = (WRONG / file).read_bytes().decode("utf-8", "surrogateescape")
    rest = text.split("\n")[line - 1].replace("\t", " ")[column - 1 :]
    return "".join(char if char.isprintable() else escaped(char) for char in rest)


def escaped(char):
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"


def heading_of(block):
    """Return the match of a problem's first line."""
    heading = PROBLEM.match(block[0])
    assert heading is not None
    return heading


def test_every_recipe_has_a_case_and_every_case_a_recipe():
    assert sorted(path.stem for path in WRONG.glob("*.yaml")) == sorted(CASES)
    assert REGENERATES or sorted(path.stem for path in WRONG.glob("*.expected")) == sorted(CASES)
    assert len(CASES) >= 75


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_recipe_gets_exactly_the_expected_message(name, answer):
    found = answer(arguments(name))
    expected = WRONG / f"{name}.expected"
    if REGENERATES:
        expected.write_text(found.stderr)
    assert (found.stderr, found.stdout) == (expected.read_text(), "")
    assert found.exit_status == CASES[name]["exit"]


@pytest.mark.parametrize("name", CASES)
def test_a_message_says_what_where_and_what_to_do(name):
    message = (WRONG / f"{name}.expected").read_text()
    assert "Traceback" not in message
    assert message.endswith("  state: untouched\n")
    blocks = problems_of(message)
    assert blocks
    for block in blocks:
        assert any(line.startswith("  fix: ") for line in block), block
        assert all(line.isprintable() for line in block), block


@pytest.mark.parametrize("name", CASES)
def test_the_caret_stands_below_the_line_and_column_that_are_named(name):
    for block in problems_of((WRONG / f"{name}.expected").read_text()):
        heading = heading_of(block)
        if heading["file"] in (None, "--set"):
            continue
        assert (WRONG / heading["file"]).is_file()
        rows = [line for line in block if line.startswith("    | ")]
        if rows:
            line, caret = (row.removeprefix("    | ") for row in rows)
            pointed = line[caret.index("^") :].rstrip("…")
            place = (heading["file"], int(heading["line"]), int(heading["column"]))
            assert shown_from(*place).startswith(pointed)


@pytest.mark.parametrize("name", CASES)
def test_problems_stand_in_file_order(name):
    positions: dict[str, list[tuple[int, int]]] = {}
    for block in problems_of((WRONG / f"{name}.expected").read_text()):
        heading = heading_of(block)
        if heading["file"] not in (None, "--set"):
            place = (int(heading["line"]), int(heading["column"]))
            positions.setdefault(heading["file"], []).append(place)
    assert all(places == sorted(places) for places in positions.values())


def test_json_has_the_same_problems_as_the_text(answer):
    name = next(name for name in CASES if name.endswith("many-problems-language"))
    found = answer([*arguments(name), "--json"])
    printed = json.loads(found.stdout)
    assert found.exit_status == printed["exit_status"] == 2
    assert printed["state"] == "untouched"
    texts = [
        heading_of(block)["what"] for block in problems_of((WRONG / f"{name}.expected").read_text())
    ]
    assert [f"{one['key']}: {one['what']}" for one in printed["problems"]] == texts


def test_a_file_that_is_too_large_is_refused_before_it_is_parsed(answer, tmp_path):
    path = tmp_path / "large.yaml"
    path.write_text("recipe: v1\nname: large\ndescription: '" + "x" * (2 << 20) + "'\n")
    found = answer(["validate", str(path)])
    assert found.exit_status == 2
    assert "error: the file is too large for a recipe" in found.stderr
    assert len(found.stderr) < 1000


def test_a_real_process_prints_the_same_message():
    name = next(name for name in CASES if name.endswith("many-problems-kernel"))
    ended = subprocess.run(
        [sys.executable, "-m", "trace_recipe", *arguments(name)],
        cwd=WRONG,
        env={**os.environ, "PYTHONPATH": str(TESTS.parent / "runner")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stderr == (WRONG / f"{name}.expected").read_text()
    assert ended.returncode == 2
