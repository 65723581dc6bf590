"""Tracers: what ftrace's tracers look at, and which options are theirs (kernel/trace/*.c, 6.12).

The top level's options/ has a file for every option of every tracer, whichever is chosen; an
instance's for the tracers that it may use (create_trace_option_files in trace.c). No file says
whose an option is, hence the names here.
"""

from __future__ import annotations

__all__ = [
    "FOLLOWING_OPTIONS",
    "FUNCTION_TRACERS",
    "LATENCY_TRACERS",
    "PID_TRACERS",
    "PRINTING_OPTIONS",
    "THRESHOLD_TRACERS",
    "TOP_LEVEL_OPTIONS",
    "TOP_LEVEL_TRACERS",
    "WHOLE_CPU_TRACERS",
    "is_own_option",
    "users_of_option",
    "users_of_shared_file",
]

LATENCY_TRACERS = frozenset(
    {"irqsoff", "preemptoff", "preemptirqsoff", "wakeup", "wakeup_rt", "wakeup_dl"}
)
"""They keep the longest stretch; overwrite and latency-format are on as long as they run."""

PID_TRACERS = frozenset({"function", "function_graph"})
"""They leave out the tasks that set_ftrace_pid leaves out."""

FUNCTION_TRACERS = PID_TRACERS | LATENCY_TRACERS
"""They record functions, and look at set_ftrace_filter."""

THRESHOLD_TRACERS = LATENCY_TRACERS | {"function_graph", "hwlat", "osnoise", "timerlat"}
"""They look at tracing_thresh."""

WHOLE_CPU_TRACERS = LATENCY_TRACERS | {"hwlat", "osnoise", "timerlat", "branch"}
"""They look at no pids: what they measure belongs to CPUs."""

TOP_LEVEL_TRACERS = frozenset({"blk", "branch", "mmiotrace"})
"""No kernel allows them in an instance (`allow_instances` of struct tracer)."""

TOP_LEVEL_OPTIONS = frozenset({"record-cmd", "trace_printk", "printk-msg-only"})
"""Not in an instance's options/, only in its trace_options (TOP_LEVEL_TRACE_FLAGS)."""

FOLLOWING_OPTIONS = frozenset({"event-fork", "function-fork"})
"""They add the children of listed pids to the list."""

PRINTING_OPTIONS = frozenset(
    {"annotate", "bin", "block", "fields", "hash-ptr", "hex", "latency-format", "pause-on-trace",
     "printk-msg-only", "raw", "sym-userobj", "verbose"}
)  # fmt: skip
"""They change what reading `trace` and `trace_pipe` shows, never what is recorded."""

_FUNCTION_ONLY = frozenset({"function"})
_GRAPH_ONLY = frozenset({"function_graph"})
_OWN_OPTIONS = {
    "sleep-time": _GRAPH_ONLY,
    "graph-time": _GRAPH_ONLY,
    "test_nop_accept": frozenset({"nop"}),
    "test_nop_refuse": frozenset({"nop"}),
}
_OWN_PREFIXES = {
    "func_": _FUNCTION_ONLY,
    "func-": _FUNCTION_ONLY,
    "funcgraph-": _GRAPH_ONLY,
    "blk_": frozenset({"blk"}),
}
# Every instance has these of its own, but just some tracers look at them.
_CORE_OPTIONS = {
    "display-graph": LATENCY_TRACERS,
    "function-trace": LATENCY_TRACERS,
    "function-fork": PID_TRACERS,
}


def is_own_option(option: str) -> bool:
    """Whether an option is a tracer's own: one word for all instances, up to Linux 6.18."""
    return option in _OWN_OPTIONS or option.startswith(tuple(_OWN_PREFIXES))


def users_of_shared_file(name: str) -> frozenset[str]:
    """Return the tracers that look at a file that all instances share."""
    if name.startswith("options/"):
        return users_of_option(name.removeprefix("options/")) or frozenset()
    return THRESHOLD_TRACERS if name == "tracing_thresh" else _GRAPH_ONLY


def users_of_option(option: str) -> frozenset[str] | None:
    """Return the tracers that look at an option, or None: it concerns every recording."""
    for prefix, users in _OWN_PREFIXES.items():
        if option.startswith(prefix):
            return users
    return _OWN_OPTIONS.get(option) or _CORE_OPTIONS.get(option)
