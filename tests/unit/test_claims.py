"""Two runs and one shared file: who may have it, and who puts it back."""

import pytest

from tests.fake_tracefs import FakeTracefs
from trace_recipe.errors import InstanceBusyError
from trace_recipe.executor import apply
from trace_recipe.journal import Journal, journals
from trace_recipe.plan import MakeInstance, Plan, Scope, SetFile
from trace_recipe.receipt import Outcome
from trace_recipe.restorer import restore

FILE = "max_graph_depth"


@pytest.fixture
def tracefs(tmp_path):
    made = FakeTracefs(tmp_path / "tracing")
    made.write(FILE, "7")
    return made


def _plan(name: str, depth: str) -> Plan:
    own = f"instances/{name}/"
    steps = (
        MakeInstance(name, None),
        SetFile(f"{own}tracing_on", "tracing_on", "1", "0", "0", Scope.PRIVATE, None, ""),
        SetFile(FILE, FILE, None, depth, depth, Scope.SHARED, None, "tracer.max_graph_depth"),
    )
    return Plan(name, f"{name}.yaml", "private", name, steps)


def _begin(tracefs, tmp_path, name, depth="3"):
    return apply(
        _plan(name, depth), tracefs, run_id=name, state_directory=tmp_path / "state", bindings={}
    )


def _outcome(receipt):
    return next(line.outcome for line in receipt.lines if line.file == FILE)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_last_of_two_runs_with_one_wish_puts_the_file_back(tracefs, tmp_path, order):
    sessions = [_begin(tracefs, tmp_path, name) for name in ("a", "b")]
    assert tracefs.read(FILE) == "3\n"

    first = sessions[order[0]].restore()
    assert _outcome(first) is Outcome.SHARED
    assert first.is_clean
    assert "kept for another run" in str(first)
    assert tracefs.read(FILE) == "3\n"
    assert _outcome(sessions[order[1]].restore()) is Outcome.RESTORED

    assert tracefs.read(FILE) == "7\n"


def test_another_wish_is_refused_while_the_first_run_lives(tracefs, tmp_path):
    session = _begin(tracefs, tmp_path, "a", "3")

    with pytest.raises(InstanceBusyError, match="'max_graph_depth' is in use by run a"):
        _begin(tracefs, tmp_path, "b", "4")

    assert tracefs.read(FILE) == "3\n"
    assert [state.run_id for state in journals(tmp_path / "state")] == ["a"]
    session.restore()
    assert tracefs.read(FILE) == "7\n"


def test_what_a_dead_run_set_is_not_shared_but_recovered_first(tracefs, tmp_path):
    _begin(tracefs, tmp_path, "a").journal.close()

    with pytest.raises(InstanceBusyError, match="is still as run a of 'a' left it"):
        _begin(tracefs, tmp_path, "b")


def test_a_dead_run_leaves_the_file_to_the_living_one_that_shares_it(tracefs, tmp_path):
    dead = _begin(tracefs, tmp_path, "a")
    living = _begin(tracefs, tmp_path, "b")
    dead.journal.close()
    (state,) = [one for one in journals(tmp_path / "state") if one.run_id == "a"]

    assert _outcome(restore(state, tracefs, Journal.adopt(state))) is Outcome.SHARED
    assert tracefs.read(FILE) == "3\n"
    assert _outcome(living.restore()) is Outcome.RESTORED
    assert tracefs.read(FILE) == "7\n"


def test_a_run_that_inherits_puts_back_even_when_it_dies_before_its_first_write(tracefs, tmp_path):
    first = _begin(tracefs, tmp_path, "a")
    second = _begin(tracefs, tmp_path, "b")
    path = second.journal.path
    second.journal.close()
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])  # killed before any step
    (state,) = [one for one in journals(tmp_path / "state") if one.run_id == "b"]
    first.restore()
    assert tracefs.read(FILE) == "7\n"  # nobody living needed it any more

    restore(state, tracefs, Journal.adopt(state))

    assert tracefs.read(FILE) == "7\n"
    tracefs.remove_instance("b")


def test_what_somebody_else_sets_meanwhile_stays_for_both(tracefs, tmp_path):
    first, second = (_begin(tracefs, tmp_path, name) for name in ("a", "b"))
    tracefs.write(FILE, "5")

    assert _outcome(first.restore()) is Outcome.SHARED
    assert _outcome(second.restore()) is Outcome.FOREIGN
    assert tracefs.read(FILE) == "5\n"
