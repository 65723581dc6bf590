"""A bounded part of the crash sweep on other kernels, their messy top level included.

Every point of every recipe in every home: `python -m tests.crash_sweep`.
"""

from __future__ import annotations

import re
import shlex
import sys

import pytest

from tests.crash_sweep import SUMMARY
from tests.vm.ahead import Job
from tests.vm.kernels import KERNELS

pytestmark = [pytest.mark.vm, pytest.mark.slow]
HOMES = ("messy instance", "messy top level")
COMMAND = [
    *(sys.executable, "-m", "tests.crash_sweep", "--here", "--points", "1"),
    *(word for home in HOMES for word in ("--home", home)),
]


def job(kernel: str) -> Job:
    return Job(kernel, shell=shlex.join(COMMAND))


@pytest.mark.parametrize("name", KERNELS)
def test_a_stop_at_a_call_is_undone_on_the_kernel(name, record_property, outcome):
    found = re.search(
        rf"^{SUMMARY}: (\d+) stops at (\d+) points, 0 cases FAILED", outcome.output, re.MULTILINE
    )
    if found is None or outcome.status:
        pytest.fail(f"{name}: status {outcome.status}\n{outcome.output}", pytrace=False)
    stops, points = map(int, found.groups())
    record_property(SUMMARY, (name, stops, points))
    assert stops >= 9  # 6.1 lacks sub-buffers, two tracers, and function_graph in an instance
    assert points > 40 * stops
