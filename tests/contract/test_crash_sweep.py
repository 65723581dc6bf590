"""A run that is killed at any of its calls is undone from its journal: tests/crash_sweep.py.

Here on the fake, and on the running kernel in instances of our own: some points of each recipe in
each home, all of them with `--every-point`. The top level of real kernels is swept in the machines
of tests/vm, every point by `python -m tests.crash_sweep`.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash_points import stop_at
from tests.crash_sweep import (
    CASES,
    HOMES,
    MESSY_INSTANCE,
    SUMMARY,
    Tree,
    apply_here,
    recover_here,
    resolve_case,
    sweep,
)
from tests.fake_tracefs import CPUS, EVENTS, FUNCTIONS, FakeTracefs
from tests.messy_tracefs import make_messy
from tests.tracefs_tree import differences, snapshot
from trace_recipe.errors import KernelLacksError
from trace_recipe.journal import journals
from trace_recipe.kernel import kernel_from_json
from trace_recipe.prober import probe_kernel
from trace_recipe.receipt import Outcome
from trace_recipe.tracefs import Tracefs

RICH = Path(__file__).parents[1] / "golden/kernels/rich-6.12.json"
HERE = Tracefs()


def fake_kernel(tree):
    """Return the rich kernel with what the fake has: its events, functions, CPUs and files."""
    kernel = kernel_from_json(json.loads(RICH.read_text()), origin=str(RICH))
    waking = kernel.format_texts["sched:sched_waking"]
    names = [event.replace("/", ":") for event in EVENTS]
    return replace(
        kernel,
        possible_cpus=tuple(range(CPUS)),
        online_cpus=tuple(range(CPUS)),
        functions=FUNCTIONS,
        control_files=frozenset(tree.list()),
        format_texts={name: waking.replace("sched_waking", name[6:]) for name in names},
    )


def read_all(root):
    return {
        str(path.relative_to(root)): path.read_text() if path.is_file() else "directory"
        for path in root.rglob("*")
    }


def swept(tree, case, home, **options):
    """Sweep, or skip with what the kernel lacks."""
    try:
        return sweep(tree, resolve_case(case, home, tree.kernel), **options)
    except KernelLacksError as error:
        pytest.skip(error.problems[0].what)


@pytest.fixture
def few(request):
    """How many points are enough, or None for all."""
    return lambda points: None if request.config.getoption("--every-point") else points


def seed(case, home):
    return [*CASES].index(case) * len(HOMES) + [*HOMES].index(home)


@pytest.fixture
def fake(tmp_path):
    tracefs = FakeTracefs(tmp_path / "tracing")
    return Tree(tracefs, fake_kernel(tracefs), lambda: read_all(tracefs.root))


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("case", CASES)
def test_on_the_fake_a_stop_at_any_call_is_undone(fake, case, home, few, record_property):
    if home == "messy instance":
        fake.tracefs.make_instance(MESSY_INSTANCE)
        assert make_messy(fake.tracefs.instance(MESSY_INSTANCE), is_simulated=True) > 20
    elif home.endswith("messy top level"):
        assert make_messy(fake.tracefs, is_simulated=True) > 20

    found = swept(fake, case, home, points=few(6), seed=seed(case, home))

    record_property(SUMMARY, ("fake", found.stops, found.points))
    assert found.points > 20


@pytest.fixture
def here():
    """The running kernel, with an instance as somebody else might have left it."""
    HERE.make_instance(MESSY_INSTANCE)
    try:
        make_messy(HERE.instance(MESSY_INSTANCE))
        yield Tree(HERE, probe_kernel(HERE, with_functions=True), snapshot)
    finally:
        HERE.remove_instance(MESSY_INSTANCE)


@pytest.mark.tracefs
@pytest.mark.slow
@pytest.mark.parametrize("home", ["private", "messy instance"])
@pytest.mark.parametrize("case", CASES)
def test_on_this_kernel_a_stop_at_a_call_is_undone(
    untouched, here, case, home, few, record_property
):
    found = swept(here, case, home, points=few(12), seed=seed(case, home))

    record_property(SUMMARY, ("running kernel", found.stops, found.points))
    assert found.points > 20


@pytest.mark.tracefs
def test_restoring_twice_is_the_same_as_once(untouched, here, tmp_path):
    resolved = resolve_case("events", "messy instance", here.kernel)
    before = here.snapshot()
    assert stop_at(30, "after", lambda: apply_here(here, resolved, tmp_path / "state"))
    (first,) = journals(tmp_path / "state")
    copy = first.path.read_bytes()
    recover_here(here, tmp_path / "state")
    first.path.write_bytes(copy)

    recover_here(here, tmp_path / "state")

    assert differences(before, here.snapshot()) == {}


@pytest.mark.tracefs
def test_what_somebody_else_changed_meanwhile_is_left_and_reported(untouched, here, tmp_path):
    resolved = resolve_case("events", "messy instance", here.kernel)
    theirs = here.tracefs.instance(MESSY_INSTANCE)
    session = apply_here(here, resolved, tmp_path / "state")
    theirs.write("buffer_percent", "99")

    receipt = session.restore()

    (foreign,) = [line for line in receipt.lines if line.outcome is Outcome.FOREIGN]
    assert foreign.file.endswith("/buffer_percent")
    assert theirs.read("buffer_percent") == "99\n"
    assert "[boot]" in theirs.read("trace_clock")
