"""What the doctor says that a run needs of tracefs is what a run opens there."""

import json
import os
import sys
from pathlib import Path

import pytest

from trace_recipe import cli as command_line
from trace_recipe.prober import _PROBED
from trace_recipe.watcher import _ALWAYS

pytestmark = pytest.mark.tracefs

MOUNT = "/sys/kernel/tracing"
OWN_PREFIX = "instances/trace-recipe-needs-"
OWN = f"{OWN_PREFIX}RUN/"
RECIPE = """
recipe: v1
name: needs
events: [{event: sched:sched_process_exec, filter: pid > 0}, "signal:*"]
markers: {start: it begins}
options: {sym-addr: true}
run: {command: [/bin/true]}
outputs: [{text: needs.txt}]
"""


@pytest.fixture
def opened(monkeypatch):
    """Note every file and directory of tracefs that this process opens."""
    found = set()

    def noting(call):
        def noted(path=".", *rest, **more):
            answer = call(path, *rest, **more)
            if isinstance(path, str | Path):
                real = os.path.realpath(path)
                if real == MOUNT or real.startswith(f"{MOUNT}/"):
                    found.add(os.path.relpath(real, MOUNT))
            return answer

        return noted

    for name in ("open", "listdir", "scandir"):
        monkeypatch.setattr(os, name, noting(getattr(os, name)))
    return found


def test_the_needed_files_are_those_that_a_run_opens(
    untouched, cli, recipe, opened, monkeypatch, capfd, tmp_path
):
    path = str(recipe(RECIPE))
    told = json.loads(cli("doctor", "--for", path, "--json").stdout)["files"]
    monkeypatch.chdir(tmp_path)
    opened.clear()
    state = str(tmp_path / "state")
    monkeypatch.setattr(sys, "argv", ["trace-recipe", "run", "--state-dir", state, path])
    with pytest.raises(SystemExit) as ended:
        command_line.main()

    assert ended.value.code == 0, capfd.readouterr().err
    assert (tmp_path / "needs.txt").exists()
    needed = {one["file"] for one in told if one["access"] not in {"enter", "own"}}
    own = {"/".join(name.split("/")[2:]) for name in opened if name.startswith(OWN_PREFIX)}
    top = {name for name in opened if not name.startswith("instances/")} - {"instances"}
    assert {name for name in needed if not name.startswith(OWN)} - top == set()
    # Opened only to know how the kernel refuses it.
    assert top - needed <= set(_PROBED)
    inside = {name.removeprefix(OWN) for name in needed if name.startswith(OWN)}
    assert inside - own == set()
    # What is only watched for changes by others, or emptied before the instance goes.
    assert own - inside <= {*_ALWAYS, "options/event-fork", "events/enable"}
