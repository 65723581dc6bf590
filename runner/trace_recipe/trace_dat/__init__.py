"""trace.dat, the file of trace-cmd: versions 6 and 7, read and written."""

from __future__ import annotations

from trace_recipe.trace_dat.reader import read_trace_dat
from trace_recipe.trace_dat.writer import write_trace_dat

__all__ = ["read_trace_dat", "write_trace_dat"]
