"""Finisher: ends a run that cannot: puts back what it changed, clears up, and tells of it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from trace_recipe.leftovers import clear_leftovers
from trace_recipe.receipt import Receipt
from trace_recipe.restorer import put_back, settle
from trace_recipe.tracefs import reach_tracefs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trace_recipe.journal import Journal, JournalState

__all__ = ["Ending", "endings", "finish"]

_SUFFIX = ".ended"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run was finished that did not end by itself.

    `pages` is where its recording can be read, or empty.
    """

    run_id: str
    recipe: str
    why: str
    by: str
    at: float
    pages: str
    receipt: dict[str, Any]
    """As `Receipt.as_json` gives it."""

    @classmethod
    def without_receipt(cls, run_id: str, recipe: str, *, by: str, pages: str) -> Ending:
        """Return the ending of a run that was killed after everything had been put back."""
        receipt = Receipt(run_id, ()).as_json()
        return cls(run_id, recipe, "killed", by, time.time(), pages, receipt)

    def note(self, directory: Path) -> None:
        """Leave it for `status` and `recover` to tell; a full disk loses only the telling."""
        path = directory / f"{self.run_id}{_SUFFIX}"
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            with open(os.open(path, flags, 0o600), "w", encoding="utf-8") as stream:  # noqa: PTH123 - by descriptor
                json.dump(asdict(self), stream)

    def forget(self, directory: Path) -> None:
        """Remove the note: it has been told."""
        (directory / f"{self.run_id}{_SUFFIX}").unlink(missing_ok=True)


def finish(state: JournalState, journal: Journal, *, by: str, why: str = "killed") -> Ending:
    """Put back what an adopted journal says, and remove the journal.

    Raises RestoreError when something of the run's is left in the kernel; the journal then stays.
    """
    receipt = put_back(state, reach_tracefs(state.mount), journal)
    # After the kernel: whoever asks for files on a server that is gone may wait for ever.
    pages = clear_leftovers(state.leftovers, state.path.parent, state.run_id)
    ending = Ending(
        state.run_id,
        state.recipe,
        why,
        by,
        time.time(),
        str(pages) if pages else "",
        receipt.as_json(),
    )
    settle(receipt, state, journal)
    return ending


def endings(directory: Path) -> Iterator[Ending]:
    """Yield what guardians have noted and nobody was told of, oldest first."""
    found = []
    with contextlib.suppress(OSError):
        for path in directory.glob(f"*{_SUFFIX}"):
            with contextlib.suppress(OSError, ValueError, TypeError):  # half written
                found.append(Ending(**json.loads(path.read_text("utf-8"))))
    yield from sorted(found, key=lambda one: one.at)
