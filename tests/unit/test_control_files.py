"""Every row of the table, on readings as kernels 6.1, 6.12 and 6.18 gave them."""

from __future__ import annotations

import pytest

from tests.fake_tracefs import SNAPSHOT_ALLOCATED, SNAPSHOT_FREED
from trace_recipe.control_files import CONTROL_FILES, Write, control_file

NO_TRIGGERS = "# Available triggers:\n# traceon traceoff stacktrace enable_event disable_event\n"
ALL_FUNCTIONS = "#### all functions enabled ####\n"


def texts(path: str, before: str, now: str) -> list[str]:
    return [write.text for write in control_file(path).restore_writes(before, now)]


@pytest.mark.parametrize(
    ("path", "before", "now", "written"),
    [
        ("tracing_on", "1\n", "0\n", ["1\n"]),
        ("current_tracer", "function\n", "nop\n", ["function\n"]),
        ("trace_clock", "local [global] mono\n", "local global [mono]\n", ["global\n"]),
        ("buffer_size_kb", "1410\n", "103\n", ["1410\n"]),
        ("buffer_size_kb", "7 (expanded: 1408)\n", "103\n", ["1408\n"]),
        ("buffer_size_kb", "X\n", "103\n", []),
        ("per_cpu/cpu1/buffer_size_kb", "59\n", "103\n", ["59\n"]),
        ("buffer_subbuf_size_kb", "4\n", "64\n", ["4\n"]),
        ("buffer_percent", "50\n", "0\n", ["50\n"]),
        ("tracing_cpumask", "ff,ffffffff\n", "1\n", ["ff,ffffffff\n"]),
        ("options/overwrite", "1\n", "0\n", ["1\n"]),
        ("options/funcgraph-proc", "0\n", "1\n", ["0\n"]),
        ("tracing_max_latency", "120\n", "0\n", ["120\n"]),
        ("tracing_thresh", "0\n", "10\n", ["0\n"]),
        ("snapshot", SNAPSHOT_FREED, SNAPSHOT_ALLOCATED, ["0\n"]),
        ("snapshot", SNAPSHOT_ALLOCATED, SNAPSHOT_FREED, ["1\n", "2\n"]),
        ("snapshot", SNAPSHOT_ALLOCATED, "# tracer: nop\n#\n# entries-in-buffer", ["2\n"]),
        ("snapshot", "# tracer: nop\n#\n# entries-in-buffer", SNAPSHOT_FREED, ["1\n", "2\n"]),
        ("max_graph_depth", "-1\n", "3\n", ["4294967295\n"]),
        ("saved_cmdlines_size", "6552\n", "19659\n", ["6552\n"]),
        ("saved_cmdlines_size", "45874\n", "6552\n", ["32768\n"]),
        ("events/sched/sched_switch/enable", "0*\n", "1*\n", ["0\n"]),
        ("events/sched/sched_switch/enable", "1\n", "0*\n", ["1\n"]),
        ("events/sched/sched_switch/filter", "none\n", "prev_pid == 1\n", ["0\n"]),
        ("events/sched/sched_switch/filter", "  prev_pid == 1\n", "none\n", ["  prev_pid == 1\n"]),
    ],
)
def test_what_is_written_is_what_makes_the_reading(path, before, now, written):
    assert texts(path, before, now) == written


@pytest.mark.parametrize(
    ("path", "a", "b"),
    [
        ("trace_clock", "[local] global\n", "[local] global mono\n"),
        ("buffer_size_kb", "1410 (expanded: 1408)\n", "1410\n"),
        ("buffer_size_kb", "7 (expanded: 1408)\n", "1410\n"),
        ("events/sched/sched_switch/enable", "0*\n", "0\n"),
        ("set_graph_function", "vfs_read\nvfs_write\n", "vfs_write\nvfs_read\n"),
        ("set_ftrace_pid", "no pid\n", ""),
        ("set_event_pid", "1\n2\n", "1\n2\n"),
        ("events/sched/sched_switch/trigger", "traceoff:count=5\n", "traceoff:count=3\n"),
        (
            "events/a/b/trigger",
            "hist:keys=x:vals=hitcount [active]\n",
            "hist:keys=x:vals=hitcount [paused]\n",
        ),
        ("set_ftrace_filter", "vfs_read:traceoff:count=5\n", "vfs_read:traceoff:count=2\n"),
        ("trace_options", "overwrite\nnostacktrace\n", "overwrite\nnostacktrace\nfuncgraph-proc\n"),
    ],
)
def test_readings_that_mean_the_same_state_need_no_write(path, a, b):
    row = control_file(path)

    assert row.same(a, b)
    assert row.restore_writes(a, b) == ()
    assert row.restore_writes(b, a) == ()


@pytest.mark.parametrize(
    ("path", "a", "b"),
    [
        ("buffer_size_kb", "1410\n", "1411\n"),
        ("buffer_size_kb", "7 (expanded: 1408)\n", "7\n"),
        ("buffer_size_kb", "X\n", "1410\n"),
        ("set_ftrace_filter", "a\na\n", "a\n"),
        ("set_ftrace_filter", ALL_FUNCTIONS, "a\n"),
        ("events/a/b/trigger", "traceoff:unlimited\n", "traceoff:unlimited if x == 1\n"),
        ("events/a/b/trigger", "traceoff:unlimited\n", "traceoff:count=3\n"),
        ("set_ftrace_filter", "a:traceoff:unlimited\n", "a:traceoff:count=3\n"),
        ("events/a/b/filter", "x == 1\n", "x == 2\n"),
    ],
)
def test_readings_that_mean_different_states_differ(path, a, b):
    assert not control_file(path).same(a, b)


def test_a_refused_filter_comes_back_by_being_refused_again():
    shown = "nope == 1\n     ^\nparse_error: Field not found\n\n"

    writes = control_file("events/sched/sched_switch/filter").restore_writes(shown, "none\n")

    assert writes == (Write(truncate=False, text="nope == 1", may_fail=True),)


def test_an_empty_refused_filter_comes_back_by_being_refused_again():
    writes = control_file("events/sched/sched_switch/filter").restore_writes(
        "\nError: (0)\n\n", "none\n"
    )

    assert writes == (Write(truncate=False, text="\n", may_fail=True),)


def test_triggers_are_replayed_commands_bottom_up_and_hists_top_down():
    before = (
        "traceoff:count=5 if x == 1\n"
        "stacktrace:unlimited\n"
        "enable_event:sched:sched_waking:count=2 if y > 0\n"
        "hist:keys=x:vals=hitcount:ts0=common_timestamp.usecs:sort=hitcount:size=2048:clock=global [active]\n"
        "hist:keys=y:vals=hitcount:d=$ts0:sort=hitcount:size=2048 if x == 1 [paused]\n"
    )

    assert texts("events/a/b/trigger", before, NO_TRIGGERS) == [
        "enable_event:sched:sched_waking:2 if y > 0\n",
        "stacktrace\n",
        "traceoff:5 if x == 1\n",
        "hist:keys=x:vals=hitcount:ts0=common_timestamp.usecs:sort=hitcount:size=2048:clock=global\n",
        "hist:keys=y:vals=hitcount:d=$ts0:sort=hitcount:size=2048:pause if x == 1\n",
    ]


def test_new_triggers_are_removed_users_of_variables_first():
    now = "traceoff:count=5\nhist:keys=x:vals=hitcount:ts0=common_timestamp [active]\nhist:keys=y:vals=$ts0 [paused]\n"

    assert texts("events/a/b/trigger", NO_TRIGGERS, now) == [
        "!hist:keys=y:vals=$ts0\n",
        "!hist:keys=x:vals=hitcount:ts0=common_timestamp\n",
        "!traceoff:count=5\n",
    ]


def test_a_hist_that_the_kernel_made_for_another_is_neither_added_nor_removed():
    auxiliary = "hist:keys=pid:vals=hitcount:synthetic_prio=prio:sort=hitcount:size=2048 [active]\n"

    assert texts("events/a/b/trigger", auxiliary, NO_TRIGGERS) == []
    assert texts("events/a/b/trigger", NO_TRIGGERS, auxiliary) == []


@pytest.mark.parametrize(
    "applied",
    ["traceoff:count=5 if x == 1\nstacktrace:unlimited\n", "traceoff:5 if x == 1\nstacktrace\n"],
)
def test_only_our_triggers_are_removed_and_other_peoples_stay(applied):
    now = "snapshot:unlimited\ntraceoff:count=2 if x == 1\nstacktrace:unlimited\n"

    writes = control_file("events/a/b/trigger").remove_lines("stacktrace:unlimited\n", applied, now)

    assert [write.text for write in writes] == ["!traceoff:count=2 if x == 1\n"]


def test_a_trigger_with_a_line_break_cannot_be_told_apart():
    row = control_file("events/a/b/trigger")

    assert row.unrestorable('traceoff:unlimited if comm == "a\nb"\n', NO_TRIGGERS)
    assert row.unrestorable("traceoff:unlimited\nhist:keys=x [active]\n" + NO_TRIGGERS, "") is None


def test_pid_lists_grow_by_a_plain_write_and_shrink_by_truncation():
    row = control_file("set_event_pid")

    assert row.restore_writes("1\n2\n3\n", "2\n") == (Write(truncate=False, text="1 3\n"),)
    assert row.restore_writes("1\n", "2\n") == (Write(truncate=True, text="1\n"),)
    assert row.restore_writes("", "2\n") == (Write(truncate=True, text=""),)
    assert row.remove_lines("1\n", "1\n2\n", "1\n2\n7\n") == (Write(truncate=True, text="1 7\n"),)
    assert row.remove_lines("1\n", "1\n2\n", "1\n7\n") == ()


def test_functions_are_added_before_others_are_removed():
    assert control_file("set_ftrace_filter").restore_writes(
        "vfs_read\nnf_hook [nf_tables]\n", "vfs_write\nvfs_open\n"
    ) == (
        Write(truncate=False, text="vfs_read\nnf_hook:mod:nf_tables\n"),
        Write(truncate=False, text="!vfs_write\n!vfs_open\n"),
    )


@pytest.mark.parametrize(
    ("now", "removed"),
    [
        (ALL_FUNCTIONS, ""),
        ("vfs_read\n", ""),
        ("vfs_read\nvfs_open\nnf_hook [nf_tables]\n", "!vfs_open\n"),
        ("tcp_x\nvfs_write\nnf_hook [other]\n", "!tcp_x\n!nf_hook:mod:other\n"),
        ("vfs_open\n*:mod:ours\n*:mod:theirs\n", "!vfs_open\n!*:mod:theirs\n"),
        ("vfs_open\nvfs_open:traceoff:unlimited\n", "!vfs_open\n"),
    ],
)
def test_functions_are_set_without_a_moment_in_which_the_list_is_empty(now, removed):
    text = "vfs_r*\nvfs_write\nnf_*:mod:nf_tables\n*:mod:ours\n"

    writes = control_file("set_ftrace_filter").set_writes(text, now)

    assert writes[0] == Write(truncate=False, text=text)
    assert writes[1:] == ((Write(truncate=False, text=removed),) if removed else ())


def test_functions_that_no_name_takes_out_go_by_truncation():
    now = "__ftrace_invalid_address___16\nvfs_open\n"

    writes = control_file("set_ftrace_filter").set_writes("vfs_read\n", now)

    assert writes == (Write(truncate=True, text="vfs_read\n"),)


def test_pids_are_set_by_truncation_and_other_files_by_a_plain_write():
    assert control_file("set_event_pid").set_writes("7\n", "1\n") == (
        Write(truncate=True, text="7\n"),
    )
    assert control_file("trace_clock").set_writes("mono", "[local] mono\n") == (
        Write(truncate=False, text="mono"),
    )


def test_a_list_that_was_empty_is_emptied_by_truncation():
    row = control_file("set_ftrace_filter")

    assert row.restore_writes(ALL_FUNCTIONS, "a\nb\nc:traceoff:unlimited\n") == (
        Write(truncate=True, text=""),
        Write(truncate=False, text="!c:traceoff\n"),
    )


def test_module_entries_and_commands_have_their_own_forms():
    before = (
        "a\n*:mod:xfs\n" + "a:traceoff:count=5\n" + "b:enable_event:sched:sched_switch:unlimited\n"
    )
    now = "a\n*:mod:xfs\n"

    assert texts("set_ftrace_filter", before, now) == [
        "b:enable_event:sched:sched_switch\n",
        "a:traceoff:5\n",
    ]
    assert texts(
        "set_ftrace_filter", "a\n", "a\nb:mod:xfs\nc:stacktrace:count=3\nd:cpudump:unlimited\n"
    ) == [
        "!b:mod:xfs\n",
        "!c:stacktrace:0\n",
        "!d:cpudump:0\n",
    ]


def test_commands_that_the_kernel_hid_before_are_not_taken_for_new_ones():
    row = control_file("set_ftrace_filter")
    before = "a\n*:mod:xfs\n"
    now = "a\nb:traceoff:unlimited\n"

    assert [write.text for write in row.restore_writes(before, now)] == ["*:mod:xfs\n"]
    assert "does not show function commands" in str(row.unrestorable(before, now))


def test_one_of_several_functions_with_one_name_cannot_be_chosen_again():
    row = control_file("set_ftrace_filter")

    assert row.unrestorable("show\n", "show\nshow\n")
    assert row.unrestorable("show\nshow\n", ALL_FUNCTIONS) is None


def test_what_a_snapshot_held_does_not_come_back():
    filled = "# tracer: nop\n#\n# entries-in-buffer/entries-written: 3/3   #P:2\n"
    row = control_file("snapshot")

    assert row.unrestorable(filled, SNAPSHOT_ALLOCATED)
    assert row.unrestorable(SNAPSHOT_FREED, SNAPSHOT_ALLOCATED) is None
    assert row.restore_writes(filled, SNAPSHOT_ALLOCATED) == ()


def test_only_our_functions_are_removed():
    row = control_file("set_ftrace_filter")

    assert row.remove_lines("a\n", "a\nb\n", "a\nb\nc\n") == (Write(truncate=False, text="!b\n"),)
    assert row.remove_lines("a\n", "a\nb\n", "a\nc\n") == ()


def test_trace_options_are_put_back_one_by_one():
    before = "overwrite\nnorecord-cmd\nnoprintk-msg-only\n"
    applied = "overwrite\nrecord-cmd\nnoprintk-msg-only\n"
    now = "nooverwrite\nrecord-cmd\nprintk-msg-only\nfuncgraph-proc\n"
    row = control_file("trace_options")

    assert texts("trace_options", before, now) == [
        "overwrite\n",
        "norecord-cmd\n",
        "noprintk-msg-only\n",
    ]
    assert [write.text for write in row.remove_lines(before, applied, now)] == ["norecord-cmd\n"]


def test_recording_tracer_and_new_events_are_stopped_before_anything_is_restored():
    def quiet(path, before, now):
        return [write.text for write in control_file(path).quiet_writes(before, now)]

    assert quiet("tracing_on", "1\n", "1\n") == ["0\n"]
    assert quiet("tracing_on", "1\n", "0\n") == []
    assert quiet("current_tracer", "nop\n", "irqsoff\n") == ["nop\n"]
    assert quiet("current_tracer", "function\n", "function\n") == []
    assert quiet("events/a/b/enable", "0\n", "1*\n") == ["0\n"]
    assert quiet("events/a/b/enable", "1\n", "1*\n") == []
    assert quiet("buffer_size_kb", "7\n", "1410\n") == []


def test_what_cannot_come_back_is_named():
    assert control_file("buffer_size_kb").unrestorable("7 (expanded: 1408)\n", "1410\n")
    assert control_file("buffer_size_kb").unrestorable("1410\n", "103\n") is None
    assert control_file("saved_cmdlines_size").unrestorable("6552\n", "19659\n")
    assert control_file("saved_cmdlines_size").unrestorable("6552\n", "6552\n") is None
    assert control_file("options/trace_printk_dest").unrestorable("0\n", "1\n")


def test_the_tracers_options_are_shared_and_come_after_the_tracer():
    core, of_tracer = control_file("options/overwrite"), control_file("options/funcgraph-proc")
    tracer = control_file("current_tracer")

    assert (core.scope, of_tracer.scope) == ("instance", "shared")
    assert core.order < tracer.order < of_tracer.order


def test_triggers_come_first_then_filters_then_sizes_then_events_and_recording_last():
    paths = [
        "events/a/b/trigger",
        "set_ftrace_filter",
        "events/a/b/filter",
        "buffer_subbuf_size_kb",
        "per_cpu/cpu0/buffer_size_kb",
        "buffer_size_kb",
        "trace_clock",
        "current_tracer",
        "tracing_max_latency",
        "events/a/b/enable",
        "tracing_on",
    ]

    orders = [control_file(path).order for path in paths]

    assert orders == sorted(set(orders))
    assert max(row.order for row in CONTROL_FILES) == control_file("tracing_on").order


@pytest.mark.parametrize(
    "path",
    [
        "trace",
        "events/enable",
        "events/sched/enable",
        "options",
        "per_cpu/cpu0/trace",
        "x/tracing_on",
    ],
)
def test_a_file_without_a_rule_is_a_key_error(path):
    with pytest.raises(KeyError):
        control_file(path)


def test_files_without_entries_refuse_to_remove_lines():
    with pytest.raises(TypeError, match="tracing_on has no entries"):
        control_file("tracing_on").remove_lines("0\n", "1\n", "1\n")


@pytest.mark.parametrize("row", CONTROL_FILES, ids=lambda row: row.name)
def test_equal_readings_of_any_file_need_no_write(row):
    for text in ("0\n", "1\n", "none\n", ""):
        assert row.restore_writes(text, text) == ()
        assert row.unrestorable(text, text) is None
