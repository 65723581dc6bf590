import os

import pytest

from trace_recipe.errors import OutputError
from trace_recipe.invoker import find_invoker
from trace_recipe.output_folder import LIST_FILE, open_output_folder

INVOKER = find_invoker({})


def write(path, **files):
    folder = open_output_folder(path, INVOKER)
    for name, text in files.items():
        folder.open_file(f"{name}.csv").write(text.encode())
    return folder


def names(path):
    return sorted(one.name for one in path.iterdir())


def test_a_folder_holds_files_by_name(tmp_path):
    write(tmp_path / "events", a="1", b="2").keep()

    assert (tmp_path / "events" / "a.csv").read_bytes() == b"1"
    assert (tmp_path / "events" / "b.csv").read_bytes() == b"2"
    assert names(tmp_path / "events") == [LIST_FILE, "a.csv", "b.csv"]


def test_a_folder_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "events").symlink_to(tmp_path / "real")

    with pytest.raises(OutputError, match="symbolic link"):
        open_output_folder(tmp_path / "events", INVOKER)


def test_files_of_the_run_before_do_not_stay_among_the_new_ones(tmp_path):
    write(tmp_path, a="1", b="1", lost="1").keep()
    write(tmp_path, b="2", c="2").keep()

    assert names(tmp_path) == [LIST_FILE, "b.csv", "c.csv"]
    assert (tmp_path / "b.csv").read_text() == "2"
    write(tmp_path).keep()
    assert names(tmp_path) == [LIST_FILE]


def test_a_run_that_failed_leaves_the_run_before_as_it_was(tmp_path):
    write(tmp_path, a="1", b="1").keep()
    write(tmp_path, b="2").drop()

    assert names(tmp_path) == [LIST_FILE, "a.csv", "b.csv"]
    assert (tmp_path / "b.csv").read_text() == "1"


def test_a_folder_with_anything_else_is_refused_by_name(tmp_path):
    write(tmp_path, a="1").keep()
    (tmp_path / "a.before.csv").write_text("mine")
    (tmp_path / "notes").mkdir()

    with pytest.raises(OutputError) as caught:
        open_output_folder(tmp_path, INVOKER)

    [problem] = caught.value.problems
    assert problem.what.endswith("holds what no run has written: a.before.csv, notes")
    assert problem.fix == "name a new directory, or move them away"
    assert names(tmp_path) == [LIST_FILE, "a.before.csv", "a.csv", "notes"]


def test_what_a_killed_run_left_half_written_is_no_reason_to_refuse(tmp_path):
    killed = write(tmp_path, a="half")
    [left] = [one.part for one in killed.files]
    write(tmp_path, a="whole").keep()

    assert names(tmp_path) == sorted([left, LIST_FILE, "a.csv"])
    killed.drop()


@pytest.mark.parametrize("line", ["../victim", "..", "/etc/passwd", ""])
def test_a_list_names_only_files_of_its_own_directory(tmp_path, line):
    (tmp_path / "victim").write_text("precious")
    events = tmp_path / "events"
    write(events, a="1").keep()
    (events / LIST_FILE).write_text(f"a.csv\n{line}\n")

    write(events, b="2").keep()

    assert (tmp_path / "victim").read_text() == "precious"
    assert names(events) == [LIST_FILE, "b.csv"]


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), os.mkdir])
def test_a_list_that_is_no_file_is_refused_before_anything_is_written(tmp_path, make):
    make(tmp_path / LIST_FILE)

    with pytest.raises(OutputError):
        open_output_folder(tmp_path, INVOKER)


def test_a_file_that_cannot_be_replaced_is_told_and_the_others_are_written(tmp_path):
    write(tmp_path, a="1", b="1", c="1").keep()
    folder = write(tmp_path, b="2", c="2")
    (tmp_path / "a.csv").unlink()
    (tmp_path / "a.csv").mkdir()

    with pytest.raises(OutputError, match=r"cannot remove output '.*a.csv'"):
        folder.keep()

    assert [(tmp_path / f"{name}.csv").read_text() for name in "bc"] == ["2", "2"]
    assert "a.csv" in (tmp_path / LIST_FILE).read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="acting as somebody else takes root")
def test_root_looks_into_a_folder_with_the_rights_of_the_invoking_user(tmp_path):
    user = find_invoker({"SUDO_UID": "65534", "SUDO_GID": "65534"})
    (tmp_path / "events").mkdir(mode=0o700)
    for parent in (tmp_path, *tmp_path.parents):
        if str(parent).startswith("/tmp/"):
            parent.chmod(0o755)

    with pytest.raises(OutputError, match="Permission denied"):
        open_output_folder(tmp_path / "events", user)


def test_a_directory_that_takes_the_name_meanwhile_is_not_touched(tmp_path):
    write(tmp_path / "events", precious="1").keep()
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "precious.csv").write_text("precious")
    folder = open_output_folder(tmp_path / "events", INVOKER)
    (tmp_path / "events").rename(tmp_path / "away")
    (tmp_path / "events").symlink_to("victim")
    folder.open_file("new.csv").write(b"rows")
    folder.keep()
    folder.drop()

    assert [path.name for path in (tmp_path / "victim").iterdir()] == ["precious.csv"]
    assert (tmp_path / "victim" / "precious.csv").read_text() == "precious"
    assert sorted(path.name for path in (tmp_path / "away").iterdir()) == [LIST_FILE, "new.csv"]


@pytest.mark.parametrize(
    ("readers", "folder_mode", "mode"),
    [("owner", 0o700, 0o600), ("group", 0o750, 0o640), ("everyone", 0o755, 0o644)],
)
def test_who_may_read_the_files_may_list_the_directory(tmp_path, readers, folder_mode, mode):
    events = tmp_path / "events"
    folder = open_output_folder(events, INVOKER, readable_by=readers)
    folder.open_file("a.csv")
    folder.keep()
    folder.drop()

    assert events.stat().st_mode & 0o777 == folder_mode
    assert {one.stat().st_mode & 0o777 for one in events.iterdir()} == {mode}
