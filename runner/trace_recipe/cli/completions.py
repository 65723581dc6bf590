"""What the shell offers after TAB: names of recipes, events and runs; never an error, no mount."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from trace_recipe.errors import TraceRecipeError

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

__all__ = [
    "complete_event",
    "complete_recipe",
    "complete_run",
    "complete_tracer",
    "whole_words",
]


@contextlib.contextmanager
def whole_words(environment: MutableMapping[str, str]) -> Iterator[None]:
    """Let the block complete `sched:sched_sw` as one word where bash has split it at the colon.

    Bash replaces only what follows the colon, so what stands before it is not offered again.
    """
    if not _join_colons(environment):
        yield
        return
    offered = io.StringIO()
    try:
        with contextlib.redirect_stdout(offered):
            yield
    finally:
        for line in offered.getvalue().splitlines():
            print(line.rpartition(":")[2])


def _join_colons(environment: MutableMapping[str, str]) -> bool:
    """Rewrite COMP_WORDS and COMP_CWORD; return whether the word at the cursor was split."""
    words = environment.get("COMP_WORDS", "").split()
    if environment.get("_TRACE_RECIPE_COMPLETE") != "complete_bash" or ":" not in words:
        return False
    cursor = int(environment["COMP_CWORD"])
    joined: list[str] = []
    place, is_split = cursor - len(words), False
    for number, word in enumerate(words):
        is_part = number > 0 and ":" in {word, words[number - 1]}
        if is_part:
            joined[-1] += word
        else:
            joined.append(word)
        if number == cursor:
            place, is_split = len(joined) - 1, is_part
    environment["COMP_WORDS"] = "\n".join(joined)
    environment["COMP_CWORD"] = str(place if cursor < len(words) else place + len(joined))
    return is_split


def complete_recipe(incomplete: str) -> list[str]:
    """Return recipes by name, then files and directories that begin so."""
    from trace_recipe.recipe_files import list_recipes

    found: list[str] = []
    with contextlib.suppress(OSError, TraceRecipeError):
        found += [one.name for one in list_recipes(os.environ) if one.name.startswith(incomplete)]
    return found + _files(incomplete)


def complete_event(incomplete: str) -> list[str]:
    """Return events of the live kernel, or its systems as long as no colon is typed."""
    from trace_recipe.tracefs import Tracefs, find_mount

    with contextlib.suppress(OSError, TraceRecipeError):
        where = find_mount()
        names = Tracefs(where).event_names() if where else ()
        if ":" in incomplete:
            return [name for name in names if name.startswith(incomplete)]
        systems = dict.fromkeys(name.partition(":")[0] for name in names)
        matching = [system for system in systems if system.startswith(incomplete)]
        if len(matching) > 1:
            return [f"{system}:" for system in matching]
        return [name for name in names if name.partition(":")[0] in matching]
    return []


def complete_tracer(incomplete: str) -> list[str]:
    """Return tracers of the live kernel."""
    from trace_recipe.tracefs import Tracefs, find_mount

    with contextlib.suppress(OSError, TraceRecipeError):
        if where := find_mount():
            names = Tracefs(where).read("available_tracers").split()
            return [name for name in names if name.startswith(incomplete)]
    return []


def complete_run(incomplete: str) -> list[str]:
    """Return ids of runs that have a journal in the default state directory."""
    from trace_recipe.journal import journals
    from trace_recipe.state_directory import state_directory

    with contextlib.suppress(OSError, ValueError):
        found = journals(state_directory(os.geteuid(), os.environ))
        return [one.run_id for one in found if one.run_id.startswith(incomplete)]
    return []


def _files(incomplete: str) -> list[str]:
    path = Path(incomplete)
    parent = path if incomplete.endswith("/") else path.parent
    prefix = incomplete[: incomplete.rfind("/") + 1]
    found = []
    with contextlib.suppress(OSError):
        for one in sorted(parent.iterdir()):
            if not f"{prefix}{one.name}".startswith(incomplete) or one.name.startswith("."):
                continue
            if one.is_dir():
                found.append(f"{prefix}{one.name}/")
            elif one.suffix in {".yaml", ".yml"}:
                found.append(f"{prefix}{one.name}")
    return found
