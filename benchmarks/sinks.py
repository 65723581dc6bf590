"""How fast the row sinks write: events per second on made-up columns, next to a plain peer.

    python benchmarks/sinks.py [EVENTS]        default 1 000 000, in batches of 50 000

The peer does what comes to mind first: one dict and one json.dumps per event, from columns that are
already Python values. Half of the events are sched_switch, the rest irq, syscall and timer events.
Rounds are interleaved, the best of each is shown; `gc` runs as in the tool.
"""

from __future__ import annotations

import io
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "runner")]

import numpy as np  # noqa: E402 - the path comes first

from tests.sink_events import batch, event_format, payload, trace_data  # noqa: E402 - same
from trace_recipe.sinks import make_sink  # noqa: E402 - same
from trace_recipe.sinks.columns import ColumnReader  # noqa: E402 - same

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from trace_recipe.events import Events, TraceData

BATCH = 50_000
ROUNDS = 3
NAMES = (
    "sched:sched_switch",
    "irq:irq_handler_entry",
    "syscalls:sys_enter_mount",
    "syscalls:sys_exit_mount",
    "timer:timer_start",
)


class NullStream(io.BytesIO):
    """Counts what is written and drops it."""

    size = 0

    def write(self, data: Buffer, /) -> int:
        self.size += len(memoryview(data))
        return 0


def make_batch() -> Events:
    switch, irq, enter, leave, timer = (event_format(name) for name in NAMES)
    records = []
    for index in range(BATCH // 8):
        task = {"common_pid": 1000 + index % 200}
        comm = b"task-%d" % (index % 40)
        switched = {"prev_comm": comm, "prev_pid": 1000, "prev_prio": 120, "next_comm": b"swapper"}
        disk = b"nvme0q%d\0" % (index % 8)
        mount = {"dev_name": index << 12, "dir_name": index << 13, "flags": index}
        timing = {"timer": index << 6, "function": 0xFFFFFFFF81000010, "expires": 1 << 32 | index}
        records += [(switch, payload(switch, **task, **switched, prev_state=i)) for i in range(4)]
        records += [
            (irq, payload(irq, **task, irq=24 + index % 8, name=disk)),
            (enter, payload(enter, **task, __syscall_nr=165, **mount)),
            (leave, payload(leave, **task, __syscall_nr=165, ret=-(index % 40))),
            (timer, payload(timer, **task, **timing)),
        ]
    return batch(records)


def later(events: Events, number: int) -> Events:
    """Return the batch with other times, so that no cache profits from a second round."""
    step = np.uint64(number * BATCH * 1000)
    columns = tuple(replace(one, timestamp_ns=one.timestamp_ns + step) for one in events.columns)
    return replace(events, columns=columns)


def naive_peer(data: TraceData, events: Events, stream: NullStream) -> None:
    """One dict and one json.dumps per event; wall time and flags left out in its favour."""
    reader = ColumnReader(data)
    lines: list[bytes] = [b""] * events.count
    for columns in events:
        fields = reader.fields(columns.format)
        names = [one.field.name for one in fields]
        values = zip(*(reader.values(columns, one) for one in fields), strict=True)
        pids = reader.common(columns, "common_pid").tolist()
        times, cpus = columns.timestamp_ns.tolist(), columns.cpu.tolist()
        for row, (position, *rest) in zip(
            values, zip(columns.position.tolist(), times, cpus, pids, strict=True), strict=True
        ):
            record = {
                "ts": rest[0], "cpu": rest[1], "comm": reader.comm(rest[2]), "pid": rest[2],
                "event": columns.format.full_name, "fields": dict(zip(names, row, strict=True)),
            }  # fmt: skip
            lines[position] = json.dumps(record).encode() + b"\n"
    stream.write(b"".join(lines))


def sink_run(name: str, data: TraceData, **options: object) -> Callable[[Events], NullStream]:
    stream = NullStream()
    if options.get("layout") == "per-event":
        options["open_file"] = lambda _: stream
    sink = make_sink(name, stream, **options)
    sink.begin(data)

    def write(events: Events) -> NullStream:
        sink.write(events)
        return stream

    return write


def main() -> None:
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    batches = max(1, wanted // BATCH)
    cmdlines = {1000 + pid: f"task-{pid % 40}" for pid in range(200)}
    data = trace_data(*NAMES, cmdlines=cmdlines)
    events = make_batch()
    peer_stream = NullStream()

    def peer(events: Events) -> NullStream:
        naive_peer(data, events, peer_stream)
        return peer_stream

    runs: dict[str, Callable[[Events], NullStream]] = {
        "json.dumps per event": peer,
        "jsonl": sink_run("jsonl", data),
        "jsonl, names": sink_run("jsonl", data, names=True),
        "csv, wide": sink_run("csv", data),
        "csv, per-event": sink_run("csv", data, layout="per-event"),
    }
    seconds = {name: [0.0] * ROUNDS for name in runs}
    sizes = dict.fromkeys(runs, 0)
    for turn in range(ROUNDS):
        for number in range(batches):
            fresh = later(events, turn * batches + number)
            for name, run in runs.items():
                before = time.perf_counter()
                sizes[name] = run(fresh).size
                seconds[name][turn] += time.perf_counter() - before
    count = batches * events.count
    best = {name: count / min(taken) for name, taken in seconds.items()}
    print(f"{count} events of {len(NAMES)} types, best of {ROUNDS} rounds")
    print(f"{'sink':<22}{'M events/s':>12}{'B/event':>10}{'ratio to peer':>16}")
    for name, rate in best.items():
        size = sizes[name] / (count * ROUNDS)
        ratio = rate / best["json.dumps per event"]
        print(f"{name:<22}{rate / 1e6:>12.2f}{size:>10.0f}{ratio:>15.1f}x")


if __name__ == "__main__":
    main()
