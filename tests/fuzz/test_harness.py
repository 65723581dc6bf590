"""The fuzzing harness finds what it is for, and goes on behind it."""

import mmap
import os
import signal
import time

import pytest

from tests.fuzz.harness import Target, fuzz, input_of


def number(random):
    return random.randrange(10)


def answer(action):
    """Return a run function that does `action` for the inputs that are 3."""
    return lambda made: action() if made == 3 else None


def threes(target, seed, inputs):
    return [index for index in range(inputs) if input_of(target, seed, index) == 3]


def fail():
    raise KeyError("no such thing")


def spin():
    while True:
        pass


def allocate():
    return len(bytearray(1 << 30))


def grow():
    """Take more than the limit, and swallow the refusal as careless code does."""
    blocks = []
    try:
        for _ in range(100):  # fresh pages: what pytest has freed would not count as growth
            blocks.append(mmap.mmap(-1, 1 << 20))
            blocks[-1].write(b"x" * (1 << 20))
    except OSError:
        pass


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("action", "kind"), [(fail, "KeyError"), (allocate, "memory"), (die, "died")]
)
@pytest.mark.parametrize("jobs", [1, 3])
def test_each_input_that_breaks_a_promise_is_counted_and_the_others_run(action, kind, jobs):
    target = Target("three", number, answer(action), memory_bytes=64 << 20)
    expected = threes(target, 7, 40)
    assert len(expected) > 1

    report = fuzz(target, inputs=40, seed=7, jobs=jobs)

    assert report.inputs == 40
    [(cause, finding)] = report.findings.items()
    assert (cause[0], finding.kind, finding.index) == (kind, kind, expected[0])
    assert report.counts[cause] == len(expected)


def test_a_finding_says_where_it_was_and_what_the_input_was():
    report = fuzz(Target("three", number, answer(fail)), inputs=40, seed=7)

    [finding] = report.findings.values()
    assert finding.where.startswith("tests/fuzz/test_harness.py:")
    assert "KeyError: 'no such thing'" in finding.text
    assert finding.text.endswith("3")


def test_memory_that_was_taken_in_silence_is_a_finding():
    report = fuzz(Target("three", number, answer(grow), memory_bytes=32 << 20), inputs=40, seed=7)

    assert {finding.kind for finding in report.findings.values()} <= {"memory"}
    assert report.peak_bytes > 8 << 20


def test_an_input_that_takes_too_long_is_ended_by_a_signal():
    target = Target("three", number, answer(spin))
    first = threes(target, 7, 40)[0]
    begin = time.process_time()

    report = fuzz(target, inputs=1, seed=7, first=first)

    [finding] = report.findings.values()
    assert finding.kind == "hang"
    assert finding.where.startswith("tests/fuzz/test_harness.py:")
    assert report.worst_s > 1.0
    assert time.process_time() - begin < 2.0  # the child's time is not ours


def test_the_same_number_is_the_same_input_in_every_run():
    target = Target("many", lambda random: random.randbytes(20), bool)

    assert input_of(target, 1, 5) == input_of(target, 1, 5)
    assert len({input_of(target, seed, index) for seed in range(3) for index in range(50)}) == 150
