"""How fast text is rendered: events per second for a common mix and for each event type alone.

    python benchmarks/text.py [EVENTS]        default 1 000 000, in batches of 50 000

The mix is half system calls (raw), a quarter sched, the rest irq and timer events. Writing goes to
a stream that drops it; the best of three rounds of CPU time is shown.
"""

from __future__ import annotations

import io
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "runner")]

import numpy as np  # noqa: E402 - the path comes first

from tests.sink_events import batch, event_format, payload, trace_data  # noqa: E402 - same
from trace_recipe.sinks.text import TextSink  # noqa: E402 - same

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from trace_recipe.events import Events
    from trace_recipe.formats import EventFormat

BATCH = 50_000
ROUNDS = 3
MIX = (
    "raw_syscalls:sys_enter", "raw_syscalls:sys_enter", "raw_syscalls:sys_exit",
    "raw_syscalls:sys_exit", "sched:sched_switch", "sched:sched_waking", "irq:softirq_entry",
    "timer:hrtimer_start",
)  # fmt: skip
ALONE = (
    "sched:sched_switch", "sched:sched_waking", "raw_syscalls:sys_enter", "raw_syscalls:sys_exit",
    "syscalls:sys_enter_openat", "syscalls:sys_exit_openat", "irq:irq_handler_entry",
    "irq:softirq_entry", "timer:hrtimer_start", "timer:timer_start", "kmem:mm_page_alloc",
    "ftrace:function",
)  # fmt: skip


class NullStream(io.BytesIO):
    """Drops what is written."""

    def write(self, data: Buffer, /) -> int:
        return len(memoryview(data))


def record(layout: EventFormat, index: int) -> tuple[EventFormat, bytes]:
    """Return a record with plausible values; numbers vary, names repeat."""
    values: dict[str, object] = {"common_pid": 1000 + index % 200, "common_flags": index % 2}
    for one in layout.fields:
        if one.name in {"ip", "parent_ip", "function"}:
            values[one.name] = 0xFFFFFFFF81000000 + index % 512
        elif one.is_string:
            values[one.name] = b"task-%d\0" % (index % 40)
        elif one.name in {"prev_state", "vec", "gfp_flags"}:
            values[one.name] = index % 9
        elif one.kind == "scalar":
            values[one.name] = index * 7919 % (1 << min(8 * one.size, 40) - 1)
        elif one.kind == "array":
            values[one.name] = [index * 31 + place for place in range(one.length)]
    return layout, payload(layout, **values)


def make_batch(names: tuple[str, ...]) -> Events:
    layouts = [event_format(name) for name in names]
    return batch([record(layouts[index % len(layouts)], index) for index in range(BATCH)])


def best(names: tuple[str, ...], batches: int) -> float:
    data = trace_data(*names)
    first = make_batch(names)
    times = []
    for _ in range(ROUNDS):
        sink = TextSink(NullStream())
        sink.begin(data)
        begin = time.process_time()
        for number in range(batches):
            step = np.uint64(number * BATCH * 1000)
            columns = tuple(
                replace(one, timestamp_ns=one.timestamp_ns + step) for one in first.columns
            )
            sink.write(replace(first, columns=columns))
        sink.end()
        times.append(time.process_time() - begin)
    return batches * BATCH / min(times)


def main() -> None:
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    batches = max(wanted // BATCH, 1)
    print(f"{'mix':28s} {best(MIX, batches) / 1e6:6.2f} M events/s")
    for name in ALONE:
        print(f"{name:28s} {best((name,), max(batches // 4, 1)) / 1e6:6.2f} M events/s")


if __name__ == "__main__":
    main()
