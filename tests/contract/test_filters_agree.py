"""Our verdict on filters and triggers is the running kernel's, except for listed differences."""

import json
import os
import random
from pathlib import Path

import pytest

from trace_recipe.filter_checks import check_filter
from trace_recipe.filters import FilterSyntaxError, parse_filter
from trace_recipe.formats import FieldKind
from trace_recipe.kernel import kernel_from_json
from trace_recipe.prober import probe_kernel
from trace_recipe.tracefs import Tracefs, find_mount
from trace_recipe.triggers import parse_trigger, read_form, render_trigger

pytestmark = pytest.mark.tracefs

EVENTS = (
    "sched:sched_switch",  # scalars and char arrays
    "sched:sched_process_exec",  # data_loc text
    "irq:irq_handler_entry",
    "irq:softirq_entry",
    "signal:signal_generate",
    "syscalls:sys_enter_openat",  # pointers into user memory
    "raw_syscalls:sys_enter",  # array of longs
    "ipi:ipi_send_cpumask",  # cpumask
    "kmem:kmalloc",  # size_t, bool, pointers
    "sock:inet_sock_set_state",  # u8 arrays
    "dma:dma_map_sg",  # data_loc arrays of u64
    "block:block_rq_issue",
)


def _tracefs_root():
    mount = find_mount()
    if mount is None or not os.access(mount, os.W_OK) or os.geteuid() != 0:
        reason = "needs root and a mounted tracefs"
        if os.environ.get("TRACE_RECIPE_TRACEFS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    if os.environ.get("TRACE_RECIPE_TRACEFS") == "0":
        pytest.skip("TRACE_RECIPE_TRACEFS=0")
    return Path(mount)


def _write(path, text):
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)  # without O_TRUNC, which would do more
    try:
        os.write(fd, text.encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


class Instance:
    """A private instance, to write filters and triggers into."""

    def __init__(self, path):
        self.path = path

    def file(self, event, name):
        return self.path / "events" / event.replace(":", "/") / name

    def write(self, event, name, text):
        return _write(self.file(event, name), text)

    def takes_filter(self, event, text):
        taken = self.write(event, "filter", text)
        self.write(event, "filter", "0")
        return taken

    def triggers(self, event):
        lines = self.file(event, "trigger").read_text().splitlines()
        return [line for line in lines if not line.startswith("#")]


@pytest.fixture(scope="module")
def instance():
    path = _tracefs_root() / "instances" / f"test-filters-{os.getpid()}"
    path.mkdir()
    try:
        # Off, so that no traceoff fires and counts down between a write and a read.
        assert _write(path / "tracing_on", "0")
        yield Instance(path)
    finally:
        path.rmdir()


@pytest.fixture(scope="module")
def kernel():
    return probe_kernel(Tracefs(_tracefs_root()))


def verdict(text, event, kernel):
    try:
        node = parse_filter(text)
    except FilterSyntaxError:
        return False
    return not check_filter(node, kernel.event_format(event), kernel)


COMPARED = [
    ("sched:sched_switch", text)
    for text in (
        "prev_pid == 1", "prev_pid==1&&next_pid==2", "!prev_pid == 1", "!(prev_pid == 1)",
        "!!(prev_pid == 1) && !next_pid == 2", "((prev_pid == 1))",
        "prev_pid == 1 || next_pid == 2 && prev_prio < 100", "(prev_pid > 1", "prev_pid > 1)",
        "()", "(prev_pid == 1 && )", "prev_pid == 1 && (next_pid == 2 || )", "prev_pid",
        "prev_pid ==", "prev_pid = 1", "prev_pid === 1", "prev_pid !~ 1", "prev_pid =~ 1",
        "prev_pid =< 1", "prev_pid == 1 and next_pid == 2", "prev_pid == 1 & next_pid == 2",
        "prev_pid == 1 next_pid == 2", "prev_pid == 1 && 0", "1", "prev_pio == 1",
        "prev_pid == -1", "prev_pid == - 1", "prev_pid == +1", "prev_pid == 0x", "prev_pid == 08",
        "prev_pid == 010", "prev_pid == 0X1F", "prev_pid == -0x1", "prev_pid == 1abc",
        "prev_pid == 1.5", "prev_pid == 000000000000000000000001", "prev_pid == 0xffffffff",
        "prev_pid == 99999999999999999999", "prev_state == 0xffffffffffffffff",
        "prev_state == -9223372036854775808", "prev_state == 9223372036854775808",
        "common_flags == -1", "common_flags == 255", "common_pid == 1", "common_nothing == 1",
        "prev_pid & 1", "prev_pid ~ 1", "prev_pid == 'x'", "prev_pid == x", "prev_comm == x",
        "prev_comm == 'x'", 'prev_comm == "x"', "prev_comm == \"it's\"", "prev_comm == 'x",
        "prev_comm == ''", "prev_comm ~ 'k*r'", "prev_comm ~ '[a-c]?'", "prev_comm < 'x'",
        "prev_comm & 'x'", "prev_comm == 5", "prev_comm != 'x' && next_comm ~ '*x*'",
        f"prev_comm ~ '{'x' * 255}'", f"prev_comm ~ '{'x' * 256}'",
        "COMM == 'bash'", "comm ~ 'b*'", "COMM == bash", "COMM == 5", "COMM < 'x'", "CPU == 0",
        "cpu != 1", "CPU < 2", "CPU ~ 1", "CPU == 'x'", "CPU & CPUS{0}", "CPU == CPUS{0}",
        "CPU & CPUS{all}", "CPU < CPUS{0}", "CPU & CPUS{}", "CPU & CPUS{0", "CPU & CPUS",
        "CPU & CPUS{0-5000}", "CPU & CPUS{1-0}", "CPU & CPUS{x}", "prev_comm & CPUS{0}",
        "prev_state.function == schedule", "prev_state.function == schedule && prev_pid == 1",
        "(prev_state.function == schedule )", "(prev_state.function == schedule)",
        "prev_state.function == 'schedule'", "prev_state.function > schedule",
        "prev_pid.function == schedule", "prev_state.function ==", "prev_comm.function == x",
        "prev_pid.x == 1", "prev_pid .ustring == 1", "''", "'x' == prev_comm", "!", "&&",
        "prev_pid == 1 | next_pid == 2", "prev_pid == 1 ||| next_pid == 2", "!= 1", "!~ prev_pid",
    )
] + [
    ("sched:sched_process_exec", "filename == '/bin/sh'"),
    ("sched:sched_process_exec", "filename ~ '*/sh' && pid > 1"),
    ("sched:sched_process_exec", "filename > 'x'"),
    ("sched:sched_process_exec", "filename == 1"),
    ("sched:sched_process_exec", "filename & CPUS{0}"),
    ("irq:irq_handler_entry", "name == 'timer' || irq == 3"),
    ("irq:irq_handler_entry", "vec == 3"),
    ("irq:softirq_entry", "vec & 0x3"),
    ("irq:softirq_entry", "vec == -1"),
    ("signal:signal_generate", "sig == 9 && comm ~ 'a*'"),
    ("signal:signal_generate", "comm == 9"),
    ("syscalls:sys_enter_openat", "filename.ustring ~ '/etc/*'"),
    ("syscalls:sys_enter_openat", "filename.ustring == 1"),
    ("syscalls:sys_enter_openat", "flags & 0x40 && dfd == -100"),
    ("syscalls:sys_enter_openat", "dfd == 0xffffffffffffff9c"),
    ("raw_syscalls:sys_enter", "id == 257"),
    ("raw_syscalls:sys_enter", "args == 'x'"),
    ("ipi:ipi_send_cpumask", "cpumask & CPUS{0-1}"),
    ("ipi:ipi_send_cpumask", "cpumask == CPUS{0-1} || cpumask != CPUS{1}"),
    ("ipi:ipi_send_cpumask", "cpumask > CPUS{0}"),
    ("ipi:ipi_send_cpumask", "cpumask == 'x'"),
    ("ipi:ipi_send_cpumask", "callsite.function == schedule"),
    ("ipi:ipi_send_cpumask", "callsite.function == no_such_function_in_any_kernel"),
    ("kmem:kmalloc", "bytes_req > 4096 && call_site != 0"),
    ("kmem:kmalloc", "ptr == 0xffff888000000000"),
    ("sock:inet_sock_set_state", "sport == 22 && newstate != 7"),
    ("sock:inet_sock_set_state", "sport == -1"),
    ("dma:dma_map_sg", "device == 'x' && dir == 1"),
    ("block:block_rq_issue", "bytes > 4096 && rwbs ~ 'W*' && comm != 'x'"),
    ("block:block_rq_issue", "sector == 18446744073709551615"),
    ("block:block_rq_issue", "sector == 18446744073709551616"),
]  # fmt: skip

# The kernel takes these and records something else than was asked for; we refuse them.
STRICTER = [
    ("sched:sched_switch", "prev_pid == 1 &&", "it ignores a trailing operator"),
    ("sched:sched_switch", "prev_pid == 1 ||", "it ignores a trailing operator"),
    ("sched:sched_switch", "prev_pid == 1 && !", "it ignores a trailing operator"),
    ("sched:sched_switch", "prev_pid == 99999999999", "it cuts numbers to the field's width"),
    ("sched:sched_switch", "common_flags == 300", "it cuts numbers to the field's width"),
    ("sched:sched_switch", "CPU & 1", "CPU has no bits: it never matches"),
    ("sched:sched_switch", "CPU == CPUS{0-1}", "one CPU never equals two"),
    ("sched:sched_switch", "CPU & CPUS{ 0 }", "we take no blanks in lists"),
    ("sched:sched_switch", "CPU & CPUS{0-1:1/2}", "we take no strides in lists"),
    ("sched:sched_switch", "COMM == 'systemd-journald'", "comm is cut to 15 characters"),
    ("sched:sched_switch", "prev_comm ~ '9p*'", "a leading digit turns the glob off"),
    ("sched:sched_switch", "prev_comm.ustring == 'x'", "it ignores .ustring here"),
    ("sched:sched_switch", "prev_pid.ustring == 1", "it ignores .ustring here"),
    ("sched:sched_switch", "prev_pid == 1 ", "it keeps the blanks in the read-back"),
    ("sched:sched_switch", "prev_pid == 1\n&& next_pid == 2", "read-back of one line"),
    ("sched:sched_switch", "0", "it clears the filter"),
    ("sched:sched_switch", "(" * 300 + "prev_pid == 1" + ")" * 300, "we bound nesting"),
    ("raw_syscalls:sys_enter", "args == 5", "it compares no element of an array"),
    ("dma:dma_map_sg", "phys_addrs == 5", "it compares where the array lies"),
    ("ipi:ipi_send_cpumask", "cpumask == 3", "it compares where the mask lies"),
    ("syscalls:sys_enter_openat", "filename ~ '/etc/*'", "it reads a user address as its own"),
]


@pytest.mark.parametrize(("event", "text"), COMPARED)
def test_our_verdict_on_a_filter_is_the_kernels(instance, kernel, event, text):
    if not kernel.has_event(event):
        pytest.skip(f"no {event} here")
    if "no_such_function" in text:
        assert not instance.takes_filter(event, text)  # kallsyms decides; we have no list of it
        return

    assert verdict(text, event, kernel) == instance.takes_filter(event, text)


@pytest.mark.parametrize(("event", "text", "reason"), STRICTER)
def test_we_refuse_what_the_kernel_takes_and_gets_wrong(instance, kernel, event, text, reason):
    if not kernel.has_event(event):
        pytest.skip(f"no {event} here")

    assert instance.takes_filter(event, text), reason
    assert not verdict(text, event, kernel), reason


def test_generated_filters_get_the_same_verdict(instance, kernel):
    dice = random.Random(20)
    compared = {True: 0, False: 0}
    for event in EVENTS:
        if not kernel.has_event(event):
            continue
        for _ in range(25):
            text = _generated(dice, kernel.event_format(event))
            ours, theirs = verdict(text, event, kernel), instance.takes_filter(event, text)
            assert ours == theirs, f"{event}: {text}"
            compared[theirs] += 1

    assert compared[True] > 50 and compared[False] > 50


def _generated(dice, event):
    """Return a filter over comparable fields, of any operator, with values of either type."""
    fields = [
        field
        for field in event.all_fields
        if (field.kind is FieldKind.SCALAR or field.is_string)
        and not (event.system == "syscalls" and field.type.endswith("char *"))
    ]
    terms = []
    for _ in range(dice.randint(1, 3)):
        field = dice.choice(fields)
        is_text = field.is_string or field.type in ("char *", "const char *")
        wrong = dice.random() < 0.15
        value = dice.choice(["'ab'", '"*x"', "'a?'"]) if is_text != wrong else dice.choice("19")
        operator = dice.choice(["==", "!=", "<", ">=", "&", "~"] if wrong else ["==", "!="])
        name = field.name + "x" if dice.random() < 0.05 else field.name
        terms.append(f"{'!' * dice.randint(0, 1)}{name} {operator} {value}")
    return dice.choice([" && ", "||"]).join(terms)


@pytest.mark.parametrize(
    "text",
    [
        "stacktrace",
        "stacktrace:5 if prev_pid < 0",
        "traceoff:1",
        "traceon if prev_comm == 'nobody at all'",
        "enable_event:irq:irq_handler_entry:3 if prev_pid < 0",
        "disable_event:irq:irq_handler_entry",
    ],
)
def test_a_trigger_reads_back_as_we_say(instance, kernel, text):
    event = "sched:sched_switch"
    spec = parse_trigger(text)
    assert instance.write(event, "trigger", render_trigger(spec))
    try:
        assert instance.triggers(event) == [read_form(spec)]
    finally:
        assert instance.write(event, "trigger", "!" + render_trigger(spec))
    assert instance.triggers(event) == []


def test_the_hand_cut_catalogue_has_formats_that_parse():
    for file in (Path(__file__).parents[1] / "golden" / "kernels").glob("*.json"):
        kernel = kernel_from_json(json.loads(file.read_text()), origin=file.name)
        for name in kernel.events:
            assert kernel.event_format(name).full_name == name
