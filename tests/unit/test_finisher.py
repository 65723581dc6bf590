"""In which order a run is finished, and by whom when several are at it: on a tree of plain files."""

import fcntl
import os
import sys

import pytest

from trace_recipe import cli, finisher
from trace_recipe.cli import state as state_commands
from trace_recipe.finisher import finish
from trace_recipe.journal import Intent, Journal, journals, read_journal
from trace_recipe.leftovers import clear_leftovers

FILE = "buffer_percent"


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tracing"
    (root / "instances").mkdir(parents=True)
    return root


def _killed(tree, directory, run_id="dead"):
    """Leave what a killed run leaves: a journal that nobody holds, and a changed file."""
    journal = Journal.begin(
        directory,
        Intent(
            run_id=run_id, recipe="r", recipe_path="r.yaml", mount=str(tree), instance="",
            makes_instance=False, inode=None, before={FILE: "50\n"},
        ),
    )  # fmt: skip
    journal.intend(FILE)
    (tree / FILE).write_text("20\n")
    journal.applied(FILE, "20\n")
    journal.close()
    return journal.path


def test_the_kernel_is_put_back_before_files_are_looked_for(tree, tmp_path, monkeypatch):
    path = _killed(tree, tmp_path / "state")
    found = []

    def look(*arguments):
        found.append((tree / FILE).read_text())
        return clear_leftovers(*arguments)

    monkeypatch.setattr(finisher, "clear_leftovers", look)
    state = read_journal(path)
    assert state is not None
    finish(state, Journal.adopt(state), by="a test")

    assert found == ["50\n"]


@pytest.mark.parametrize("others", ["are at it", "were faster"])
def test_recover_goes_on_where_somebody_else_puts_a_run_back(
    tree, tmp_path, monkeypatch, capfd, others
):
    directory = tmp_path / "state"
    first, second = (_killed(tree, directory, name) for name in ("first", "second"))
    states = list(journals(directory))
    held = os.open(first, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    if others == "were faster":
        first.unlink()
    monkeypatch.setattr(state_commands, "journals", lambda path: states)
    monkeypatch.setattr(state_commands, "live_tracefs", lambda: None)
    words = ["trace-recipe", "recover", "--all", "--state-dir", str(directory)]
    monkeypatch.setattr(sys, "argv", words)
    for name in ("stdout", "stderr"):  # the command line puts its own in their place
        monkeypatch.setattr(sys, name, getattr(sys, name))

    with pytest.raises(SystemExit) as ended:
        cli.main()
    os.close(held)

    told = capfd.readouterr().out
    assert not ended.value.code, told
    assert "first: somebody else puts it back" in told
    assert "second: r: killed; restored 1/1 by recover" in told
    assert not second.exists()
