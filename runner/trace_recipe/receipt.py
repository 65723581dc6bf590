"""Receipt: what became of every file that a run touched, and whether the machine is as before."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = ["Outcome", "Receipt", "ReceiptLine", "receipt_schema"]


class Outcome(StrEnum):
    """What a read-back after the run says of one file."""

    RESTORED = "restored"
    FOREIGN = "foreign"  # somebody else changed it meanwhile; theirs, and left alone
    IMPOSSIBLE = "impossible"  # the kernel offers no way back; the reason says why
    SHARED = "shared"  # another run wishes the same; the last of them puts it back
    LEFT = "left"  # ours, and still there


@dataclass(frozen=True, slots=True)
class ReceiptLine:
    """One touched file: what it read before and what it reads now."""

    file: str
    outcome: Outcome
    before: str
    now: str
    reason: str = ""

    def as_json(self) -> dict[str, str]:
        """Return the line as JSON data."""
        return {
            "file": self.file,
            "outcome": self.outcome.value,
            "before": self.before,
            "now": self.now,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Receipt:
    """All lines of one run, in the order in which they were put back."""

    run_id: str
    lines: tuple[ReceiptLine, ...]

    def count(self, outcome: Outcome) -> int:
        """Return how many files had this outcome."""
        return sum(line.outcome is outcome for line in self.lines)

    @property
    def is_clean(self) -> bool:
        """Whether nothing of ours is left."""
        return self.count(Outcome.LEFT) == 0

    def __str__(self) -> str:
        text = f"restored {self.count(Outcome.RESTORED)}/{len(self.lines)}"
        for outcome, words in (
            (Outcome.FOREIGN, "left because others changed it"),
            (Outcome.IMPOSSIBLE, "cannot be put back"),
            (Outcome.SHARED, "kept for another run"),
            (Outcome.LEFT, "NOT restored"),
        ):
            if count := self.count(outcome):
                text += f", {count} {words}"
        return text

    def as_json(self) -> dict[str, Any]:
        """Return the receipt as JSON data."""
        return {
            "run_id": self.run_id,
            "summary": str(self),
            "files": [line.as_json() for line in self.lines],
        }


def receipt_schema() -> dict[str, Any]:
    """Return the JSON Schema published as schema/receipt.v1.schema.json."""
    line = {
        "file": {"type": "string", "description": "Path below the tracefs mount."},
        "outcome": {
            "enum": [outcome.value for outcome in Outcome],
            "description": "restored: as before; foreign: somebody else's change, left alone;"
            " impossible: the kernel offers no way back; shared: another run needs the same, and"
            " puts it back; left: ours, still there.",
        },
        "before": {"type": "string", "description": "What it read before the run."},
        "now": {"type": "string", "description": "What it reads after the run."},
        "reason": {"type": "string", "description": "Why it is not as before, if it is not."},
    }
    properties: dict[str, Any] = {
        "run_id": {"type": "string", "description": "The run, as `trace-recipe status` names it."},
        "summary": {
            "type": "string",
            "description": "One line for people.",
            "examples": ["restored 14/14"],
        },
        "files": {
            "type": "array",
            "description": "Every touched file, in the order in which they were put back.",
            "items": {
                "type": "object",
                "properties": line,
                "required": list(line),
                "additionalProperties": False,
            },
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://trace-recipe.dev/schema/receipt.v1.schema.json",
        "title": "trace-recipe receipt, v1",
        "description": "What became of every file that a run touched.",
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
