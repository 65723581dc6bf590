"""Names that somebody who means harm gives tasks and files: what the outputs make of them."""

import csv
import json
import os
import pty
import re
import select
import time

import pytest

pytestmark = pytest.mark.tracefs

# A title, a cleared screen, a bell, a bracketed paste, C1, a line end, and what other formats eat.
NAME = "=e\x1b]0;x\x07\x1b[2J\x9b\n\r,\"'<script>\u202e{}%s"
COMM = b'=\x1b[2J\r\n,"\x9b\x07'  # at most 15 bytes
RECIPE = """
recipe: v1
name: hostile
events: ["sched:sched_process_exec", "sched:sched_process_exit"]
run: {command: [./run], directory: "."}
outputs:
  - text: "-"
  - text: out.txt
  - jsonl: out.jsonl
  - csv: out.csv
  - csv: {path: events, layout: per-event}
"""
RUN = f"""#!/usr/bin/env python3
import ctypes, os, time
ctypes.CDLL(None).prctl(15, {COMM!r}, 0, 0, 0)
if not os.fork():
    os._exit(0)
os.wait()
os.execv("./" + {NAME!r}, ["x"])
"""
HIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.fixture
def shown(cli, recipe, untouched):
    """Run the recipe on a terminal; return what that got."""
    path = recipe(RECIPE)
    for name, text in (("run", RUN), (NAME, "#!/bin/true\n")):
        (cli.directory / name).write_text(text)
        (cli.directory / name).chmod(0o755)
    words = cli.command("run", str(path))
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cli.directory)
        os.execve(words[0], words, cli.environment())
    data = b""
    ends_at = time.monotonic() + 60
    while time.monotonic() < ends_at:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            data += os.read(terminal, 1 << 16)
        except OSError:  # the other end is closed
            break
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, data
    os.close(terminal)
    return data.decode()


def test_no_output_obeys_the_names_that_tasks_and_files_have(shown, cli):
    lines = [json.loads(line) for line in (cli.directory / "out.jsonl").read_text().splitlines()]
    files = [one["fields"].get("filename") for one in lines]
    comms = [one["fields"].get("comm", "") for one in lines]
    text = (cli.directory / "out.txt").read_text()
    with (cli.directory / "out.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))

    assert f"./{NAME}" in files
    assert any(comm.startswith("=\x1b[2J") for comm in comms)
    # The progress line is the only thing on a terminal that may return to the line's start.
    assert not HIDDEN.search(shown.replace("\r", ""))
    assert not HIDDEN.search(text)
    assert "./=e\\x1b]0;x\\x07" in text
    assert all("\r" not in line for line in text.split("\n"))
    assert (cli.directory / "out.jsonl").read_bytes().isascii()
    assert len(rows) == len(lines)
    texts = [
        cell
        for row in rows
        for key, cell in row.items()
        if key in {"comm", "field_comm", "filename"}
    ]
    assert any(cell.startswith("'=") for cell in texts)
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in texts)
    assert not HIDDEN.search((cli.directory / "out.csv").read_text())
    per_event = cli.directory / "events" / "sched.sched_process_exec.csv"
    assert not HIDDEN.search(per_event.read_text())
