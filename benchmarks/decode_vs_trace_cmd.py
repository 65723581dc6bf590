"""Reading one trace.dat: our columns, text and JSON lines against `trace-cmd report`.

Needs root, tracefs and trace-cmd: it records a mixed load of its own, in an instance of its own.
Usage: python benchmarks/decode_vs_trace_cmd.py [--turns N] [--rounds N] [--file trace.dat]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measured import Cost, environment, measure, median, run_trace_recipe
from tests.mixed_load import mixed_recipe

SYSTEMS = ("raw_syscalls", "syscalls", "sched", "irq", "timer")
COUNT = """
import sys
from pathlib import Path
from trace_recipe.decoder import decode
from trace_recipe.held_files import hold_file
from trace_recipe.trace_dat import read_trace_dat
print(sum(events.count for events in decode(read_trace_dat(hold_file(sys.argv[1])))))
"""
COLUMNS = """
import sys
from pathlib import Path
from trace_recipe.decoder import decode
from trace_recipe.held_files import hold_file
from trace_recipe.trace_dat import read_trace_dat
for events in decode(read_trace_dat(hold_file(sys.argv[1]))):
    for columns in events:
        for field in columns.format.all_fields:
            columns.dynamic(field.name) if field.is_dynamic else columns.column(field.name)
"""


def record(directory: Path, turns: int) -> Path:
    recipe = mixed_recipe(SYSTEMS, turns=turns, directory=directory)
    (directory / "recipe.yaml").write_text(json.dumps(recipe))
    state = str(directory / "state")
    measure(run_trace_recipe("run", "--state-dir", state, "recipe.yaml"), directory=directory)
    return directory / "trace.dat"


def count_events(file: Path) -> int:
    command = [sys.executable, "-c", COUNT, str(file)]
    return int(subprocess.run(command, env=environment(), check=True, capture_output=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=45_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--file", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        file = options.file.resolve() if options.file else record(directory, options.turns)
        events = count_events(file)
        commands = {
            "trace-cmd report -N": ["trace-cmd", "report", "-N", str(file)],
            "trace-cmd report -N -R": ["trace-cmd", "report", "-N", "-R", str(file)],
            "all columns": [sys.executable, "-c", COLUMNS, str(file)],
            "report --as text": run_trace_recipe("report", str(file), "--as", "text"),
            "report --as jsonl": run_trace_recipe("report", str(file), "--as", "jsonl"),
        }
        costs: dict[str, list[Cost]] = {title: [] for title in commands}
        for _ in range(options.rounds):
            for title, command in commands.items():
                costs[title].append(measure(command, directory=directory))
    print(f"{events} events; medians of {options.rounds} interleaved rounds\n")
    print("| | wall s | CPU s | k events per CPU s | CPU vs trace-cmd report | peak MB |")
    print("|---|---|---|---|---|---|")
    peer = median(costs["trace-cmd report -N"]).cpu_s
    for title, runs in costs.items():
        one = median(runs)
        print(
            f"| {title} | {one.wall_s:.2f} | {one.cpu_s:.2f} | {events / one.cpu_s / 1000:.0f}"
            f" | {one.cpu_s / peer:.2f} | {one.peak_mb:.0f} |"
        )


if __name__ == "__main__":
    main()
