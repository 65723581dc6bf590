"""Where the journals of a user's runs are."""

import os
from pathlib import Path

import pytest

from trace_recipe.state_directory import command_line, state_directory


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


def test_what_to_type_names_another_directory_than_the_default_one(tmp_path, monkeypatch):
    default = state_directory(os.geteuid(), os.environ)
    other = tmp_path / "with blank"
    other.mkdir()

    assert command_line("recover", default, "c0ffee") == "trace-recipe recover c0ffee"
    assert command_line("status", default) == "trace-recipe status"
    told = f"trace-recipe recover c0ffee --state-dir '{other}'"
    assert command_line("recover", other, "c0ffee") == told
    monkeypatch.chdir(tmp_path)
    assert command_line("recover", Path("with blank"), "c0ffee") == told
