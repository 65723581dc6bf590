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
# Formulas; JSON and CSV that end where they stand; the name of somebody else; half a character.
COMMS = (b"=1+1", b"+1", b"-1", b"@A1", b"\t=1", b"\xef\xbc\x9d1", b'","a":"', b'"\r\n=1,', b"\\",
         b"x\n1 forged", b"\xe2\x80", b"%s%n{0}", b"</script>")  # fmt: skip
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
  - trace-dat: out.dat
"""
RUN = f"""#!/usr/bin/env python3
import ctypes, os, time
ctypes.CDLL(None).prctl(15, {COMM!r}, 0, 0, 0)
for name in (None, *{COMMS!r}):
    if not os.fork():
        name and ctypes.CDLL(None).prctl(15, name, 0, 0, 0)
        os._exit(0)
    os.wait()
os.execv("./" + {NAME!r}, ["x"])
"""
KEYS = {"ts", "wall", "cpu", "pid", "comm", "flags", "system", "event", "fields", "text", "tgid"}
FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d")
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


def test_what_is_made_of_a_trace_dat_obeys_no_name_either(shown, cli):
    texts = {}
    for form in ("text", "csv", "jsonl"):
        ended = cli("report", "out.dat", "--as", form)
        assert ended.returncode == 0, ended.stderr
        texts[form] = ended.stdout
    rows = list(csv.reader(texts["csv"].splitlines(keepends=True)))
    # Split as JSON lines are: Python knows more ends of lines.
    records = [json.loads(line) for line in texts["jsonl"].split("\n") if line]

    assert not any(HIDDEN.search(text.replace("\r\n", "\n")) for text in texts.values())
    assert {len(row) for row in rows} == {len(rows[0])}
    assert not any(cell.startswith(FORMULA_STARTS) for row in rows for cell in row)
    assert all(one.keys() <= KEYS for one in records)
    assert sum(one["event"].endswith("sched_process_exit") for one in records) > len(COMMS)
    assert len(records) + 1 == len(rows)
    assert all(one["comm"] != "forged" for one in records)
