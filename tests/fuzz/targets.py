"""What is fuzzed: every reader of what comes from elsewhere."""

from __future__ import annotations

from tests.fuzz.binary_targets import (
    make_pages,
    make_sink_input,
    make_trace_dat,
    run_pages,
    run_sink,
    run_trace_dat,
)
from tests.fuzz.harness import Target
from tests.fuzz.text_targets import (
    make_event_names,
    make_filter,
    make_format,
    make_print_fmt,
    make_recipe,
    make_trigger,
    run_event_names,
    run_filter,
    run_format,
    run_print_fmt,
    run_recipe,
    run_trigger,
)

__all__ = ["TARGETS"]

TARGETS = {
    one.name: one
    for one in (
        Target("recipe", make_recipe, run_recipe),
        Target("filter", make_filter, run_filter),
        Target("trigger", make_trigger, run_trigger),
        Target("event-names", make_event_names, run_event_names),
        Target("format", make_format, run_format),
        Target("print-fmt", make_print_fmt, run_print_fmt),
        Target("pages", make_pages, run_pages),
        Target("sinks", make_sink_input, run_sink),
        # A table of symbols may have 64 MiB, and is held as bytes and as text.
        Target("trace-dat", make_trace_dat, run_trace_dat, memory_bytes=512 << 20),
    )
}
