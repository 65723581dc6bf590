import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from trace_recipe.errors import OutputError
from trace_recipe.invoker import find_invoker
from trace_recipe.outputs import make_folder, open_output_file, refuse_to_replace

INVOKER = find_invoker({})
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="acting as somebody else takes root")


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
        open_output_file(Path("/dev/null"), INVOKER)


def test_a_missing_directory_is_named_with_its_fix(tmp_path):
    with pytest.raises(OutputError) as caught:
        open_output_file(tmp_path / "no" / "o.txt", INVOKER)

    assert "make the directory first" in caught.value.problems[0].fix


@needs_root
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


def _socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def _device(path):
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))


@pytest.mark.parametrize(("kind", "make"), [("a socket", _socket), ("a device", _device)])
def test_an_output_takes_the_place_of_nothing_that_acts(tmp_path, kind, make):
    try:
        make(tmp_path / "o.txt")
    except PermissionError:
        pytest.skip(f"{kind} cannot be made here")

    with pytest.raises(OutputError, match=kind):
        open_output_file(tmp_path / "o.txt", INVOKER)


def test_the_other_names_of_a_file_keep_what_they_had(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "o.txt").hardlink_to(tmp_path / "precious")
    output = open_output_file(tmp_path / "o.txt", INVOKER)
    output.stream.write(b"events")
    output.keep()

    assert (tmp_path / "o.txt").read_text() == "events"
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("make", [_link, _dangling, os.mkfifo])
def test_what_appears_in_the_place_of_an_output_meanwhile_is_replaced_not_followed(tmp_path, make):
    (tmp_path / "victim").write_text("precious")
    output = open_output_file(tmp_path / "o.txt", INVOKER)
    make(tmp_path / "o.txt")
    output.stream.write(b"events")
    output.keep()

    assert not (tmp_path / "o.txt").is_symlink()
    assert (tmp_path / "o.txt").read_text() == "events"
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize(
    "path", ["/proc/self/mem", "/proc/self/fd/1", "/proc/sys/kernel/panic", "/dev/new", "/sys/new"]
)
@pytest.mark.parametrize("make", [open_output_file, make_folder])
def test_what_the_kernel_makes_of_files_is_no_place_for_outputs(path, make):
    with pytest.raises(OutputError, match="no place for files"):
        make(Path(path), INVOKER)
    assert not Path("/dev/new").exists()


@pytest.mark.parametrize("path", [".", "..", "/"])
def test_a_directory_without_a_name_of_its_own_is_no_output(path):
    with pytest.raises(OutputError, match="a directory"):
        open_output_file(Path(path), INVOKER)


def test_what_a_run_is_made_from_is_not_replaced(tmp_path):
    recipe, other = tmp_path / "recipe.yaml", tmp_path / "other.txt"
    recipe.write_text("recipe: v1\n")
    other.write_text("an earlier output\n")

    with pytest.raises(OutputError, match="is the recipe"):
        refuse_to_replace(tmp_path / "." / "recipe.yaml", [str(recipe)], INVOKER)
    refuse_to_replace(other, [str(recipe), "missing.yaml"], INVOKER)
    refuse_to_replace(tmp_path / "new.txt", [str(recipe)], INVOKER)


def test_the_mode_is_private_whatever_the_umask_says(tmp_path):
    old = os.umask(0)
    try:
        open_output_file(tmp_path / "o.txt", INVOKER).keep()
    finally:
        os.umask(old)

    assert (tmp_path / "o.txt").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("readers", "mode"), [("owner", 0o600), ("group", 0o640), ("everyone", 0o644)]
)
def test_who_may_read_it_is_asked_for_whatever_the_umask_says(tmp_path, readers, mode):
    old = os.umask(0o077)
    try:
        open_output_file(tmp_path / "o.txt", INVOKER, readable_by=readers).keep()
    finally:
        os.umask(old)

    assert (tmp_path / "o.txt").stat().st_mode & 0o777 == mode


@pytest.fixture
def theirs():
    """A directory that user 1234 owns, which others can get to."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        home = Path(name) / "home"
        home.mkdir()
        os.chown(home, 1234, 1234)
        yield home


@needs_root
@pytest.mark.parametrize("target", ["/etc/passwd", "/etc/shadow", "/root/o.txt", "/etc/cron.d/o"])
def test_under_sudo_nothing_of_roots_is_replaced_or_made(theirs, target):
    user = find_invoker({"SUDO_UID": "1234", "SUDO_GID": "1234"})
    before = Path(target).read_bytes() if Path(target).exists() else None

    with pytest.raises(OutputError, match=r"Permission denied|No such file"):
        open_output_file(Path(target), user)

    assert (Path(target).read_bytes() if Path(target).exists() else None) == before


@needs_root
def test_under_sudo_a_link_on_the_way_opens_no_door(theirs):
    user = find_invoker({"SUDO_UID": "1234", "SUDO_GID": "1234"})
    (theirs / "etc").symlink_to("/etc")
    (theirs / "passwd").symlink_to("/etc/passwd")
    (theirs / "root").symlink_to("/root")

    for path in ("etc/o.txt", "etc/passwd", "passwd", "root/o.txt"):
        with pytest.raises(OutputError):
            open_output_file(theirs / path, user)
    assert not Path("/etc/o.txt").exists()


@needs_root
def test_under_sudo_a_hard_link_to_a_file_of_roots_stays(theirs):
    user = find_invoker({"SUDO_UID": "1234", "SUDO_GID": "1234"})
    of_root = theirs.parent / "of-root"
    of_root.write_text("precious")
    of_root.chmod(0o644)
    (theirs / "o.txt").hardlink_to(of_root)

    with pytest.raises(OutputError, match="Permission denied"):
        open_output_file(theirs / "o.txt", user)

    assert of_root.read_text() == "precious"


@needs_root
def test_what_a_sticky_directory_keeps_for_its_owner_is_refused_before_it_is_written(theirs):
    taken = theirs.parent / "taken.txt"
    theirs.parent.chmod(0o777 | stat.S_ISVTX)
    taken.write_text("somebody else's")
    taken.chmod(0o666)
    user = find_invoker({"SUDO_UID": "65534", "SUDO_GID": "65534"})

    with pytest.raises(OutputError, match="Operation not permitted"):
        open_output_file(taken, user)
