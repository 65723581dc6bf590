"""What the doctor makes of machines, and what it sees of this one."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from trace_recipe.doctor import Finding, Level, can_run, examine, examine_files
from trace_recipe.errors import KernelLacksError, Problem
from trace_recipe.invoker import Invoker
from trace_recipe.journal import JournalState
from trace_recipe.kernel import Kernel
from trace_recipe.machine import Machine, Mount, look_at_machine
from trace_recipe.needed_files import NeededFile
from trace_recipe.tracefs import Access

MIB = 1 << 20
KERNEL = Kernel(
    release="6.1.0",
    machine="x86_64",
    byte_order="<",
    long_size=8,
    page_size_bytes=4096,
    possible_cpus=(0, 1),
    online_cpus=(0, 1),
    tracers=(
        *("blk", "function", "function_graph", "irqsoff", "preemptoff", "wakeup", "hwlat"),
        *("osnoise", "timerlat", "nop"),
    ),
    instance_tracers=None,
    options=("overwrite",),
    clocks=("local", "mono"),
    control_files=frozenset(
        {
            *("kprobe_events", "uprobe_events", "synthetic_events", "snapshot"),
            *("set_ftrace_filter", "set_graph_function", "available_filter_functions"),
        }
    ),
    format_texts={"sched:sched_switch": "", "syscalls:sys_enter_mount": ""},
    header_page_text="",
    header_event_text="",
    readme="",
    triggers=("traceon", "hist", "snapshot"),
    refused={},
    functions=None,
)
MOUNT = Mount("/mnt/tracing", 0o700, 0, is_read_only=False, can_write=True)
MACHINE = Machine(
    uid=0,
    can_mount=True,
    knows_tracefs=True,
    mount=MOUNT,
    debugfs=True,
    lockdown="[none] integrity confidentiality",
    kernel=KERNEL,
    state_directory=Path("/run/trace-recipe"),
    state_error="",
    journals=(),
    journals_error="",
    available_bytes=4096 * MIB,
    spool_directory=Path("/var/tmp"),
    spool_free_bytes=4096 * MIB,
    trace_cmd="/usr/bin/trace-cmd",
)


def changed(**parts) -> tuple[Finding, ...]:
    return examine(replace(MACHINE, **parts))


def about(findings, topic: str) -> Finding:
    found: list[Finding] = [one for one in findings if one.topic == topic]
    assert len(found) == 1
    return found[0]


def journal(*, live: bool) -> JournalState:
    return JournalState(
        path=Path("a.journal"),
        run_id="0123456789ab",
        boot_id="b",
        pid=4711,
        start_ticks=1,
        started_at=0.0,
        recipe="mount-audit",
        recipe_path="a.yaml",
        mount="/mnt/tracing",
        instance="i",
        makes_instance=True,
        inode=1,
        before={},
        applied={},
        intended=frozenset(),
        is_making=False,
        is_live=live,
        is_this_boot=True,
    )


def test_a_machine_with_everything_has_nothing_but_ok_findings():
    findings = examine(MACHINE)

    assert {finding.level for finding in findings} == {Level.OK}
    assert can_run(findings)


def test_tracefs_that_is_not_mounted_is_only_a_warning_to_who_may_mount():
    findings = changed(mount=None, kernel=None)

    assert about(findings, "tracefs").level is Level.WARN
    assert "mount -t tracefs nodev" in about(findings, "tracefs").fix
    assert can_run(findings)


def test_tracefs_that_may_not_be_mounted_stops_everything_and_says_what_root_can_do():
    findings = changed(mount=None, kernel=None, can_mount=False, uid=1000)

    assert about(findings, "tracefs").level is Level.BAD
    assert "mount -t tracefs nodev" in about(findings, "tracefs").fix
    assert "uid 1000" in about(findings, "tracefs").why
    assert not can_run(findings)


def test_a_kernel_without_tracefs_is_told_by_its_config():
    finding = about(changed(mount=None, kernel=None, knows_tracefs=False), "tracefs")

    assert finding.level is Level.BAD
    assert "CONFIG_FTRACE" in finding.why


def test_a_user_who_may_not_read_is_told_uid_mode_and_group():
    mount = replace(MOUNT, refused="EACCES", can_write=False)
    findings = changed(uid=1000, mount=mount, kernel=None)

    finding = about(findings, "permissions")
    assert finding.level is Level.BAD
    assert "uid 1000; /mnt/tracing has mode 0700 and group 0" in finding.why
    assert "remount,gid=GROUP,mode=0750 /mnt/tracing" in finding.fix
    assert not can_run(findings)


def test_root_who_may_not_read_is_not_told_to_use_sudo():
    finding = about(changed(mount=replace(MOUNT, refused="EPERM"), kernel=None), "permissions")

    assert finding.level is Level.BAD
    assert "lockdown in confidentiality mode" in finding.why
    assert "sudo" not in finding.fix


@pytest.mark.parametrize("parts", [{"is_read_only": True}, {"can_write": False}])
def test_a_mount_that_cannot_be_written_stops_recipes(parts):
    findings = changed(mount=replace(MOUNT, **parts))

    assert about(findings, "permissions").level is Level.BAD
    assert not can_run(findings)


@pytest.mark.parametrize(
    ("text", "level", "word"),
    [
        ("[none] integrity confidentiality", Level.OK, "none"),
        ("none [integrity] confidentiality", Level.WARN, "'integrity'"),
        ("none integrity [confidentiality]", Level.WARN, "'confidentiality'"),
        (None, Level.OK, "no sign of it"),
    ],
)
def test_the_lockdown_mode_is_the_bracketed_word(text, level, word):
    finding = about(changed(lockdown=text), "lockdown")

    assert finding.level is level
    assert word in finding.what


def test_lockdown_is_inferred_from_files_refused_to_root_where_no_file_tells_it():
    kernel = replace(KERNEL, refused={"set_ftrace_filter": "EPERM"})

    finding = about(changed(lockdown=None, kernel=kernel), "lockdown")
    assert finding.level is Level.WARN
    assert "set_ftrace_filter: EPERM" in finding.why
    by_user = about(changed(lockdown=None, kernel=kernel, uid=1000), "lockdown")
    assert by_user.level is Level.OK


def test_refused_function_files_are_a_warning_that_names_them():
    kernel = replace(KERNEL, refused={"set_ftrace_filter": "EPERM", "tracing_thresh": "EPERM"})
    findings = changed(kernel=kernel)

    finding = about(findings, "functions")
    assert finding.level is Level.WARN
    assert "set_ftrace_filter: EPERM" in finding.what
    assert "tracing_thresh" not in finding.what
    assert "'function' is listed all the same" in finding.why
    assert can_run(findings)


def test_absent_tracers_files_and_triggers_are_named_with_their_configs():
    kernel = replace(KERNEL, tracers=("nop",), control_files=frozenset(), triggers=("traceon",))
    findings = changed(kernel=kernel)

    assert "not here: function, function_graph, irqsoff" in about(findings, "tracers").what
    assert "CONFIG_IRQSOFF_TRACER" in about(findings, "tracers").why
    features = about(findings, "features")
    assert "kprobes, uprobes, synthetic events, snapshots" in features.what
    assert "histograms" in features.what
    assert features.why.count("CONFIG_TRACER_SNAPSHOT") == 1
    assert can_run(findings)


def test_what_works_is_counted_and_named():
    words = about(examine(MACHINE), "works").what

    assert words.startswith("2 events of 2 systems")
    assert "triggers: traceon hist snapshot" in words
    assert "clocks: local mono" in words


def test_a_kernel_without_events_cannot_run_recipes():
    findings = changed(kernel=replace(KERNEL, format_texts={}))

    assert any(one.level is Level.BAD and one.topic == "events" for one in findings)
    assert not can_run(findings)


def test_a_kernel_without_syscall_events_is_a_warning():
    finding = about(changed(kernel=replace(KERNEL, format_texts={"sched:a": ""})), "events")

    assert finding.level is Level.WARN
    assert "CONFIG_FTRACE_SYSCALLS" in finding.why


def test_a_state_directory_that_cannot_be_used_stops_recipes():
    findings = changed(state_error="it belongs to uid 7")

    assert "it belongs to uid 7" in about(findings, "state").what
    assert not can_run(findings)


def test_a_dead_run_is_a_warning_with_the_command_that_ends_it():
    finding = about(changed(journals=(journal(live=False),)), "journals")

    assert finding.level is Level.WARN
    assert "mount-audit (0123456789ab)" in finding.what
    assert finding.fix == "trace-recipe recover"


def test_a_live_run_is_no_warning():
    finding = about(changed(journals=(journal(live=True),)), "journals")

    assert finding.level is Level.OK
    assert "pid 4711" in finding.what


def test_journals_that_cannot_be_read_are_a_warning():
    assert "denied" in about(changed(journals_error="denied"), "journals").what


@pytest.mark.parametrize(("available", "level"), [(31 * MIB, Level.WARN), (32 * MIB, Level.OK)])
def test_memory_is_low_below_twice_the_default_buffer_of_all_cpus(available, level):
    finding = about(changed(available_bytes=available), "memory")

    assert finding.level is level
    assert "16 MiB (2 CPUs)" in finding.what


@pytest.mark.parametrize(
    ("free", "level"), [(None, Level.BAD), (255 * MIB, Level.WARN), (256 * MIB, Level.OK)]
)
def test_little_space_for_raw_pages_is_told(free, level):
    assert about(changed(spool_free_bytes=free), "disk").level is level


def test_trace_cmd_is_not_needed():
    findings = changed(trace_cmd=None)

    assert about(findings, "trace-cmd").level is Level.OK
    assert can_run(findings)


def test_a_finding_is_printed_with_why_and_fix():
    finding = Finding(Level.BAD, "state", "gone", "because", "make it")

    assert finding.lines() == ["bad   state: gone", "        why: because", "        fix: make it"]
    assert Finding(Level.OK, "a", "b").lines() == ["ok    a: b"]
    assert finding.as_json() == {
        "level": "bad",
        "topic": "state",
        "what": "gone",
        "why": "because",
        "fix": "make it",
    }


# -- one recipe -------------------------------------------------------------------------------

ALICE = Invoker(1000, 1000, "alice", "/home/alice", (1000,))


def test_what_modes_keep_from_a_user_is_one_finding_and_each_other_refusal_its_own():
    files = (
        NeededFile("a", "a", Access.WRITE, error="EACCES"),
        NeededFile("d", "d", Access.LIST, error="EACCES"),
        NeededFile("b", "b", Access.READ, error="EPERM"),
        NeededFile("c", "c", Access.WRITE),
    )

    findings = examine_files(files, ALICE)

    assert [one.what for one in findings] == [
        "cannot read b (EPERM)",
        "alice (uid 1000) lacks rights on 2 of 4 files",
    ]
    assert "lockdown" in findings[0].why
    assert "let root run the commands below" in findings[1].fix
    assert not can_run(findings)
    [finding] = examine_files(files[3:], ALICE)
    assert finding.level is Level.OK
    assert finding.what == "alice (uid 1000) has rights on all 1 files of the recipe"


# -- this machine -----------------------------------------------------------------------------


def test_looking_at_this_machine_makes_no_state_directory(tmp_path):
    state = tmp_path / "not" / "there"

    machine = look_at_machine(state, spool_directory=tmp_path)

    assert not state.exists()
    assert machine.state_error == ""
    assert machine.uid == os.geteuid()
    assert machine.spool_free_bytes
    assert machine.available_bytes
    assert examine(machine)


def test_a_mount_point_that_is_not_there_is_reported_not_raised(tmp_path):
    machine = look_at_machine(tmp_path, where=str(tmp_path / "gone"))

    assert machine.kernel is None
    assert machine.mount is not None
    assert machine.mount.refused == "ENOENT"
    assert not can_run(examine(machine))


def test_a_directory_that_is_no_tracefs_is_reported_not_raised(tmp_path):
    machine = look_at_machine(tmp_path, where=str(tmp_path))

    assert machine.kernel is None
    assert machine.mount is not None
    assert machine.mount.refused == "ENOENT"


@pytest.mark.parametrize(("mode", "word"), [(0o777, "others may write to it"), (0o700, "")])
def test_a_state_directory_that_others_can_write_is_not_used(tmp_path, mode, word):
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(mode)

    error = look_at_machine(state).state_error

    assert error.startswith(word)
    assert bool(error) is bool(word)


def test_a_state_directory_that_is_a_file_or_a_link_is_not_used(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path)

    assert look_at_machine(tmp_path / "file").state_error == "it is not a directory"
    assert look_at_machine(tmp_path / "link").state_error == "it is not a directory"


def test_journals_that_cannot_be_read_are_reported_not_raised(tmp_path, monkeypatch):
    def refuse(directory):
        raise KernelLacksError(Problem(f"cannot read the state directory '{directory}'"))

    monkeypatch.setattr("trace_recipe.machine.journals", refuse)

    machine = look_at_machine(tmp_path)

    assert machine.journals == ()
    assert "cannot read the state directory" in machine.journals_error
