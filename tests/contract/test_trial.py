"""`try` applies a recipe, hands it to a process of its own, and reverts it in time."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.tracefs

INSTANCES = Path("/sys/kernel/tracing/instances")
TRIED = """
recipe: v1
name: tried
events: [{event: sched:sched_switch, filter: prev_prio < 200}]
outputs: [{text: never.txt}]
"""


@pytest.fixture(autouse=True)
def _nothing_stays(cli, untouched):
    yield
    for state in json.loads(cli("status", "--json").stdout):
        if state["state"] == "live":
            cli("restore", state["run_id"])
    cli("recover", "--all")
    _wait_for_the_keeper(cli)


def _wait_for_the_keeper(cli) -> None:
    """Until it has told what it did, which comes after the instance is gone."""
    ends_at = time.monotonic() + 30
    while cli.guardians():
        assert time.monotonic() < ends_at
        time.sleep(0.01)


def _gone(path: Path, within_s: float = 30) -> bool:
    ends_at = time.monotonic() + within_s
    while path.exists() and time.monotonic() < ends_at:
        time.sleep(0.01)
    return not path.exists()


def _try(cli, recipe, *words: str) -> tuple[str, Path]:
    done = cli("try", str(recipe(TRIED)), "--json", *words)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return answer["run_id"], Path(answer["instance"])


def test_it_stays_on_after_the_command(cli, recipe):
    _, instance = _try(cli, recipe)

    assert (instance / "tracing_on").read_text() == "1\n"
    assert (instance / "events/sched/sched_switch/filter").read_text() == "prev_prio < 200\n"
    pipe = os.open(instance / "trace_pipe", os.O_RDONLY)
    try:
        assert b"sched_switch: " in os.read(pipe, 65536)
    finally:
        os.close(pipe)


def test_it_reverts_when_the_time_is_up(cli, recipe):
    run_id, instance = _try(cli, recipe, "--ttl", "1s")

    assert _gone(instance)
    assert not (cli.directory / "never.txt").exists()
    _wait_for_the_keeper(cli)
    assert f"{run_id}: tried: its time was up; restored" in cli("recover").stdout


def test_extend_and_confirm_move_the_end_and_restore_ends_it(cli, recipe):
    run_id, instance = _try(cli, recipe, "--ttl", "100s")
    extended = cli("extend", run_id, "1000s")
    (state,) = json.loads(cli("status", "--json").stdout)
    assert extended.returncode == 0, extended.stderr
    assert 900e9 < state["reverts_in_ns"] < 1000e9
    assert state["tried"] is True
    assert "reverts in 9" in cli("status").stdout

    assert cli("confirm", run_id).returncode == 0
    assert "stays until" in cli("status").stdout
    cli("extend", run_id, "1ns")
    assert _gone(instance)


def test_status_names_what_somebody_else_has_changed_and_restore_leaves_nothing(cli, recipe):
    run_id, instance = _try(cli, recipe)
    status = cli("status").stdout
    (state,) = json.loads(cli("status", "--json").stdout)
    event = "events/sched/sched_switch"
    assert "changed by somebody else" not in status
    assert re.search(rf"^  applied: .*{event}/enable, {event}/filter", status, re.MULTILINE)
    [applied] = re.findall(r"^  applied: (.*)$", status, re.MULTILINE)
    assert len(set(applied.split(", "))) == len(applied.split(", "))
    filter_file = f"instances/{instance.name}/{event}/filter"
    assert state["applied"][filter_file] == "prev_prio < 200\n"

    with open(instance / "trace_clock", "r+") as file:
        file.write("boot")
    with open(instance / "events/sched/sched_switch/filter", "r+") as file:
        file.write("prev_prio < 9")

    lines = cli("status").stdout.splitlines()
    assert [line.rpartition(instance.name)[2] for line in lines if "somebody else" in line] == [
        "/events/sched/sched_switch/filter"
    ]
    assert cli("restore", run_id).returncode == 0


def test_restore_ends_a_trial_at_once(cli, recipe):
    run_id, instance = _try(cli, recipe)

    done = cli("restore", run_id)

    assert done.returncode == 0, done.stderr
    assert not instance.exists()
    assert cli("status").stdout == "no recipe is running, and none left anything behind\n"


def test_a_killed_keeper_leaves_a_journal_for_recover(cli, recipe):
    run_id, instance = _try(cli, recipe)
    (keeper,) = cli.guardians()
    os.kill(keeper, signal.SIGKILL)
    assert _gone(Path(f"/proc/{keeper}"))

    refused = cli("extend", run_id)
    assert refused.returncode == 3
    assert f"trace-recipe recover {run_id}" in refused.stderr
    assert instance.exists()
    assert cli("recover", run_id).returncode == 0
    assert not instance.exists()


def test_only_a_tried_recipe_can_be_extended_and_a_command_cannot_be_tried(cli, recipe):
    text = TRIED + "scope: {pids: [command]}\nrun: {command: [/bin/true]}\n"

    done = cli("try", str(recipe(text, "command.yaml")))

    assert done.returncode == 2
    assert "command.yaml:6:15: error: scope.pids: " in done.stderr
    assert "`try` runs no command" in done.stderr
    assert cli("extend", "nothing").returncode == 2
    assert cli("try", str(recipe(TRIED)), "--ttl", "soon").returncode == 2


def test_an_instance_that_is_read_when_the_time_is_up_goes_when_the_reader_does(cli, recipe):
    run_id, instance = _try(cli, recipe)
    pipe = os.open(instance / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        cli("extend", run_id, "1ns")
        ends_at = time.monotonic() + 30
        while "pinned" not in cli("status").stdout:
            assert time.monotonic() < ends_at
        assert (instance / "tracing_on").read_text() == "0\n"
    finally:
        os.close(pipe)

    assert _gone(instance)


def test_the_printed_units_run_this_program_and_ask_nothing(cli):
    done = cli("recover", "--print-unit")

    assert done.returncode == 0, done.stderr
    (start,) = [line for line in done.stdout.splitlines() if line.startswith("ExecStart=")]
    program, *words = start.removeprefix("ExecStart=").split()
    assert Path(program).is_absolute()
    assert words[-2:] == ["recover", "--all"]
    assert "ConditionPathExistsGlob=/run/trace-recipe/*.journal" in done.stdout
