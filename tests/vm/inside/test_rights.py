"""A user who is not root runs a recipe with just the rights that the doctor's commands give."""

import contextlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from trace_recipe.executor import apply
from trace_recipe.plan import Plan, Scope, SetFile
from trace_recipe.state_directory import state_directory
from trace_recipe.tracefs import Tracefs

TRACEFS = Path("/sys/kernel/tracing")
USER = 65534
RECIPE = """
recipe: v1
name: mine
events: [{event: sched:sched_process_exec, filter: pid > 0}, "syscalls:sys_enter_getpp*"]
scope: {pids: [command], follow: true}
markers: {start: it begins}
options: {stacktrace: false}
run: {command: [/bin/true]}
outputs: [{text: mine.txt}, {jsonl: mine.jsonl}]
"""
TOP = """
recipe: v1
name: top
events: [sched:sched_process_exec]
instance: top
duration: 100ms
outputs: [{text: top.txt}]
"""
ENABLE = "events/sched/sched_process_exec/enable"
ROOTS = Plan(
    "of-root", "r.yaml", "top", "",
    (SetFile(ENABLE, ENABLE, None, "1", "1", Scope.SHARED, None, ""),),
)  # fmt: skip


def _rights():
    """Return owner, group and mode of everything in tracefs."""
    found = {}
    for directory, names, files in os.walk(TRACEFS):
        for name in ("", *names, *files):
            path = os.path.normpath(os.path.join(directory, name))
            found[path] = _right(path)
    return found


def _right(path):
    status = os.lstat(path)
    return status.st_uid, status.st_gid, status.st_mode & 0o7777


@pytest.fixture(scope="module")
def rights():
    """Return everything's rights, and see at the end that they are those again."""
    before = _rights()
    yield before
    assert _rights() == before


@pytest.fixture
def mine(cli, recipe, rights):
    """Give the directory to the user."""
    for one in (cli.directory, *cli.directory.parents[:2]):
        one.chmod(0o755)
    os.chown(cli.directory, USER, USER)
    return recipe(RECIPE)


def _as_user(cli, *words):
    """Run the command line in a process that has no right of root's."""
    told = cli.directory / ".told"
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(USER, USER, USER)
            os.setresuid(USER, USER, USER)
            done = cli(*words)
            told.write_text(json.dumps([done.returncode, done.stderr]))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return json.loads(told.read_text())


def _doctor(cli, path):
    return json.loads(cli("doctor", "--for", str(path), "--user", "nobody", "--json").stdout)


@contextlib.contextmanager
def _granted(told, rights):
    """Run the commands, give the files that have changed, and then everything its rights back."""
    subprocess.run(["sh", "-ec", "\n".join(told["commands"])], check=True)
    changed = {}
    for one in told["files"]:
        name = os.path.normpath(TRACEFS / one["file"])
        if name in rights and _right(name) != rights[name]:
            changed[one["file"]] = name
    try:
        yield set(changed)
    finally:
        for name in changed.values():
            uid, gid, mode = rights[name]
            os.chown(name, uid, gid)
            os.chmod(name, mode)


def test_the_commands_of_the_doctor_are_enough(cli, mine, rights):
    status, err = _as_user(cli, "run", str(mine))
    told = _doctor(cli, mine)
    lacking = {one["file"] for one in told["files"] if one["error"] == "EACCES"}
    instances = set(os.listdir(TRACEFS / "instances"))

    assert status == 3
    assert "sudo trace-recipe doctor --for RECIPE" in err
    assert err.endswith("  state: untouched\n")
    assert {".", "instances", "events/sched/sched_process_exec/format"} <= lacking
    with _granted(told, rights) as changed:
        # From Linux 6.9 on files that never had a group follow that of the mount's directory.
        assert lacking <= changed
        status, err = _as_user(cli, "run", str(mine))
    assert status == 0, err
    assert "; restored " in err
    text = (cli.directory / "mine.txt").read_text()
    assert "it begins" in text
    assert "true" in text
    assert (cli.directory / "mine.jsonl").stat().st_uid == USER
    assert set(os.listdir(TRACEFS / "instances")) == instances
    assert os.listdir(cli.state) == [".lock"]


def test_a_group_for_the_mount_gives_reading_and_one_right_too_few_is_refused(cli, mine, rights):
    remount = ["mount", "-o", f"remount,gid={USER},mode=0750", str(TRACEFS)]
    subprocess.run(remount, check=True)
    told = _doctor(cli, mine)
    with _granted(told, rights):
        (TRACEFS / "saved_cmdlines").chmod(0o400)
        refused, words = _as_user(cli, "run", str(mine))
        (TRACEFS / "saved_cmdlines").chmod(0o440)
        status, err = _as_user(cli, "run", str(mine))
    subprocess.run(["mount", "-o", "remount,gid=0,mode=0700", str(TRACEFS)], check=True)

    assert told["commands"] == [f"cd {TRACEFS}", "chown nobody instances"]
    assert refused == 3
    assert "nobody lacks rights on 1 files of tracefs: saved_cmdlines (read)" in words
    assert words.endswith("  state: untouched\n")
    assert status == 0, err


def test_the_top_level_takes_rights_to_write_its_files_and_no_instance(cli, mine, recipe, rights):
    path = recipe(TOP, "top.yaml")
    told = _doctor(cli, path)
    with _granted(told, rights):
        status, err = _as_user(cli, "run", str(path), "--allow-shared")
        roots = apply(
            ROOTS, Tracefs(), run_id="roots", state_directory=state_directory(0, {}), bindings={}
        )
        refused, words = _as_user(cli, "run", str(path), "--allow-shared")
        roots.restore()

    assert refused == 3, words
    assert f"'{ENABLE}' is in use by a run of root, of 'of-root'" in words
    assert words.endswith("  state: untouched\n")
    assert list(Path("/run/trace-recipe-claims").iterdir()) == []
    access = {one["file"]: one["access"] for one in told["files"]}
    assert access["tracing_on"] == access[ENABLE] == "write"
    assert access["instances"] == "list"
    assert status == 0, err
    assert "; restored " in err
    assert (TRACEFS / ENABLE).read_text() == "0\n"
