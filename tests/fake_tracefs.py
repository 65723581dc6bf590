"""A directory that answers writes as the kernel does: what a 6.12 was seen to show and to refuse.

RULES is data from observation, never from trace_recipe.control_files: the contract tests hold the
same examples against the fake and against the running kernel, so that neither can drift.
"""

from __future__ import annotations

import errno
import re
import shutil
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING

from tests.crash_points import boundary
from trace_recipe.errors import TracefsError
from trace_recipe.tracefs import Tracefs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CPUS = 2
EVENTS = ("sched/sched_kthread_stop", "sched/sched_waking", "sched/sched_wakeup")
TRIGGERS = (
    "traceon traceoff snapshot stacktrace enable_event disable_event enable_hist disable_hist hist"
)
NO_TRIGGERS = f"# Available triggers:\n# {TRIGGERS}\n"
# The last two are hardly ever called, so that no count of a command runs down.
FUNCTIONS = ("vfs_open", "vfs_read", "vfs_write", "vfs_fallocate", "vfs_mkobj")
SUBBUF_DATA_BYTES = 4080
SNAPSHOT_FREED = """# tracer: nop
#
#
# * Snapshot is freed *
#
# Snapshot commands:
# echo 0 > snapshot : Clears and frees snapshot buffer
# echo 1 > snapshot : Allocates snapshot buffer, if not already allocated.
#                      Takes a snapshot of the main buffer.
# echo 2 > snapshot : Clears snapshot buffer (but does not allocate or free)
#                      (Doesn't have to be '2' works with any number that
#                       is not a '0' or '1')
"""
SNAPSHOT_ALLOCATED = SNAPSHOT_FREED.replace("freed", "allocated")
# An event that hardly ever happens, so that no count of a trigger runs down.
EVENT = "events/sched/sched_kthread_stop"
HIST = "hist:keys=pid:vals=hitcount:sort=hitcount:size=2048"


@dataclass(frozen=True, slots=True)
class Example:
    """Writes that lead from a fresh file to a reading; not every kernel has an `optional` one."""

    reading: str
    writes: tuple[str, ...]
    truncate: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """A text that is refused; `reading` is what the file shows then, when not the same as before."""

    text: str
    errno: int = errno.EINVAL
    reading: str | None = None
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """How one file behaves. `path` is the one that the examples are written to."""

    path: str
    initial: str
    show: Callable[[FakeTracefs, str, str, str], str]
    examples: tuple[Example, ...]
    refused: tuple[Refused, ...] = ()
    pattern: str = ""
    top_only: bool = False
    prepared: tuple[tuple[str, str], ...] = ()
    """Files to write first, where they can be: all functions would be far too many."""
    truncated: Callable[[str], str] | None = None
    """What O_TRUNC leaves of a reading; None when it does nothing."""

    def matches(self, path: str) -> bool:
        parts, patterns = path.split("/"), (self.pattern or self.path).split("/")
        return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


class FakeTracefs(Tracefs):
    """A tracefs on an ordinary directory; an unknown file is an error, not a plain write."""

    def __init__(self, root: Path | str, *, is_new: bool = True) -> None:
        super().__init__(root)
        if is_new:
            (self.root / "instances").mkdir(parents=True)
            self._fill(self.root, is_top=True)

    def instance(self, name: str) -> Tracefs:
        return FakeTracefs(self._resolve(f"instances/{name}"), is_new=False) if name else self

    def make_instance(self, name: str) -> None:
        path = self._resolve(f"instances/{name}")

        def make() -> None:
            path.mkdir()
            self._fill(path, is_top=False)

        try:
            boundary(f"mkdir {path}", make)
        except OSError as error:
            raise TracefsError(f"instances/{name}", "make", error.errno or 0) from error

    def remove_instance(self, name: str) -> None:
        path = self._resolve(f"instances/{name}")
        try:  # rmdir of a full directory succeeds there
            boundary(f"rmdir {path}", lambda: shutil.rmtree(path))
        except OSError as error:
            raise TracefsError(f"instances/{name}", "remove", error.errno or 0) from error

    def write(self, path: str, text: str, *, truncate: bool = False) -> None:
        inside = re.fullmatch(r"instances/([^/]+)/(.+)", path)
        if inside:
            self.instance(inside[1]).write(inside[2], text, truncate=truncate)
            return
        file = self._resolve(path)
        try:
            if not file.exists():
                raise OSError(errno.EACCES, "O_CREAT is not for tracefs")
            rule = next(rule for rule in RULES if rule.matches(path))
            if truncate and rule.truncated is not None:
                emptied = rule.truncated(file.read_text())
                boundary(f"open {file}", partial(self._show, file, emptied))
            for one in _writes(path, text):
                boundary(f"write {file} {one!r}", partial(self._take, rule, path, one))
        except OSError as error:
            raise TracefsError(path, "write", error.errno or 0, value=text) from error

    def _take(self, rule: Rule, path: str, text: str) -> None:
        file = self.root / path
        try:
            self._show(file, rule.show(self, path, file.read_text(), text))
        except _RefusedError as error:
            self._show(file, error.reading)
            raise

    def _show(self, file: Path, text: str) -> None:
        file.write_text(text)
        self._derive()

    def _derive(self) -> None:
        """Bring up to date what follows from other files: sizes that differ, soft-enabled events."""
        per_cpu = [
            (self.root / f"per_cpu/cpu{cpu}/buffer_size_kb").read_text() for cpu in range(CPUS)
        ]
        (self.root / "buffer_size_kb").write_text(per_cpu[0] if len(set(per_cpu)) == 1 else "X\n")
        held = set()
        for event in EVENTS:
            text = (self.root / f"events/{event}/trigger").read_text()
            lines = [line for line in text.splitlines() if line[0] != "#"]
            held |= {event} if lines else set()
            held |= {f"{s}/{e}" for s, e in re.findall(r"able_event:(\w+):(\w+)", "\n".join(lines))}
        for event in EVENTS:
            enable = self.root / f"events/{event}/enable"
            hard = enable.read_text()[0]
            enable.write_text(f"{hard}*\n" if event in held else f"{hard}\n")

    @staticmethod
    def _fill(root: Path, *, is_top: bool) -> None:
        events = [f"events/{event}" for event in EVENTS]
        for rule in RULES:
            if rule.top_only and not is_top:
                continue
            paths = [rule.path]
            if rule.path.startswith(EVENT):
                paths = [rule.path.replace(EVENT, event) for event in events]
            elif rule.path.startswith("per_cpu/"):
                paths = [rule.path.replace("cpu0", f"cpu{cpu}") for cpu in range(CPUS)]
            for path in paths:
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(rule.initial)


class _RefusedError(OSError):
    """A refusal that changes the file all the same."""

    def __init__(self, reading: str) -> None:
        super().__init__(errno.EINVAL, "refused")
        self.reading = reading


def _writes(path: str, text: str) -> list[str]:
    """Return the text as the writes that arrive: token files take one token at a time."""
    if path.startswith(("set_ftrace_f", "set_graph_")) or path == "set_ftrace_notrace":
        return text.split()
    # An empty write reaches no handler, except that some refuse it; nothing here relies on it.
    return [text] if text else []


def _refuse(number: int = errno.EINVAL) -> OSError:
    return OSError(number, "refused")


def _number(text: str) -> int:
    if not re.fullmatch(r"\d+\n?", text):
        raise _refuse()
    return int(text)


def _number_between(low: int, high: int) -> Callable[[FakeTracefs, str, str, str], str]:
    def show(_tree: FakeTracefs, _path: str, _old: str, text: str) -> str:
        number = _number(text)
        if not low <= number <= high:
            raise _refuse()
        return f"{number}\n"

    return show


def _tracing_on(_tree: FakeTracefs, _path: str, _old: str, text: str) -> str:
    return f"{int(_number(text) != 0)}\n"


def _tracer(_tree: FakeTracefs, _path: str, _old: str, text: str) -> str:
    if text.strip() not in {"nop", "function", "function_graph"}:
        raise _refuse()
    return f"{text.strip()}\n"


def _clock(_tree: FakeTracefs, _path: str, old: str, text: str) -> str:
    names = old.replace("[", "").replace("]", "").split()
    if text.strip() not in names:
        raise _refuse()
    return " ".join(f"[{name}]" if name == text.strip() else name for name in names) + "\n"


def _size_kb(text: str) -> str:
    kilobytes = _number(text)
    if kilobytes == 0:
        raise _refuse()
    pages = max(-(-kilobytes * 1024 // SUBBUF_DATA_BYTES), 2)
    return f"{pages * SUBBUF_DATA_BYTES // 1024}\n"


def _buffer_size(tree: FakeTracefs, _path: str, _old: str, text: str) -> str:
    shown = _size_kb(text)
    for cpu in range(CPUS):
        (tree.root / f"per_cpu/cpu{cpu}/buffer_size_kb").write_text(shown)
    return shown


def _cpu_buffer_size(_tree: FakeTracefs, _path: str, _old: str, text: str) -> str:
    return _size_kb(text)


def _subbuf_size(_tree: FakeTracefs, _path: str, _old: str, text: str) -> str:
    kilobytes = _number(text)
    if not 1 <= kilobytes <= 512:
        raise _refuse()
    return f"{max(4, 1 << (kilobytes - 1).bit_length())}\n"


def _cpumask(_tree: FakeTracefs, _path: str, _old: str, text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]+\n?", text):
        raise _refuse()
    mask = int(text, 16)
    if mask >= 1 << CPUS:
        raise _refuse(errno.EOVERFLOW)
    return f"{mask:x}\n"


def _trace_options(_tree: FakeTracefs, _path: str, old: str, text: str) -> str:
    word = text.strip()
    other = word[2:] if word.startswith("no") else f"no{word}"
    words = old.split()
    if word not in words and other not in words:
        raise _refuse()
    return "".join(f"{word if one == other else one}\n" for one in words)


def _pids(_tree: FakeTracefs, path: str, old: str, text: str) -> str:
    pids = {int(word) for word in old.split() if word.isdigit()}
    for word in text.split():
        if not re.fullmatch(r"0x[0-9a-f]+|\d+", word):
            raise _refuse()
        pids.add(int(word, 0))
    if max(pids, default=0) >= 2**32 - 1:
        raise _refuse(errno.EPERM)
    empty = "no pid\n" if path.startswith("set_ftrace") else ""
    return "".join(f"{pid}\n" for pid in sorted(pids)) or empty


def _functions(_tree: FakeTracefs, path: str, old: str, token: str) -> str:
    lines = [line for line in old.splitlines() if line[0] != "#"]
    names = [line for line in lines if ":" not in line]
    modules = [line for line in lines if ":mod:" in line]
    commands = [line for line in lines if ":" in line and ":mod:" not in line]
    removes, entry = token.startswith("!"), token.removeprefix("!")
    function, _, command = entry.partition(":")
    if command.startswith("mod:"):
        modules = [line for line in modules if line != entry] + ([] if removes else [entry])
    elif command and path != "set_ftrace_filter":
        raise _refuse()
    elif command:
        commands = _function_command(commands, function, command, removes=removes)
    elif function not in FUNCTIONS:
        raise _refuse()
    else:
        names = [name for name in names if name != function] + ([] if removes else [function])
    empty = {
        "set_ftrace_filter": "all functions enabled",
        "set_graph_function": "all functions enabled",
    }
    banner = f"#### {empty.get(path, 'no functions disabled')} ####"
    shown = sorted(names, key=FUNCTIONS.index) or ([] if modules else [banner])
    return "".join(f"{line}\n" for line in (*shown, *modules, *commands))


def _function_command(
    commands: list[str], function: str, command: str, *, removes: bool
) -> list[str]:
    match = re.fullmatch(r"(traceon|traceoff|stacktrace)(?::(\d+))?", command)
    if match is None or function not in FUNCTIONS:
        raise _refuse()
    prefix = f"{function}:{match[1]}:"
    if not removes:
        return [f"{prefix}{f'count={match[2]}' if match[2] else 'unlimited'}", *commands]
    wanted = f"{prefix}{'count=' if match[2] else 'unlimited'}"
    if not any(line.startswith(wanted) for line in commands):
        raise _refuse(errno.ENODEV)
    return [line for line in commands if not line.startswith(wanted)]


def _enable(_tree: FakeTracefs, _path: str, _old: str, text: str) -> str:
    number = _number(text)
    if number > 1:
        raise _refuse()
    return f"{number}\n"


def _filter(_tree: FakeTracefs, _path: str, _old: str, text: str) -> str:
    if not text.strip():
        raise _RefusedError("\nError: (0)\n\n")
    if text.strip() == "0":
        return "none\n"
    text = text.rstrip()
    name = text.split()[0]
    if name not in {"comm", "pid"}:
        raise _RefusedError(f"{text}\n     ^\nparse_error: Field not found\n\n")
    return f"{text}\n"


def _trigger(tree: FakeTracefs, _path: str, old: str, text: str) -> str:
    lines = [line for line in old.splitlines() if line[0] != "#"]
    commands = [line for line in lines if not line.startswith("hist:")]
    hists = [line for line in lines if line.startswith("hist:")]
    removes, entry = text.strip().startswith("!"), text.strip().removeprefix("!")
    if entry.startswith("hist:"):
        hists = _hist(hists, entry, removes=removes)
    else:
        commands = _trigger_command(tree, commands, entry, removes=removes)
    return "".join(f"{line}\n" for line in (*commands, *hists)) or NO_TRIGGERS


def _hist(hists: list[str], entry: str, *, removes: bool) -> list[str]:
    match = re.fullmatch(
        r"hist:keys=(\w+)(?::vals=hitcount:sort=hitcount:size=2048)?(:pause)?( if .*)?", entry
    )
    if match is None or entry.endswith("]"):
        raise _refuse()
    shown = f"hist:keys={match[1]}:vals=hitcount:sort=hitcount:size=2048{match[3] or ''}"
    there = [line for line in hists if line.rpartition(" [")[0] == shown]
    if removes:
        return [line for line in hists if line not in there]
    if there:
        raise _refuse(errno.EEXIST)
    return [*hists, f"{shown} [{'paused' if match[2] else 'active'}]"]


def _trigger_command(
    tree: FakeTracefs, commands: list[str], entry: str, *, removes: bool
) -> list[str]:
    match = re.fullmatch(
        r"(traceon|traceoff|snapshot|stacktrace|(?:enable|disable)_event:\w+:\w+)(?::([\w=]+))?( if .*)?",
        entry,
    )
    if match is None:
        raise _refuse()
    command, count, condition = match[1], match[2], match[3] or ""
    alike = {"traceon": "traceo", "traceoff": "traceo"}.get(command, command)
    if removes:  # whatever the count and the filter; nothing there is a success too
        return [line for line in commands if not line.startswith(alike)]
    if count is not None and not count.isdigit():
        raise _refuse()
    target = re.fullmatch(r"\w+able_event:(\w+):(\w+)", command)
    if target and not tree.exists(f"events/{target[1]}/{target[2]}"):
        raise _refuse()
    if any(line.startswith(alike) for line in commands):
        raise _refuse(errno.EEXIST)
    if command == "snapshot":
        (tree.root / "snapshot").write_text(SNAPSHOT_ALLOCATED)  # which removing it does not free
    return [f"{command}:{f'count={count}' if count else 'unlimited'}{condition}", *commands]


def _graph_depth(_tree: FakeTracefs, _path: str, _old: str, text: str) -> str:
    number = _number(text) % 2**32
    return f"{number - 2**32 if number >= 2**31 else number}\n"


def _saved_cmdlines_size(_tree: FakeTracefs, _path: str, _old: str, text: str) -> str:
    number = _number(text)
    if not 1 <= number <= 32768:
        raise _refuse()
    for allocated in (6552, 19659):
        if number <= allocated:
            return f"{allocated}\n"
    return "45874\n"


def _snapshot(_tree: FakeTracefs, _path: str, old: str, text: str) -> str:
    number = _number(text)
    return (SNAPSHOT_FREED, SNAPSHOT_ALLOCATED, old)[min(number, 2)]


def _emptied(empty: str) -> Callable[[str], str]:
    # Function commands survive.
    def truncated(old: str) -> str:
        commands = [line for line in old.splitlines() if ":" in line and ":mod:" not in line]
        return empty + "".join(f"{line}\n" for line in commands)

    return truncated


_BAD_NUMBERS = (Refused("x\n"), Refused("-1\n"), Refused(" 1\n"))
_CLOCKS = "local global counter uptime perf mono mono_raw boot tai x86-tsc\n"
_ALL = "#### all functions enabled ####\n"
_NONE = "#### no functions disabled ####\n"
_OPTION = _number_between(0, 1)

RULES: tuple[Rule, ...] = (
    Rule("tracing_on", "1\n", _tracing_on, (Example("0\n", ("0\n",)), Example("1\n", ("2\n",))),
         refused=_BAD_NUMBERS),
    Rule("current_tracer", "nop\n", _tracer,
         (Example("nop\n", ("nop\n",)), Example("function\n", ("function\n",), optional=True),
          Example("function_graph\n", ("function_graph\n",), optional=True)),
         refused=(Refused("nope\n"), Refused("[nop]\n")),
         prepared=(("set_ftrace_filter", "vfs_fallocate\n"),)),
    Rule("trace_clock", _CLOCKS.replace("local", "[local]"), _clock,
         (Example(_CLOCKS.replace("mono ", "[mono] "), ("mono\n",)),
          Example(_CLOCKS.replace("global", "[global]"), ("  global \n",))),
         refused=(Refused("[mono]\n"), Refused("nope\n"))),
    Rule("buffer_subbuf_size_kb", "4\n", _subbuf_size,
         (Example("8\n", ("8\n",)), Example("4\n", ("3\n",)), Example("64\n", ("33\n",))),
         refused=(*_BAD_NUMBERS, Refused("0\n"), Refused("1024\n"))),
    Rule("buffer_size_kb", "1410\n", _buffer_size,
         (Example("7\n", ("1\n",)), Example("103\n", ("100\n",)), Example("1410\n", ("1408\n",))),
         refused=(*_BAD_NUMBERS, Refused("0\n"))),
    Rule("per_cpu/cpu0/buffer_size_kb", "1410\n", _cpu_buffer_size,
         (Example("55\n", ("55\n",)), Example("203\n", ("200\n",))),
         refused=(*_BAD_NUMBERS, Refused("0\n")), pattern="per_cpu/*/buffer_size_kb"),
    Rule("buffer_percent", "50\n", _number_between(0, 100),
         (Example("0\n", ("0\n",)), Example("100\n", ("0100\n",))),
         refused=(*_BAD_NUMBERS, Refused("101\n"))),
    Rule("tracing_cpumask", "3\n", _cpumask, (Example("1\n", ("1\n",)), Example("2\n", ("2\n",))),
         refused=(Refused("z\n"), Refused("f" * 400, errno.EOVERFLOW))),
    Rule("options/overwrite", "1\n", _OPTION, (Example("0\n", ("0\n",)), Example("1\n", ("1\n",))),
         refused=(*_BAD_NUMBERS, Refused("2\n")), pattern="options/*"),
    Rule("options/stacktrace", "0\n", _OPTION, (Example("1\n", ("1\n",)),), pattern="options/*"),
    *(Rule(f"options/{name}", "0\n", _OPTION, (), pattern="options/*")
      for name in ("sym-offset", "event-fork", "function-fork", "func_stack_trace")),
    *(Rule(f"options/{name}", "1\n", _OPTION, (), pattern="options/*", top_only=True)
      for name in ("funcgraph-proc", "funcgraph-irqs", "record-cmd", "printk-msg-only")),
    Rule("trace_options", "overwrite\nnostacktrace\nrecord-cmd\nnoprintk-msg-only\n", _trace_options,
         (), refused=(Refused("nope\n"),)),
    Rule("tracing_max_latency", "0\n", _number_between(0, 2**63),
         (Example("5\n", ("5\n",)), Example("7\n", ("007\n",))), refused=_BAD_NUMBERS),
    Rule("snapshot", SNAPSHOT_FREED, _snapshot,
         (Example(SNAPSHOT_ALLOCATED, ("1\n",)), Example(SNAPSHOT_FREED, ("1\n", "0\n")),
          Example(SNAPSHOT_ALLOCATED, ("1\n", "2\n"))), refused=_BAD_NUMBERS),
    Rule("set_event_pid", "", _pids,
         (Example("3\n5\n32\n", ("5\n", "3 5 0x20\n")), Example("7\n", ("7\n",), truncate=True)),
         refused=(Refused("x\n"), Refused("4294967295\n", errno.EPERM)), truncated=_emptied("")),
    Rule("set_event_notrace_pid", "", _pids, (Example("7\n9\n", ("9 7\n",)),),
         refused=(Refused("no pid\n"),), truncated=_emptied("")),
    Rule("set_ftrace_pid", "no pid\n", _pids, (Example("3\n5\n", ("5\n", "3 5\n")),),
         refused=(Refused("x\n"), Refused("no pid\n")), truncated=_emptied("no pid\n")),
    Rule("set_ftrace_notrace_pid", "no pid\n", _pids, (Example("3\n", ("3\n",)),),
         refused=(Refused("x\n"),), truncated=_emptied("no pid\n")),
    Rule("set_ftrace_filter", _ALL, _functions,
         (Example("vfs_open\nvfs_read\n", ("vfs_read\nvfs_open\n",)),
          Example("vfs_write\n", ("vfs_read\nvfs_write\n!vfs_read\n",)),
          Example(f"{_ALL}vfs_fallocate:traceoff:count=5\n", ("vfs_fallocate:traceoff:5\n",)),
          Example("vfs_open\nvfs_fallocate:traceoff:unlimited\n", ("vfs_open\n", "vfs_fallocate:traceoff\n")),
          Example("*:mod:no_such\n", ("*:mod:no_such\n",)), Example("*:mod:no_such\nvfs_fallocate:traceoff:count=5\n", ("*:mod:no_such\n", "vfs_fallocate:traceoff:5\n"))),
         refused=(Refused("no_such_function\n"), Refused("vfs_fallocate:traceoff:count=5\n"),
                  Refused("!vfs_fallocate:traceoff:0\n", errno.ENODEV)), truncated=_emptied(_ALL)),
    Rule("set_ftrace_notrace", _NONE, _functions, (Example("vfs_read\n", ("vfs_read\n",)),),
         refused=(Refused("vfs_fallocate:traceoff\n"),), truncated=_emptied(_NONE)),
    Rule(f"{EVENT}/filter", "none\n", _filter,
         (Example("  pid == 1\n", ("  pid == 1  \n",)),
          Example('comm == "a b"\n', ('comm == "a b"',)),
          Example("none\n", ("pid == 1\n", "0\n"))),
         refused=(Refused("nope == 1\n", reading="nope == 1\n     ^\nparse_error: Field not found\n\n",
                          after=("pid == 1\n",)),
                  Refused("\n", reading="\nError: (0)\n\n")),
         pattern="events/*/*/filter"),
    Rule(f"{EVENT}/trigger", NO_TRIGGERS, _trigger,
         (Example("traceoff:count=5 if pid == 1\n", ("traceoff:5 if pid == 1\n",)),
          Example("stacktrace:unlimited\ntraceoff:count=3\n", ("traceoff:3\n", "stacktrace\n")),
          Example("disable_event:sched:sched_wakeup:count=2\n", ("disable_event:sched:sched_wakeup:2\n",)),
          Example(f"stacktrace:count=1\n{HIST} [active]\n", ("hist:keys=pid\n", "stacktrace:1\n"),
                  optional=True),
          Example(f"{HIST} if pid > 3 [paused]\n", (f"{HIST}:pause if pid > 3\n",),
                  optional=True)),
         refused=(Refused("traceoff:count=1\n"), Refused("stacktrace:unlimited\n"), Refused("nope\n"),
                  Refused("enable_event:sched:nope\n"),
                  Refused("traceon\n", errno.EEXIST, after=("traceoff:1\n",))),
         pattern="events/*/*/trigger"),
    Rule(f"{EVENT}/enable", "0\n", _enable, (Example("1\n", ("1\n",)), Example("0\n", ("1\n", "0\n"))),
         refused=(*_BAD_NUMBERS, Refused("2\n"), Refused("0*\n")), pattern="events/*/*/enable"),
    Rule("set_graph_function", _ALL, _functions, (Example("vfs_read\n", ("vfs_read\n",)),),
         refused=(Refused("no_such_function\n"),), top_only=True, truncated=_emptied(_ALL)),
    Rule("set_graph_notrace", _NONE, _functions, (Example("vfs_read\n", ("vfs_read\n",)),),
         top_only=True, truncated=_emptied(_NONE)),
    Rule("max_graph_depth", "0\n", _graph_depth,
         (Example("3\n", ("3\n",)), Example("-1\n", ("4294967295\n",))),
         refused=_BAD_NUMBERS, top_only=True),
    Rule("saved_cmdlines_size", "6552\n", _saved_cmdlines_size,
         (Example("6552\n", ("1\n",)), Example("19659\n", ("6553\n",)), Example("45874\n", ("32768\n",))),
         refused=(*_BAD_NUMBERS, Refused("0\n"), Refused("32769\n")), top_only=True),
    Rule("tracing_thresh", "0\n", _number_between(0, 2**63), (Example("10\n", ("10\n",)),),
         refused=_BAD_NUMBERS, top_only=True),
)  # fmt: skip
