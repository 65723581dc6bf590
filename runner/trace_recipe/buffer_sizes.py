"""Buffer sizes: the default, and what the kernel makes of a size that it is asked for."""

from __future__ import annotations

__all__ = ["default_buffer_bytes", "shown_size_kb", "shown_subbuf_kb"]

_DEFAULT_BYTES = 8 << 20  # loses nothing at 5 million events/s on two busy CPUs
_MANY_CPUS = 16
_MANY_CPUS_BYTES = 2 << 20
_LEAST_SUBBUFS = 2


def default_buffer_bytes(cpu_count: int) -> int:
    """Return the size per CPU of a ring buffer for which the recipe names no size."""
    return _DEFAULT_BYTES if cpu_count <= _MANY_CPUS else _MANY_CPUS_BYTES


def shown_subbuf_kb(asked_bytes: int, *, page_size_bytes: int) -> int:
    """Return what buffer_subbuf_size_kb shows after it: pages, by the next power of two.

    Read in buffer_subbuf_size_write() of kernel/trace/trace.c.
    """
    pages = -(-asked_bytes // page_size_bytes)
    return (page_size_bytes << (pages - 1).bit_length()) // 1024


def shown_size_kb(asked_kb: int, *, subbuf_kb: int, header_bytes: int) -> int:
    """Return what buffer_size_kb shows after it: whole sub-buffers, their headers left out.

    Read in ring_buffer_resize() and ring_buffer_size() of kernel/trace/ring_buffer.c. The result,
    asked for, shows itself.
    """
    data_bytes = subbuf_kb * 1024 - header_bytes
    subbufs = max(-(-asked_kb * 1024 // data_bytes), _LEAST_SUBBUFS)
    return subbufs * data_bytes // 1024
