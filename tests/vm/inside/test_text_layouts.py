"""The text sink against the kernel's own `trace` file, for tracers that only a VM may start."""

import os
import re
from typing import TYPE_CHECKING

import pytest

from tests.requirements import need
from tests.trace_text import TRACEFS, assert_equal_text, put

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.tracefs
FUNCTIONS = ("vfs_*", "*lookup*", "do_sys*", "kmem_cache*", "*apic_timer_interrupt", "*_fault",
             "hrtimer_*", "copy_*", "path_*")  # fmt: skip


@pytest.fixture
def top():
    """The top level, stopped and empty, and put back afterwards."""
    put(TRACEFS / "tracing_on", 0)
    (TRACEFS / "trace").write_text("")
    # Few functions: patching all of them while they run is more than an emulated CPU survives.
    for pattern in FUNCTIONS:
        with (TRACEFS / "set_ftrace_filter").open("a") as file:
            file.write(pattern)
    touched: list[tuple[Path, str]] = []
    yield touched
    put(TRACEFS / "tracing_on", 0)
    put(TRACEFS / "current_tracer", "nop")
    for path, value in reversed(touched):
        put(path, value)
    (TRACEFS / "set_ftrace_filter").write_text("")
    (TRACEFS / "trace").write_text("")
    put(TRACEFS / "tracing_on", 1)


def change(touched, name, value):
    path = TRACEFS / name
    if not path.exists():
        return
    # "7 (expanded: 1408)" cannot come back: as 7 it would be 7 kB for whoever traces next.
    before = re.sub(r"^.*\(expanded: (\d+)\)", r"\1", path.read_text().strip())
    touched.append((path, before.split(" ")[0].strip("[]")))
    put(path, value)


def start(touched, tracer, *events, options=()):
    available = (TRACEFS / "available_tracers").read_text().split()
    need(tracer, is_there=tracer in available, reason=f"no tracer {tracer}")
    change(touched, "buffer_size_kb", 4096)
    change(touched, "options/hash-ptr", 0)
    change(touched, "options/annotate", 0)
    put(TRACEFS / "current_tracer", tracer)
    for option in options:
        name = option.removeprefix("no")
        if not (TRACEFS / "options" / name).exists():
            pytest.skip(f"no option {name}")
        change(touched, f"options/{name}", int(name == option))
    for event in events:
        change(touched, f"events/{event}/enable", 1)


def work():
    put(TRACEFS / "tracing_on", 1)
    for _ in range(2):
        os.stat("/proc/self")
        put(TRACEFS / "trace_marker", "marked\n")
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
    put(TRACEFS / "tracing_on", 0)


GRAPH_OPTIONS = [
    (),
    ("funcgraph-proc", "funcgraph-abstime"),
    ("funcgraph-tail", "nofuncgraph-overhead"),
    ("nofuncgraph-irqs",),
    ("nofuncgraph-duration", "nofuncgraph-cpu"),
]


@pytest.mark.parametrize("options", GRAPH_OPTIONS, ids=" ".join)
def test_function_graph_is_nested_as_the_kernel_nests_it(top, options):
    start(top, "function_graph", "sched/sched_switch", "sched/sched_waking", options=options)
    work()
    assert_equal_text(TRACEFS)


def test_function_graph_is_the_same_in_small_batches(top):
    start(top, "function_graph", "sched/sched_switch")
    work()
    assert_equal_text(TRACEFS, batch_subbufs=1)


def test_function_lines_and_stacks_are_the_kernels(top):
    start(top, "function", "sched/sched_switch")
    change(top, "events/sched/sched_switch/trigger", "stacktrace:3")
    top[-1] = (TRACEFS / "events/sched/sched_switch/trigger", "!stacktrace")
    change(top, "options/userstacktrace", 1)
    work()
    assert_equal_text(TRACEFS)


@pytest.mark.parametrize("options", [("sym-offset",), ("sym-addr",), ("noprint-parent",)])
def test_function_lines_follow_the_symbol_options(top, options):
    start(top, "function", options=options)
    work()
    assert_equal_text(TRACEFS)
