"""Two runs and one shared file: who may have it, and who puts it back."""

import fcntl

import pytest

from tests.fake_tracefs import FakeTracefs
from trace_recipe.errors import InstanceBusyError, KernelLacksError, State
from trace_recipe.executor import apply
from trace_recipe.journal import Journal, journals
from trace_recipe.plan import MakeInstance, Plan, Scope, SetFile
from trace_recipe.receipt import Outcome
from trace_recipe.restorer import restore
from trace_recipe.watcher import Watcher

FILE = "max_graph_depth"


class Tracefs(FakeTracefs):
    """Lets something happen before a call of a run."""

    before_making = staticmethod(lambda name: None)
    before_writing = staticmethod(lambda path: None)

    def make_instance(self, name):
        self.before_making(name)
        super().make_instance(name)

    def write(self, path, text, *, truncate=False):
        self.before_writing(path)
        super().write(path, text, truncate=truncate)


@pytest.fixture
def tracefs(tmp_path):
    made = Tracefs(tmp_path / "tracing")
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


@pytest.fixture
def at_once(tracefs, tmp_path):
    """Run `b` is begun when `a` has its journal, and has set nothing yet."""
    sessions = []

    def begin_b(name):
        if name == "a":
            sessions.append(_begin(tracefs, tmp_path, "b"))

    tracefs.before_making = begin_b
    sessions.insert(0, _begin(tracefs, tmp_path, "a"))
    return sessions


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_runs_that_begin_at_once_the_last_puts_the_file_back(tracefs, at_once, order):
    assert tracefs.read(FILE) == "3\n"

    assert _outcome(at_once[order[0]].restore()) is Outcome.SHARED
    assert tracefs.read(FILE) == "3\n"
    assert _outcome(at_once[order[1]].restore()) is Outcome.RESTORED

    assert tracefs.read(FILE) == "7\n"


def test_a_run_that_dies_before_it_sets_what_it_inherits_puts_it_back(tracefs, tmp_path, at_once):
    first, second = at_once
    path = second.journal.path
    kept = path.read_bytes().splitlines(keepends=True)[0]  # as if it had no time for more
    assert _outcome(first.restore()) is Outcome.SHARED
    second.journal.close()
    path.write_bytes(kept)
    (state,) = journals(tmp_path / "state")

    assert _outcome(restore(state, tracefs, Journal.adopt(state))) is Outcome.RESTORED

    assert tracefs.read(FILE) == "7\n"
    tracefs.remove_instance("b")


def test_what_a_run_with_the_same_wish_sets_is_no_drift(tracefs, tmp_path, at_once):
    for session in at_once:
        assert Watcher(session, cpus=()).look() == ()
        session.restore()
    late = [_begin(tracefs, tmp_path, name) for name in ("c", "d")]
    for session in late:
        assert Watcher(session, cpus=()).look() == ()
        session.restore()


def test_what_others_may_wish_too_is_set_by_one_at_a_time(tracefs, tmp_path):
    tried = []

    def try_to_lock(path):
        if path == FILE:
            with (tmp_path / "state/.lock").open("w") as lock, pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            tried.append(path)

    tracefs.before_writing = try_to_lock
    _begin(tracefs, tmp_path, "a").restore()

    assert tried == [FILE, FILE]


def test_a_run_that_cannot_lock_its_state_directory_any_more_is_undone(tracefs, tmp_path):
    tracefs.before_making = lambda name: (tmp_path / "state").chmod(0o777)

    with pytest.raises(KernelLacksError, match="not safe to use") as caught:
        _begin(tracefs, tmp_path, "a")

    assert caught.value.state is State.RESTORED
    assert tracefs.read(FILE) == "7\n"
    assert not tracefs.exists("instances/a")
    assert list((tmp_path / "state").glob("*.journal")) == []


def test_what_somebody_else_sets_meanwhile_stays_for_both(tracefs, tmp_path):
    first, second = (_begin(tracefs, tmp_path, name) for name in ("a", "b"))
    tracefs.write(FILE, "5")

    assert _outcome(first.restore()) is Outcome.SHARED
    assert _outcome(second.restore()) is Outcome.FOREIGN
    assert tracefs.read(FILE) == "5\n"
