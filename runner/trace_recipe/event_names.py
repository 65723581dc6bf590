"""Event names in recipes: `sys:name`, globs, `{a,b}` and a leading `!`, expanded and matched.

The project matches by itself against the kernel's list, so that a plan can name every event before
anything is written; set_event would glob in the kernel and tell nobody what it found.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trace_recipe.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "MAX_EXPANSIONS",
    "EventNameError",
    "EventNames",
    "Expansion",
    "Glob",
    "parse_event_names",
]

MAX_EXPANSIONS = 1000
_MAX_CHARS = 1024
_MAX_BRACES = 32
_MAX_NESTING = 8
_CHARACTERS = re.compile(r"[A-Za-z0-9_:*?\[\]{},!^-]")


class EventNameError(ValueError):
    """An event name cannot be read; `offset` is the character where, `problem` says why."""

    def __init__(self, offset: int, problem: Problem) -> None:
        super().__init__(problem.what)
        self.offset = offset
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Glob:
    """A shell pattern over a whole name: `*`, `?`, `[a-z]` and `[!a]`; case matters.

    From Python 3.11 fnmatch goes back to the last `*` only, so that no pattern takes long.
    """

    text: str

    @property
    def is_plain(self) -> bool:
        """Whether it matches nothing but its own text."""
        return not any(char in self.text for char in "*?[")

    def matches(self, name: str) -> bool:
        """Whether the whole of `name` matches."""
        if self.is_plain:
            return self.text == name
        return fnmatch.fnmatchcase(name, self.text)

    def among(self, names: Iterable[str]) -> list[str]:
        """Return the names that match, in their order."""
        if self.is_plain:
            return [name for name in names if name == self.text]
        return fnmatch.filter(names, self.text)


@dataclass(frozen=True, slots=True)
class Expansion:
    """One `system:event` pattern that braces stand for.

    `offset` is where it differs from its neighbours (its last alternative), or where it starts;
    `name_offset` is where its event part starts.
    """

    text: str
    offset: int
    name_offset: int

    @property
    def system(self) -> str:
        """The part before the colon."""
        return self.text.partition(":")[0]

    @property
    def name(self) -> str:
        """The part after the colon."""
        return self.text.partition(":")[2]

    @property
    def is_plain(self) -> bool:
        """Whether it names exactly one event."""
        return Glob(self.text).is_plain

    def among(self, events: Iterable[str]) -> list[str]:
        """Return the `system:event` names that match; a `*` does not cross the colon."""
        if self.is_plain:
            return [event for event in events if event == self.text]
        system, name = Glob(self.system), Glob(self.name)
        found = []
        for event in events:
            event_system, _, event_name = event.partition(":")
            if system.matches(event_system) and name.matches(event_name):
                found.append(event)
        return found


@dataclass(frozen=True, slots=True)
class EventNames:
    """What one `event` of a recipe names; `is_negated` takes out what earlier ones put in."""

    text: str
    is_negated: bool
    expansions: tuple[Expansion, ...]


def parse_event_names(text: str) -> EventNames:
    """Parse `[!]system:event` with globs and braces; raises EventNameError at the first mistake."""
    for offset, char in enumerate(text):
        if not _CHARACTERS.fullmatch(char):
            raise _wrong_character(text, offset, char)
    if len(text) > _MAX_CHARS:
        raise _wrong(_MAX_CHARS, f"an event name of {len(text)} characters", "split it")
    if text.count("{") > _MAX_BRACES:
        raise _wrong(text.find("{"), f"more than {_MAX_BRACES} braces", "split it into entries")
    is_negated = text.startswith("!")
    start = 1 if is_negated else 0
    pieces, at = _braces(text, start, 0)
    if at < len(text):
        raise _wrong(at, "a '}' without its '{'", "remove it")
    expansions = []
    for chars in _expanded(pieces):
        expansions.append(_expansion(text, chars, start))
        if len(expansions) > MAX_EXPANSIONS:
            raise _wrong(
                start,
                f"braces that stand for more than {MAX_EXPANSIONS} names",
                "use a glob such as 'syscalls:sys_enter_*'",
            )
    unique: dict[str, Expansion] = {}
    for one in expansions:
        unique.setdefault(one.text, one)
    return EventNames(text, is_negated, tuple(unique.values()))


def _wrong_character(text: str, offset: int, char: str) -> EventNameError:
    if char in "/.":
        is_separator = re.fullmatch(r"\w+[/.][\w*?-]+", text) is not None
        name = text.replace(char, ":") if is_separator else "sched:sched_switch"
        fix = f"write {'' if is_separator else 'SYSTEM:EVENT, as in '}'{name}'"
        return _wrong(offset, f"'{char}' in an event name", fix)
    if char.isspace():
        fix = "write one event per entry"
        return _wrong(offset, "a blank in an event name", fix)
    return _wrong(
        offset,
        f"character {char!r} in an event name",
        "names are ASCII letters, digits and '_', with globs * ? [..] and braces {a,b}",
    )


# A piece is one character with its offset, or the alternatives of one pair of braces.
_Chars = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class _Alternatives:
    choices: tuple[tuple[int, tuple[_Piece, ...]], ...]  # (offset, pieces)


_Piece = tuple[str, int] | _Alternatives


def _braces(text: str, at: int, depth: int) -> tuple[tuple[_Piece, ...], int]:
    """Read pieces up to the `,` or `}` that ends this alternative, or to the end of the text."""
    pieces: list[_Piece] = []
    while at < len(text):
        char = text[at]
        if char == "}" or (char == "," and depth):
            break
        if char == ",":
            raise _wrong(at, "',' outside of braces", "write one event per entry, or use {a,b}")
        if char != "{":
            pieces.append((char, at))
            at += 1
            continue
        if depth >= _MAX_NESTING:
            raise _wrong(at, f"more than {_MAX_NESTING} braces inside each other", "simplify it")
        opened, choices = at, []
        while True:
            start = at + 1
            inner, at = _braces(text, start, depth + 1)
            choices.append((start, inner))
            if at >= len(text):
                raise _wrong(opened, "a '{' without its '}'", "add the '}'")
            if text[at] == "}":
                break
        at += 1
        pieces.append(_Alternatives(tuple(choices)))
    return tuple(pieces), at


def _expanded(pieces: tuple[_Piece, ...]) -> Iterator[tuple[_Chars, int]]:
    """Yield (characters, offset of the last alternative taken or -1), bounded by the caller."""
    if not pieces:
        yield (), -1
        return
    first, rest = pieces[0], pieces[1:]
    if isinstance(first, _Alternatives):
        for offset, choice in first.choices:
            for chars, inner in _expanded(choice):
                for more, later in _expanded(rest):
                    yield chars + more, max(inner, later, offset)
        return
    # Plain runs are taken at once: recursion goes by braces, not by characters.
    run = 1
    while run < len(pieces) and not isinstance(pieces[run], _Alternatives):
        run += 1
    plain = tuple(one for one in pieces[:run] if not isinstance(one, _Alternatives))
    for more, later in _expanded(pieces[run:]):
        yield plain + more, later


def _expansion(text: str, found: tuple[_Chars, int], start: int) -> Expansion:
    chars, alternative = found
    name = "".join(char for char, _ in chars)
    offset = alternative if alternative >= 0 else start
    if "!" in re.sub(r"\[!", "", name):
        at = next(at for char, at in chars if char == "!")
        raise _wrong(at, "a '!' inside an event name", "put it first, as in '!sched:sched_stat_*'")
    system, colon, event = name.partition(":")
    if not colon:
        what = f"'{name}' has no system" if name else "an empty event name"
        example = "sched:*" if re.search(r"[*?\[]", name) else "sched:sched_switch"
        raise _wrong(offset, what, f"write SYSTEM:{name or 'EVENT'}, as in {example}")
    if ":" in event:
        at = [at for char, at in chars if char == ":"][1]
        fix = f"write '{':'.join(name.split(':')[:2])}'; triggers are a key of their own"
        raise _wrong(at, "a second ':' in an event name", fix)
    if not system and not event:
        raise _wrong(start, "no system and no event in ':'", "write SYSTEM:EVENT")
    name_at = len(system) + 1
    if not system or not event:
        at = start if not system else min(len(text) - 1, chars[name_at - 1][1])
        part, fix = ("system", f"*:{event}") if not system else ("event", f"{system}:*")
        raise _wrong(at, f"no {part} in '{name}'", f"write '{fix}' for every {part}")
    for part, where in ((system, 0), (event, name_at)):
        bracket = part.find("[")
        if bracket >= 0 and "]" not in part[bracket + 2 :]:
            raise _wrong(chars[where + bracket][1], "a '[' without its ']'", "add the ']'")
    return Expansion(name, offset, chars[name_at][1])


def _wrong(offset: int, what: str, fix: str) -> EventNameError:
    return EventNameError(offset, Problem(what, _FORM, fix))


_FORM = (
    "an event is SYSTEM:EVENT, in letters, digits, '_', globs and braces, with '!' to take it out"
)
