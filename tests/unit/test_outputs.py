import os

import pytest

from trace_recipe.errors import OutputError
from trace_recipe.invoker import find_invoker
from trace_recipe.outputs import open_output_file

INVOKER = find_invoker({})


def test_an_output_gets_its_name_when_it_is_kept(tmp_path):
    output = open_output_file(tmp_path / "o.txt", INVOKER)
    output.stream.write(b"events")

    assert not (tmp_path / "o.txt").exists()
    output.keep()
    assert (tmp_path / "o.txt").read_bytes() == b"events"
    assert [path.name for path in tmp_path.iterdir()] == ["o.txt"]
    assert (tmp_path / "o.txt").stat().st_mode & 0o777 == 0o600


def test_a_dropped_output_leaves_the_earlier_one_as_it_was(tmp_path):
    (tmp_path / "o.txt").write_text("earlier")
    output = open_output_file(tmp_path / "o.txt", INVOKER)
    output.stream.write(b"half")
    output.drop()

    assert (tmp_path / "o.txt").read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["o.txt"]


def _link(path):
    path.symlink_to(path.parent / "victim")


def _dangling(path):
    path.symlink_to("/nonexistent/victim")


KINDS = {
    "a symbolic link": _link,
    "a pipe": os.mkfifo,
    "a directory": os.mkdir,
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_output_replaces_only_regular_files(tmp_path, kind):
    (tmp_path / "victim").write_text("precious")
    KINDS[kind](tmp_path / "o.txt")

    with pytest.raises(OutputError, match=kind):
        open_output_file(tmp_path / "o.txt", INVOKER)

    assert (tmp_path / "victim").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.txt", "victim"]


def test_a_link_to_nowhere_is_refused_too(tmp_path):
    _dangling(tmp_path / "o.txt")

    with pytest.raises(OutputError, match="a symbolic link"):
        open_output_file(tmp_path / "o.txt", INVOKER)


def test_a_device_is_refused():
    with pytest.raises(OutputError):
        open_output_file(__import__("pathlib").Path("/dev/null"), INVOKER)


def test_a_missing_directory_is_named_with_its_fix(tmp_path):
    with pytest.raises(OutputError) as caught:
        open_output_file(tmp_path / "no" / "o.txt", INVOKER)

    assert "make the directory first" in caught.value.problems[0].fix


@pytest.mark.skipif(os.geteuid() != 0, reason="acting as somebody else takes root")
def test_root_writes_only_where_the_invoking_user_may(tmp_path):
    user = find_invoker({"SUDO_UID": "65534", "SUDO_GID": "65534"})
    tmp_path.chmod(0o755)

    with pytest.raises(OutputError, match="Permission denied"):
        open_output_file(tmp_path / "o.txt", user)

    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 65534, 65534)
    for parent in tmp_path.parents:
        if str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    output = open_output_file(tmp_path / "theirs" / "o.txt", user)
    output.keep()
    assert (tmp_path / "theirs" / "o.txt").stat().st_uid == 65534
    assert os.geteuid() == 0
