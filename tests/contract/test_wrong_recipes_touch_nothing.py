"""Wrong recipes on the running kernel: each is refused, and nothing in tracefs or here changes."""

import json
import sys
from pathlib import Path

import pytest

from tests.tracefs_tree import differences, snapshot
from trace_recipe import cli

pytestmark = pytest.mark.tracefs

WRONG = Path(__file__).parent.parent / "wrong_recipes"
CASES = json.loads((WRONG / "cases.json").read_text())
RUNS = "recipe: v1\nname: wrong\nevents: [sched:sched_process_exec]\nduration: 100ms\n"


@pytest.fixture
def exit_status_of(monkeypatch, capfd, tmp_path):
    """Run the command line in this process and in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["trace-recipe", *words])
        for name in ("stdout", "stderr"):  # the command line puts its own in their place
            monkeypatch.setattr(sys, name, getattr(sys, name))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        sys.stderr.flush()
        return int(ended.value.code or 0), capfd.readouterr().err

    return run


def test_no_wrong_recipe_touches_anything(exit_status_of, tmp_path):
    before = snapshot()
    refused = 0
    for name, case in CASES.items():
        words = [str(WRONG / f"{name}.yaml")]
        for text in case.get("set", ()):
            words += ["--set", text]
        # What only another kernel lacks is never started here.
        if "kernel" in case and exit_status_of("check", *words)[0] == 0:
            continue
        status, message = exit_status_of("run", "--state-dir", str(tmp_path / "state"), *words)
        assert status in ({2, 3} if "kernel" in case else {2}), name
        assert message.endswith("  state: untouched\n"), name
        assert "Traceback" not in message, name
        refused += 1
    assert refused > len(CASES) * 9 // 10
    assert list(tmp_path.iterdir()) == []
    assert differences(before, snapshot()) == {}


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("{text: nowhere/trace.txt}", "No such file or directory"),
        ("{jsonl: taken}", "is a directory"),
        ("{csv: notes.txt/trace.csv}", "Not a directory"),
        ("{trace-dat: nowhere/trace.dat}", "No such file or directory"),
    ],
)
@pytest.mark.usefixtures("untouched")
def test_an_output_that_cannot_be_opened_stops_the_run_before_it_begins(
    output, words, cli, recipe, tmp_path
):
    (tmp_path / "taken").mkdir()
    (tmp_path / "notes.txt").write_text("mine\n")
    path = recipe(RUNS + f"outputs:\n  - {{text: first.txt}}\n  - {output}\n")
    ended = cli("run", path)
    assert ended.returncode == 4
    assert words in ended.stderr
    assert ended.stderr.endswith("  state: untouched\n")
    assert "Traceback" not in ended.stderr
    cli.state.rmdir()  # empty: what the run was about to make is not noted any more
    assert sorted(one.name for one in tmp_path.iterdir()) == ["notes.txt", "recipe.yaml", "taken"]
    assert (tmp_path / "notes.txt").read_text() == "mine\n"
