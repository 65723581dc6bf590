"""What counts as ours when a file reads otherwise than we left it: on the fake tracefs."""

import pytest

from tests.fake_tracefs import FakeTracefs
from trace_recipe.executor import apply
from trace_recipe.plan import Plan, Scope, SetFile
from trace_recipe.receipt import Outcome


@pytest.fixture
def session(tmp_path):
    """Apply steps at the top level of a fake."""

    def begin(*steps):
        plan = Plan("restore", "restore.yaml", "top", "", steps)
        tracefs = FakeTracefs(tmp_path / "tracing")
        directory = tmp_path / "state"
        return apply(plan, tracefs, run_id="run", state_directory=directory, bindings={})

    return begin


def step(name, text, *, also=()):
    return SetFile(name, name, None, text, text, Scope.SHARED, None, "", also=also)


def test_the_latency_that_a_tracer_measured_is_put_back(session):
    run = session(step("current_tracer", "function", also=("tracing_max_latency",)))
    run.tracefs.write("tracing_max_latency", "4112\n")

    receipt = run.restore()

    assert {line.outcome for line in receipt.lines} == {Outcome.RESTORED}
    assert run.tracefs.read("tracing_max_latency") == "0\n"


def test_what_a_trigger_turned_off_is_ours_and_what_somebody_wrote_is_theirs(session):
    run = session(step("tracing_on", "0"), step("buffer_percent", "20"), step("tracing_on", "1"))
    run.tracefs.write("tracing_on", "0\n")
    run.tracefs.write("buffer_percent", "9\n")

    outcomes = {line.file: line.outcome for line in run.restore().lines}

    assert outcomes == {"buffer_percent": Outcome.FOREIGN, "tracing_on": Outcome.RESTORED}
    assert run.tracefs.read("tracing_on") == "1\n"
    assert run.tracefs.read("buffer_percent") == "9\n"
