"""Traces of several CPUs made with the page builder, and what comes out of them as plain rows."""

import numpy as np
from hypothesis import strategies as st

from tests.page_builder import UNKNOWN, PageBuilder, Writer
from trace_recipe.events import ArrayPages, Buffer, TraceData
from trace_recipe.formats import parse_event_format

COMMON = (
    "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n"
    "\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n"
    "\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n"
    "\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n"
)
FORMATS = {
    number: parse_event_format(
        f'name: event{number}\nID: {number}\nformat:\n{COMMON}\n\nprint fmt: ""\n', "test"
    )
    for number in range(1, 6)
}


def trace(buffers, build=PageBuilder(), sizes=None):  # noqa: B008 - never changed
    """TraceData of [{cpu: pages}]; pages is a list of bytes or a Pages."""
    made = []
    for index, cpus in enumerate(buffers):
        size = sizes[index] if sizes else build.subbuf_size
        held = {
            cpu: ArrayPages(np.frombuffer(b"".join(pages), np.uint8).reshape(-1, size))
            if isinstance(pages, list)
            else pages
            for cpu, pages in cpus.items()
        }
        made.append(Buffer(f"b{index}", "local", size, held))
    return TraceData(
        FORMATS, build.byte_order, build.long_size, build.data_offset, tuple(made), 8, "", ""
    )


def rows(batches):
    """All events as (time, buffer, cpu, id, pid) in order; checks each batch's positions."""
    out: list[tuple[int, ...]] = []
    for events in batches:
        batch: list[tuple[int, ...]] = [()] * events.count
        for columns in events:
            pids = columns.column("common_pid")
            assert (np.diff(columns.position) > 0).all()
            for index in range(columns.count):
                place = int(columns.position[index])
                assert not batch[place]
                batch[place] = (
                    int(columns.timestamp_ns[index]),
                    int(columns.buffer[index]),
                    int(columns.cpu[index]),
                    columns.format.id,
                    int(pids[index]),
                )
        assert () not in batch
        out.extend(batch)
    return out


def losses(batches):
    """All gaps as (events before it in the whole trace, buffer, cpu, count, time)."""
    out: list[tuple[int | None, ...]] = []
    before = 0
    for events in batches:
        out.extend(
            (before + gap.before, gap.buffer, gap.cpu, gap.count, gap.timestamp_ns)
            for gap in events.gaps
        )
        before += events.count
    return out


def damages(batches):
    return [one for events in batches for one in events.damages]


def written(build, events):
    writer = Writer(build)
    for timestamp, event_id, pid in events:
        writer.write(timestamp, build.event(event_id, pid))
    return writer.close()


@st.composite
def streams(draw):
    """Buffers of CPUs of events with ascending times, and losses between pages."""
    build = PageBuilder(draw(st.sampled_from("<>")), draw(st.sampled_from([4, 8])), 256)
    buffers, expected, gaps = [], [], []
    pid = 0
    for buffer in range(draw(st.integers(1, 2))):
        cpus = {}
        for cpu in range(draw(st.integers(1, 3))):
            writer, now = Writer(build), draw(st.integers(0, 50))
            for _ in range(draw(st.integers(0, 60))):
                now += draw(st.sampled_from([0, 0, 1, 3, 20, 1 << 28]))
                event_id = draw(st.integers(1, 7))
                pid += 1
                if draw(st.integers(0, 9)) == 0:
                    lost = draw(st.sampled_from([UNKNOWN, 5]))
                    writer.lose(lost)
                    gaps.append((pid, buffer, cpu, None if lost == UNKNOWN else lost, now))
                writer.write(now, build.event(event_id, pid), absolute=draw(st.booleans()))
                expected.append((now, buffer, cpu, event_id, pid))
            cpus[cpu] = writer.close()
        buffers.append(cpus)
    return build, buffers, expected, gaps
