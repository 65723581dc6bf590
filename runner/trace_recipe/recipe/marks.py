"""Marks: where every value and key of a document stands in its text."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

from trace_recipe.errors import Place
from trace_recipe.recipe.scalar_text import source_indexes

__all__ = ["Located", "Marks", "Path", "Source", "Span"]

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """One file's text and where its lines begin."""

    file: str
    text: str
    line_starts: tuple[int, ...]
    _lines: dict[int, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, file: str, text: str) -> Source:
        """Return the source with its lines found."""
        ends = (match.end() for match in re.finditer("\n", text))
        return cls(file, text, (0, *ends))

    def place(self, index: int) -> Place:
        """Return the place of a character, by its index in the text."""
        index = max(0, min(index, len(self.text)))
        line = bisect_right(self.line_starts, index) - 1
        start = self.line_starts[line]
        shown = self._lines.get(line)
        if shown is None:  # once: many problems of one long line share its text
            end = self.text.find("\n", start)
            source_line = self.text[start : end if end >= 0 else len(self.text)].rstrip("\r")
            shown = self._lines[line] = source_line.replace("\t", " ")
        return Place(self.file, line + 1, index - start + 1, shown)


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a scalar after `${name}` was put in: where it begins, and where it came from."""

    start: int
    raw_start: int
    is_literal: bool


@dataclass(frozen=True, slots=True)
class Located:
    """A value of a document: a scalar, a list or a mapping of Located, and where it stands."""

    value: Any
    source: Source
    start: int
    end: int
    style: str | None = None
    key_start: int | None = None
    raw: str = ""
    spans: tuple[Span, ...] = field(default=())

    def plain(self) -> Any:
        """Return the value without its places, as json.loads would."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def place(self, offset: int | None = None) -> Place:
        """Return where the value begins, or where a character of its text stands."""
        if offset is None or not isinstance(self.value, str) or not self.raw:
            return self.source.place(self.start)
        offset = self._raw_offset(max(0, offset))
        indexes = source_indexes(self.source.text, self.start, self.end, self.style, self.raw)
        if not indexes:
            return self.source.place(self.start)
        if offset < len(indexes):
            return self.source.place(indexes[offset])
        return self.source.place(indexes[-1] + 1)

    def _raw_offset(self, offset: int) -> int:
        """Return the offset before parameters were put in."""
        for span in reversed(self.spans):
            if offset >= span.start:
                return span.raw_start + (offset - span.start if span.is_literal else 0)
        return offset


@dataclass(frozen=True, slots=True)
class Marks:
    """Where every value and key of a merged recipe stands, by its path."""

    root: Located

    def place(self, path: Path, *, offset: int | None = None) -> Place:
        """Return where a value stands, `offset` characters into its text; else its parent."""
        node, found = self._walk(path)
        return node.place(offset if found else None)

    def key_place(self, path: Path) -> Place:
        """Return where the key of a value stands; for a list item, the item."""
        node, found = self._walk(path)
        if found and node.key_start is not None:
            return node.source.place(node.key_start)
        return node.place()

    def _walk(self, path: Path) -> tuple[Located, bool]:
        node = self.root
        for step in path:
            below: Any = node.value
            is_key = isinstance(below, dict) and step in below
            is_item = isinstance(below, list) and isinstance(step, int) and 0 <= step < len(below)
            if not is_key and not is_item:
                return node, False
            node = below[step]
        return node, True
