"""Every error that a user can meet, and the four parts of its message.

TraceRecipeError                                                       exit
├── RecipeError        the recipe is wrong, or the command line          2
├── KernelLacksError   this kernel (or machine) cannot do it             3
│   ├── InstanceBusyError   somebody else holds what the recipe needs    3
│   └── PolicyError    this machine's policy does not let this user      3
├── TracefsError       one access to tracefs was refused                 1
├── ApplyError         a plan stopped half way; what was done is undone  4
├── RestoreError       the previous state is not back                    5
├── DecodeError        a recording or trace.dat cannot be read           6
├── LimitError         a limit of the recipe did not hold: loss, drift   7
├── OutputError        an output could not be opened or written          4
└── Interrupted        the user stopped it; everything is restored     130
"""

from __future__ import annotations

import errno as errno_module
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, ClassVar

__all__ = [
    "ApplyError",
    "DecodeError",
    "InstanceBusyError",
    "Interrupted",
    "KernelLacksError",
    "LimitError",
    "OutputError",
    "Place",
    "PolicyError",
    "Problem",
    "RecipeError",
    "RestoreError",
    "State",
    "TraceRecipeError",
    "TracefsError",
    "errno_text",
]

_WIDEST_LINE = 160
_LONGEST_SOURCE = 1000


class State(StrEnum):
    """What a failure left the kernel in; the last line of its message."""

    UNTOUCHED = "untouched"
    RESTORED = "restored"
    NOT_RESTORED = "NOT restored"


@dataclass(frozen=True, slots=True)
class Place:
    """A position in a text file: 1-based line and column, and the line itself for the caret."""

    file: str
    line: int
    column: int
    source_line: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: `what` is one line, lower case, without a full stop."""

    what: str
    why: str = ""
    fix: str = ""
    key: str = ""
    place: Place | None = None

    def at(self, place: Place | None, key: str = "") -> Problem:
        """Return the same problem with its place in a recipe (and the key there) filled in."""
        return replace(self, place=place or self.place, key=key or self.key)

    def lines(self) -> list[str]:
        """Return the message as terminal lines, without the state line."""
        where = f"{self.place}: " if self.place else ""
        key = f"{self.key}: " if self.key else ""
        lines = [f"{where}error: {key}{self.what}"]
        if self.place and self.place.source_line:
            before, after = _around(self.place.source_line, self.place.column - 1)
            lines.append(f"    | {before}{after}")
            lines.append(f"    | {' ' * len(before)}^")
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return [_visible(line) for line in lines]

    def as_json(self) -> dict[str, Any]:
        """Return the same parts as a JSON object."""
        place = self.place
        return {
            "file": place.file if place else None,
            "line": place.line if place else None,
            "column": place.column if place else None,
            "source": _shortened(place) if place else None,
            "key": self.key,
            "what": self.what,
            "why": self.why,
            "fix": self.fix,
        }


class TraceRecipeError(Exception):
    """Base of every error that is not our own bug; carries its problems and the kernel's state."""

    exit_status: ClassVar[int] = 1

    def __init__(self, *problems: Problem, state: State = State.UNTOUCHED) -> None:
        super().__init__("\n".join(line for problem in problems for line in problem.lines()))
        self.problems = problems
        self.state = state


class RecipeError(TraceRecipeError):
    """The recipe (or the command line) is wrong; nothing was touched."""

    exit_status = 2


class KernelLacksError(TraceRecipeError):
    """This kernel or machine cannot do what the recipe asks for."""

    exit_status = 3


class InstanceBusyError(KernelLacksError):
    """Somebody else holds the instance or the shared file."""


class PolicyError(KernelLacksError):
    """This machine's policy does not let this user, or cannot be read."""


class TracefsError(TraceRecipeError):
    """One access to tracefs was refused; raised at the seam only, always from the OSError."""

    def __init__(
        self, file: str, action: str, error_number: int, *, error_log: str = "", value: str = ""
    ) -> None:
        shown = f" {value!r}" if value else ""
        what = f"cannot {action}{shown} {'to ' if action == 'write' else ''}{file}"
        why, fix = error_log, ""
        if error_number == errno_module.EACCES:
            why = why or "tracefs belongs to root, until root gives others rights"
            fix = "run it with sudo; `sudo trace-recipe doctor --for RECIPE` prints the commands"
            fix += " that give you just what a recipe needs"
        super().__init__(Problem(f"{what}: {errno_text(error_number)}", why, fix))
        self.file = file
        self.action = action
        self.errno = error_number
        self.error_log = error_log


class ApplyError(TraceRecipeError):
    """A plan stopped half way; `state` says whether what was done is undone."""

    exit_status = 4


@dataclass(frozen=True, slots=True)
class Left:
    """One file that could not be put back."""

    file: str
    wanted: str
    found: str
    reason: str = field(default="")


class RestoreError(TraceRecipeError):
    """Something of ours is still there; `left` lists it."""

    exit_status = 5

    def __init__(self, *problems: Problem, left: tuple[Left, ...] = ()) -> None:
        super().__init__(*problems, state=State.NOT_RESTORED)
        self.left = left


class DecodeError(TraceRecipeError):
    """A recording or trace.dat cannot be read, or is damaged at `offset_bytes` of `file`."""

    exit_status = 6

    def __init__(self, what: str, *, file: str = "", offset_bytes: int = 0, fix: str = "") -> None:
        where = f"{file} at byte {offset_bytes}: " if file else ""
        super().__init__(Problem(f"{where}{what}", fix=fix))
        self.file = file
        self.offset_bytes = offset_bytes


class LimitError(TraceRecipeError):
    """More events were lost than the recipe tolerates, or others changed what it had set."""

    exit_status = 7


class OutputError(TraceRecipeError):
    """An output could not be opened or written."""

    exit_status = 4


class Interrupted(TraceRecipeError):  # noqa: N818 - a fact, not an error: the user asked for it
    """SIGINT, SIGTERM or SIGHUP ended the recording; everything was restored."""

    exit_status = 130


def errno_text(error_number: int) -> str:
    """Return an errno as text and name: `Cannot allocate memory (ENOMEM)`."""
    import os  # noqa: PLC0415 - only strerror is wanted; the module stays free of I/O

    name = errno_module.errorcode.get(error_number, str(error_number))
    return f"{os.strerror(error_number)} ({name})"


def _shortened(place: Place) -> str:
    """Return the line of a place; of a very long one what the terminal would show of it."""
    if len(place.source_line) <= _LONGEST_SOURCE:
        return place.source_line
    return "".join(_around(place.source_line, place.column - 1))


def _around(line: str, index: int) -> tuple[str, str]:
    """Return what is shown of a line before and from a character on; long lines are cut."""
    # Of a line of a megabyte with a thousand mistakes only what can be shown is looked at.
    near = max(0, index - _WIDEST_LINE - 1)
    before = _visible(line[near:index])
    after = _visible(line[index : index + _WIDEST_LINE + 1])
    if len(before) + len(after) <= _WIDEST_LINE:
        return before, after
    if len(before) > _WIDEST_LINE * 2 // 3:
        before = f"…{before[1 - _WIDEST_LINE * 2 // 3 :]}"
    room = _WIDEST_LINE - len(before)
    return before, after if len(after) <= room else f"{after[: room - 1]}…"


def _visible(text: str) -> str:
    """Replace control characters, so that text from files cannot drive the terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == " " else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"
