"""Where the journals of a user's runs are."""

from pathlib import Path

import pytest

from trace_recipe.state_directory import state_directory


@pytest.mark.parametrize(
    ("uid", "environment", "path"),
    [
        (0, {}, "/run/trace-recipe"),
        (0, {"XDG_RUNTIME_DIR": "/tmp"}, "/run/trace-recipe"),
        (1000, {"XDG_RUNTIME_DIR": "/run/mine"}, "/run/mine/trace-recipe"),
        (1000, {"XDG_RUNTIME_DIR": ""}, "/run/user/1000/trace-recipe"),
        (1000, {}, "/run/user/1000/trace-recipe"),
    ],
)
def test_journals_are_roots_or_the_users_own(uid, environment, path):
    assert state_directory(uid, environment) == Path(path)
