"""The tracefs tests again, on other kernels; tests/vm/inner.py says which."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.kernel_requirements import need_kernel
from tests.vm.inner import INNER_TESTS
from tests.vm.kernels import KERNELS, KernelAbsentError, find_kernel
from tests.vm.machine import MachineError, base_image, missing_tools, run_pytest, run_shell

pytestmark = [pytest.mark.vm, pytest.mark.slow]
TIMEOUT_S = 900


@pytest.fixture(scope="module")
def outcomes(request):
    """Boot the kernels of the chosen tests side by side: each emulator keeps one CPU busy."""
    chosen = [
        item.callspec.params["name"]
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    ]
    if missing_tools():  # each test says what
        yield {}
        return
    base_image()  # made once, before they all want it
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        futures = {}
        for name in chosen:
            with contextlib.suppress(KernelAbsentError):  # its test says so
                kernel = find_kernel(name)
                futures[name] = pool.submit(run_pytest, kernel, INNER_TESTS, timeout_s=TIMEOUT_S)
        yield futures


@pytest.mark.parametrize("name", KERNELS)
def test_every_tracefs_test_passes_on_the_kernel(name, record_property, outcomes):
    need_kernel(name)
    outcome = outcomes[name].result()

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
