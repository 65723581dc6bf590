"""The tracefs tests again, on other kernels; tests/vm/inner.py says which."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.kernel_requirements import need_kernel
from tests.vm.ahead import Job
from tests.vm.inner import inner_tests
from tests.vm.kernels import KERNELS
from tests.vm.machine import MachineError, run_shell

pytestmark = [pytest.mark.vm, pytest.mark.slow]
TIMEOUT_S = 900


def job(kernel: str) -> Job:
    return Job(kernel, pytest=inner_tests(kernel))


@pytest.mark.parametrize("name", KERNELS)
def test_every_tracefs_test_passes_on_the_kernel(name, record_property, outcome):
    counts = Counter(test.outcome for test in outcome.tests)
    for test in outcome.tests:
        record_property(f"{name} {test.name}", f"{test.outcome} {test.text.splitlines()[:1]}")
    print(f"{name}: {dict(counts)}")
    print(outcome.output)
    failed = [f"{test.name}\n{test.text}" for test in outcome.tests if test.outcome == "failed"]
    if failed or outcome.status:
        pytest.fail(
            "\n\n".join([f"{name}: {dict(counts)}", *failed, outcome.output]), pytrace=False
        )
    assert counts["passed"] > 0


def test_a_command_that_ends_the_machine_early_is_a_failure():
    with pytest.raises(MachineError, match="did not reach its end"):
        run_shell(need_kernel(KERNELS[0]), "echo before; reboot -f", timeout_s=TIMEOUT_S)


def test_the_exit_status_and_output_are_those_of_the_command():
    outcome = run_shell(
        need_kernel(KERNELS[0]), "echo out; echo err >&2; exit 7", timeout_s=TIMEOUT_S
    )

    assert (outcome.status, outcome.output) == (7, "out\nerr")
