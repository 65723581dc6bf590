"""Boots the machines of the chosen tests before the first test runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kernel_requirements import need_kernel
from tests.vm.ahead import Ahead, Job
from tests.vm.machine import missing_tools

if TYPE_CHECKING:
    from tests.vm.machine import Outcome

AHEAD = pytest.StashKey[Ahead]()


def _job(item: pytest.Item) -> Job | None:
    job = getattr(getattr(item, "module", None), "job", None)
    callspec = getattr(item, "callspec", None)
    return job(callspec.params["name"]) if job and callspec else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """A module's function `job` says what to run on the kernel of each of its tests."""
    jobs = dict.fromkeys(job for job in map(_job, session.items) if job)
    if jobs and not session.config.option.collectonly and not missing_tools():
        session.config.stash[AHEAD] = Ahead(list(jobs))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if AHEAD in session.config.stash:
        session.config.stash[AHEAD].end()


@pytest.fixture
def outcome(request: pytest.FixtureRequest, name: str) -> Outcome:
    """What came of the module's job on the kernel `name`."""
    need_kernel(name)
    job = _job(request.node)
    assert job is not None
    return request.config.stash[AHEAD].outcome(job)
