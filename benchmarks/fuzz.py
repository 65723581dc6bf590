"""Feed the readers of recipes, formats and recordings with millions of broken inputs.

Nothing is traced; root is not needed. What an input may not do: raise what is not documented, take
more than two seconds of processor time, or grow the process beyond the target's limit. Input number
N of a seed is always the same: `--first N --inputs 1` runs a finding again.

    python -m benchmarks.fuzz --target trace-dat --inputs 1000000 --jobs 2
    python -m benchmarks.fuzz --target all --inputs 1000000 --minutes 60
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "runner"))

from tests.fuzz.harness import Report, fuzz
from tests.fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", choices=[*TARGETS, "all"], default="all")
    parser.add_argument("--inputs", type=int, default=100_000, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--jobs", type=int, default=1, help="processes at the same time")
    parser.add_argument("--minutes", type=float, help="at most, for each target")
    options = parser.parse_args()
    names = list(TARGETS) if options.target == "all" else [options.target]
    reports = []
    for name in names:
        until = None if options.minutes is None else time.monotonic() + 60 * options.minutes
        report = fuzz(
            TARGETS[name],
            inputs=options.inputs,
            seed=options.seed,
            first=options.first,
            jobs=options.jobs,
            until=until,
            show=lambda report, name=name: show_progress(name, report),
        )
        show(name, report)
        reports.append(report)
    return int(any(report.findings for report in reports))


def show_progress(name: str, report: Report) -> None:
    if sys.stderr.isatty():
        print(f"\r{line(name, report)}", end="", file=sys.stderr, flush=True)


def show(name: str, report: Report) -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    print(line(name, report), flush=True)
    for cause, finding in report.findings.items():
        print(f"  {finding.kind} at {finding.where}, {report.counts[cause]} times")
        print(f"  the first is input {finding.index}:")
        print("".join(f"    {one}\n" for one in finding.text.splitlines()), end="", flush=True)


def line(name: str, report: Report) -> str:
    rate = report.inputs / report.seconds if report.seconds else 0.0
    return (
        f"{name}: {report.inputs} inputs in {report.seconds:.0f} s, {rate:.0f}/s,"
        f" {len(report.findings)} findings,"
        f" slowest {report.worst_s:.3f} s (input {report.worst_index}),"
        f" grew by {report.peak_bytes / (1 << 20):.0f} MiB (input {report.peak_index})"
    )


if __name__ == "__main__":
    sys.exit(main())
