"""Runs that are killed at random moments leave nothing behind, whoever of them it is.

Many more, eight at a time: `python -m benchmarks.kills`.
"""

import pytest

from benchmarks.kills import kill_runs

pytestmark = [pytest.mark.tracefs, pytest.mark.slow]


def test_runs_killed_at_random_moments_leave_nothing_behind(untouched):
    found = kill_runs(16, seed=20, slots=2)

    assert found.problems == []
    assert found.victims.total() >= 16
    assert found.changed > 0
