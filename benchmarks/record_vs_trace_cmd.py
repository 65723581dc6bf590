"""Recording one load: `trace-recipe run` against `trace-cmd record -B`.

trace-cmd writes the top level even with -B. Here it cannot reach it: it runs in a mount namespace
of its own, in which a directory of plain files lies over tracefs, and of the real one there is the
one instance alone. Needs root, tracefs, unshare and trace-cmd.
Usage: python benchmarks/record_vs_trace_cmd.py [--turns N] [--rounds N]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measured import Cost, environment, measure, median, run_trace_recipe
from tests.mixed_load import mixed_command, mixed_recipe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TRACEFS = Path("/sys/kernel/tracing")
SYSTEMS = ("raw_syscalls", "sched", "irq", "timer")
BUFFER_KB = 8192
INSTANCE = f"benchmark-{os.getpid()}"
# Files of the top level that may be read without any effect: closing free_buffer, for one, empties
# the buffer, and reading trace_pipe takes the events out. Nothing else is opened.
HARMLESS = (
    "available_events", "available_tracers", "buffer_percent", "buffer_size_kb",
    "buffer_subbuf_size_kb", "buffer_total_size_kb", "current_tracer", "printk_formats",
    "saved_cmdlines", "saved_cmdlines_size", "trace_clock", "trace_options", "tracing_cpumask",
)  # fmt: skip
PLAIN = {
    "tracing_on": "1\n", "set_event": "", "set_event_pid": "", "set_ftrace_filter": "",
    "set_ftrace_notrace": "", "set_ftrace_pid": "", "set_graph_function": "", "trace": "",
    "trace_marker": "", "error_log": "", "uprobe_events": "", "dynamic_events": "",
    "max_graph_depth": "0\n", "tracing_max_latency": "0\n", "tracing_thresh": "0\n",
}  # fmt: skip
WATCHED = ("tracing_on", "buffer_size_kb", "current_tracer", "set_event", "trace_clock")
SHOWN = """
import json, re, sys
from pathlib import Path
from trace_recipe.decoder import decode
from trace_recipe.held_files import hold_file
from trace_recipe.trace_dat import read_trace_dat
data = read_trace_dat(hold_file(sys.argv[1]))
events = sum(one.count for one in decode(data))
texts = [text for one in data.buffers for text in one.stats.values()]
counts = [re.findall(r"(?:overrun|dropped events): (\\d+)", text) for text in texts]
lost = sum(int(count) for found in counts for count in found)
print(json.dumps([events, lost]))
"""


@dataclass(frozen=True, slots=True)
class Result:
    """One recording: what the recorder itself took, and what came of it."""

    recorder: Cost
    events: int
    lost: int
    file_bytes: int


def make_stage(directory: Path) -> Path:
    """Copy what trace-cmd reads of the top level, anew for each run; return the directory."""
    stage = directory / "stage"
    if stage.exists():
        shutil.rmtree(stage)
    for name in (f"instances/{INSTANCE}", "per_cpu", "options"):
        (stage / name).mkdir(parents=True)
    for name in HARMLESS:
        with contextlib.suppress(OSError):
            (stage / name).write_bytes((TRACEFS / name).read_bytes())
    for name, text in PLAIN.items():
        (stage / name).write_text(text)
    for option in (TRACEFS / "options").iterdir():
        (stage / "options" / option.name).write_bytes(option.read_bytes())
    for cpu in (TRACEFS / "per_cpu").iterdir():
        (stage / "per_cpu" / cpu.name).mkdir()
        for name in ("trace_pipe_raw", "trace_pipe", "stats", "trace"):
            (stage / "per_cpu" / cpu.name / name).write_text("")
    copy_events(stage / "events")
    return stage


def copy_events(target: Path) -> None:
    for name in ("header_page", "header_event"):
        target.mkdir(exist_ok=True)
        (target / name).write_bytes((TRACEFS / "events" / name).read_bytes())
    (target / "enable").write_text("0\n")
    for system in (*SYSTEMS, "ftrace"):
        for event in (TRACEFS / "events" / system).iterdir():
            if not event.is_dir():
                continue
            copy = target / system / event.name
            copy.mkdir(parents=True)
            for name in ("format", "id"):
                with contextlib.suppress(OSError):
                    (copy / name).write_bytes((event / name).read_bytes())
            for name, text in (("enable", "0\n"), ("filter", "none\n"), ("trigger", "")):
                (copy / name).write_text(text)
        (target / system / "enable").write_text("0\n")
        (target / system / "filter").write_text("")


def in_namespace(stage: Path, command: Iterable[str]) -> list[str]:
    """Return the command that runs `command` where the stage is all that there is of tracefs."""
    tracing, there = shlex.quote(str(TRACEFS)), shlex.quote(str(stage))
    sysctls = "/proc/sys/kernel"
    script = f"""
        set -e
        mount --bind {tracing}/instances/{INSTANCE} {there}/instances/{INSTANCE}
        mount --bind /proc/sys /proc/sys
        mount -o remount,ro,bind /proc/sys
        mount --bind {there}/ftrace_enabled {sysctls}/ftrace_enabled
        mount --bind {there}/kptr_restrict {sysctls}/kptr_restrict
        mount --rbind {there} {tracing}
        test "$(cat {tracing}/staged)" = yes
        # A kernel that is locked down refuses these, and trace-cmd 3.1.6 ends in a SIGSEGV.
        for file in set_ftrace_filter set_ftrace_notrace set_ftrace_pid set_graph_function; do
            own={tracing}/instances/{INSTANCE}/$file
            test ! -e $own || mount --bind {tracing}/$file $own
        done
        exec {shlex.join(command)}
    """
    (stage / "staged").write_text("yes\n")
    (stage / "ftrace_enabled").write_text("1\n")
    (stage / "kptr_restrict").write_text("0\n")
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]


def trace_cmd(directory: Path, turns: int) -> list[str]:
    events = [word for system in SYSTEMS for word in ("-e", system)]
    return [
        "trace-cmd", "record", "-q", "-o", "trace.dat", "-B", INSTANCE, "-C", "mono",
        "-b", str(BUFFER_KB), *events, "-F", "-c",
        *mixed_command(turns=turns, directory=directory),
    ]  # fmt: skip


def ours(directory: Path, turns: int) -> list[str]:
    recipe = mixed_recipe(SYSTEMS, turns=turns, directory=directory, buffer_size=f"{BUFFER_KB}K")
    del recipe["loss"]
    (directory / "recipe.yaml").write_text(json.dumps(recipe))
    return run_trace_recipe("run", "--state-dir", str(directory / "state"), "recipe.yaml")


def record(command: list[str], directory: Path) -> Result:
    """Record once; the load's own CPU time is taken out."""
    for name in ("trace.dat", "load_cpu_s"):
        (directory / name).unlink(missing_ok=True)
    cost = measure(command, directory=directory)
    load_s = float((directory / "load_cpu_s").read_text())
    file = directory / "trace.dat"
    shown = subprocess.run(
        [sys.executable, "-c", SHOWN, str(file)],
        env=environment(),
        check=True,
        capture_output=True,
    )
    events, lost = json.loads(shown.stdout)
    recorder = Cost(cost.wall_s, cost.cpu_s - load_s, cost.peak_mb)
    return Result(recorder, events, lost, file.stat().st_size)


@contextlib.contextmanager
def instance() -> Iterator[None]:
    """Make the instance that trace-cmd gets, and see that the top level is as it was."""
    path = TRACEFS / "instances" / INSTANCE
    before = {name: (TRACEFS / name).read_bytes() for name in WATCHED}
    path.mkdir()
    try:
        yield
    finally:
        path.rmdir()
        changed = [name for name in WATCHED if (TRACEFS / name).read_bytes() != before[name]]
        if changed:
            raise RuntimeError(f"the top level changed meanwhile: {changed}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=45_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        results: dict[tuple[str, int], list[Result]] = {}
        for _ in range(options.rounds):
            for turns in (1, options.turns):
                peer = in_namespace(make_stage(directory), trace_cmd(directory, turns))
                for title, command in (
                    ("trace-recipe run", ours(directory, turns)),
                    ("trace-cmd record -B", peer),
                ):
                    with instance():
                        found = record(command, directory)
                    results.setdefault((title, turns), []).append(found)
    print(f"medians of {options.rounds} interleaved rounds, {BUFFER_KB} KB per CPU\n")
    print("| | fixed CPU s | fixed wall s | events | CPU ns/event | lost | bytes/event on disk |")
    print("|---|---|---|---|---|---|---|")
    for title in ("trace-recipe run", "trace-cmd record -B"):
        start = results[title, 1]
        runs = results[title, options.turns]
        fixed = median([one.recorder for one in start])
        events = sorted(one.events for one in runs)[len(runs) // 2]
        full = median([one.recorder for one in runs])
        idle_bytes = min(one.file_bytes for one in start)
        per_event = (full.cpu_s - fixed.cpu_s) / events * 1e9
        size = (runs[0].file_bytes - idle_bytes) / runs[0].events
        lost = " ".join(str(one.lost) for one in runs)
        print(
            f"| {title} | {fixed.cpu_s:.2f} | {fixed.wall_s:.2f} | {events} | {per_event:.0f}"
            f" | {lost} | {size:.1f} |"
        )


if __name__ == "__main__":
    main()
