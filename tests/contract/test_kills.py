"""Runs that are killed at random moments leave nothing behind, whoever of them it is.

Many more, eight at a time: `python -m benchmarks.kills`.
"""

import json
import subprocess
import sys

import pytest

from benchmarks.measured import environment

pytestmark = [pytest.mark.tracefs, pytest.mark.slow]

# In a process of its own: whatever is left of the runs becomes its child, and nothing else is.
KILL = """
import json
from benchmarks.kills import kill_runs
found = kill_runs(16, seed=20, slots=2)
told = {"problems": found.problems, "kills": found.victims.total(), "changed": found.changed}
print(json.dumps(told))
"""


def test_runs_killed_at_random_moments_leave_nothing_behind(untouched):
    done = subprocess.run(
        [sys.executable, "-c", KILL], env=environment(), capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["problems"] == []
    assert found["kills"] >= 16
    assert found["changed"] > 0
