"""A process that makes, records and puts back many times holds no more than after the first few."""

import pytest

from benchmarks.cycles import is_steady, run_cycles

pytestmark = [pytest.mark.tracefs, pytest.mark.slow]


def test_many_cycles_leave_no_descriptor_thread_or_memory(tmp_path, untouched):
    before, after, events = run_cycles(100, tmp_path)

    assert events > 100
    assert (after.descriptors, after.threads) == (before.descriptors, before.threads)
    assert is_steady(before, after, 1000), (before, after)  # a short run has not settled yet
