"""Files that trace-cmd itself recorded are read, and what we record is read by trace-cmd."""

import json
import os
import re
import subprocess

import pytest

from tests.requirements import need_command


def _events(text: str) -> list[tuple[str, str, str]]:
    """(pid, time, event) of each line of `trace-cmd report`."""
    return re.findall(r"^\s*\S.*?-(\d+) +\[\d+\].*? (\d+\.\d{6}): (\w+):", text, re.MULTILINE)


def _report(path) -> list[tuple[str, str, str]]:
    done = subprocess.run(
        [need_command("trace-cmd"), "report", "-N", str(path)],
        capture_output=True, text=True, check=True, errors="replace",
    )  # fmt: skip
    return _events(done.stdout)


@pytest.mark.parametrize(
    "options",
    [[], ["--file-version", "6"], ["--compression", "none"], ["-C", "tsc2nsec"]],
    ids=["plain", "v6", "uncompressed", "processor-ticks"],
)
def test_a_file_that_trace_cmd_recorded_gives_the_same_events(cli, options):
    record = [
        need_command("trace-cmd"), "record", *options, "-o", "theirs.dat",
        "-e", "sched:sched_switch", "-e", "raw_syscalls", "sleep", "0.3",
    ]  # fmt: skip
    done = subprocess.run(record, cwd=cli.directory, capture_output=True, text=True)
    if done.returncode and "--file-version" in done.stderr + done.stdout:
        record = [word for word in record if word not in options]
        subprocess.run(record, cwd=cli.directory, capture_output=True, check=True)
    if "TSC to nanosecond is not supported" in done.stderr:
        pytest.skip("this kernel's perf does not tell the length of a tick")
    path = cli.directory / "theirs.dat"
    assert path.exists(), done.stderr

    mine = cli("report", "theirs.dat", "--as", "jsonl")

    assert mine.returncode == 0, mine.stderr
    events = [json.loads(line) for line in mine.stdout.splitlines()]
    found = [
        (str(one["pid"]), f"{(one['ts'] + 500) // 1000 / 1e6:.6f}", one["event"].split(":")[1])
        for one in events
        if "event" in one
    ]
    assert len(found) > 10
    assert sorted(found) == sorted(_report(path))


def test_trace_cmd_reads_what_we_recorded(cli, recipe):
    path = recipe(
        "recipe: v1\nname: ours\nevents: ['sched:sched_switch', 'raw_syscalls:*']\n"
        "run: {command: [/bin/sleep, '0.3']}\noutputs: [{trace-dat: a.dat}, {jsonl: a.jsonl},\n"
        "  {trace-dat: {path: b.dat, version: 6}}]\n"
    )

    done = cli("run", str(path))

    assert done.returncode == 0, done.stderr
    count = len((cli.directory / "a.jsonl").read_text().splitlines())
    assert count > 10
    assert len(_report(cli.directory / "a.dat")) == count
    assert len(_report(cli.directory / "b.dat")) == count
    assert os.path.getsize(cli.directory / "a.dat") > 4096
