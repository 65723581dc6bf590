"""YAML 1.2 text -> a tree of values that know where they stand.

Only YAML's core types: no tags, anchors, aliases or merge keys, no key twice, one document.
PyYAML scans and parses; composing and resolving are ours, since its own are YAML 1.1.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any

import yaml
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.scanner import Scanner

from trace_recipe.errors import Place, Problem, RecipeError
from trace_recipe.recipe.marks import Located, Source

__all__ = ["MAX_BYTES", "Document", "decode_text", "parse_yaml"]

MAX_BYTES = 1 << 20
_NULS_OF_BINARY = 4
MAX_DEPTH = 32
MAX_NODES = 20_000

_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False}
_BOOLEANS["FALSE"] = False
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
# Not printable in YAML, or able to show a reader other lines than the machine reads.
_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\ufffe\uffff]"
    "|\r(?!\n)"
)
_FLOW_WHY = "entries are separated by ','; text with one of []{},? in it needs quotes here"


@dataclass(frozen=True, slots=True)
class Document:
    """What a file is called in messages, one and many of them, and how it is begun."""

    one: str
    many: str
    start: str


_RECIPE = Document(
    "recipe",
    "recipes",
    "start it with 'recipe: v1' and 'name: my-recipe'; `trace-recipe init` writes one",
)


def decode_text(file: str, data: bytes, document: Document = _RECIPE) -> str:
    """Return a file's bytes as text; raises RecipeError when they are not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        good = Source.of(file, data[: error.start].decode())
        guess = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "ISO-8859-1"
        raise RecipeError(
            Problem(
                f"the byte 0x{data[error.start]:02x} is not UTF-8 text",
                f"a {document.one} is UTF-8",
                f"convert it, as in: iconv -f {guess} -t UTF-8 {file}",
                place=good.place(len(good.text)),
            )
        ) from error


def parse_yaml(file: str, text: str, document: Document = _RECIPE) -> Located:
    """Return the document's root, a mapping; raises RecipeError with every problem found."""
    text = text.removeprefix("\ufeff")
    source = Source.of(file, text)
    if len(text) > MAX_BYTES or len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise RecipeError(
            Problem(
                f"the file is too large for a {document.one}",
                f"{MAX_BYTES >> 20} MiB is the most that is read",
                "is it the right file?",
                place=source.place(0),
            )
        )
    not_text = _not_text_problem(source)
    if not_text is not None:
        raise RecipeError(not_text)
    hidden = [_hidden_problem(source, match) for match in _FORBIDDEN.finditer(text)]
    if hidden:
        raise RecipeError(*hidden[:20])
    composer = _Composer(source, document)
    root = composer.compose()
    if composer.problems:
        raise RecipeError(*composer.problems)
    return root


class _Events(Reader, Scanner, Parser):
    """PyYAML's scanner and parser, without its composer, resolver and constructor."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)


class _Stop(Exception):  # noqa: N818 - ends composing early; the problem is recorded already
    """Nothing more can be read after this problem."""


class _Composer:
    """Makes the tree from PyYAML's events and gathers what is wrong with it."""

    def __init__(self, source: Source, document: Document) -> None:
        self.source = source
        self.document = document
        self.problems: list[Problem] = []
        self._nodes = 0
        self._events = _Events(source.text)

    def compose(self) -> Located:
        """Return the root; when problems were gathered it is not to be used."""
        empty = Located({}, self.source, 0, 0)
        try:
            return self._document() or empty
        except _Stop:
            return empty
        except yaml.MarkedYAMLError as error:
            self._report_syntax(error)
        except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
            # Escapes beyond Unicode and absurd version numbers end in Python's own errors.
            self._report(
                self._events.index,
                "this is not YAML",
                "an escape or number in it is out of range",
                "write it differently",
            )
        return empty

    def _document(self) -> Located | None:
        self._next()
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            self._report(
                0,
                "the file is empty",
                f"a {self.document.one} is a mapping of keys",
                self.document.start,
            )
            return None
        version = getattr(event, "version", None)
        if getattr(event, "tags", None) or (version is not None and version != (1, 2)):
            self._report(
                event.start_mark.index,
                f"a {self.document.one} has no directives",
                "lines with % in front change how the rest is read",
                "take the line out",
            )
        root = self._node(self._next(), depth=1)
        self._next()
        after = self._next()
        if not isinstance(after, yaml.StreamEndEvent):
            self._report(
                _index(after.start_mark),
                "a second document begins",
                f"a file holds one {self.document.one}",
                "put it into a file of its own; `include` joins files",
            )
            return None
        if not isinstance(root.value, dict) and not self.problems:
            is_empty = root.value is None
            self._report(
                root.start,
                "the file is empty" if is_empty else f"a {self.document.one} is a mapping of keys",
                "" if is_empty else f"this is {_kind_of(root.value)}",
                self.document.start,
            )
        return root

    def _next(self) -> Any:
        return self._events.get_event()  # type: ignore[no-untyped-call] # so are its stubs

    def _node(self, event: Any, *, depth: int) -> Located:
        self._nodes += 1
        start = event.start_mark.index
        if depth > MAX_DEPTH:
            self._report(
                start,
                "it is nested too deeply",
                f"{MAX_DEPTH} levels are the most",
                "is a bracket missing?",
            )
            raise _Stop
        if self._nodes > MAX_NODES:
            self._report(
                start,
                "there are too many values",
                f"{MAX_NODES} are the most in one file",
                f"split the {self.document.one}",
            )
            raise _Stop
        if isinstance(event, yaml.AliasEvent):
            self._report_alias(start)
            return Located(None, self.source, start, _index(event.end_mark))
        if event.anchor is not None:
            self._report(
                start,
                f"an anchor: '&{event.anchor}'",
                f"{self.document.many} have no anchors and aliases: what is written is what is"
                " read",
                "write the value out; text that begins with '&' needs quotes",
            )
        if event.tag is not None:
            self._report_tag(start)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(event, depth)
        return self._mapping(event, depth)

    def _sequence(self, start: Any, depth: int) -> Located:
        items = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._node(event, depth=depth + 1))
        return Located(items, self.source, start.start_mark.index, _index(event.end_mark), "[")

    def _mapping(self, start: Any, depth: int) -> Located:
        children: dict[str, Located] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            before = len(self.problems)
            key = self._node(event, depth=depth + 1)
            child = self._node(self._next(), depth=depth + 1)
            if len(self.problems) > before and not isinstance(key.value, str):
                continue
            if not isinstance(key.value, str):
                self._report_key(key)
            elif key.value == "<<" and key.style is None:
                self._report(
                    key.start,
                    "a merge key '<<'",
                    f"{self.document.many} have no anchors and no merge keys",
                    "write the keys out, or use `include`",
                )
            elif key.value in children:
                first = children[key.value]
                line = self.source.place(first.key_start or 0).line
                self._report(
                    key.start,
                    f"the key {key.value!r} stands here twice",
                    f"it is on line {line} already",
                    "take one of them out, or join them",
                )
            else:
                children[key.value] = replace(child, key_start=key.start)
        return Located(children, self.source, start.start_mark.index, _index(event.end_mark), "{")

    def _scalar(self, event: Any) -> Located:
        text: str = event.value
        start, end = event.start_mark.index, event.end_mark.index
        value: Any = text
        if event.implicit[0] and event.style is None:
            try:
                value = _core_value(text)
            except ValueError as error:
                why = "numbers are finite and have 64 bits"
                self._report(start, str(error), why, "put it in quotes when it is meant as text")
        elif hidden := re.search("[\x00\ud800-\udfff]", text):
            self._report(
                start,
                f"the escape for U+{ord(hidden[0]):04X} in quoted text",
                "neither files nor the kernel take this character",
                "take it out",
            )
        return Located(value, self.source, start, end, event.style, raw=text)

    def _report(self, index: int, what: str, why: str = "", fix: str = "") -> None:
        self.problems.append(Problem(what, why, fix, place=self.source.place(index)))

    def _report_alias(self, index: int) -> None:
        word = _word_at(self.source.text, index)
        self._report(
            index,
            f"an alias: {word!r}",
            f"in YAML '*' in front of a value names an anchor, and {self.document.many} have none",
            f'put it in quotes: "{word}"',
        )

    def _report_tag(self, index: int) -> None:
        word = _word_at(self.source.text, index)
        self._report(
            index,
            f"a tag: {word!r}",
            f"in YAML '!' in front of a value names a type, and {self.document.many} have none",
            f'put it in quotes: "{word}"',
        )

    def _report_key(self, key: Located) -> None:
        if isinstance(key.value, dict | list):
            what, fix = f"a key that is {_kind_of(key.value)}", "a value like ${x} needs quotes"
        elif key.value is None:
            what, fix = "a key without text", "write the key in front of ':'"
        else:
            what = f"the key '{key.raw}' is {_kind_of(key.value)}, not text"
            fix = f'put it in quotes: "{key.raw}"'
        self._report(key.start, what, "keys are text", fix)

    def _report_syntax(self, error: yaml.MarkedYAMLError) -> None:
        """Say in our words what PyYAML cannot read."""
        problem, context = error.problem or "", error.context or ""
        mark = error.problem_mark or error.context_mark
        index = mark.index if mark is not None else 0
        first = error.context_mark.index if error.context_mark is not None else index
        if "scanning an alias" in context or "scanning an anchor" in context:
            self._report_alias(first)
        elif "tag" in context or "tag handle" in problem:
            self._report_tag(first)
        elif "mapping values are not allowed" in problem and (glued := self._glued_key(index)):
            colon, line = glued
            fix = f"write '{line.replace(':', ': ', 1)}'"
            self._report(colon, "no blank after ':'", "without it YAML sees text, not a key", fix)
        else:
            at_first, what, why, fix = _syntax_words(problem, context)
            self._report(first if at_first else index, what, why, fix)

    def _glued_key(self, index: int) -> tuple[int, str] | None:
        """Return where a `key:value` without its blank ends the line before, and that line."""
        end = self.source.text.rfind("\n", 0, index)
        start = self.source.text.rfind("\n", 0, max(end, 0)) + 1
        line = self.source.text[start : max(end, 0)]
        match = re.fullmatch(r"\s*[a-z_-]{1,40}:[^\s:/]\S{0,60}", line)
        return None if match is None else (start + line.index(":"), line.strip())


def _index(mark: Any) -> int:
    """Return where one of PyYAML's marks stands; its stubs say that there may be none."""
    index: int = mark.index
    return index


def _word_at(text: str, index: int) -> str:
    """Return the word there, without brackets that were opened before it."""
    word = text[index : index + 80].split(maxsplit=1)[0]
    for opening, closing in ("[]", "{}", "[]"):
        word = word.rstrip(",")
        while word.endswith(closing) and word.count(closing) > word.count(opening):
            word = word[:-1]
    return word


def _not_text_problem(source: Source) -> Problem | None:
    """Refuse a binary file once, not once for each of its characters."""
    if source.text.count("\0") < _NULS_OF_BINARY:
        return None
    return Problem(
        "this is not a text file",
        f"it has NUL characters from line {source.place(source.text.index(chr(0))).line} on",
        "is it the right file?",
        place=Place(source.file, 1, 1),
    )


def _hidden_problem(source: Source, match: re.Match[str]) -> Problem:
    return Problem(
        f"the character U+{ord(match[0]):04X} is not allowed",
        "control and direction characters can hide what the file says",
        "take it out; in double quotes it can be written as an escape",
        place=source.place(match.start()),
    )


def _syntax_words(problem: str, context: str) -> tuple[bool, str, str, str]:
    """Return whether the beginning of the construct is meant, and what, why, fix."""
    if "'\\t'" in problem or "'\\t'" in context:
        return False, "a tab", "YAML is indented with spaces only", "write spaces for it"
    if "cannot start any token" in problem:
        char = problem.split("'")[1]
        return False, f"a value begins with '{char}'", "YAML keeps it", "put the value in quotes"
    if "mapping values are not allowed" in problem:
        return (
            False,
            "a ':' that YAML does not expect",
            "it would begin a second mapping in the same line",
            "put the value in quotes, or check the indentation",
        )
    if "quoted scalar" in context:
        if "end of stream" in problem or "document separator" in problem:
            return True, "the quote is never closed", "", "close it"
        return (
            False,
            "an unknown escape in double quotes",
            "'\\' begins an escape there",
            "write '\\\\' for it, or use single quotes",
        )
    if "could not find expected ':'" in problem:
        return True, "a line without ':'", "a mapping needs 'key: value'", "add ':' and a value"
    if "sequence entries are not allowed" in problem:
        return (
            False,
            "a '-' that YAML does not expect",
            "'-' and a blank, or the end of the line, begin an entry of a list",
            'put it in quotes when it is meant as text: "-"',
        )
    if "',' or ']', but got '{'" in problem or "',' or ']', but got '}'" in problem:
        return (
            False,
            f"a '{problem[-2]}' in a list between brackets",
            _FLOW_WHY,
            'put the whole entry in quotes: "syscalls:sys_{enter,exit}_mount"',
        )
    if "',' or ']'" in problem:
        return True, "this '[' list cannot be read", _FLOW_WHY, "close it with ']', or use quotes"
    if "',' or '}'" in problem:
        return (
            True,
            "this '{' mapping cannot be read",
            _FLOW_WHY,
            "close it with '}', or use quotes",
        )
    if "block scalar" in context:
        return False, "the first line of this block is malformed", "", "write '|' or '>-' alone"
    if "directive" in context or "directive" in problem:
        return False, "a directive cannot be read", "", "take the line with % out"
    return (
        False,
        "this does not fit what stands before it",
        "the indentation differs, or something follows where the value has ended",
        "check the indentation and the quotes of this line and of the one before it",
    )


def _core_value(text: str) -> Any:
    """Return a plain scalar by YAML 1.2's core schema; raises ValueError with our words."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if len(text) > 40 and (_DECIMAL.fullmatch(text) or _OCTAL.fullmatch(text)):
        raise ValueError("the number has too many digits")
    if _DECIMAL.fullmatch(text):
        return _bounded(int(text))
    if _OCTAL.fullmatch(text):
        return _bounded(int(text, 8))
    if _HEX.fullmatch(text):
        return _bounded(int(text, 16))
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"'{text}' is no number that a recipe can use")
    if _FLOAT.fullmatch(text):
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(f"'{text[:40]}' is no number that a recipe can use")
        return number
    return text


def _bounded(number: int) -> int:
    if not -(1 << 63) <= number < 1 << 64:
        raise ValueError("the number has more than 64 bits")
    return number


def _kind_of(value: object) -> str:
    match value:
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case None:
            return "nothing"
        case _:
            return "text"
