"""Signals that a parent ignores, and commands that end before they began."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from trace_recipe.command import HeldCommand
from trace_recipe.invoker import find_invoker
from trace_recipe.recipe.parts.session import Run

INSTANCES = Path("/sys/kernel/tracing/instances")
COMMAND = """
recipe: v1
name: ignored
events: ["sched:sched_process_exec"]
run: {command: [/bin/sh, -c, "exit 3"]}
outputs: [{text: o.txt}]
"""
TIMED = """
recipe: v1
name: outlives
events: ["sched:sched_process_exec"]
duration: 1500ms
outputs: [{text: o.txt}]
"""


def test_a_command_killed_while_it_is_held_just_has_ended():
    run = Run.model_validate({"command": ["/bin/true"]})
    command = HeldCommand(run, find_invoker(os.environ), os.environ, run_id="held")
    os.kill(command.pid, signal.SIGKILL)
    os.waitid(os.P_PID, command.pid, os.WEXITED | os.WNOWAIT)

    command.release()

    assert command.wait() == 128 + signal.SIGKILL


@pytest.mark.tracefs
def test_a_parent_that_ignores_its_children_changes_nothing(cli, recipe, untouched):
    words = cli.command("run", str(recipe(COMMAND)))

    done = subprocess.run(
        words, cwd=cli.directory, env=cli.environment(), capture_output=True, text=True, timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "command ended with status 3" in done.stderr


@pytest.mark.tracefs
def test_nohup_keeps_a_run_going_when_the_terminal_closes(cli, recipe, untouched):
    words = cli.command("run", str(recipe(TIMED)))
    running = subprocess.Popen(
        ["/bin/sh", "-c", 'trap "" HUP; exec "$@"', "sh", *words],
        cwd=cli.directory, env=cli.environment(), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    ends_at = time.monotonic() + 30
    while not list(INSTANCES.glob("trace-recipe-outlives-*")):
        assert time.monotonic() < ends_at
        time.sleep(0.02)
    running.send_signal(signal.SIGHUP)
    _, err = running.communicate(timeout=60)

    assert running.returncode == 0, err
    assert "(duration)" in err
