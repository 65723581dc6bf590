"""How errors and progress look on a terminal; results go to stdout, everything here to stderr."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trace_recipe.conductor import Progress
    from trace_recipe.errors import Problem, TraceRecipeError

__all__ = [
    "TerminalMonitor",
    "can_ask",
    "confirms",
    "error_as_json",
    "print_error",
    "print_json",
    "print_problems",
    "printable",
    "say",
    "show",
]

_SECOND_NS = 1_000_000_000


def say(text: str) -> None:
    """Print lines for the user beside the results; what they quote cannot drive the terminal."""
    print("\n".join(map(printable, text.split("\n"))), file=sys.stderr)


def show(text: str) -> None:
    """Print lines of a result for people; what they quote cannot drive the terminal."""
    print("\n".join(map(printable, text.split("\n"))))


def can_ask() -> bool:
    """Whether somebody sits at a terminal who can answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirms(question: str) -> bool:
    """Ask; an empty answer means yes."""
    print(f"{printable(question)} [Y/n] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    return bool(answer) and answer.strip().lower() in {"", "y", "yes"}


def print_json(data: Any) -> None:
    """Print a result as JSON."""
    print(json.dumps(data, indent=2))


def printable(text: str) -> str:
    """Replace control characters: text from a catalogue or a recipe must not drive a terminal."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def error_as_json(error: TraceRecipeError) -> dict[str, Any]:
    """Return an error's parts as an object."""
    return {
        "error": type(error).__name__,
        "exit_status": error.exit_status,
        "state": error.state.value,
        "problems": [problem.as_json() for problem in error.problems],
    }


def print_error(error: TraceRecipeError, *, as_json: bool) -> None:
    """Print all problems of an error and the state that the kernel was left in."""
    if as_json:
        print(json.dumps(error_as_json(error), indent=2), file=sys.stderr)
        return
    print_problems(error.problems)
    say(f"  state: {error.state.value}")


def print_problems(problems: Sequence[Problem]) -> None:
    """Print problems in their four parts."""
    for problem in problems:
        for line in problem.lines():
            say(line)


class TerminalMonitor:
    """One line on a terminal that is rewritten with every tick; silent anywhere else."""

    def __init__(self, *, quiet: bool) -> None:
        self._is_shown = sys.stderr.isatty() and not quiet
        self._width = 0

    @property
    def wants_progress(self) -> bool:
        """Whether anybody sees it."""
        return self._is_shown

    def phase(self, text: str) -> None:
        """Show what the run does now."""
        self._show(f"{text} …")

    def progress(self, progress: Progress) -> None:
        """Show elapsed of total, events, events/s, bytes, and lost events per CPU."""
        elapsed_s = progress.elapsed_ns / _SECOND_NS
        total = f" of {progress.total_ns / _SECOND_NS:g}" if progress.total_ns else ""
        rate = progress.events / elapsed_s if elapsed_s else 0.0
        lost = ", ".join(f"CPU {cpu}: {count}" for cpu, count in sorted(progress.lost.items()))
        self._show(
            f"recording {elapsed_s:.1f}{total} s  {progress.events} events  {rate:.0f}/s  "
            f"{_size(progress.spooled_bytes)}  lost {lost or 0}"
        )

    def clear(self) -> None:
        """Wipe the line."""
        if self._is_shown and self._width:
            sys.stderr.write(f"\r{' ' * self._width}\r")
            sys.stderr.flush()
            self._width = 0

    def _show(self, text: str) -> None:
        if self._is_shown:
            sys.stderr.write(f"\r{text.ljust(self._width)}")
            sys.stderr.flush()
            self._width = len(text)


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
