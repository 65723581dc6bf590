"""What a run must not take for its own, and what it must: on the real tracefs."""

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.requirements import need_two_cpus
from tests.tracefs_tree import differences, snapshot
from trace_recipe.errors import ApplyError, KernelLacksError, RestoreError, State
from trace_recipe.executor import apply
from trace_recipe.journal import Journal, journals, read_journal
from trace_recipe.plan import MakeInstance, Plan, Scope, SetFile
from trace_recipe.receipt import Outcome
from trace_recipe.recorder import parse_stats
from trace_recipe.restorer import restore
from trace_recipe.tracefs import Tracefs

pytestmark = pytest.mark.tracefs

MOUNT = Path("/sys/kernel/tracing")


def _write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


@pytest.fixture
def instance():
    """An instance of somebody else."""
    path = MOUNT / "instances" / f"tr-test-review-{os.getpid()}"
    path.mkdir()
    yield path
    if path.exists():
        path.rmdir()


def _set(instance: str, name: str, text: str, **more: object) -> SetFile:
    file = f"instances/{instance}/{name}"
    return SetFile(file, name, None, text, text, Scope.SHARED, None, "", **more)  # type: ignore[arg-type]


def _plan(instance: str, *steps: MakeInstance | SetFile) -> Plan:
    return Plan("review", "review.yaml", "named", instance, steps)


def _apply(plan: Plan, directory: Path, run_id: str = "run1"):
    tracefs = Tracefs(MOUNT)
    return apply(plan, tracefs, run_id=run_id, state_directory=directory, bindings={})


def test_an_instance_that_somebody_made_in_between_is_not_touched(untouched, instance, tmp_path):
    _write(instance / "events/sched/sched_switch/enable", "1")
    plan = _plan(instance.name, MakeInstance(instance.name, None))

    with pytest.raises(KernelLacksError, match="appeared meanwhile"):
        _apply(plan, tmp_path)

    assert instance.exists()
    assert (instance / "tracing_on").read_text() == "1\n"
    assert (instance / "events/sched/sched_switch/enable").read_text() == "1\n"
    assert list(journals(tmp_path)) == []


def test_a_journal_that_cannot_be_written_undoes_what_was_done(tmp_path, untouched, monkeypatch):
    name = f"tr-test-made-{os.getpid()}"

    def full(self: Journal, file: str) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Journal, "intend", full)
    plan = _plan(name, MakeInstance(name, None), _set(name, "tracing_on", "0"))

    with pytest.raises(ApplyError, match=r"cannot write the journal .*No space left") as caught:
        _apply(plan, tmp_path)

    assert caught.value.state is State.RESTORED
    assert not (MOUNT / "instances" / name).exists()
    assert list(journals(tmp_path)) == []


def test_a_side_file_that_somebody_changed_before_our_write_stays_theirs(
    untouched, instance, tmp_path
):
    also = f"instances/{instance.name}/buffer_percent"
    start = _set(instance.name, "tracing_on", "0", also=(also,), starts=True)
    session = _apply(_plan(instance.name, start), tmp_path)
    _write(instance / "buffer_percent", "77")

    session.start()
    session.restore()

    assert (instance / "buffer_percent").read_text() == "77\n"
    assert (instance / "tracing_on").read_text() == "1\n"


def test_sizes_that_differ_by_cpu_come_back_after_one_for_all(untouched, instance, tmp_path):
    need_two_cpus()
    one, other = (instance / f"per_cpu/cpu{cpu}/buffer_size_kb" for cpu in range(2))
    _write(one, "55")
    before = snapshot()
    also = [f"instances/{instance.name}/per_cpu/cpu{cpu}/buffer_size_kb" for cpu in range(2)]
    step = _set(instance.name, "buffer_size_kb", "300", also=tuple(also))
    session = _apply(_plan(instance.name, step), tmp_path)
    assert one.read_text() == other.read_text() != "55\n"

    receipt = session.restore()

    assert {line.outcome for line in receipt.lines} == {Outcome.RESTORED}
    assert differences(before, snapshot()) == {}


def test_a_file_that_came_back_with_others_is_nobody_elses(untouched, instance, tmp_path):
    need_two_cpus()
    also = [f"instances/{instance.name}/per_cpu/cpu{cpu}/buffer_size_kb" for cpu in range(2)]
    step = _set(instance.name, "buffer_size_kb", "300", also=tuple(also))
    session = _apply(_plan(instance.name, step), tmp_path)
    session.journal.restoring(also[0])  # a first restore was killed behind this write
    _write(instance / "per_cpu/cpu0/buffer_size_kb", "1408")
    assert (instance / "buffer_size_kb").read_text() == "X\n"

    receipt = session.restore()

    assert {line.outcome for line in receipt.lines} == {Outcome.RESTORED}


NAMED = """
recipe: v1
name: {name}
instance: {instance}
events: ["sched:sched_switch"]
buffer: {{watermark: {watermark}}}
{ends}
outputs: [{{text: {name}.txt}}]
"""


def _named(instance: Path, name: str, ends: str = "duration: 600s", watermark: int = 20) -> str:
    return NAMED.format(name=name, instance=instance.name, ends=ends, watermark=watermark)


def _wait_for(is_so, running: subprocess.Popen[str]) -> None:
    ends_at = time.monotonic() + 30
    while not is_so():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < ends_at
        time.sleep(0.02)


def _is_recording(instance: Path) -> bool:
    on = (instance / "tracing_on").read_text() == "1\n"
    return on and (instance / "events/sched/sched_switch/enable").read_text() == "1\n"


def test_two_runs_do_not_share_an_instance(untouched, cli, recipe, instance):
    first = recipe(_named(instance, "first"), "first.yaml")
    second = recipe(_named(instance, "second", "duration: 100ms", watermark=30), "second.yaml")
    running = cli.start("run", str(first))
    _wait_for(lambda: _is_recording(instance), running)

    done = cli("run", str(second))
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)

    assert done.returncode == 3, done.stderr
    assert "in use by run" in done.stderr
    assert "state: untouched" in done.stderr
    assert running.returncode == 130, err


def test_what_a_killed_run_left_is_not_taken_for_the_state_to_restore(
    untouched, cli, recipe, instance
):
    first = recipe(_named(instance, "first"), "first.yaml")
    second = recipe(_named(instance, "second", "duration: 100ms", watermark=30), "second.yaml")
    running = cli.start("run", str(first))
    _wait_for(lambda: _is_recording(instance), running)
    cli.kill(running, with_guardian=True)

    refused = cli("run", str(second))
    told = re.search(r"fix: put it back first: trace-recipe (.*)", refused.stderr)[1]
    recovered = subprocess.run(
        [*cli.command("recover")[:3], *shlex.split(told)],
        env=cli.environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    done = cli("run", str(second))

    assert refused.returncode == 3, refused.stderr
    assert recovered.returncode == 0, recovered.stderr
    assert done.returncode == 0, done.stderr


def test_children_that_event_fork_added_are_taken_out_again(untouched, cli, recipe, instance):
    ends = (
        "scope: {pids: [command], follow: true}\n"
        "run: {command: [/bin/sh, -c, 'sleep 8 >/dev/null 2>&1 & sleep 0.3']}"
    )

    done = cli("run", str(recipe(_named(instance, "forks", ends))))

    assert done.returncode == 0, done.stderr
    assert (instance / "set_event_pid").read_text() == ""


def test_counts_leave_out_what_was_in_the_instance_before(untouched, cli, recipe, instance):
    _write(instance / "buffer_size_kb", "8")
    _write(instance / "events/raw_syscalls/sys_enter/enable", "1")
    for _ in range(2000):
        os.getppid()
    _write(instance / "events/raw_syscalls/sys_enter/enable", "0")
    stats = [path.read_text() for path in instance.glob("per_cpu/*/stats")]
    assert any(parse_stats(0, text).overrun > 100 for text in stats)
    ends = (
        "scope: {pids: [command]}\nrun: {command: [/bin/sh, -c, 'sleep 0.05; sleep 0.05']}\n"
        "loss: {max: 0, action: fail}"
    )

    done = cli("run", str(recipe(_named(instance, "counts", ends))), "--recording", "r")

    assert done.returncode == 0, done.stderr
    manifest = json.loads((cli.directory / "r/manifest.json").read_text())
    lines = cli("report", "r", "--as", "jsonl").stdout.splitlines()
    assert manifest["lost"] == 0
    assert manifest["events"] == len(lines) > 0


def test_a_torn_line_in_a_journal_does_not_stop_recover(instance, tmp_path):
    before = snapshot()
    session = _apply(_plan(instance.name, _set(instance.name, "buffer_percent", "33")), tmp_path)
    session.journal.close()
    with session.journal.path.open("ab") as stream:
        stream.write(b'{"applied":"instances/x","te{"restoring":"y"}\n[]\n')

    state = read_journal(session.journal.path)
    assert state is not None
    restore(state, Tracefs(MOUNT), Journal.adopt(state))

    assert differences(before, snapshot()) == {}


def test_a_held_instance_is_one_problem_that_names_its_files_and_who_holds_it(tmp_path, untouched):
    name = f"tr-test-held-{os.getpid()}"
    steps = (
        MakeInstance(name, None),
        _set(name, "tracing_on", "0"),
        _set(name, "trace_clock", "mono"),
        _set(name, "options/sym-offset", "1"),
    )
    session = _apply(_plan(name, *steps), tmp_path)
    held = os.open(MOUNT / "instances" / name / "tracing_on", os.O_RDONLY)

    try:
        with pytest.raises(RestoreError) as refused:
            session.restore()
    finally:
        os.close(held)
    [state] = journals(tmp_path)
    restore(state, Tracefs(MOUNT), Journal.adopt(state))

    [problem] = refused.value.problems
    assert problem.what == (
        f"'instances/{name}' is not restored, nor what is set in it: options/sym-offset,"
        " trace_clock, tracing_on"
    )
    assert f"(pid {os.getpid()})" in problem.why
    assert "EBUSY" in problem.why
    assert problem.fix == f"finish it with: trace-recipe recover run1 --state-dir {tmp_path}"
    assert len(refused.value.left) == 4


MAP = """
import ctypes, mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_NONBLOCK)
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
place = libc.mmap(None, mmap.PAGESIZE, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
os.close(fd)
print("refused" if place == ctypes.c_void_p(-1).value else "mapped", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other_mount(tmp_path):
    """tracefs once more, elsewhere."""
    place = tmp_path / "other"
    place.mkdir()
    subprocess.run(["mount", "-t", "tracefs", "nodev", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_held_instance_does_nothing_any_more_and_whoever_holds_it_in_any_way_is_named(
    tmp_path, untouched, other_mount
):
    name = f"tr-test-held-{os.getpid()}"
    instance = MOUNT / "instances" / name
    event = "events/sched/sched_switch"
    steps = (
        MakeInstance(name, None),
        _set(name, "tracing_on", "1"),
        _set(name, f"{event}/trigger", "traceon"),
        _set(name, f"{event}/trigger", "enable_event:sched:sched_waking"),
    )
    session = _apply(_plan(name, *steps), tmp_path / "state")
    held = os.open(other_mount / "instances" / name / "tracing_on", os.O_RDONLY)
    mapper = subprocess.Popen(
        [sys.executable, "-c", MAP, str(instance / "per_cpu/cpu0/trace_pipe_raw")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    try:
        assert mapper.stdout is not None
        is_mapped = mapper.stdout.readline() == "mapped\n"  # Linux 6.10 and later
        with pytest.raises(RestoreError) as refused:
            session.restore()
        time.sleep(0.1)  # and so at least one switch
        triggers = (instance / event / "trigger").read_text()
        on = [(instance / file).read_text() for file in ("tracing_on", "events/enable")]
    finally:
        os.close(held)
        mapper.communicate()
    [state] = journals(tmp_path / "state")
    restore(state, Tracefs(MOUNT), Journal.adopt(state))

    [problem] = refused.value.problems
    assert f"(pid {os.getpid()})" in problem.why
    assert (f"(pid {mapper.pid})" in problem.why) is is_mapped
    assert [line for line in triggers.splitlines() if not line.startswith("#")] == []
    assert on == ["0\n", "0\n"]


def test_an_option_that_only_the_top_level_has_is_a_lack_of_the_kernel(tmp_path, instance):
    before = snapshot()
    only = min({*os.listdir(MOUNT / "options")} - {*os.listdir(instance / "options")})

    with pytest.raises(KernelLacksError, match=f"'{only}' is not in the instances") as refused:
        _apply(_plan(instance.name, _set(instance.name, f"options/{only}", "1")), tmp_path)

    assert refused.value.state is State.RESTORED
    assert "instance: top" in refused.value.problems[0].fix
    assert differences(before, snapshot()) == {}
