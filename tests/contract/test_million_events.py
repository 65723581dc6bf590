"""More than a million mixed events through `run` and trace.dat, each compared with trace-cmd.

Fields are compared with `report -R` (values, time in ns, CPU, pid, task name, order), texts with
`report`. Texts may differ in the ways of DIFFERENCES alone; each has its reason.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Cli, tracefs_turn
from tests.mixed_load import mixed_recipe
from tests.requirements import need_command
from tests.tracefs_tree import differences, snapshot
from trace_recipe.decoder import decode
from trace_recipe.decoder.print_values import visible
from trace_recipe.formats import FieldKind
from trace_recipe.held_files import hold_file
from trace_recipe.trace_dat import read_trace_dat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from trace_recipe.events import EventColumns, Events, Symbols
    from trace_recipe.formats import Field

pytestmark = [
    pytest.mark.tracefs,
    pytest.mark.slow,
    pytest.mark.skipif(
        "TRACE_RECIPE_IN_VM" in os.environ, reason="too much for an emulated machine"
    ),
]

WANTED = 1_100_000
TURNS = 45_000  # about 26 events each, and their number is fixed: so is that of the events
SYSTEMS = {"raw_syscalls", "syscalls", "sched", "irq", "timer"}


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recording of the load, as the product wrote it."""

    cli: Cli
    path: Path
    summary: str


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Run the recipe once for all tests; the kernel is as before."""
    need_command("trace-cmd")
    directory = tmp_path_factory.mktemp("million")
    recipe = mixed_recipe(SYSTEMS, turns=TURNS, directory=directory)
    (directory / "recipe.yaml").write_text(json.dumps(recipe))
    cli = Cli(directory)
    with tracefs_turn():
        before = snapshot()
        done = cli("run", "recipe.yaml", "--recording", "kept.rec", timeout=400)
        assert done.returncode == 0, done.stderr
        assert differences(before, snapshot()) == {}
    return Recorded(cli, directory / "trace.dat", done.stderr)


def test_the_recording_holds_a_million_events_of_every_kind_and_lost_none(recorded):
    manifest = json.loads((recorded.cli.directory / "kept.rec/manifest.json").read_text())
    counts: Counter[str] = Counter()
    for events in decode(read_trace_dat(hold_file(recorded.path))):
        assert not events.gaps
        assert not events.damages
        for columns in events:
            counts[columns.format.system] += columns.count

    assert counts.total() >= WANTED
    assert set(counts) == SYSTEMS
    assert min(counts.values()) >= 1000
    assert f"million: {counts.total()} events" in recorded.summary
    assert ", 0 lost" in recorded.summary
    assert manifest["events"] == counts.total()


def test_every_field_of_every_event_is_the_one_that_trace_cmd_reads(recorded):
    data = read_trace_dat(hold_file(recorded.path))
    assert data.symbols is not None
    compared: Counter[str] = Counter()
    with trace_cmd_lines("-R", "-t", "-N", recorded.path) as lines:
        for events in decode(data):
            theirs = list(islice(lines, events.count))
            assert len(theirs) == events.count
            compare_batch(events, theirs, data.cmdlines, data.symbols, compared)
        assert not list(lines)

    assert compared["events"] >= WANTED
    assert compared["fields"] > 3 * WANTED


def test_every_text_is_that_of_trace_cmd_but_for_the_differences_with_a_reason(recorded):
    known: Counter[str] = Counter()
    unknown = []
    events = 0
    ours_running = subprocess.Popen(
        recorded.cli.command("report", str(recorded.path), "--as", "text"),
        env=recorded.cli.environment(),
        stdout=subprocess.PIPE,
    )
    with (
        ours_running,
        trace_cmd_lines("-N", recorded.path) as lines,
    ):
        assert ours_running.stdout is not None
        texts = (line.decode().rstrip("\n") for line in ours_running.stdout)
        for our_line in texts:
            if our_line.startswith("#"):
                continue
            their_line = next(lines)
            events += 1
            ours, theirs = OUR_LINE.match(our_line), THEIR_LINE.match(their_line)
            assert ours is not None, our_line
            assert theirs is not None, their_line
            assert ours.groups()[:4] == theirs.groups()[:4]
            text = visible(f"{theirs[5]}: {theirs[6]}")
            used = []
            for difference in DIFFERENCES:
                if ours[5] == text:
                    break
                changed = difference.apply(text, ours[5])
                if changed != text:
                    used.append(difference.name)
                    text = changed
            if ours[5] != text:
                unknown.append((ours[5], f"{theirs[5]}: {theirs[6]}"))
            known.update(used or ["none"])
        assert not list(lines)

    assert ours_running.returncode == 0
    assert not unknown, f"{len(unknown)} texts differ without a reason, first {unknown[:5]}"
    assert events >= WANTED
    assert set(known) - {"none"} <= {one.name for one in DIFFERENCES}
    assert known["none"] > WANTED / 2
    assert known["system call"] > 100_000


# --- what trace-cmd says --------------------------------------------------------------------------

# From version 3.3 on a column of latency flags stands before the time.
THEIR_LINE = re.compile(
    r" *(.*?)-(\d+) +\[(\d+)\] +(?:\S+ +)?(\d+\.\d+): (\w+): *(.*?)\n?$", re.DOTALL
)
LINE_START = re.compile(r".{8,}-\d+ +\[\d+\] ")
OUR_LINE = re.compile(r" *(.*?)-(\d+) +\[(\d+)\] \S+ +(\d+\.\d+): (.*)$")


@contextmanager
def trace_cmd_lines(*arguments: object) -> Iterator[Iterator[str]]:
    """Give the lines of the events that `trace-cmd report` prints, while it prints them."""
    running = subprocess.Popen(
        [need_command("trace-cmd"), "report", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with running:
        assert running.stdout is not None
        try:
            assert next(running.stdout).startswith(b"cpus=")
            yield whole_lines(running.stdout)
        finally:
            running.stdout.close()
            if sys.exc_info()[0] is not None:
                running.kill()
    assert running.returncode == 0


def whole_lines(printed: Iterable[bytes]) -> Iterator[str]:
    """Put together what a line end in the name of some other task has cut."""
    whole = ""
    for data in printed:
        line = data.decode("utf-8", "backslashreplace")
        if whole[: whole.rfind("=")].endswith("comm") and not LINE_START.match(line):
            whole += line
            continue
        if whole:
            yield whole
        whole = line
    if whole:
        yield whole


# --- fields ---------------------------------------------------------------------------------------


def compare_batch(
    events: Events,
    lines: list[str],
    cmdlines: Mapping[int, str],
    symbols: Symbols,
    compared: Counter[str],
) -> None:
    """Compare one batch with the lines of `report -R -t` that stand for the same events."""
    rows = []
    for line in lines:
        found = THEIR_LINE.match(line)
        assert found is not None, line
        rows.append(found.groups())
    for columns in events:
        own = columns.format
        comms, pids, cpus, times, names, texts = zip(
            *(rows[place] for place in columns.position.tolist()), strict=True
        )
        assert set(names) == {own.name}
        assert numbers(pids) == columns.column("common_pid").tolist()
        assert numbers(cpus) == columns.cpu.tolist()
        assert [int(time.replace(".", "")) for time in times] == columns.timestamp_ns.tolist()
        tasks = [cmdlines.get(pid, "<...>") if pid else "<idle>" for pid in numbers(pids)]
        assert list(comms) == tasks
        compared["events"] += columns.count
        if not own.fields:
            continue
        # A blank stands before each field; strings may hold blanks and equal signs.
        pattern = re.compile(
            " ".join(f"{one.name}={_value_pattern(one)}" for one in own.fields), re.DOTALL
        )
        matches = [pattern.fullmatch(text) for text in texts]
        assert None not in matches, texts[matches.index(None)]
        shown = zip(*(match.groups() for match in matches if match), strict=True)
        for one, values in zip(own.fields, shown, strict=True):
            compare_field(columns, one, values, symbols)
            compared["fields"] += columns.count


def _value_pattern(one: Field) -> str:
    return r"(\S+)" if one.kind is FieldKind.SCALAR else r"(ARRAY\[[^]]*\]|.*?)"


def compare_field(
    columns: EventColumns, one: Field, values: Sequence[str], symbols: Symbols
) -> None:
    """Compare what trace-cmd printed of one field with the column, all events at once."""
    where = f"{columns.format.full_name}.{one.name}"
    if one.kind is not FieldKind.SCALAR:
        start, size = columns.dynamic(one.name)
        blob = columns.data.tobytes()
        raws = [
            blob[begin : begin + length]
            for begin, length in zip(start.tolist(), size.tolist(), strict=True)
        ]
        if not one.is_dynamic:  # the same bytes by way of the numbers
            elements = columns.column(one.name)
            assert elements.tobytes() == b"".join(raws), where
        assert [shown_bytes(raw, value) for raw, value in zip(raws, values, strict=True)] == list(
            values
        ), where
        return
    ours = columns.column(one.name).tolist()
    if values[0].startswith("0x"):
        mask = (1 << 8 * one.size) - 1
        assert [number & mask for number in ours] == [int(value, 16) for value in values], where
    elif re.fullmatch(r"-?\d+", values[0]):
        assert ours == numbers(values), where
    else:  # %ps
        found = [symbols.find(number & (1 << 64) - 1) for number in ours]
        assert [symbol[0].partition("\t")[0] for symbol in found if symbol] == list(values), where


def numbers(texts: Sequence[str]) -> list[int]:
    return list(map(int, texts))


def shown_bytes(raw: bytes, like: str) -> str:
    """Return bytes as `like` has them: all of them in hex, or as a text that ends at a NUL."""
    if like.startswith("ARRAY["):
        return f"ARRAY[{raw.hex(' ').replace(' ', ', ')}]"
    return raw.partition(b"\0")[0].decode("utf-8", "backslashreplace")


# --- texts ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """A way in which our text may differ, and why: `apply(theirs, ours)` takes it out of theirs."""

    name: str
    reason: str
    apply: Callable[[str, str], str]


def syscall_as_the_kernel(theirs: str, _ours: str) -> str:
    found = re.match(r"sys_(enter|exit)_(\w+): ", theirs)
    if found is None:
        return theirs
    rest = theirs[found.end() :]
    if found[1] == "exit":
        return f"sys_{found[2]} -> {rest}"
    arguments = re.sub(r"\b0x0*([0-9a-f]+)", lambda one: _argument(one[1]), rest)
    return f"sys_{found[2]}({arguments})"


def _argument(digits: str) -> str:
    return digits if int(digits, 16) < 10 else f"0x{digits}"


def pointer_as_the_kernel(theirs: str, _ours: str) -> str:
    return re.sub(
        r"\b(hrtimer|timer)=(?:0x([0-9a-f]+)|\(nil\))",
        lambda one: f"{one[1]}={int(one[2] or '0', 16):016x}",
        theirs,
    )


def mode_as_the_kernel(theirs: str, _ours: str) -> str:
    return re.sub(r"\bmode=0x([0-9a-f])\b", lambda one: f"mode={_mode(int(one[1], 16))}", theirs)


def _mode(mode: int) -> str:
    # enum hrtimer_mode in include/linux/hrtimer.h: the lowest bit is REL, the next three are flags.
    flags = [one for bit, one in enumerate(("PINNED", "SOFT", "HARD"), 1) if mode >> bit & 1]
    return "|".join(["REL" if mode & 1 else "ABS", *flags])


def timer_flags_as_the_kernel(theirs: str, ours: str) -> str:
    if not theirs.startswith("timer_start: "):
        return theirs
    ours_set, theirs_set = (
        {one for one in text.rpartition(" flags=")[2].split("|") if one} for text in (ours, theirs)
    )
    if ours_set | {"D", "P", "I"} != theirs_set:
        return theirs
    return theirs.rpartition(" flags=")[0] + " flags=" + ours.rpartition(" flags=")[2]


DIFFERENCES = (
    Difference(
        "system call",
        "the kernel's own `trace` file says `sys_close(fd: 3)` and `sys_close -> 0x0`, and so do"
        " we; trace-cmd evaluates the print fmt, which the kernel itself does not use",
        syscall_as_the_kernel,
    ),
    Difference(
        "pointer",
        "%p is `ffff888627c1c6f8` in the kernel (option hash-ptr off), 0xffff888627c1c6f8 in"
        " trace-cmd, which prints it as the C library does",
        pointer_as_the_kernel,
    ),
    Difference(
        "hrtimer mode",
        "libtraceevent has no values for the names of enum hrtimer_mode in the print fmt, so that"
        " its __print_symbolic finds none and prints the number",
        mode_as_the_kernel,
    ),
    Difference(
        "timer_start flags",
        "libtraceevent evaluates `x & (A | B | C)` as first argument of __print_flags as"
        " `((x & A) | B) | C`: D, P and I are always there",
        timer_flags_as_the_kernel,
    ),
)
