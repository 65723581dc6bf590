"""Control files: how each tracefs file reads, and what must be written to bring a reading back.

What a control file shows is often not what it takes (`traceoff:count=5` is refused, `traceoff:5`
taken), so every file that a plan may change has a row in CONTROL_FILES. Texts are whole readings.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Literal

from trace_recipe.event_names import Glob

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

__all__ = [
    "CONTROL_FILES",
    "FORK_OPTIONS",
    "ControlFile",
    "Write",
    "control_file",
    "path_in_instance",
    "switches_tracing",
]

Scope = Literal["instance", "shared"]


@dataclass(frozen=True, slots=True)
class Write:
    """One write to a control file.

    `truncate` opens with O_TRUNC (an empty text then only empties the file). `may_fail`: the
    kernel refuses with EINVAL and yet the file reads as wanted, or it does not matter.
    """

    truncate: bool
    text: str
    may_fail: bool = False


@dataclass(frozen=True, slots=True)
class ControlFile:
    """One row: a file inside an instance (`*` for what varies) and how it is put back.

    `scope` is "shared" when a write in any instance shows in all of them. Restore in ascending
    `order`. `moves`: the kernel itself changes it while we trace, by a trigger or a tracer. `adds`:
    a plain write only adds to what the file holds.
    """

    name: str
    scope: Scope
    order: int
    moves: bool = False

    adds: ClassVar[bool] = False
    by_lines: ClassVar[bool] = False
    """Entries of several owners live in the file: undo with `remove_lines`, never as a whole."""

    def matches(self, path: str) -> bool:
        """Whether this row describes the path, relative to its instance."""
        # fnmatch lets `*` cross a slash, hence the part-by-part comparison; and it compiles every
        # pattern, which takes longer than all the rest of a plan.
        parts, patterns = path.split("/"), self.name.split("/")
        return len(parts) == len(patterns) and all(
            part == pattern or ("*" in pattern and fnmatchcase(part, pattern))
            for part, pattern in zip(parts, patterns, strict=True)
        )

    def value(self, text: str) -> Hashable:
        """Return the normal form of a reading: what two equal states have in common."""
        return text.strip()

    def same(self, a: str, b: str) -> bool:
        """Whether two readings mean the same state."""
        return self.value(a) == self.value(b)

    def set_writes(self, text: str, now: str) -> tuple[Write, ...]:
        """Return what writes a recipe's text into a file that reads `now`."""
        del now
        return (Write(truncate=False, text=text),)

    def restore_writes(self, before: str, now: str) -> tuple[Write, ...]:
        """Return what brings the file from the reading `now` back to `before`; empty when same."""
        return () if self.same(before, now) else self._writes(before, now)

    def quiet_writes(self, before: str, now: str) -> tuple[Write, ...]:
        """Return what stops the file's effect before anything else is restored."""
        del before, now
        return ()

    def remove_lines(self, before: str, applied: str, now: str) -> tuple[Write, ...]:
        """Return what takes out of `now` the entries that are in `applied` but not in `before`.

        Raises TypeError on files that do not hold entries (`by_lines` is False).
        """
        raise TypeError(f"{self.name} has no entries to remove ({before!r}, {applied!r}, {now!r})")

    def unrestorable(self, before: str, now: str) -> str | None:
        """Return why `before` cannot come back exactly whatever is written, or None."""
        del before, now
        return None

    def _writes(self, before: str, now: str) -> tuple[Write, ...]:
        del now
        return (Write(truncate=False, text=f"{before.strip()}\n"),)


class _TracingOn(ControlFile):
    """Off first, its old value last: what is restored in between must not be recorded."""

    __slots__ = ()

    def quiet_writes(self, before: str, now: str) -> tuple[Write, ...]:
        del before
        return () if now.strip() == "0" else (Write(truncate=False, text="0\n"),)


class _Tracer(ControlFile):
    """`nop` first: a running tracer blocks others and rewrites options when it is left."""

    __slots__ = ()

    def quiet_writes(self, before: str, now: str) -> tuple[Write, ...]:
        quiet = self.same(before, now) or now.strip() == "nop"
        return () if quiet else (Write(truncate=False, text="nop\n"),)


class _OneOf(ControlFile):
    """A list of words with the current one in brackets."""

    __slots__ = ()

    def value(self, text: str) -> Hashable:
        match = re.search(r"\[([^\]]+)\]", text)
        return match[1] if match else text.strip()

    def _writes(self, before: str, now: str) -> tuple[Write, ...]:
        del now
        return (Write(truncate=False, text=f"{self.value(before)}\n"),)


class _GraphDepth(ControlFile):
    """Read as a signed number, written as an unsigned one."""

    __slots__ = ()

    def _writes(self, before: str, now: str) -> tuple[Write, ...]:
        del now
        return (Write(truncate=False, text=f"{int(before) % 2**32}\n"),)


class _SavedCmdlines(ControlFile):
    """Rounded up to what was allocated, which may exceed the largest writable value."""

    __slots__ = ()

    def _writes(self, before: str, now: str) -> tuple[Write, ...]:
        del now
        return (Write(truncate=False, text=f"{min(int(before), 32768)}\n"),)

    def unrestorable(self, before: str, now: str) -> str | None:
        if self.same(before, now):
            return None
        return "the kernel forgot the command names it had cached when the size changed"


class _BufferSize(ControlFile):
    """Kilobytes per CPU; `7 (expanded: 1408)` before the first use, `X` when CPUs differ."""

    __slots__ = ()

    def value(self, text: str) -> Hashable:
        return _kilobytes(text)[0]

    def same(self, a: str, b: str) -> bool:
        (low, rounding), (high, _) = sorted((_kilobytes(a), _kilobytes(b)), key=_rounding_last)
        if low is None or high is None:
            return low == high
        # A size that the kernel has still to round up to whole sub-buffers of 4080 bytes.
        return low == high or (rounding and 0 <= high - low < 4)

    def unrestorable(self, before: str, now: str) -> str | None:
        if "(expanded" in before and "(expanded" not in now:
            return "the buffer had never been used; the kernel does not take it back to that"
        return None

    def _writes(self, before: str, now: str) -> tuple[Write, ...]:
        del now
        size, _ = _kilobytes(before)
        # X: the sizes stand in per_cpu/*/buffer_size_kb and are restored there.
        return () if size is None else (Write(truncate=False, text=f"{size}\n"),)


class _Printk(ControlFile):
    """`trace_printk_dest`: exactly one instance has it, and only another one can take it away."""

    __slots__ = ()

    def unrestorable(self, before: str, now: str) -> str | None:
        if before.strip() == "0" and now.strip() == "1":
            return "only the instance that had trace_printk_dest can take it back"
        return None

    def _writes(self, before: str, now: str) -> tuple[Write, ...]:
        del now
        text = f"{before.strip()}\n"
        return (Write(truncate=False, text=text, may_fail=before.strip() == "0"),)


class _Snapshot(ControlFile):
    """The snapshot buffer: freed, allocated, or with recorded data in it (only that it is there).

    There is no way to allocate it but to take a snapshot, which is then cleared.
    """

    __slots__ = ()

    def value(self, text: str) -> Hashable:
        match = re.search(r"^# \* Snapshot is (freed|allocated) \*$", text, re.MULTILINE)
        return match[1] if match else "filled"

    def unrestorable(self, before: str, now: str) -> str | None:
        if self.value(before) == "filled" and self.value(now) != "filled":
            return "the run took the snapshot's buffer, and what was in it is gone"
        return None

    def _writes(self, before: str, now: str) -> tuple[Write, ...]:
        take, clear = Write(truncate=False, text="1\n"), Write(truncate=False, text="2\n")
        match self.value(before), self.value(now):
            case "freed", _:
                return (Write(truncate=False, text="0\n"),)
            case _, "freed":
                return (take, clear)
            case "allocated", "filled":
                return (clear,)
        return ()


class _TraceOptions(ControlFile):
    """`trace_options`: a line an option, `no` in front when off; the tracer's come and go."""

    __slots__ = ()
    by_lines = True

    def value(self, text: str) -> Hashable:
        return frozenset(text.split())

    def same(self, a: str, b: str) -> bool:
        return not _switched(b, a)

    def remove_lines(self, before: str, applied: str, now: str) -> tuple[Write, ...]:
        ours = set(_switched(before, applied))
        changed = set(_switched(before, now))
        return tuple(
            Write(truncate=False, text=f"{_opposite(o)}\n") for o in sorted(ours & changed)
        )

    def _writes(self, before: str, now: str) -> tuple[Write, ...]:
        return tuple(
            Write(truncate=False, text=f"{_opposite(option)}\n")
            for option in _switched(before, now)
        )


class _Pids(ControlFile):
    """Process ids; a plain write adds, only O_TRUNC takes out."""

    __slots__ = ()
    adds = True
    by_lines = True

    def value(self, text: str) -> Hashable:
        return _pids(text)

    def set_writes(self, text: str, now: str) -> tuple[Write, ...]:
        del now
        return (Write(truncate=True, text=text),)

    def remove_lines(self, before: str, applied: str, now: str) -> tuple[Write, ...]:
        ours = _pids(applied) - _pids(before)
        kept = _pids(now) - ours
        return () if kept == _pids(now) else (_pid_write(kept, truncate=True),)

    def _writes(self, before: str, now: str) -> tuple[Write, ...]:
        wanted, found = _pids(before), _pids(now)
        if found <= wanted:
            return (_pid_write(wanted - found, truncate=False),)
        return (_pid_write(wanted, truncate=True),)


class _Functions(ControlFile):
    """Function names; `commands` too in set_ftrace_filter, `func:mod:MODULE` in both ftrace files.

    Changed by adding what is missing, then removing (`!name`) what is not wanted: after O_TRUNC a
    kill before the write leaves the running tracer with every function.
    """

    __slots__ = ()
    adds = True
    by_lines = True

    def value(self, text: str) -> Hashable:
        entries = Counter(_uncounted(line) for line in _function_lines(text))
        return frozenset(entries.items())

    def set_writes(self, text: str, now: str) -> tuple[Write, ...]:
        wanted = text.split()
        found = [line for line in _function_lines(now) if not _is_command(line)]
        surplus = [line for line in found if not any(_is_named(line, one) for one in wanted)]
        if any(line.startswith(_NAMELESS) for line in surplus):
            return (Write(truncate=True, text=text),)  # no name takes them out
        return (Write(truncate=False, text=text), *_function_removals(surplus, [*found, *wanted]))

    def remove_lines(self, before: str, applied: str, now: str) -> tuple[Write, ...]:
        there = Counter(map(_uncounted, _function_lines(before)))
        ours = Counter(map(_uncounted, _function_lines(applied))) - there
        found = _function_lines(now)
        removed = [line for line in found if _uncounted(line) in ours.keys() - there.keys()]
        return _function_removals(removed, found)

    def unrestorable(self, before: str, now: str) -> str | None:
        if self.same(before, now):
            return None
        names = Counter(_function_lines(before))
        found = Counter(_function_lines(now))
        if any(name.startswith(_NAMELESS) for name in names - found):
            return "the filter held functions that the kernel lists under no name of their own"
        if any(0 < found[name] != count for name, count in names.items()):
            return "only some of several functions of one name were chosen; the name means all"
        if _hides_commands(before):
            return "next to names and ':mod:' entries the kernel does not show function commands"
        return None

    def _writes(self, before: str, now: str) -> tuple[Write, ...]:
        wanted, found = _function_lines(before), _function_lines(now)
        missing = Counter(map(_uncounted, wanted)) - Counter(map(_uncounted, found))
        surplus = Counter(map(_uncounted, found)) - Counter(map(_uncounted, wanted))
        added = [line for line in dict.fromkeys(wanted) if _uncounted(line) in missing]
        removed = [line for line in dict.fromkeys(found) if _uncounted(line) in surplus]
        if _hides_commands(before):
            removed = [line for line in removed if not _is_command(line)]
        plain = [
            _function_name(line)
            for line in added
            if not _is_command(line) and not line.startswith(_NAMELESS)
        ]
        # The newest command is read first, so the last line is written first.
        commands = [_command_text(line) for line in reversed(added) if _is_command(line)]
        writes = _function_removals(removed, found if not plain else [*found, *plain])
        if plain:
            # Added before the old ones go: an empty list would mean every function.
            writes = (Write(truncate=False, text="".join(f"{name}\n" for name in plain)), *writes)
        return (*writes, *(Write(truncate=False, text=f"{command}\n") for command in commands))


class _Enable(ControlFile):
    """`0` or `1`, and `*` while a trigger or eprobe holds the event; the star is never written."""

    __slots__ = ()

    def value(self, text: str) -> Hashable:
        return text.strip().rstrip("*")

    def quiet_writes(self, before: str, now: str) -> tuple[Write, ...]:
        off = self.value(before) == "0" and self.value(now) == "1"
        return (Write(truncate=False, text="0\n"),) if off else ()

    def _writes(self, before: str, now: str) -> tuple[Write, ...]:
        del now
        return (Write(truncate=False, text=f"{self.value(before)}\n"),)


class _Filter(ControlFile):
    """`none`, the filter as typed, or a refused one with the parser's complaint under it."""

    __slots__ = ()

    def value(self, text: str) -> Hashable:
        return text.rstrip("\n")

    def _writes(self, before: str, now: str) -> tuple[Write, ...]:
        del now
        if "\nparse_error: " in before:
            # The kernel refuses it again and shows the same; the complaint must not go with it.
            refused = before.partition("\n")[0]
            return (Write(truncate=False, text=refused, may_fail=True),)
        if before.startswith("\nError: ("):
            return (Write(truncate=False, text="\n", may_fail=True),)
        text = before.rstrip("\n")
        return (Write(truncate=False, text="0\n" if text == "none" else f"{text}\n"),)


class _Trigger(ControlFile):
    """Trigger commands, the newest first; then the hists, the oldest first."""

    __slots__ = ()
    adds = True
    by_lines = True

    def value(self, text: str) -> Hashable:
        return frozenset(Counter(map(_trigger_key, _trigger_lines(text))).items())

    def remove_lines(self, before: str, applied: str, now: str) -> tuple[Write, ...]:
        there = Counter(map(_trigger_key, _trigger_lines(before)))
        ours = Counter(map(_trigger_key, _trigger_lines(applied))) - there
        return _trigger_removals(line for line in _trigger_lines(now) if _trigger_key(line) in ours)

    def unrestorable(self, before: str, now: str) -> str | None:
        if self.same(before, now):
            return None
        for line in before.splitlines():
            if line and not line.startswith("#") and not _TRIGGER_LINE.match(line):
                return "a trigger holds a line break, so its lines cannot be told apart"
        return None

    def _writes(self, before: str, now: str) -> tuple[Write, ...]:
        wanted, found = _trigger_lines(before), _trigger_lines(now)
        keys_wanted = Counter(map(_trigger_key, wanted))
        keys_found = Counter(map(_trigger_key, found))
        surplus, missing = keys_found - keys_wanted, keys_wanted - keys_found
        removals = _trigger_removals(line for line in found if _trigger_key(line) in surplus)
        added = [line for line in wanted if _trigger_key(line) in missing]
        # Commands are put in front of the list, hists at its end.
        commands = [line for line in reversed(added) if not line.startswith("hist:")]
        hists = [line for line in added if line.startswith("hist:") and not _is_auxiliary(line)]
        texts = [f"{_trigger_text(line)}\n" for line in (*commands, *hists)]
        return (*removals, *(Write(truncate=False, text=text) for text in texts))


CONTROL_FILES: tuple[ControlFile, ...] = (
    _Trigger("events/*/*/trigger", "instance", 10),
    _Functions("set_ftrace_filter", "instance", 20),
    _Functions("set_ftrace_notrace", "instance", 20),
    _Functions("set_graph_function", "shared", 21),
    _Functions("set_graph_notrace", "shared", 21),
    _GraphDepth("max_graph_depth", "shared", 22),
    _Filter("events/*/*/filter", "instance", 30),
    _Pids("set_event_pid", "instance", 40),
    _Pids("set_event_notrace_pid", "instance", 40),
    _Pids("set_ftrace_pid", "instance", 40),
    _Pids("set_ftrace_notrace_pid", "instance", 40),
    ControlFile("buffer_subbuf_size_kb", "instance", 50),
    # One by one first: the size of all reads X where they differ, and takes no X.
    _BufferSize("per_cpu/*/buffer_size_kb", "instance", 51),
    _BufferSize("buffer_size_kb", "instance", 52),
    ControlFile("buffer_percent", "instance", 53),
    _OneOf("trace_clock", "instance", 54),
    ControlFile("tracing_cpumask", "instance", 55),
    _SavedCmdlines("saved_cmdlines_size", "shared", 56),
    # The tracers' own options are one word per tracer for all instances (up to Linux 6.18) and
    # are writable only where that tracer is known, hence after current_tracer.
    *(
        ControlFile(f"options/{pattern}", "shared", 71)
        for pattern in (
            "func_*",
            "func-*",
            "funcgraph-*",
            "sleep-time",
            "graph-time",
            "blk_*",
            "test_nop_*",
        )
    ),
    _Printk("options/trace_printk_dest", "shared", 60),
    ControlFile("options/trace_printk", "shared", 60),
    ControlFile("options/*", "instance", 60),
    _TraceOptions("trace_options", "instance", 61),
    _Tracer("current_tracer", "instance", 70),
    # A starting latency tracer sets the maximum to 0, hwlat the threshold to 10.
    ControlFile("tracing_thresh", "shared", 72),
    ControlFile("tracing_max_latency", "instance", 73, moves=True),
    _Snapshot("snapshot", "instance", 74),
    # After the triggers: a fired enable_event leaves its event on when it is removed.
    _Enable("events/*/*/enable", "instance", 80),
    _TracingOn("tracing_on", "instance", 90, moves=True),
)

FORK_OPTIONS = {
    "set_event_pid": "event-fork",
    "set_event_notrace_pid": "event-fork",
    "set_ftrace_pid": "function-fork",
    "set_ftrace_notrace_pid": "function-fork",
}
"""The option by which the kernel itself adds children to a list of pids, and takes out the dead."""


def path_in_instance(file: str) -> str:
    """Return the part of a path below the mount that is inside its instance."""
    return file.split("/", 2)[2] if file.startswith("instances/") else file


def switches_tracing(text: str) -> bool:
    """Whether a trigger or a function command in the text turns `tracing_on` by itself."""
    return re.search(r"(?:^|[:\s])trace(?:on|off)(?=[:\s]|$)", text) is not None


@cache
def control_file(path: str) -> ControlFile:
    """Return the row for a path relative to its instance; raises KeyError for an unknown file."""
    for row in CONTROL_FILES:
        if row.matches(path):
            return row
    raise KeyError(path)


# -- buffer sizes ---------------------------------------------------------------------------------


def _kilobytes(text: str) -> tuple[int | None, bool]:
    """Return the size and whether it is still to be rounded up; None when the CPUs differ."""
    match = re.fullmatch(r"(\d+)(?: \(expanded: (\d+)\))?", text.strip())
    if match is None:
        return None, False
    size, expanded = int(match[1]), int(match[2] or 0)
    # 6.1 shows `1410 (expanded: 1408)`: already as large as it would become.
    return (expanded, True) if size < expanded else (size, False)


def _rounding_last(size: tuple[int | None, bool]) -> tuple[bool, int]:
    kilobytes, rounding = size
    return not rounding, kilobytes or 0


# -- trace_options --------------------------------------------------------------------------------


def _switched(before: str, now: str) -> list[str]:
    """Return the words of `now` whose option stood the other way in `before`."""
    there = set(before.split())
    return [word for word in now.split() if word not in there and _opposite(word) in there]


def _opposite(option: str) -> str:
    return option[2:] if option.startswith("no") else f"no{option}"


# -- process ids ----------------------------------------------------------------------------------


def _pids(text: str) -> frozenset[int]:
    return frozenset(int(word) for word in text.split() if word.isdigit())


def _pid_write(pids: frozenset[int], *, truncate: bool) -> Write:
    words = " ".join(map(str, sorted(pids)))
    return Write(truncate=truncate, text=f"{words}\n" if words else "")


_NAMELESS = "__ftrace_invalid_address___"  # 6.1 lists these but finds no function by such a name

# -- functions ------------------------------------------------------------------------------------


def _function_lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]


def _is_command(line: str) -> bool:
    _, colon, rest = line.partition(":")
    return bool(colon) and rest.partition(":")[0] != "mod"


def _hides_commands(text: str) -> bool:
    lines = [line for line in _function_lines(text) if not _is_command(line)]
    return any(":mod:" in line for line in lines) and any(":mod:" not in line for line in lines)


def _function_name(line: str) -> str:
    """Return a name as it is written: `name [mod]` would be two tokens."""
    match = re.fullmatch(r"(\S+) \[([^\]]+)\]", line)
    return f"{match[1]}:mod:{match[2]}" if match else line


def _is_named(line: str, pattern: str) -> bool:
    """Whether a pattern as it is written, `GLOB` or `GLOB:mod:MODULE`, means the line shown."""
    glob, _, module = pattern.partition(":mod:")
    name, _, of_module = _function_name(line).partition(":mod:")
    return line == pattern or (module in {"", of_module} and Glob(glob).matches(name))


def _uncounted(line: str) -> str:
    return _count_dropped(line) if _is_command(line) else line


def _command_text(line: str) -> str:
    if re.search(r":(?:cpu)?dump(?::|$)", line):
        return _COUNT.sub("", line)
    return _COUNT.sub(lambda match: f":{match[1]}" if match[1] else "", line)


def _function_removals(removed: Iterable[str], found: Iterable[str]) -> tuple[Write, ...]:
    chosen = dict.fromkeys(removed)
    texts = []
    for line in filter(_is_command, chosen):
        # A counted command is only found with some count, an unlimited one only without.
        counted = ":count=" in line or re.search(r":(?:cpu)?dump(?::|$)", line)
        texts.append(f"!{_COUNT.sub('', line)}{':0' if counted else ''}\n")
    names = [line for line in chosen if not _is_command(line)]
    if not names:
        return tuple(Write(truncate=False, text=text) for text in texts)
    if any(line not in chosen for line in found if not _is_command(line)):
        texts.insert(0, "".join(f"!{_function_name(line)}\n" for line in names))
        return tuple(Write(truncate=False, text=text) for text in texts)
    # Nothing stays but the commands, and those survive O_TRUNC.
    return (Write(truncate=True, text=""), *(Write(truncate=False, text=text) for text in texts))


# -- triggers -------------------------------------------------------------------------------------

_COUNT = re.compile(r":(?:unlimited|count=(-?\d+))(?= if |$)")
_ANY_COUNT = re.compile(r":(?:unlimited|(?:count=)?-?\d+)(?= if |$)")
_HIST_STATE = re.compile(r" \[(active|paused)\]$")
_TRIGGER_LINE = re.compile(
    r"(?:traceon|traceoff|snapshot|stacktrace|(?:enable|disable)_(?:event|hist)|hist)(?:[: ]|$)"
)


def _trigger_lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if line.strip() and line[0] != "#"]


def _trigger_key(line: str) -> str:
    """Return what identifies a trigger: without the count that runs down and the hist's state."""
    return _HIST_STATE.sub("", line) if line.startswith("hist:") else _count_dropped(line)


def _count_dropped(line: str) -> str:
    """Return a command that says only whether it is counted; takes the written form too."""
    return _ANY_COUNT.sub(lambda match: "" if match[0] == ":unlimited" else ":#", line)


def _trigger_text(line: str) -> str:
    """Return the command that makes the line shown."""
    if not line.startswith("hist:"):
        return _COUNT.sub(lambda match: f":{match[1]}" if match[1] else "", line)
    state = _HIST_STATE.search(line)
    text = _HIST_STATE.sub("", line)
    if state is None or state[1] == "active":
        return text
    definition, condition, predicate = text.partition(" if ")
    return f"{definition}:pause{condition}{predicate}"


def _trigger_removals(lines: Iterable[str]) -> tuple[Write, ...]:
    # Hists in reverse: one that uses a variable goes before the one that defines it.
    shown = [line for line in lines if not _is_auxiliary(line)]
    hists = [f"!{_trigger_key(line)}\n" for line in reversed(shown) if line.startswith("hist:")]
    commands = [f"!{line}\n" for line in shown if not line.startswith("hist:")]
    return tuple(Write(truncate=False, text=text) for text in (*hists, *commands))


def _is_auxiliary(line: str) -> bool:
    """Whether the kernel made this hist for another one's action; it comes and goes with that."""
    return line.startswith("hist:") and bool(re.search(r":synthetic_(\w+)=\1\b", line))
