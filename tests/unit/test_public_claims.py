"""What root's runs tell users about the files of the whole machine, and what users make of it."""

import json
import os
from pathlib import Path

import pytest

from tests.fake_tracefs import FakeTracefs
from trace_recipe import executor, public_claims, restorer
from trace_recipe.errors import InstanceBusyError, RestoreError
from trace_recipe.executor import apply
from trace_recipe.invoker import Invoker, acting_as
from trace_recipe.journal import Intent, Journal, journals
from trace_recipe.plan import MakeInstance, Plan, Scope, SetFile
from trace_recipe.public_claims import PublicClaim, claims_of_root
from trace_recipe.restorer import restore

FILE = "max_graph_depth"
ROOTS = (PublicClaim("theirs", frozenset({FILE})),)
USER = Invoker(65534, 65534, "nobody", "/", ())
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="it takes root to act as somebody else")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where root publishes, and a state directory that is root's own."""
    for one in (tmp_path, *tmp_path.parents[:2]):
        one.chmod(0o755)
    state = tmp_path / "state"
    monkeypatch.setattr(public_claims, "state_directory", lambda uid, environment: state)
    monkeypatch.setattr(public_claims, "_PLACE", tmp_path / "claims")
    return tmp_path / "claims"


def _seen() -> tuple[PublicClaim, ...]:
    with acting_as(USER):
        return claims_of_root()


def _begin(directory: Path, **changes: object) -> Journal:
    values: dict[str, object] = {
        "run_id": "0123456789ab", "recipe": "theirs", "recipe_path": "r", "mount": "/m",
        "instance": "trace-recipe-theirs-0123456789ab", "makes_instance": True, "inode": None,
        "before": {},
        "claims": {"instances/trace-recipe-theirs-0123456789ab": None, FILE: "3"},
    }  # fmt: skip
    return Journal.begin(directory, Intent(**{**values, **changes}))  # type: ignore[arg-type]


@needs_root
@pytest.mark.parametrize("end", [Journal.discard, Journal.archive])
def test_users_see_what_a_run_of_root_has_as_long_as_it_has_a_journal(place, tmp_path, end):
    umask = os.umask(0o077)
    try:
        journal = _begin(tmp_path / "state")
    finally:
        os.umask(umask)
    seen = _seen()
    names = [path.name for path in place.iterdir()]
    end(journal)

    assert seen == ROOTS
    assert not any("0123456789ab" in name for name in names)
    assert _seen() == ()
    assert list(place.iterdir()) == []


@needs_root
def test_a_run_that_shares_nothing_or_keeps_its_journal_elsewhere_tells_nobody(place, tmp_path):
    own = {"instances/trace-recipe-theirs-0123456789ab": None}
    _begin(tmp_path / "state", claims=own).discard()
    _begin(tmp_path / "elsewhere").discard()

    assert not place.exists()


@needs_root
def test_what_users_could_have_written_is_not_believed_and_nothing_there_is_followed(
    place, tmp_path
):
    place.mkdir()
    (place / "one").write_text(json.dumps({"recipe": "forged", "files": [FILE]}))
    (place / "half").write_text('{"recipe": "hal')
    assert [one.recipe for one in _seen()] == ["forged"]
    for owner, mode in ((65534, 0o755), (0, 0o777), (0, 0o775)):
        os.chown(place, owner, 0)
        place.chmod(mode)
        assert _seen() == ()
    os.chown(place, 0, 0)
    (place / "one").unlink()
    place.chmod(0o555)
    assert claims_of_root() == ()  # root has its journals


@pytest.fixture
def tracefs(tmp_path):
    made = FakeTracefs(tmp_path / "tracing")
    made.write(FILE, "7")
    return made


def _apply(tracefs, tmp_path):
    own = "instances/mine/"
    steps = (
        MakeInstance("mine", None),
        SetFile(f"{own}tracing_on", "tracing_on", "1", "0", "0", Scope.PRIVATE, None, ""),
        SetFile(FILE, FILE, None, "3", "3", Scope.SHARED, None, "tracer.max_graph_depth"),
    )
    plan = Plan("mine", "mine.yaml", "private", "mine", steps)
    return apply(plan, tracefs, run_id="mine", state_directory=tmp_path / "state", bindings={})


def test_a_user_is_refused_what_a_run_of_root_has(tracefs, tmp_path, monkeypatch):
    monkeypatch.setattr(executor, "claims_of_root", lambda: ROOTS)

    with pytest.raises(InstanceBusyError, match="'max_graph_depth' is in use by a run of root"):
        _apply(tracefs, tmp_path)

    assert tracefs.read(FILE) == "7\n"
    assert list(journals(tmp_path / "state")) == []


def test_a_user_whom_root_overtook_puts_back_when_root_is_done(tracefs, tmp_path, monkeypatch):
    session = _apply(tracefs, tmp_path)
    monkeypatch.setattr(restorer, "claims_of_root", lambda: ROOTS)
    tracefs.write(FILE, "4")

    with pytest.raises(RestoreError) as refused:
        session.restore()
    tracefs.write(FILE, "3")
    monkeypatch.setattr(restorer, "claims_of_root", lambda: ())
    (state,) = journals(tmp_path / "state")
    restore(state, tracefs, Journal.adopt(state))

    [problem] = refused.value.problems
    assert problem.why == "a run of root, of 'theirs', uses it too and has to end first"
    assert "trace-recipe recover mine" in problem.fix
    assert tracefs.read(FILE) == "7\n"
    assert list(journals(tmp_path / "state")) == []
