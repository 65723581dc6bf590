"""Time to write and to read back a trace.dat, against `trace-cmd convert` of the same file.

    PYTHONPATH=runner python -m benchmarks.trace_dat [--megabytes 128] [--rounds 3]

The sub-buffers are made here (sched_switch-like records with some noise), so no root is needed.
Rounds alternate between ours and trace-cmd's; the median of each is printed, and their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tests.trace_dat_cases import make_data
from trace_recipe.events import ArrayPages, Buffer, TraceData
from trace_recipe.held_files import hold_file
from trace_recipe.trace_dat import read_trace_dat, write_trace_dat

if TYPE_CHECKING:
    from collections.abc import Callable

Compression = Literal["none", "zstd"]
SUBBUF_BYTES = 4096
RECORD_BYTES = 64
CPUS = 2


def make_large_buffer(megabytes: int) -> Buffer:
    """Return a buffer of two CPUs whose records differ in time, pid and a few words."""
    noise = np.random.default_rng(1)
    count = (megabytes << 20) // SUBBUF_BYTES // CPUS
    room = (SUBBUF_BYTES - 16) // RECORD_BYTES
    cpus = {}
    for cpu in range(CPUS):
        pages = np.zeros((count, SUBBUF_BYTES), np.uint8)
        header = pages[:, :16].view("<u8")
        header[:, 0] = np.arange(count, dtype=np.uint64) * 1_000_000 + 1_000_000_000
        header[:, 1] = room * RECORD_BYTES
        words = pages[:, 16 : 16 + room * RECORD_BYTES].view("<u4").reshape(count, room, -1)
        delta = noise.integers(200, 15_000, (count, room), np.uint32)
        delta[:, 0] = 0
        words[:, :, 0] = delta << 5 | (RECORD_BYTES // 4 - 1)
        words[:, :, 1] = 7
        words[:, :, 2] = noise.integers(1, 500, (count, room), np.uint32)
        words[:, :, 3:8] = np.frombuffer(b"some task name 12345", "<u4")
        words[:, :, 8:10] = noise.integers(0, 1 << 16, (count, room, 2), np.uint32)
        cpus[cpu] = ArrayPages(pages)
    return Buffer("", "mono", SUBBUF_BYTES, cpus)


def write(data: TraceData, path: Path, compression: Compression) -> None:
    with path.open("wb") as stream:
        write_trace_dat(stream, data, compression=compression)


def read(path: Path) -> None:
    for buffer in read_trace_dat(hold_file(path)).buffers:
        for pages in buffer.cpus.values():
            for first in range(0, pages.count, 1024):
                pages.read(first, 1024)


def convert(source: Path, target: Path, compression: Compression) -> None:
    command: list[str | Path] = [
        "trace-cmd",
        "convert",
        "-i",
        source,
        "-o",
        target,
        "--compression",
        compression,
    ]
    subprocess.run([*command, "--file-version", "7"], check=True, capture_output=True)


def timed(work: Callable[..., None], *arguments: Any) -> float:
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--megabytes", type=int, default=128)
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "source.dat")
        write(make_data(make_large_buffer(chosen.megabytes), cpu_count=CPUS), source, "none")
        data = read_trace_dat(hold_file(source))
        compressions: tuple[Compression, ...] = ("none", "zstd")
        for compression in compressions:
            target = Path(directory, f"{compression}.dat")
            theirs = Path(directory, f"{compression}-theirs.dat")
            rounds = [
                (
                    timed(write, data, target, compression),
                    timed(read, target),
                    timed(convert, source, theirs, compression),
                )
                for _ in range(chosen.rounds)
            ]
            ours, back, peer = (statistics.median(column) for column in zip(*rounds, strict=True))
            size = chosen.megabytes
            print(
                f"{compression:5} write {ours:6.3f} s {size / ours:6.0f} MB/s"
                f"   read {back:6.3f} s {size / back:6.0f} MB/s"
                f"   trace-cmd convert {peer:6.3f} s {size / peer:6.0f} MB/s"
                f"   ours/theirs {ours / peer:5.2f}"
                f"   size {target.stat().st_size >> 20} MB, theirs {theirs.stat().st_size >> 20} MB"
            )


if __name__ == "__main__":
    main()
