"""A tracefs that somebody else has been at: what must be found again, file by file, after a run.

The values are never defaults, and no trigger, count or pid of them is met by accident, so that the
tree stands still: no task has a pid above 4194304. What a kernel does not have is left out; what it
has must take its value.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trace_recipe.errors import TracefsError

if TYPE_CHECKING:
    from trace_recipe.tracefs import Tracefs

__all__ = ["MESS", "Setting", "make_messy"]

WAKING, WAKEUP, STOP = (
    f"events/sched/{name}" for name in ("sched_waking", "sched_wakeup", "sched_kthread_stop")
)
NEVER = "if pid == 4999999"


@dataclass(frozen=True, slots=True)
class Setting:
    """One write. `is_refused`: the kernel answers EINVAL, and shows what it refused."""

    file: str
    text: str
    is_refused: bool = False
    needs: str = ""
    """A file that shows whether the kernel has what the text asks for."""
    is_simulated: bool = True


def _real(file: str, text: str, needs: str = "", *, is_refused: bool = False) -> Setting:
    return Setting(file, text, needs=needs, is_refused=is_refused, is_simulated=False)


MESS = (
    _real("dynamic_events", "p:messy/fallocate vfs_fallocate\n", "kprobe_events"),
    _real("dynamic_events", "r:messy/fallocated vfs_fallocate ret=$retval\n", "kprobe_events"),
    _real("dynamic_events", "p:messy/busybox /bin/busybox:0x1000\n", "uprobe_events"),
    _real("dynamic_events", "s:messy_ns u64 lat; pid_t pid\n", "synthetic_events"),
    _real("dynamic_events", "e:messy/stopped sched/sched_kthread_stop pid=$pid\n", "kprobe_events"),
    Setting("buffer_subbuf_size_kb", "8\n"),
    Setting("buffer_size_kb", "600\n"),
    Setting("per_cpu/cpu0/buffer_size_kb", "300\n"),
    Setting("buffer_percent", "73\n"),
    Setting("snapshot", "1\n"),
    Setting("options/overwrite", "0\n"),
    Setting("options/sym-offset", "1\n"),
    Setting("options/stacktrace", "1\n"),
    _real("options/funcgraph-proc", "1\n"),
    Setting("saved_cmdlines_size", "7000\n"),
    _real(f"{WAKING}/trigger", f"hist:keys=pid:ts0=common_timestamp.usecs {NEVER}\n", f"{WAKING}/hist"),
    _real(f"{WAKEUP}/trigger",
          "hist:keys=pid:lat=common_timestamp.usecs-$ts0:onmatch(sched.sched_waking).messy_ns($lat,pid)"
          f" {NEVER}\n", "events/synthetic/messy_ns/hist"),
    _real("events/synthetic/messy_ns/trigger", "hist:name=messy:keys=pid:vals=lat:size=128:pause\n",
          "events/synthetic/messy_ns/hist"),
    Setting(f"{WAKING}/trigger", f"traceoff:5 {NEVER}\n"),
    Setting(f"{WAKING}/trigger", "disable_event:sched:sched_wakeup:9 if pid == 4999998\n"),
    Setting(f"{WAKEUP}/trigger", f"stacktrace {NEVER}\n"),
    Setting(f"{STOP}/trigger", f"snapshot:2 {NEVER}\n", needs="snapshot"),
    _real("events/messy/fallocate/trigger", "traceon if __probe_ip == 1\n", "kprobe_events"),
    Setting(f"{WAKING}/filter", 'comm == "nobody at all"\n'),
    Setting(f"{WAKEUP}/filter", "pid == 4999997\n"),
    Setting(f"{STOP}/filter", "nope == 1\n", is_refused=True),
    _real("events/messy/fallocate/filter", "__probe_ip == 7\n", "kprobe_events"),
    Setting("set_event_pid", "4999990 4999991\n"),
    Setting("set_event_notrace_pid", "4999992\n"),
    Setting("set_ftrace_pid", "4999990\n"),
    Setting("set_ftrace_notrace_pid", "4999993 4999994\n"),
    Setting("set_ftrace_filter", "vfs_fallocate\nvfs_write\n"),
    Setting("set_ftrace_filter", "vfs_mkobj:traceoff:7\n"),
    Setting("set_ftrace_notrace", "vfs_write\n"),
    Setting("set_graph_function", "vfs_fallocate\n"),
    Setting("set_graph_notrace", "vfs_write\n"),
    Setting("max_graph_depth", "4294967295\n"),
    _real("stack_trace_filter", "vfs_fallocate\n"),
    _real("hwlat_detector/width", "400000\n"),
    _real("osnoise/stop_tracing_us", "777\n"),
    Setting("trace_clock", "boot\n"),
    Setting("tracing_cpumask", "2\n"),
    Setting("current_tracer", "function\n", needs="set_ftrace_filter"),
    Setting("tracing_thresh", "55\n"),
    Setting("tracing_max_latency", "1234\n"),
    Setting(f"{WAKING}/enable", "1\n"),
    Setting(f"{STOP}/enable", "1\n"),
    _real("events/messy/fallocate/enable", "1\n", "kprobe_events"),
)  # fmt: skip


def make_messy(tree: Tracefs, *, is_simulated: bool = False) -> int:
    """Write everything that the tree has files for; return how many settings that were."""
    count = 0
    for setting in MESS:
        if is_simulated and not setting.is_simulated:
            continue
        if not all(map(tree.exists, filter(None, (setting.file, setting.needs)))):
            continue
        try:
            tree.write(setting.file, setting.text)
        except TracefsError as error:
            if error.errno == errno.EPERM:  # lockdown closes the function files
                continue
            if not setting.is_refused:
                raise
        count += 1
    return count
