"""Terminals that go away, full disks and closed descriptors where the results should go."""

import contextlib
import errno
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT

INSTANCES = Path("/sys/kernel/tracing/instances")
ENDLESS = """
recipe: v1
name: hang-up
events: ["sched:sched_process_exec"]
duration: 60s
outputs: [{text: out.txt}]
"""
SHORT = """
recipe: v1
name: short
events: ["sched:sched_process_exec"]
duration: 100ms
outputs: [{text: out.txt}]
"""


def _shell(words, redirections):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "runner")}
    return subprocess.run(
        ["/bin/bash", "-c", f'"$@" {redirections}', "bash", *words],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("redirection", "errno_name"), [(">/dev/full", "ENOSPC"), (">&-", "EBADF")]
)
@pytest.mark.parametrize("words", [("schema", "recipe"), ("--help",), ("init", "-")])
def test_a_result_that_cannot_be_written_is_an_error_of_one_line(words, redirection, errno_name):
    done = _shell([sys.executable, "-m", "trace_recipe", *words], redirection)

    assert done.returncode == 4
    what = f"{os.strerror(getattr(errno, errno_name))} ({errno_name})"
    assert done.stderr == f"error: standard output is incomplete: {what}\n"


def test_a_reader_that_has_seen_enough_is_not_bothered():
    words = [sys.executable, "-m", "trace_recipe", "schema", "recipe"]

    done = _shell(words, '| head -c1; exit "${PIPESTATUS[0]}"')

    assert (done.returncode, done.stdout, done.stderr) == (4, "{", "")


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
def test_errors_that_nobody_can_read_keep_their_exit_status(redirection):
    words = [sys.executable, "-m", "trace_recipe", "validate", "no-such-recipe"]

    assert _shell(words, redirection).returncode == 2


@pytest.mark.tracefs
@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "<&-", "<&- 2>&-"])
def test_a_run_does_without_messages(cli, recipe, untouched, redirection):
    words = cli.command("run", str(recipe(SHORT)))

    done = _shell(["env", "-C", str(cli.directory), *words], redirection)

    assert done.returncode == 0, done.stderr
    assert (cli.directory / "out.txt").read_text().startswith("# tracer: nop")


@pytest.mark.tracefs
def test_a_run_whose_terminal_closes_is_restored_and_written(cli, recipe, untouched):
    words = cli.command("run", str(recipe(ENDLESS)))
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cli.directory)
        os.execve(words[0], words, cli.environment())
    ends_at = time.monotonic() + 30
    while b" of 60 s" not in os.read(terminal, 4096):
        assert time.monotonic() < ends_at

    os.close(terminal)

    try:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        raise
    assert not [path for path in INSTANCES.iterdir() if "hang-up" in path.name]
    assert (cli.directory / "out.txt").read_text().startswith("# tracer: nop")
