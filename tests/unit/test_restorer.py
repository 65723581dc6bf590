"""What counts as ours when a file reads otherwise than we left it: on the fake tracefs."""

import errno

import pytest

from tests.fake_tracefs import SNAPSHOT_ALLOCATED, SNAPSHOT_FREED, FakeTracefs
from trace_recipe.errors import TracefsError
from trace_recipe.executor import apply
from trace_recipe.plan import Plan, Scope, SetFile
from trace_recipe.receipt import Outcome


class Measuring(FakeTracefs):
    """A tracer other than nop keeps the snapshot, and frees it in the end, as irqsoff does."""

    def read(self, path):
        if path == "snapshot" and super().read("current_tracer") != "nop\n":
            raise TracefsError(path, "read", errno.EBUSY)
        return super().read(path)

    def write(self, path, text, *, truncate=False):
        was_measuring = super().read("current_tracer") != "nop\n"
        super().write(path, text, truncate=truncate)
        if path == "current_tracer" and was_measuring:
            super().write("snapshot", "0\n")


@pytest.fixture
def session(tmp_path):
    """Apply steps at the top level of a fake."""

    def begin(*steps, snapshot="0\n"):
        plan = Plan("restore", "restore.yaml", "top", "", steps)
        tracefs = Measuring(tmp_path / "tracing")
        tracefs.write("snapshot", snapshot)
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


def test_everything_is_put_back_although_others_can_write_the_state_directory(session, tmp_path):
    run = session(step("buffer_percent", "20"))
    before = run.journal.state().before["buffer_percent"]
    (tmp_path / "state").chmod(0o777)

    receipt = run.restore()

    assert {line.outcome for line in receipt.lines} == {Outcome.RESTORED}
    assert run.tracefs.read("buffer_percent") == before


@pytest.mark.parametrize(
    ("written", "before"), [("0\n", SNAPSHOT_FREED), ("1\n", SNAPSHOT_ALLOCATED)]
)
def test_a_snapshot_that_our_tracer_freed_is_allocated_again(session, written, before):
    run = session(step("current_tracer", "function", also=("snapshot",)), snapshot=written)

    receipt = run.restore()

    assert {line.file for line in receipt.lines} == {"current_tracer", "snapshot"}
    assert {line.outcome for line in receipt.lines} == {Outcome.RESTORED}
    assert run.tracefs.read("snapshot") == before
