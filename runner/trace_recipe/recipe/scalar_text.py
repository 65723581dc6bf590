"""Scalar text: where each character of a YAML scalar stands in the file it was read from."""

from __future__ import annotations

import re
from functools import lru_cache

from yaml.scanner import Scanner

__all__ = ["source_indexes"]

_LONG_ESCAPES = {"x": 2, "u": 4, "U": 8}


@lru_cache(maxsize=8)  # a long text may have a problem at every other character
def source_indexes(
    text: str, start: int, end: int, style: str | None, value: str
) -> tuple[int, ...]:
    """Return for each character of a scalar its index in the text, or () when it is unclear."""
    if style in ("|", ">"):
        found = _block_indexes(text, start, end, value)
    else:
        found = _flow_indexes(text, start, end, style)
    if "".join(char for char, _ in found) != value:
        return ()
    return tuple(index for _, index in found)


def _flow_indexes(text: str, start: int, end: int, style: str | None) -> list[tuple[str, int]]:
    """Follow a plain or quoted scalar: escapes, doubled quotes, folded lines."""
    if style is not None:
        start, end = start + 1, end - 1
    found: list[tuple[str, int]] = []
    at = start
    while at < end:
        char = text[at]
        if char in "\r\n":
            breaks = re.compile(r"[\r\n][ \t\r\n]*").match(text, at, end)
            assert breaks is not None, "a line break stands here"
            while found and found[-1][0] in " \t" and text[found[-1][1]] in " \t":
                found.pop()
            count = breaks[0].count("\n")
            found += [(" ", at)] if count == 1 else [("\n", at)] * (count - 1)
            at = breaks.end()
        elif style == "'" and text.startswith("''", at):
            found.append(("'", at))
            at += 2
        elif style == '"' and char == "\\":
            at = _follow_escape(text, at, found)
        else:
            found.append((char, at))
            at += 1
    return found


def _follow_escape(text: str, at: int, found: list[tuple[str, int]]) -> int:
    """Add what the escape at `at` stands for; return the index behind it."""
    letter = text[at + 1]
    if letter in "\r\n":
        rest = re.compile(r"\\\r?\n[ \t\r\n]*").match(text, at)
        assert rest is not None, "a line break is escaped"
        found += [("\n", at)] * (rest[0].count("\n") - 1)
        return rest.end()
    if letter in _LONG_ESCAPES:
        end = at + 2 + _LONG_ESCAPES[letter]
        found.append((chr(int(text[at + 2 : end], 16)), at))
        return end
    found.append((Scanner.ESCAPE_REPLACEMENTS[letter], at))
    return at + 2


def _block_indexes(text: str, start: int, end: int, value: str) -> list[tuple[str, int]]:
    """Follow a `|` or `>` block line by line, as YAML strips and folds it."""
    body = text.find("\n", start, end) + 1
    content = re.compile(r"[ \r\n]*").match(text, body, end)
    if body == 0 or content is None:
        return []
    header = text[start:body].split("#", maxsplit=1)[0]
    is_folded = header.startswith(">")
    indent = content.end() - text.rfind("\n", 0, content.end()) - 1
    has_indicator = any(char.isdigit() for char in header)
    for tried in range(1, indent + 1) if has_indicator else (indent,):
        found = _block_lines(text, body, max(end, body), tried, is_folded=is_folded)
        if "".join(char for char, _ in found[: len(value)]) == value:
            return found[: len(value)]
    return []


def _block_lines(
    text: str, body: int, end: int, indent: int, *, is_folded: bool
) -> list[tuple[str, int]]:
    """Return the block's characters with every trailing line break kept."""
    found: list[tuple[str, int]] = []
    blanks: list[tuple[str, int]] = []
    before = ""  # first character of the last line that was not blank
    at = body
    while at < end:
        stop = text.find("\n", at, end)
        stop = end if stop < 0 else stop
        line = text[at + indent : max(stop, at + indent)].rstrip("\r")
        if not line or text[at : at + indent].strip(" "):
            blanks.append(("\n", stop))
        else:
            folds = is_folded and before not in (" ", "\t", "") and line[0] not in " \t"
            if folds and len(blanks) == 1:
                blanks = [(" ", blanks[0][1])]
            elif folds:
                blanks = blanks[1:]
            found += blanks
            found += [(char, at + indent + i) for i, char in enumerate(line)]
            blanks, before = [("\n", stop)], line[0]
        at = stop + 1
    return found + blanks
