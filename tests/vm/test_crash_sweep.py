"""A bounded part of the crash sweep on other kernels, their messy top level included.

Every point of every recipe in every home: `python -m tests.crash_sweep`.
"""

from __future__ import annotations

import re
import shlex
import sys

import pytest

from tests.crash_sweep import SUMMARY
from tests.kernel_requirements import need_kernel
from tests.vm.kernels import KERNELS
from tests.vm.machine import run_shell
from tests.vm.side_by_side import chosen_names, side_by_side

pytestmark = [pytest.mark.vm, pytest.mark.slow]
HOMES = ("messy instance", "messy top level")
COMMAND = [
    *(sys.executable, "-m", "tests.crash_sweep", "--here", "--points", "1"),
    *(word for home in HOMES for word in ("--home", home)),
]
TIMEOUT_S = 900


@pytest.fixture(scope="module")
def outcomes(request):
    def job(kernel):
        return run_shell(kernel, shlex.join(COMMAND), timeout_s=TIMEOUT_S)

    with side_by_side(chosen_names(request), job) as futures:
        yield futures


@pytest.mark.parametrize("name", KERNELS)
def test_a_stop_at_a_call_is_undone_on_the_kernel(name, record_property, outcomes):
    need_kernel(name)
    outcome = outcomes[name].result()

    found = re.search(
        rf"^{SUMMARY}: (\d+) stops at (\d+) points, 0 cases FAILED", outcome.output, re.MULTILINE
    )
    if found is None or outcome.status:
        pytest.fail(f"{name}: status {outcome.status}\n{outcome.output}", pytrace=False)
    stops, points = map(int, found.groups())
    record_property(SUMMARY, (name, stops, points))
    assert stops >= 9  # 6.1 lacks sub-buffers, two tracers, and function_graph in an instance
    assert points > 40 * stops
