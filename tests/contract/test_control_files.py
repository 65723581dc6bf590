"""Every control file's rule, on the fake and on the running kernel: the same cases.

The kernel's top level is written inside a test machine only; elsewhere an instance of our own.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass

import pytest

from tests.fake_tracefs import EVENT, NO_TRIGGERS, RULES, FakeTracefs
from tests.requirements import need_two_cpus
from tests.vm.machine import IN_VM
from trace_recipe.control_files import control_file
from trace_recipe.errors import TracefsError
from trace_recipe.tracefs import Tracefs

NAME = f"tr-test-{os.getpid()}"
KINDS = ("fake", pytest.param("real", marks=pytest.mark.tracefs))


@dataclass(frozen=True, slots=True)
class Tree:
    """A top level and an instance of ours in it, on the fake or on the kernel."""

    kind: str
    top: Tracefs

    @property
    def instance(self):
        return self.top.instance(NAME)

    def home(self, rule):
        """Return where the rule's file may be tried, or skip with the reason.

        What this kernel lacks and what is not ours here is tried in the machines of tests/vm.
        """
        if rule.top_only and self.kind == "real" and not os.environ.get(IN_VM):
            pytest.skip("the top level is not ours here")
        home = self.top if rule.top_only else self.instance
        try:
            home.read(rule.path)
        except TracefsError as error:
            if self.kind == "fake" or error.errno not in {errno.ENOENT, errno.EPERM}:
                raise
            pytest.skip(f"{rule.path}: {errno.errorcode[error.errno]}")
        for path, text in rule.prepared:
            with contextlib.suppress(TracefsError):
                home.write(path, text)
        return home


@pytest.fixture(params=KINDS)
def tree(request, tmp_path):
    top = Tracefs() if request.param == "real" else FakeTracefs(tmp_path / "tracing")
    top.make_instance(NAME)
    try:
        yield Tree(request.param, top)
    finally:
        top.remove_instance(NAME)


def write_back(tracefs, path, before):
    now = tracefs.read(path)
    for write in control_file(path).restore_writes(before, now):
        with contextlib.suppress(TracefsError) if write.may_fail else contextlib.nullcontext():
            tracefs.write(path, write.text, truncate=write.truncate)


def put(tracefs, path, example):
    """Bring a fresh file to an example's state; False when this kernel does not have it."""
    try:
        for text in example.writes:
            tracefs.write(path, text, truncate=example.truncate)
    except TracefsError:
        if not example.optional:
            raise
        return False
    return True


@pytest.mark.parametrize(
    "rule", [rule for rule in RULES if rule.examples], ids=lambda rule: rule.path
)
def test_what_is_written_reads_as_observed_and_any_state_comes_back_from_any_other(tree, rule):
    home = tree.home(rule)
    fresh = home.read(rule.path)
    readings = {}
    for example in rule.examples:
        if put(home, rule.path, example):
            readings[example] = home.read(rule.path)
            assert readings[example].lstrip("0") == example.reading.lstrip("0")
        write_back(home, rule.path, fresh)
        assert home.read(rule.path) == fresh
    assert readings or all(example.optional for example in rule.examples)

    for before in readings.values():
        for example in readings:
            put(home, rule.path, example)
            write_back(home, rule.path, before)
            assert home.read(rule.path) == before
            write_back(home, rule.path, fresh)
            assert home.read(rule.path) == fresh


@pytest.mark.parametrize(
    ("rule", "refused"),
    [(rule, refused) for rule in RULES for refused in rule.refused],
    ids=lambda value: getattr(value, "path", None) or repr(value.text[:20]),
)
def test_a_wrong_value_is_refused_and_what_it_left_can_be_made_again(tree, rule, refused):
    home = tree.home(rule)
    fresh = home.read(rule.path)
    for text in refused.after:
        home.write(rule.path, text)
    good = home.read(rule.path)

    with pytest.raises(TracefsError) as caught:
        home.write(rule.path, refused.text)

    left = home.read(rule.path)
    assert caught.value.errno == refused.errno
    assert left == (good if refused.reading is None else refused.reading)
    write_back(home, rule.path, good)
    assert home.read(rule.path) == good
    write_back(home, rule.path, left)
    assert home.read(rule.path) == left
    write_back(home, rule.path, fresh)
    assert home.read(rule.path) == fresh


@pytest.mark.parametrize(
    ("path", "foreign", "ours", "later", "left"),
    [
        ("set_event_pid", "11\n", "12 13\n", "14\n", "11\n14\n"),
        ("set_ftrace_pid", "11\n", "12 13\n", "14\n", "11\n14\n"),
        ("set_ftrace_filter", "vfs_open\n", "vfs_read\n", "vfs_write\n", "vfs_open\nvfs_write\n"),
        (f"{EVENT}/trigger", "traceoff:5\n", "stacktrace:3 if pid == 1\n", "disable_event:sched:sched_wakeup:1\n", "disable_event:sched:sched_wakeup:count=1\ntraceoff:count=5\n"),
    ],
)  # fmt: skip
def test_our_entries_go_and_those_of_others_stay(tree, path, foreign, ours, later, left):
    home = tree.home(next(rule for rule in RULES if rule.path == path))
    home.write(path, foreign)
    before = home.read(path)
    home.write(path, ours)
    applied = home.read(path)
    home.write(path, later)

    for write in control_file(path).remove_lines(before, applied, home.read(path)):
        home.write(path, write.text, truncate=write.truncate)

    assert home.read(path) == left


def test_a_trigger_makes_its_event_soft_enabled_until_it_is_removed(tree):
    home = tree.instance
    home.write(f"{EVENT}/trigger", "disable_event:sched:sched_wakeup:0\n")

    assert home.read(f"{EVENT}/enable") == "0*\n"
    assert home.read("events/sched/sched_wakeup/enable") == "0*\n"
    write_back(home, f"{EVENT}/trigger", NO_TRIGGERS)
    assert home.read(f"{EVENT}/enable") == "0\n"


def test_sizes_that_differ_by_cpu_read_as_x_and_are_restored_one_by_one(tree):
    need_two_cpus()
    home = tree.instance
    files = ["buffer_size_kb", "per_cpu/cpu0/buffer_size_kb", "per_cpu/cpu1/buffer_size_kb"]
    home.write(files[1], "55\n")
    before = {file: home.read(file) for file in files}
    assert before[files[0]] == "X\n"
    home.write(files[0], "300\n")

    for file in files:
        write_back(home, file, before[file])

    assert {file: home.read(file) for file in files} == before


def test_an_option_of_trace_options_is_put_back_alone(tree):
    home = tree.instance
    before = home.read("trace_options")
    home.write("trace_options", "norecord-cmd\n")
    home.write("trace_options", "stacktrace\n")
    applied = home.read("trace_options")
    home.write("trace_options", "nooverwrite\n")

    row = control_file("trace_options")
    for write in row.remove_lines(before, applied, home.read("trace_options")):
        home.write("trace_options", write.text)

    assert home.read("trace_options") == before.replace("overwrite\n", "nooverwrite\n")
    write_back(home, "trace_options", before)
    assert home.read("trace_options") == before


def test_a_new_instance_is_full_and_its_removal_takes_everything(tree):
    tree.top.make_instance(f"{NAME}b")
    try:
        assert set(tree.instance.list()) >= {"events", "options", "per_cpu", "tracing_on"}
        with pytest.raises(TracefsError) as caught:
            tree.top.make_instance(f"{NAME}b")
        assert caught.value.errno == errno.EEXIST
    finally:
        tree.top.remove_instance(f"{NAME}b")
    assert not tree.top.exists(f"instances/{NAME}b")
