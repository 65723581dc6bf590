"""A short run of every fuzz target, the same in every run; `python -m benchmarks.fuzz` runs long."""

import pytest

from tests.fuzz.harness import fuzz
from tests.fuzz.targets import TARGETS

INPUTS = {
    "recipe": 3000,
    "filter": 10000,
    "trigger": 10000,
    "event-names": 12000,
    "format": 10000,
    "print-fmt": 6000,
    "pages": 1500,
    "sinks": 2000,
    "trace-dat": 3000,
}


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_raises_hangs_or_eats_the_memory(name):
    report = fuzz(TARGETS[name], inputs=INPUTS[name], seed=1)

    assert report.inputs == INPUTS[name]
    assert not report.findings, "\n".join(one.text for one in report.findings.values())
