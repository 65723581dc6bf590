"""Which files a run needs, what a user lacks of them, and the commands that give it."""

import os
from dataclasses import replace

import pytest

from trace_recipe.errors import KernelLacksError
from trace_recipe.invoker import Invoker
from trace_recipe.needed_files import (
    NeededFile,
    grants,
    look_at_files,
    needed_files,
    refuse_lacking,
)
from trace_recipe.plan import HoldFile, MakeInstance, Plan, Scope, SetFile
from trace_recipe.tracefs import Access, NotingTracefs, Tracefs

OWN = "instances/i/"
OTHER = Invoker(4711, 4711, "4711", "/", (4711,))


@pytest.fixture
def tree(tmp_path):
    """Make a directory that looks like tracefs, as root's with root's modes."""
    for directory in ("instances", "per_cpu/cpu0", "events/ftrace/print", "events/a/b", "events/c"):
        (tmp_path / directory).mkdir(parents=True)
    for file in (
        *("events/ftrace/print/format", "events/a/b/format", "events/a/b/enable"),
        *("saved_cmdlines", "trace_clock", "tracing_thresh", "trace_marker", "buffer_size_kb"),
    ):
        (tmp_path / file).write_text("")
    for path in sorted(tmp_path.rglob("*")):
        path.chmod(0o750 if path.is_dir() else 0o640)
    (tmp_path / "trace_marker").chmod(0o220)
    tmp_path.chmod(0o700)
    return tmp_path


def plan(*steps, kind="private", instance="i", events=(), tracer="nop") -> Plan:
    return Plan("a", "a.yaml", kind, instance, tuple(steps), events=events, tracer=tracer)


def set_file(file: str, *also: str) -> SetFile:
    name = file.removeprefix(OWN)
    return SetFile(file, name, None, "1", "1", Scope.PRIVATE, None, "", also=also)


MADE = plan(
    MakeInstance("i", None),
    set_file(f"{OWN}trace_clock"),
    set_file("tracing_thresh"),
    set_file(f"{OWN}tracing_on", "buffer_size_kb"),
    events=("a:b",),
)


def test_what_a_trigger_changes_later_is_written_to_be_put_back(tree):
    trigger = replace(set_file("instances/theirs/events/a/b/trigger"), later=("events/a/b/enable",))
    made = plan(trigger, kind="named", instance="theirs")

    found = {one.file: one.access for one in needed_files(made, Tracefs(tree), {})}

    assert found["events/a/b/enable"] is Access.WRITE


def test_what_is_needed_comes_from_the_plan_from_what_was_read_and_from_what_recording_reads(tree):
    found = {
        one.file: one.access for one in needed_files(MADE, Tracefs(tree), {"README": Access.READ})
    }

    top = {file: access for file, access in found.items() if not file.startswith(OWN)}
    assert top == {
        ".": Access.ENTER,
        "README": Access.READ,
        "instances": Access.OWN,
        "tracing_thresh": Access.WRITE,
        "buffer_size_kb": Access.READ,
        "per_cpu": Access.LIST,
        "saved_cmdlines": Access.READ,
        "events": Access.ENTER,
        "events/a": Access.ENTER,
        "events/a/b": Access.ENTER,
        "events/a/b/format": Access.READ,
        "events/ftrace": Access.LIST,
        "events/ftrace/print": Access.ENTER,
        "events/ftrace/print/format": Access.READ,
    }
    assert found[f"{OWN}trace_clock"] is Access.WRITE
    assert found[f"{OWN}per_cpu/cpu0/trace_pipe_raw"] is Access.READ
    assert f"{OWN}trace_marker" not in found


def test_markers_latency_and_a_held_buffer_take_their_files(tree):
    made = plan(
        MakeInstance("i", None),
        HoldFile(f"{OWN}free_buffer", "free_buffer", None, ""),
        tracer="irqsoff",
    )
    found = needed_files(made, Tracefs(tree), {}, writes_markers=True)

    accesses = {one.file: one.access for one in found}
    assert accesses[f"{OWN}trace_marker"] is Access.WRITE
    assert accesses[f"{OWN}free_buffer"] is Access.WRITE
    assert accesses[f"{OWN}tracing_max_latency"] is Access.READ


@pytest.mark.parametrize("kind", ["named", "top"])
def test_where_no_instance_is_made_nobody_has_to_own_any(tree, kind):
    instance = "i" if kind == "named" else ""
    made = plan(set_file(f"{OWN if instance else ''}trace_clock"), kind=kind, instance=instance)
    found = {one.file: one for one in needed_files(made, Tracefs(tree), {})}

    assert "instances" not in found or found["instances"].access is Access.ENTER
    prefix = OWN if instance else ""
    assert found[f"{prefix}trace_clock"].stand_in == f"{prefix}trace_clock"


def test_root_lacks_nothing(tree):
    root = Invoker(0, 0, "root", "/root", (0,))
    needs = needed_files(MADE, Tracefs(tree), {})

    assert [one for one in look_at_files(Tracefs(tree), needs, root) if one.error] == []


def test_the_files_of_an_instance_to_come_belong_to_who_may_make_it(tree):
    needs = needed_files(MADE, Tracefs(tree), {})
    lacking = [one.file for one in look_at_files(Tracefs(tree), needs, OTHER) if one.error]

    assert "instances" in lacking
    assert "saved_cmdlines" in lacking
    assert not any(file.startswith(OWN) for file in lacking)


@pytest.mark.skipif(os.geteuid() != 0, reason="it takes root to give files away")
def test_the_commands_give_just_what_is_lacking(tree):
    tracefs = Tracefs(tree)
    needs = needed_files(MADE, tracefs, {"trace_clock": Access.READ})
    looked = look_at_files(tracefs, needs, OTHER)
    before = {path: path.stat() for path in (tree, *tree.rglob("*"))}

    commands = grants(tracefs, looked, OTHER)
    assert os.system("set -e; " + "; ".join(commands)) == 0
    assert all(not one.error for one in look_at_files(tracefs, needs, OTHER))
    assert grants(tracefs, look_at_files(tracefs, needs, OTHER), OTHER) == []
    lacking = {one.file for one in looked if one.error}
    changed = {
        str(path.relative_to(tree))
        for path, then in before.items()
        if (now := path.stat())
        and (now.st_uid, now.st_gid, now.st_mode) != (then.st_uid, then.st_gid, then.st_mode)
    }
    assert changed == lacking
    assert (tree / "instances").stat().st_uid == OTHER.uid
    assert (tree / "saved_cmdlines").stat().st_mode & 0o777 == 0o640
    assert (tree / "tracing_thresh").stat().st_mode & 0o777 == 0o660
    assert tree.stat().st_mode & 0o777 == 0o710


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "access", "error"),
    [
        (0o640, 4711, 0, Access.WRITE, ""),
        (0o440, 4711, 0, Access.WRITE, "EACCES"),
        (0o640, 0, 4711, Access.READ, ""),
        (0o640, 0, 4711, Access.WRITE, "EACCES"),
        (0o660, 0, 4711, Access.WRITE, ""),
        (0o604, 0, 0, Access.READ, ""),
        (0o604, 0, 4711, Access.READ, "EACCES"),  # the group's bits count for who is in it
        (0o220, 0, 4711, Access.WRITE, ""),  # trace_marker is not read
        (0o777, 0, 4711, Access.OWN, "EACCES"),  # what is made there would be root's
        (0o700, 4711, 0, Access.OWN, ""),
    ],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="it takes root to give files away")
def test_the_mode_decides(tmp_path, mode, uid, gid, access, error):
    path = tmp_path / "file"
    path.write_text("")
    os.chown(path, uid, gid)
    path.chmod(mode)

    [found] = look_at_files(Tracefs(tmp_path), [NeededFile("file", "file", access)], OTHER)
    assert found.error == error


def test_a_long_list_of_directories_becomes_a_glob(tree):
    for name in "defgh":
        (tree / "events" / name).mkdir()
    every = sorted(path.name for path in (tree / "events").iterdir())
    files = [NeededFile(f"events/{one}", "", Access.LIST, error="EACCES") for one in every]
    tracefs = Tracefs(tree)

    assert f"chgrp {OTHER.gid} events/*/" in grants(tracefs, files, OTHER)
    assert not any("*" in line for line in grants(tracefs, files[1:], OTHER))


def test_what_is_lacking_is_refused_with_the_command_that_tells_more(tree):
    needs = [NeededFile(f"f{number}", f"f{number}", Access.READ) for number in range(9)]

    with pytest.raises(KernelLacksError) as refused:
        refuse_lacking(Tracefs(tree), needs, OTHER)
    [problem] = refused.value.problems
    assert problem.what.startswith("4711 lacks rights on 9 files of tracefs: f0 (read), f1 (read)")
    assert problem.what.endswith("f7 (read) and 1 others")
    assert "sudo trace-recipe doctor --for RECIPE" in problem.fix
    refuse_lacking(Tracefs(tree), [], OTHER)


def test_what_is_not_there_is_told_unless_it_may_be_in_instances_only(tree):
    needs = [
        NeededFile("gone", "gone", Access.WRITE),
        NeededFile(f"{OWN}only-there", "only-there", Access.WRITE),
    ]

    assert [one.error for one in look_at_files(Tracefs(tree), needs, OTHER)] == ["ENOENT", ""]


def test_a_needed_file_as_json_says_which_access_and_whether_it_works():
    assert NeededFile("a", "a", Access.WRITE, error="EPERM").as_json() == {
        "file": "a",
        "access": "write",
        "ok": False,
        "error": "EPERM",
    }


def test_what_is_read_is_noted_but_not_in_instances(tree):
    (tree / "instances" / "theirs").mkdir()
    (tree / "instances" / "theirs" / "trace_clock").write_text("")
    tracefs = NotingTracefs(tree)
    tracefs.read("trace_clock")
    tracefs.instance("theirs").read("trace_clock")
    tracefs.read("instances/theirs/trace_clock")
    tracefs.list()
    tracefs.list("instances")
    assert tracefs.event_names() == ("a:b", "ftrace:print")

    assert tracefs.noted == {
        "trace_clock": Access.READ,
        ".": Access.LIST,
        "instances": Access.LIST,
        **dict.fromkeys(("events", "events/a", "events/c", "events/ftrace"), Access.LIST),
    }
