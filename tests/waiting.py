"""A run that lasts until its test lets it end: nothing has to be done within a time.

Its command says in a file that the recording has begun, and ends when there is another one. It
sleeps meanwhile, so that a machine where nothing else happens switches tasks too.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

    from tests.conftest import Cli

__all__ = ["WAITING", "let_it_end", "wait_until_it_records"]

WAITING = (
    "run: {command: [/bin/sh, -c, 'sleep 0.05; touch begun;"
    " until [ -e enough ] || [ ! -e /proc/$PPID/exe ]; do sleep 0.05; done'], timeout: 300s}"
)
"""A line of a recipe."""


def wait_until_it_records(cli: Cli, running: subprocess.Popen[str]) -> None:
    """Return when the command runs: what others do from now on is watched and recorded."""
    ends_at = time.monotonic() + 120
    while not (cli.directory / "begun").exists():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < ends_at
        time.sleep(0.02)


def let_it_end(cli: Cli) -> None:
    """Have the command end with status 0, and the run with it."""
    (cli.directory / "enough").touch()
