"""Drifts as a buffer of their own: what others changed stands in a report at its time.

A trace.dat has no place for a remark at a time. It may hold several ring buffers, which every
reader merges by time, so one more is made, with a `print` event for each drift, as if somebody had
written it to a trace_marker. The sub-buffers that were recorded stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from trace_recipe.events import ArrayPages, Buffer

if TYPE_CHECKING:
    from trace_recipe.events import TraceData
    from trace_recipe.formats import EventFormat

__all__ = ["drift_buffer"]

_NAME = "drift"
_PRINT = "ftrace:print"
_TIME_BYTES = 8
_HEAD_BYTES = 8
"""Of a record in its long form: a word of zeros (type_len, time delta), and the length."""


def drift_buffer(data: TraceData) -> Buffer | None:
    """Return a buffer that tells of the drifts; None where there is none whose time is known."""
    timed = [(one.trace_ns, str(one)) for one in data.drifts if one.trace_ns is not None]
    form = next((one for one in data.formats.values() if one.full_name == _PRINT), None)
    if not timed or form is None:
        return None
    recorded = data.buffers[0]
    pages = [_page(data, form, time, text) for time, text in sorted(timed, key=lambda one: one[0])]
    array = np.frombuffer(b"".join(pages), np.uint8).reshape(-1, recorded.subbuf_size_bytes)
    return Buffer(_NAME, recorded.clock, recorded.subbuf_size_bytes, {0: ArrayPages(array)})


def _page(data: TraceData, form: EventFormat, time: int, text: str) -> bytes:
    """Return a sub-buffer with one `print` event of process 0."""
    order: Literal["little", "big"] = "little" if data.byte_order == "<" else "big"
    size = data.buffers[0].subbuf_size_bytes
    room = size - data.data_offset - _HEAD_BYTES - form.fixed_size - 1
    kind = form.find("common_type")
    body = bytearray(form.fixed_size)
    if kind is not None:
        body[kind.offset : kind.offset + kind.size] = form.id.to_bytes(kind.size, order)
    body += f"DRIFT {text}".encode()[:room] + b"\0"
    body += bytes(-len(body) % 4)
    record = bytes(4) + (len(body) + 4).to_bytes(4, order) + body
    head = time.to_bytes(_TIME_BYTES, order) + len(record).to_bytes(data.long_size, order)
    return (head.ljust(data.data_offset, b"\0") + record).ljust(size, b"\0")
