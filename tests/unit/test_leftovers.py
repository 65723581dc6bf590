import os
import stat

import pytest

from trace_recipe.invoker import find_invoker
from trace_recipe.journal import Leftovers
from trace_recipe.leftovers import clear_leftovers
from trace_recipe.spool import identity, make_recording_spool, remove_pages

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="acting as somebody else takes root")
USER = find_invoker({"SUDO_UID": "65534", "SUDO_GID": "65534"})


def left_by(directory, **changes):
    fd = os.open(directory, os.O_RDONLY)
    try:
        return Leftovers(**{"spool": str(directory), "spool_identity": identity(fd), **changes})
    finally:
        os.close(fd)


def test_a_spool_without_pages_is_removed_and_one_with_pages_is_kept(tmp_path):
    empty, full = tmp_path / "empty", tmp_path / "full"
    for directory, content in ((empty, b""), (full, b"page")):
        directory.mkdir()
        (directory / "cpu0.raw").write_bytes(content)

    assert clear_leftovers(left_by(empty), tmp_path, "run1") is None
    assert clear_leftovers(left_by(full), tmp_path, "run1") == full
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_another_directory_of_the_spools_name_is_not_touched(tmp_path):
    spool, other = tmp_path / "here" / "spool", tmp_path / "other"
    for directory in (spool, other / "spool"):
        directory.mkdir(parents=True)
        (directory / "precious").write_text("precious")
    leftovers = left_by(spool)
    (tmp_path / "here").rename(tmp_path / "away")
    (tmp_path / "here").symlink_to("other")

    assert clear_leftovers(leftovers, tmp_path, "run1") is None
    assert (other / "spool" / "precious").read_text() == "precious"


@needs_root
def test_an_empty_directory_of_roots_is_not_removed_for_a_user_who_swaps_names(tmp_path):
    for parent in (tmp_path, *tmp_path.parents[:-2]):
        parent.chmod(0o755)
    theirs, roots = tmp_path / "theirs", tmp_path / "roots"
    theirs.mkdir()
    (roots / "run.rec").mkdir(parents=True)
    os.chown(theirs, USER.uid, USER.gid)
    spool = make_recording_spool(theirs / "run.rec", USER)
    spool.is_kept = False
    theirs.rename(tmp_path / "away")
    theirs.symlink_to(roots)

    spool.close(USER)

    assert (roots / "run.rec").is_dir()
    assert list((tmp_path / "away" / "run.rec").iterdir()) == []


@needs_root
def test_a_spool_of_roots_is_removed_from_a_sticky_directory(tmp_path):
    for parent in (tmp_path, *tmp_path.parents[:-2]):
        parent.chmod(0o755)
    tmp_path.chmod(0o777 | stat.S_ISVTX)
    (tmp_path / "spool").mkdir(mode=0o700)
    fd = os.open(tmp_path / "spool", os.O_RDONLY)

    remove_pages(fd, tmp_path / "spool", USER)

    os.close(fd)
    assert list(tmp_path.iterdir()) == []
