"""The kernel's event filter language: text to a tree whose nodes know their character offsets.

The grammar is that of predicate_parse() and parse_pred() in kernel/trace/trace_events_filter.c,
without their slips: the kernel accepts a trailing `&&`, which says something else than was meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from trace_recipe.errors import Problem
from trace_recipe.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "And",
    "Comparison",
    "CpuList",
    "FilterNode",
    "FilterSyntaxError",
    "FunctionName",
    "Not",
    "Number",
    "Or",
    "String",
    "Value",
    "comparisons",
    "kernel_int",
    "parse_filter",
]

MAX_FILTER_CHARS = 1024
MAX_STRING_CHARS = 255  # MAX_FILTER_STR_VAL is 256, its NUL included
MAX_NUMBER_CHARS = 23  # parse_pred() copies a number into num_buf[24]
MAX_NESTING = 64


@dataclass(frozen=True, slots=True)
class Number:
    """An integer as written; `value` is base 0: 0x is hexadecimal, a leading 0 octal."""

    text: str
    value: int
    offset: int


@dataclass(frozen=True, slots=True)
class String:
    """A quoted string without its quotes; `offset` is that of the opening quote."""

    text: str
    quote: str
    offset: int


@dataclass(frozen=True, slots=True)
class CpuList:
    """`CPUS{0-3,7}`; `cpus` are sorted, None means `CPUS{all}`."""

    text: str
    cpus: tuple[int, ...] | None
    offset: int


@dataclass(frozen=True, slots=True)
class FunctionName:
    """The unquoted kernel symbol that `.function` compares with."""

    name: str
    offset: int


Value: TypeAlias = Number | String | CpuList | FunctionName


@dataclass(frozen=True, slots=True)
class Comparison:
    """One `field operator value`; `is_user_string` and `is_function` are its suffixes."""

    field: str
    operator: str
    value: Value
    offset: int
    operator_offset: int
    is_user_string: bool = False
    is_function: bool = False


@dataclass(frozen=True, slots=True)
class Not:
    """`!` before a comparison or a parenthesis."""

    operand: FilterNode
    offset: int


@dataclass(frozen=True, slots=True)
class And:
    """Operands joined by `&&`."""

    operands: tuple[FilterNode, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class Or:
    """Operands joined by `||`, which binds less than `&&`."""

    operands: tuple[FilterNode, ...]
    offset: int


FilterNode: TypeAlias = Comparison | Not | And | Or


class FilterSyntaxError(ValueError):
    """A filter cannot be read; `offset` is the character where, `problem` says why and the fix."""

    def __init__(self, offset: int, problem: Problem) -> None:
        super().__init__(problem.what)
        self.offset = offset
        self.problem = problem


def parse_filter(text: str) -> FilterNode:
    """Parse a filter without surrounding blanks; raises FilterSyntaxError at the first mistake."""
    _check_characters(text)
    return _Parser(text).parse()


def comparisons(node: FilterNode) -> Iterator[Comparison]:
    """Yield the comparisons of a filter, left to right."""
    match node:
        case Comparison():
            yield node
        case Not(operand):
            yield from comparisons(operand)
        case And(operands) | Or(operands):
            for one in operands:
                yield from comparisons(one)


def _check_characters(text: str) -> None:
    for offset, char in enumerate(text):
        if char in "\n\r":
            raise FilterSyntaxError(
                offset,
                Problem(
                    "a filter is one line",
                    why="the kernel's read-back of a filter ends at the line",
                    fix="write it on one line, or fold it with '>-'",
                ),
            )
        if not " " <= char <= "~":
            raise FilterSyntaxError(
                offset,
                Problem(
                    f"character {char!r} in a filter",
                    why="a filter is printable ASCII, blanks included and tabs not",
                    fix='remove it; a glob such as ~ "a?b" matches any one byte',
                ),
            )
    if len(text) > MAX_FILTER_CHARS:
        raise FilterSyntaxError(
            MAX_FILTER_CHARS,
            Problem(
                f"a filter of {len(text)} characters; the limit is {MAX_FILTER_CHARS}",
                why="the kernel reads a filter from one page, and long ones slow every event",
                fix="filter less here and more in a report",
            ),
        )
    if not text.strip():
        raise FilterSyntaxError(
            0, Problem("an empty filter", fix="leave the key out to record every event")
        )
    if text.strip() == "0":
        raise FilterSyntaxError(
            0,
            Problem(
                "the filter '0' would clear the filter",
                why="the kernel takes the text '0' as a command, not as a condition",
                fix="leave the key out to record every event",
            ),
        )
    if text != text.strip():
        raise FilterSyntaxError(
            0 if text[0] == " " else len(text.rstrip()),
            Problem("blanks around a filter", fix="remove them"),
        )


_FORM = "a filter is FIELD OPERATOR VALUE, or several of them with &&, ||, ! and ( )"
_NAME = re.compile(r"[A-Za-z0-9_]+")
_OPERATORS = ("~", "!=", "==", "<=", "<", ">=", ">", "&")
_NUMBER = re.compile(r"-?[A-Za-z0-9]*")
_CPU_RANGE = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")  # no architecture has more than 8192 CPUs
# What people write out of habit, and what the kernel reads.
_WRONG_OPERATORS = (
    ("!~", "write '!(FIELD ~ \"GLOB\")'"),
    ("=~", "the glob operator is '~'"),
    ("=<", "write '<='"),
    ("=>", "write '>='"),
    ("<>", "write '!='"),
    ("===", "write '=='"),
    ("=", "write '=='"),
    (":", "write '=='"),
)
_WRONG_WORDS = {"and": "&&", "or": "||", "not": "!", "is": "==", "like": "~", "in": "&"}


class _Parser:
    """Recursive descent over one filter text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def parse(self) -> FilterNode:
        node = self._or()
        if self._peek() == ")":
            raise self._wrong("a ')' without its '('", "remove it, or add the '('")
        if self._at < len(self._text):
            raise self._after_comparison()
        return node

    def _or(self) -> FilterNode:
        return self._joined("||", Or)

    def _joined(self, operator: str, kind: type[And | Or]) -> FilterNode:
        self._skip_blanks()
        start = self._at
        operands = []
        while True:
            operands.append(self._unary() if operator == "&&" else self._joined("&&", And))
            self._skip_blanks()
            if not self._text.startswith(operator, self._at):
                break
            self._at += len(operator)
        return operands[0] if len(operands) == 1 else kind(tuple(operands), start)

    def _unary(self) -> FilterNode:
        self._skip_blanks()
        start = self._at
        if self._depth >= MAX_NESTING:
            raise self._wrong(
                f"more than {MAX_NESTING} '(' and '!' inside each other", "simplify the filter"
            )
        if self._text.startswith(("!=", "!~"), start):
            raise self._wrong("a comparison starts with a field", "write 'FIELD != VALUE'")
        if self._peek() == "!":
            self._at += 1
            self._depth += 1
            operand = self._unary()
            self._depth -= 1
            return Not(operand, start)
        if self._peek() == "(":
            self._at += 1
            self._depth += 1
            node = self._or()
            self._depth -= 1
            if self._peek() != ")":
                if self._at < len(self._text):
                    raise self._after_comparison()
                self._at = start
                raise self._wrong("a '(' without its ')'", "add the ')'")
            self._at += 1
            return node
        return self._comparison()

    def _comparison(self) -> Comparison:
        start = self._at
        field = self._field()
        is_user_string = self._take(".ustring")
        is_function = self._take(".function")
        if self._peek() == ".":
            suffix = _NAME.match(self._text, self._at + 1)
            word = suffix[0] if suffix else ""
            fix = f"write '{field}' alone, or '{field}.ustring' if it points to text of a program"
            if word not in {"string", "str", "text", "comm"}:
                fix = did_you_mean(word, ("ustring", "function"), otherwise="leave it out")
            raise self._wrong(
                f"no suffix '.{word}' in filters",
                fix,
                why="a field's own text needs none; there are .ustring (text in user memory) and"
                " .function (a kernel symbol)",
            )
        self._skip_blanks()
        operator_offset = self._at
        operator = self._operator(field)
        self._skip_blanks()
        value = self._function() if is_function else self._value(field)
        return Comparison(
            field, operator, value, start, operator_offset, is_user_string, is_function
        )

    def _field(self) -> str:
        name = _NAME.match(self._text, self._at)
        if name and name[0].isdigit():
            raise self._wrong("a comparison starts with a field", "write 'FIELD == NUMBER'")
        if name:
            self._at = name.end()
            return name[0]
        if self._at >= len(self._text):
            raise self._wrong(
                "the filter ends where a comparison must follow",
                "add 'FIELD OPERATOR VALUE', or remove the operator before",
            )
        char = self._peek()
        if char in "'\"":
            raise self._wrong("a comparison starts with a field", "write 'FIELD == \"TEXT\"'")
        if char == ")":
            raise self._wrong("a ')' where a comparison must stand", "add 'FIELD OPERATOR VALUE'")
        raise self._wrong(f"{char!r} where a field must stand", "write 'FIELD OPERATOR VALUE'")

    def _operator(self, field: str) -> str:
        rest = self._text[self._at :]
        for wrong, fix in _WRONG_OPERATORS:
            if rest.startswith(wrong) and not (wrong == "=" and rest.startswith("==")):
                raise self._wrong(f"no operator {wrong!r} in filters", fix)
        for operator in _OPERATORS:
            if rest.startswith(operator) and not (operator == "&" and rest.startswith("&&")):
                self._at += len(operator)
                return operator
        word = _NAME.match(rest)
        if word and word[0].lower() in _WRONG_WORDS:
            fix = f"write {_WRONG_WORDS[word[0].lower()]!r}"
        else:
            fix = f"write '{field} OPERATOR VALUE' with one of == != < <= > >= & ~"
        raise self._wrong(f"no operator after '{field}'", fix)

    def _value(self, field: str) -> Value:
        char = self._peek()
        if char and char in "'\"":
            return self._string(char)
        if self._text.startswith("CPUS", self._at):
            return self._cpu_list()
        if char.isdigit() or char == "-":
            return self._number()
        if not char or char in ")&|":
            raise self._wrong(f"no value for '{field}'", "write a number or a quoted string")
        if char == "+":
            raise self._wrong("a number with '+'", "leave the '+' out")
        word = re.match(r"[^\s()&|]+", self._text[self._at :])
        shown = word[0] if word else char
        raise self._wrong(
            f"value '{shown}' has no quotes",
            f'for a text field write "{shown}"; for a number write digits',
            why="the kernel reads numbers and quoted strings; it knows no names of constants",
        )

    def _string(self, quote: str) -> String:
        start = self._at
        end = self._text.find(quote, start + 1)
        if end < 0:
            raise self._wrong(f"no closing {quote} for this quote", f"add {quote}")
        self._at = end + 1
        text = self._text[start + 1 : end]
        if len(text) > MAX_STRING_CHARS:
            raise FilterSyntaxError(
                start,
                Problem(
                    f"a string of {len(text)} characters; the kernel's limit is {MAX_STRING_CHARS}",
                    fix='shorten it; a glob such as ~ "start*" needs less',
                ),
            )
        return String(text, quote, start)

    def _number(self) -> Number:
        start = self._at
        match = _NUMBER.match(self._text, start)
        text = match[0] if match else ""
        self._at += len(text)
        value = kernel_int(text)
        if value is None or self._peek() == ".":
            self._at = start
            shown = re.match(r"-?[\w.]*", self._text[start:])
            raise self._wrong(
                f"'{shown[0] if shown else text}' is not an integer",
                "write decimal, 0x hexadecimal or 0 octal digits, without a unit",
            )
        if len(text) > MAX_NUMBER_CHARS:
            self._at = start
            raise self._wrong(
                f"a number of {len(text)} characters; the kernel's limit is {MAX_NUMBER_CHARS}",
                "remove leading zeros",
            )
        return Number(text, value, start)

    def _cpu_list(self) -> CpuList:
        start = self._at
        self._at += 4
        if self._peek() != "{":
            raise self._wrong("no '{' after CPUS", "write CPUS{0-3}")
        end = self._text.find("}", self._at)
        if end < 0:
            raise self._wrong("no closing '}' for CPUS{", "add '}'")
        text = self._text[self._at + 1 : end]
        cpus: set[int] = set()
        for part in text.split(",") if text != "all" else ():
            bounds = _CPU_RANGE.fullmatch(part)
            if bounds is None or int(bounds[2] or bounds[1]) < int(bounds[1]):
                self._at += 1
                raise self._wrong(
                    f"'{text}' is not a list of CPUs" if text else "no CPUs in CPUS{}",
                    "write CPUs and ascending ranges, as in CPUS{0-3,7}",
                )
            cpus.update(range(int(bounds[1]), int(bounds[2] or bounds[1]) + 1))
        self._at = end + 1
        return CpuList(text, None if text == "all" else tuple(sorted(cpus)), start)

    def _function(self) -> Number | FunctionName:
        if self._peek().isdigit():
            return self._number()
        start = self._at
        match = re.compile(r"\S*").match(self._text, start)
        name = match[0] if match else ""
        if not name:
            raise self._wrong("no function name", "write 'FIELD.function == NAME'")
        if name[0] in "'\"":
            raise self._wrong("a function name with quotes", f"write {name.strip(name[0])}")
        # parse_pred() takes everything up to a blank as the name.
        bad = re.search(r"[^A-Za-z0-9_.$]", name)
        if bad:
            self._at = start + bad.start()
            raise self._wrong(
                f"{bad[0]!r} right after a function name",
                "put a blank after the name",
                why="the kernel reads a function name up to the next blank, ')' and '&&' included",
            )
        self._at += len(name)
        return FunctionName(name, start)

    def _after_comparison(self) -> FilterSyntaxError:
        rest = self._text[self._at :]
        word = _NAME.match(rest)
        if word and word[0].lower() in _WRONG_WORDS:
            fix = f"write '{_WRONG_WORDS[word[0].lower()]}' instead of '{word[0]}'"
        elif rest[0] in "&|":
            fix = f"write '{rest[0] * 2}'"
        else:
            fix = "join comparisons with && or ||"
        shown = word[0] if word else rest[0]
        return self._wrong(f"'{shown}' after a complete comparison", fix)

    def _take(self, text: str) -> bool:
        match = re.compile(re.escape(text) + r"(?![A-Za-z0-9_])").match(self._text, self._at)
        if match:
            self._at = match.end()
        return match is not None

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip_blanks(self) -> None:
        while self._peek() == " ":
            self._at += 1

    def _wrong(self, what: str, fix: str, *, why: str = _FORM) -> FilterSyntaxError:
        return FilterSyntaxError(self._at, Problem(what, why=why, fix=fix))


def kernel_int(text: str) -> int | None:
    """Read a number as kstrtoll(text, 0) does."""
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    if re.fullmatch(r"0[xX][0-9a-fA-F]+", digits):
        return sign * int(digits, 16)
    if re.fullmatch(r"0[0-7]*", digits):
        return sign * int(digits, 8)
    if re.fullmatch(r"[1-9][0-9]*", digits):
        return sign * int(digits)
    return None
