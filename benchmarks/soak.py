"""Record for a long time at the highest rate at which nothing is lost, and see that all is there.

First a search: ever faster loads for a few seconds each, until events are lost, the load can do no
more, or the disk would not hold the whole soak. Then the soak. It compares three counts: the
kernel's own, the manifest's, and that of the events found in the raw pages; and samples descriptors
and memory of the runner every second. Needs root, tracefs, and disk: some 50 bytes an event.
Exit status 1 when events were lost, a count differs, or the runner has grown.
Usage: python benchmarks/soak.py [--minutes N] [--probe SECONDS] [--directory DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measured import environment, run_trace_recipe
from trace_recipe.decoder.pages import PageLayout, scan
from trace_recipe.formats import parse_header_page

FIRST_RATE = 250_000
STEPS = 3
"""Halvings of the distance between the last rate that held and the first that did not."""
MARGIN = 0.9
BYTES_PER_EVENT = 50
REACHED = 0.9
"""A load that does less than this part of its rate can do no more."""
DISK_SHARE = 0.6
MAX_GROWTH_KB = 8192
_CHUNK = 4096
_ENDS = 3  # samples at the beginning and at the end that are not of the recording itself
_COUNTS = re.compile(r"^(entries|overrun|read events): (\d+)$", re.MULTILINE)
# One process for each CPU; two events for each call. Says how many calls it made.
LOAD = """
import os, sys, time
rate, seconds, directory = float(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
cpus = sorted(os.sched_getaffinity(0))
mine = cpus[0]
for cpu in cpus[1:]:
    if os.fork() == 0:
        mine = cpu
        break
os.sched_setaffinity(0, {mine})
per_ms = rate / 2 / len(cpus) / 1000
call, now, begin, calls = os.getppid, time.perf_counter, time.perf_counter(), 0
while (passed := now() - begin) < seconds:
    wanted = int(passed * 1000 * per_ms)
    for _ in range(wanted - calls):
        call()
    calls = max(calls, wanted)
    if now() - begin - passed < 0.001:
        time.sleep(0.001)
with open(f"{directory}/calls{mine}", "w") as file:
    file.write(str(calls))
if mine == cpus[0]:
    for _ in cpus[1:]:
        os.wait()
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the runner holds at one moment."""

    descriptors: int
    resident_kb: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recording: counts of events, and what the runner took."""

    seconds: float
    calls: int
    events: int
    lost: int
    by_kernel: int
    in_pages: int
    size_bytes: int
    cpu_s: float
    samples: tuple[Sample, ...]

    @property
    def rate(self) -> float:
        return (self.events + self.lost) / self.seconds

    @property
    def is_whole(self) -> bool:
        """Whether nothing was lost and every count is the same."""
        same = self.events == self.in_pages == self.by_kernel
        return not self.lost and same and self.events >= 2 * self.calls


def record(rate: float, seconds: float, directory: Path, *, counts_pages: bool) -> Recorded:
    """Record a load of `rate` events/s for so long; the recording is removed again."""
    load = [sys.executable, "-c", LOAD, str(rate), str(seconds), str(directory)]
    recipe = {
        "recipe": "v1",
        "name": "soak",
        "events": ["raw_syscalls:*"],
        "scope": {"pids": ["command"], "follow": True},
        "run": {"command": load},
    }
    (directory / "recipe.yaml").write_text(json.dumps(recipe))
    words = ["run", "--state-dir", str(directory / "state"), "--recording", "R", "recipe.yaml"]
    with (directory / "said").open("w+") as said:
        running = subprocess.Popen(
            run_trace_recipe(*words), cwd=directory, env=environment(), stderr=said
        )
        samples = _watch(running)
        if running.returncode:
            said.seek(0)
            raise RuntimeError(f"run ended with {running.returncode}: {said.read()}")
    try:
        return _found(directory, samples, counts_pages=counts_pages)
    finally:
        shutil.rmtree(directory / "R")


def _watch(running: subprocess.Popen[bytes]) -> list[tuple[Sample, float]]:
    """Sample the runner every second until it ends."""
    samples = []
    while True:
        try:
            running.wait(1)
        except subprocess.TimeoutExpired:
            samples.append(_sample(running.pid))
        else:
            return samples


def _sample(pid: int) -> tuple[Sample, float]:
    process = Path("/proc") / str(pid)
    resident_bytes = int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    ticks = (process / "stat").read_text().rpartition(")")[2].split()
    cpu_s = (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
    return Sample(len(os.listdir(process / "fd")), resident_bytes // 1024), cpu_s


def _found(directory: Path, samples: list[tuple[Sample, float]], *, counts_pages: bool) -> Recorded:
    recording = directory / "R"
    manifest = json.loads((recording / "manifest.json").read_text())
    cpus = manifest["buffers"][0]["cpus"]
    by_kernel = sum(int(count) for cpu in cpus for _, count in _COUNTS.findall(cpu["stats"]))
    return Recorded(
        seconds=manifest["duration_ns"] / 1e9,
        calls=sum(int(path.read_text()) for path in directory.glob("calls*")),
        events=manifest["events"],
        lost=manifest["lost"],
        by_kernel=by_kernel,
        in_pages=_count(recording, manifest) if counts_pages else manifest["events"],
        size_bytes=sum(cpu["bytes"] for cpu in cpus),
        cpu_s=samples[-1][1] if samples else 0.0,
        samples=tuple(one for one, _ in samples),
    )


def _count(recording: Path, manifest: dict[str, Any]) -> int:
    """Count the events that the raw pages really hold."""
    header = parse_header_page((recording / "header_page").read_text())
    kernel, buffer = manifest["kernel"], manifest["buffers"][0]
    order = "<" if kernel["byte_order"] == "little" else ">"
    layout = PageLayout(order, kernel["long_size"], header.data_offset)
    size, count = buffer["subbuf_size_bytes"], 0
    for cpu in buffer["cpus"]:
        with (recording / cpu["file"]).open("rb") as file:
            while data := file.read(size * _CHUNK):
                pages = np.frombuffer(data, np.uint8).reshape(-1, size)
                found = scan(pages, layout)
                if found.damages:
                    raise RuntimeError(f"CPU {cpu['cpu']}: {found.damages[0].reason}")
                count += found.count
    return count


def search(directory: Path, *, seconds: float, ceiling: float) -> float:
    """Return the highest rate up to `ceiling` at which nothing was lost."""
    print("| asked, events/s | done, events/s | lost |\n|---|---|---|")
    held, failed, rate = 0.0, ceiling, float(FIRST_RATE)
    halvings = 0
    while halvings < STEPS:
        rate = min(rate, ceiling)
        found = record(rate, seconds, directory, counts_pages=False)
        print(f"| {rate:.0f} | {found.rate:.0f} | {found.lost} |", flush=True)
        if found.lost:
            failed = rate
        else:
            held = max(held, min(rate, found.rate))
            if found.rate < REACHED * rate or rate >= ceiling:
                break
        if failed < ceiling or found.lost:
            halvings += 1
            rate = (held + failed) / 2
        else:
            rate *= 2
    return held


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--probe", type=float, default=10, help="seconds of each try of the search")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"))
    options = parser.parse_args()
    seconds = options.minutes * 60
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        directory = Path(name)
        room = shutil.disk_usage(directory).free * DISK_SHARE
        ceiling = room / BYTES_PER_EVENT / seconds
        held = search(directory, seconds=options.probe, ceiling=ceiling)
        if not held:
            print("\nnothing holds")
            return 1
        begin = time.perf_counter()
        soak = record(held * MARGIN, seconds, directory, counts_pages=True)
        took_s = time.perf_counter() - begin
    return _report(soak, held, ceiling, took_s)


def _report(soak: Recorded, held: float, ceiling: float, took_s: float) -> int:
    settled = soak.samples[_ENDS:-_ENDS] or soak.samples
    low = min(one.resident_kb for one in settled)
    high = max(one.resident_kb for one in settled)
    descriptors = sorted({one.descriptors for one in settled})
    print(f"\nhighest without loss: {held:.0f} events/s (the disk would hold {ceiling:.0f})")
    print("\n| soak | |\n|---|---|")
    print(f"| recorded | {soak.seconds:.0f} s of {took_s:.0f} s, {soak.rate:.0f} events/s |")
    print(f"| events by the manifest | {soak.events} |")
    print(f"| events by the kernel's counters | {soak.by_kernel} |")
    print(f"| events in the raw pages | {soak.in_pages} |")
    print(f"| system calls made by the load | {soak.calls} |")
    print(f"| lost | {soak.lost} |")
    print(f"| raw pages | {soak.size_bytes / 1e9:.1f} GB |")
    print(f"| runner's CPU | {soak.cpu_s:.1f} s, {soak.cpu_s / soak.events * 1e9:.0f} ns/event |")
    print(f"| runner's memory | {low} to {high} KB |")
    print(f"| runner's descriptors | {' or '.join(map(str, descriptors))} |")
    has_grown = high - low > MAX_GROWTH_KB or len(descriptors) > 1
    return int(has_grown or not soak.is_whole)


if __name__ == "__main__":
    sys.exit(main())
