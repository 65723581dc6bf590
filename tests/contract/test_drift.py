"""What others change while a run records: seen, told, marked where it happened, and left alone."""

import contextlib
import csv
import json
import os
import re
import subprocess
import time
from pathlib import Path

import jsonschema
import pytest

from tests.conftest import ROOT
from tests.requirements import need_command
from tests.waiting import WAITING, let_it_end, wait_until_it_records
from trace_recipe.drift import Drift
from trace_recipe.executor import apply
from trace_recipe.plan import COMMAND, RUNNER, MakeInstance, Plan, Scope, SetFile
from trace_recipe.tracefs import Tracefs
from trace_recipe.watcher import Watcher

pytestmark = pytest.mark.tracefs

MOUNT = Path("/sys/kernel/tracing")
INSTANCES = MOUNT / "instances"
CPUS = (0, 1)[: os.cpu_count()]
NAME = f"tr-test-drift-{os.getpid()}"
SCHED = "events/sched"
NEVER = f"{SCHED}/sched_kthread_stop"  # hardly ever happens
SWITCHES_OFF = (f"{SCHED}/sched_switch/enable", "0")
RECIPE = """
recipe: v1
name: drifting
events: ["sched:sched_switch", "sched:sched_waking"]
{waiting}
drift: {{action: {action}}}
outputs: {outputs}
"""
OUTPUTS = (
    "[{text: '-'}, {jsonl: o.jsonl}, {text: o.txt}, {csv: o.csv}, {trace-dat: o.dat},"
    " {trace-dat: {path: six.dat, version: 6}}]"
)


@contextlib.contextmanager
def _on_cpu_0():
    """Keep this process on one CPU: what it does is counted there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {0})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _write(path: Path, text: str, flags: int = 0) -> None:
    fd = os.open(path, os.O_WRONLY | flags)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _put(name: str, after: str, *, text: str | None = None, also=(), starts=False) -> SetFile:
    prefix = f"instances/{NAME}/"
    return SetFile(
        prefix + name, name, None, after, after if text is None else text, Scope.PRIVATE, None, "",
        tuple(prefix + one for one in also), starts=starts,
    )  # fmt: skip


def _trigger(event: str, text: str, *also: str) -> SetFile:
    also = (f"{event}/enable", *also)
    return _put(f"{event}/trigger", text, text=text, also=also, starts=True)


STEPS = (
    _put("tracing_on", "0"),
    _put("trace_clock", "mono"),
    _put("buffer_percent", "10"),
    _put("options/sym-offset", "1"),
    _put("set_event_notrace_pid", RUNNER, text=f"{RUNNER}\n"),
    _put(f"{SCHED}/sched_switch/filter", "prev_prio < 7"),
    _put(f"{SCHED}/sched_switch/enable", "1"),
    _put(f"{SCHED}/sched_waking/enable", "1"),
    _put(f"{NEVER}/enable", "1"),
    _put("tracing_on", "1", starts=True),
    _trigger(NEVER, "stacktrace:3"),
)


@pytest.fixture
def started(tmp_path, untouched):
    """Apply and start steps in an instance of our own; return the watcher of the session."""
    sessions = []

    def start(*more: SetFile, steps: tuple[SetFile, ...] = STEPS) -> Watcher:
        plan = Plan(
            "drift", "drift.yaml", "private", NAME, (MakeInstance(NAME, None), *steps, *more),
            events=("sched:sched_switch", "sched:sched_waking", "sched:sched_kthread_stop"),
        )  # fmt: skip
        session = apply(
            plan, Tracefs(MOUNT), run_id="drift", state_directory=tmp_path / "state",
            bindings={RUNNER: (os.getpid(),), COMMAND: ()},
        )  # fmt: skip
        sessions.append(session)
        session.start()
        return Watcher(session, cpus=CPUS)

    yield start
    for session in sessions:
        session.restore()


def _told(drifts: tuple[Drift, ...]) -> list[tuple[str, str, str | None]]:
    return [(one.file.removeprefix(f"instances/{NAME}/"), one.applied, one.found) for one in drifts]


def test_a_run_that_is_left_alone_has_no_drift(started):
    watcher = started()
    for _ in range(3):
        time.sleep(0.01)
        assert watcher.look() == ()


@pytest.mark.parametrize(
    ("file", "text", "flags", "expected"),
    [
        (f"{SCHED}/sched_switch/enable", "0", 0, ("set_event", "sched:sched_switch", "")),
        (
            "events/enable", "0", 0,
            ("set_event", "sched:sched_switch sched:sched_waking", ""),
        ),
        ("set_event", "", os.O_TRUNC, ("set_event", "sched:sched_switch sched:sched_waking", "")),
        (f"{SCHED}/sched_wakeup/enable", "1", 0, ("set_event", "", "sched:sched_wakeup")),
        ("trace_clock", "boot", 0, ("trace_clock", "mono", "boot")),
        ("tracing_on", "0", 0, ("tracing_on", "1", "0")),
        ("buffer_percent", "77", 0, ("buffer_percent", "10", "77")),
        ("options/sym-offset", "0", 0, ("options/sym-offset", "1", "0")),
        ("set_event_notrace_pid", "", os.O_TRUNC, ("set_event_notrace_pid", str(os.getpid()), "")),
        (
            f"{SCHED}/sched_switch/filter", "0", 0,
            (f"{SCHED}/sched_switch/filter", "prev_prio < 7", "none"),
        ),
        (f"{NEVER}/trigger", "!stacktrace", 0, (f"{NEVER}/trigger", "stacktrace:count=3", "")),
    ],
)  # fmt: skip
def test_a_change_by_others_is_seen_once_with_its_time(started, file, text, flags, expected):
    watcher = started()
    before_ns = time.time_ns()
    _write(INSTANCES / NAME / file, text, flags)

    drifts = watcher.look()

    assert expected in _told(drifts)
    for one in drifts:
        assert before_ns <= one.wall_ns <= time.time_ns()
        assert one.trace_ns is not None and one.trace_ns > 0
    assert watcher.look() == ()


def test_an_event_that_a_trigger_keeps_registered_is_seen_to_be_disabled(started):
    watcher = started()
    _write(INSTANCES / NAME / NEVER / "enable", "0")

    assert _told(watcher.look()) == [(f"{NEVER}/enable", "1", "0")]


def test_what_is_put_back_is_told_too(started):
    watcher = started()
    _write(INSTANCES / NAME / "buffer_percent", "77")
    _write(INSTANCES / NAME / SCHED / "sched_switch/enable", "0")
    watcher.look()
    _write(INSTANCES / NAME / "buffer_percent", "10")
    _write(INSTANCES / NAME / SCHED / "sched_switch/enable", "1")

    drifts = watcher.look()

    assert _told(drifts) == [
        ("set_event", "sched:sched_switch", "sched:sched_switch"),
        ("buffer_percent", "10", "10"),
    ]
    assert all(one.is_back for one in drifts)
    assert str(drifts[1]) == f"instances/{NAME}/buffer_percent reads '10' again"


def test_a_clock_that_is_put_back_has_emptied_the_buffer_too(started):
    """Kernel: tracing_set_clock() resets every buffer of the instance."""
    watcher = started(_put("events/raw_syscalls/sys_enter/enable", "1"))
    _write(INSTANCES / NAME / "set_event_notrace_pid", "", os.O_TRUNC)
    _write(INSTANCES / NAME / "trace_clock", "boot")
    with _on_cpu_0():
        for _ in range(200):
            os.getppid()
    _write(INSTANCES / NAME / "tracing_on", "0")
    watcher.look()
    _write(INSTANCES / NAME / "trace_clock", "mono")

    told = {file: (applied, found) for file, applied, found in _told(watcher.look())}

    assert told["trace_clock"] == ("mono", "mono")
    applied, found = told["per_cpu/cpu0/stats"]
    assert int(applied.removesuffix(" events")) > 100
    assert found == "0 events"


def test_an_instance_that_is_gone_is_one_drift(started):
    watcher = started()
    (INSTANCES / NAME).rmdir()

    drifts = watcher.look()

    assert [(one.file, one.found) for one in drifts] == [(f"instances/{NAME}", None)]
    assert str(drifts[0]) == f"instances/{NAME} is gone"
    assert watcher.look() == ()


@pytest.mark.parametrize("is_read", [True, False])
def test_a_buffer_that_others_empty_is_seen_by_its_counters(started, is_read):
    watcher = started(_put("events/raw_syscalls/sys_enter/enable", "1"))
    instance = Tracefs(MOUNT).instance(NAME)
    _write(INSTANCES / NAME / "set_event_notrace_pid", "", os.O_TRUNC)
    with _on_cpu_0():
        for _ in range(200):
            os.getppid()
    instance.write("tracing_on", "0")
    if is_read:
        fd = instance.open_raw(0)
        try:
            os.read(fd, 4096)
        finally:
            os.close(fd)
    watcher.look()
    _write(INSTANCES / NAME / "trace", "", os.O_TRUNC)

    told = {file: (applied, found) for file, applied, found in _told(watcher.look())}

    applied, found = told["per_cpu/cpu0/stats"]
    assert int(applied.removesuffix(" events")) > 100
    assert found == "0 events"
    assert watcher.look() == ()


def test_a_recorder_that_reads_all_the_time_is_not_taken_for_a_reset(started):
    watcher = started(_put("events/raw_syscalls/sys_enter/enable", "1"))
    _write(INSTANCES / NAME / "set_event_notrace_pid", "", os.O_TRUNC)
    watcher.look()  # tells of the list
    instance = Tracefs(MOUNT).instance(NAME)
    descriptors = [instance.open_raw(cpu) for cpu in CPUS]
    try:
        for _ in range(300):
            for fd in descriptors:
                with contextlib.suppress(BlockingIOError):
                    os.read(fd, 4096)
            assert watcher.look() == ()
    finally:
        for fd in descriptors:
            os.close(fd)


def test_what_the_own_triggers_do_is_no_drift(started):
    watcher = started(
        _put("events/raw_syscalls/sys_enter/enable", "1"),
        _trigger("events/raw_syscalls/sys_enter", "traceoff:1"),
        _trigger("events/raw_syscalls/sys_exit", "enable_event:sched:sched_wakeup:1",
                 f"{SCHED}/sched_wakeup/enable"),
        steps=tuple(one for one in STEPS if "notrace" not in one.name),
    )  # fmt: skip
    os.getppid()

    assert (INSTANCES / NAME / "tracing_on").read_text() == "0\n"
    assert (INSTANCES / NAME / SCHED / "sched_wakeup/enable").read_text() == "1*\n"
    assert watcher.look() == ()


def test_pids_that_the_kernel_adds_by_event_fork_are_no_drift(started):
    watcher = started(
        _put("options/event-fork", "1"),
        _put("set_event_pid", str(os.getpid()), text=f"{os.getpid()}\n"),
    )
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    try:
        pids = (INSTANCES / NAME / "set_event_pid").read_text().split()
        assert str(child) in pids
        assert watcher.look() == ()
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_what_others_enable_in_an_instance_that_was_there_is_their_affair(tmp_path, untouched):
    (INSTANCES / NAME).mkdir()
    try:
        plan = Plan("drift", "d.yaml", "named", NAME, STEPS[:-1], events=("sched:sched_switch",))
        session = apply(
            plan, Tracefs(MOUNT), run_id="named", state_directory=tmp_path, bindings={RUNNER: (1,)}
        )
        session.start()
        watcher = Watcher(session, cpus=())
        _write(INSTANCES / NAME / SCHED / "sched_wakeup/enable", "1")
        others = watcher.look()
        _write(INSTANCES / NAME / SCHED / "sched_switch/enable", "0")
        ours = watcher.look()
        session.restore()
    finally:
        (INSTANCES / NAME).rmdir()

    assert others == ()
    assert _told(ours) == [("set_event", "sched:sched_switch", "")]


def test_of_many_files_each_gets_its_turn(started):
    names = sorted(path.name for path in (MOUNT / "events/syscalls").glob("sys_enter_*"))[:150]
    watcher = started(
        *(_put(f"events/syscalls/{name}/filter", "__syscall_nr < 9") for name in names)
    )
    file = f"events/syscalls/{names[-1]}/filter"
    _write(INSTANCES / NAME / file, "0")

    looks = [_told(watcher.look()) for _ in range(3)]

    assert [] in looks
    assert [(file, "__syscall_nr < 9", "none")] in looks


def _run_and_disturb(
    cli, file: str, value: str, *words: str, action: str = "warn", outputs: str = OUTPUTS
):
    """Write a value into a file of a run's instance, which ends when it has shown that live."""
    text = RECIPE.format(waiting=WAITING, action=action, outputs=outputs)
    (cli.directory / "recipe.yaml").write_text(text)
    with cli.start("run", "recipe.yaml", *words) as running:
        wait_until_it_records(cli, running)
        (instance,) = INSTANCES.glob("trace-recipe-drifting-*")
        _write(instance / file, value)
        lines = [""]
        while "'-'" in outputs and "DRIFT" not in lines[-1]:
            lines.append(running.stdout.readline())
            assert lines[-1], running.stderr.read()
        let_it_end(cli)
        out, err = "".join([*lines, *running.stdout]), running.stderr.read()
    return running.returncode, out, err, instance.name


def test_a_drift_is_in_the_summary_the_manifest_and_where_it_happened(cli, untouched):
    status, _, err, name = _run_and_disturb(cli, *SWITCHES_OFF, "--recording", "R")

    assert status == 0, err
    assert f"instances/{name}/set_event reads '', not 'sched:sched_switch'" in err
    manifest = json.loads((cli.directory / "R/manifest.json").read_text())
    schema = json.loads((ROOT / "schema/manifest.v1.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(manifest)
    (drift,) = manifest["drifts"]
    assert drift["file"] == f"instances/{name}/set_event"
    records = [json.loads(line) for line in (cli.directory / "o.jsonl").read_text().splitlines()]
    (place,) = [index for index, one in enumerate(records) if "drift" in one]
    schema = json.loads((ROOT / "schema/event.v1.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(records[place])
    assert records[place]["ts"] == drift["trace_ns"]
    assert place > 0
    assert records[place - 1]["ts"] <= drift["trace_ns"]
    later = {one.get("event") for one in records[place:]}
    assert "sched:sched_waking" in later
    assert "sched:sched_switch" not in later
    text = (cli.directory / "o.txt").read_text()
    assert f"DRIFT instances/{name}/set_event reads" in text
    with open(cli.directory / "o.csv", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["event"] == "drift"]
    assert [row["timestamp_ns"] for row in rows] == [str(drift["trace_ns"])]
    assert cli("report", "R", "--as", "jsonl").stdout == (cli.directory / "o.jsonl").read_text()


def test_trace_cmd_shows_a_drift_where_it_happened(cli, untouched):
    trace_cmd = need_command("trace-cmd")
    status, _, err, instance = _run_and_disturb(cli, *SWITCHES_OFF)
    assert status == 0, err
    records = [json.loads(line) for line in (cli.directory / "o.jsonl").read_text().splitlines()]
    count = sum("lost" not in one for one in records)

    for name in ("o.dat", "six.dat"):
        said = subprocess.run(
            [trace_cmd, "report", "-N", name], cwd=cli.directory, capture_output=True,
            encoding="utf-8", errors="replace", check=True,
        ).stdout  # fmt: skip

        lines = [line for line in said.splitlines() if re.search(r"\[\d{3}\]", line)]
        (place,) = [number for number, line in enumerate(lines) if "DRIFT" in line]
        assert lines[place].lstrip().startswith("drift: ")
        assert f"DRIFT instances/{instance}/set_event reads '', not" in lines[place]
        assert any("sched_switch:" in line for line in lines[:place])
        assert not any("sched_switch:" in line for line in lines[place:])
        assert len(lines) == count


def test_a_drift_can_fail_the_run(cli, untouched):
    status, _, err, name = _run_and_disturb(cli, *SWITCHES_OFF, action="fail")

    assert status == 7, err
    assert "recipe.yaml:6:17: error: drift.action: others changed 1 of the files" in err
    assert f"  why: instances/{name}/set_event reads '', not 'sched:sched_switch'" in err
    assert "state: restored" in err


@pytest.mark.parametrize(("action", "keys"), [("warn", []), ("fail", ["drift.action"])])
def test_json_of_a_run_has_its_drifts(cli, untouched, action, keys):
    _, out, _, name = _run_and_disturb(cli, *SWITCHES_OFF, "--json", action=action, outputs="[]")

    answer = json.loads(out)
    assert answer["ok"] is (not keys)
    assert [one["file"] for one in answer["drifts"]] == [f"instances/{name}/set_event"]
    assert [one["key"] for one in answer["problems"]] == keys


def test_a_live_view_shows_a_drift_once(cli, untouched):
    status, out, err, _ = _run_and_disturb(cli, "trace_clock", "mono", outputs="[{text: '-'}]")

    assert status == 0, err
    lines = [line for line in out.splitlines() if "DRIFT" in line]
    assert len(lines) == 1
    assert "trace_clock reads 'mono', not 'local'" in lines[0]
