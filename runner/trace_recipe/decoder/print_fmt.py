"""Parser for the `print fmt` language: string literals, then one C expression per conversion.

The texts come from format files of any kernel, also damaged or hostile ones: size, nesting and
depth are bounded, and whatever is not understood raises PrintFmtError.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Binary",
    "Call",
    "Cast",
    "Dereference",
    "FieldRef",
    "Index",
    "Name",
    "Node",
    "Number",
    "PrintFmt",
    "PrintFmtError",
    "SizeOf",
    "Table",
    "Ternary",
    "Text",
    "TypeName",
    "Unary",
    "parse_print_fmt",
]

MAX_CHARACTERS = 1 << 18  # the kernel's longest is below 5 000
MAX_NESTING = 48
MAX_OPERATORS = 512  # in one chain: a | b | c ...


class PrintFmtError(ValueError):
    """The print fmt cannot be parsed or cannot be evaluated; the message says why."""


@dataclass(frozen=True, slots=True)
class TypeName:
    """A C type as written: its words without qualifiers, and the number of `*` behind them."""

    name: str
    pointers: int = 0


@dataclass(frozen=True, slots=True)
class Number:
    """An integer literal with its suffix in lower case ("", "u", "ul", ...)."""

    value: int
    suffix: str = ""
    is_decimal: bool = True


@dataclass(frozen=True, slots=True)
class Text:
    """A string literal, escapes resolved, adjacent ones joined."""

    text: str


@dataclass(frozen=True, slots=True)
class FieldRef:
    """`REC->name`."""

    name: str


@dataclass(frozen=True, slots=True)
class Name:
    """Any other identifier: an enum or a variable whose value the trace does not hold."""

    name: str


@dataclass(frozen=True, slots=True)
class Unary:
    """One of `- + ~ ! &` before its operand."""

    operator: str
    operand: Node


@dataclass(frozen=True, slots=True)
class Binary:
    """An operator between two operands."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Ternary:
    """`condition ? yes : no`; `yes` is None in GNU's `a ?: b`."""

    condition: Node
    yes: Node | None
    no: Node


@dataclass(frozen=True, slots=True)
class Cast:
    """`(type)operand`."""

    type: TypeName
    operand: Node


@dataclass(frozen=True, slots=True)
class Dereference:
    """`*operand`."""

    operand: Node


@dataclass(frozen=True, slots=True)
class Index:
    """`base[index]`."""

    base: Node
    index: Node


@dataclass(frozen=True, slots=True)
class Call:
    """`function(arguments)`."""

    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """The `{value, "name"}` entries of __print_flags and __print_symbolic, in order."""

    entries: tuple[tuple[Node, str], ...]


@dataclass(frozen=True, slots=True)
class SizeOf:
    """`sizeof(type)`."""

    type: TypeName


Node: TypeAlias = (
    Number | Text | FieldRef | Name | Unary | Binary | Ternary | Cast | Dereference | Index | Call
    | Table | SizeOf
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PrintFmt:
    """A parsed print fmt: the printf format and one expression per conversion."""

    format: str
    arguments: tuple[Node, ...]


_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<string>"(?:[^"\\]|\\.)*")
    |(?P<char>'(?:[^'\\]|\\.[0-7a-fA-F]*)')
    |(?P<number>0[xX][0-9a-fA-F]+[uUlL]*|[0-9]+[uUlL]*)(?![0-9A-Za-z_])
    |(?P<name>[A-Za-z_]\w*)
    |(?P<operator>->|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^~!<>?:,.(){}\[\]])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_SIMPLE_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_PRECEDENCE = {
    "||": 1, "&&": 2, "|": 3, "^": 4, "&": 5, "==": 6, "!=": 6, "<": 7, ">": 7, "<=": 7, ">=": 7,
    "<<": 8, ">>": 8, "+": 9, "-": 9, "*": 10, "/": 10, "%": 10,
}  # fmt: skip
_QUALIFIERS = {"const", "volatile", "__user", "__force", "__iomem", "__percpu", "__rcu"}
_TYPE_WORDS = {
    "void", "char", "short", "int", "long", "float", "double", "signed", "unsigned", "bool",
    "_Bool", "u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "__u8", "__u16", "__u32",
    "__u64", "__s8", "__s16", "__s32", "__s64", "__le16", "__le32", "__le64", "__be16", "__be32",
    "__be64", "uint", "ulong", "ushort", "uchar",
}  # fmt: skip
_TAGS = {"struct", "union", "enum"}
_END = ("end", "")


def parse_print_fmt(text: str) -> PrintFmt:
    """Parse the text after `print fmt: `; raises PrintFmtError, never anything else."""
    if len(text) > MAX_CHARACTERS:
        raise PrintFmtError(f"print fmt of {len(text)} characters")
    try:
        return _Parser(list(_tokens(text))).print_fmt()
    except RecursionError:
        raise PrintFmtError("nested too deeply") from None


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise PrintFmtError(f"unexpected {text[position : position + 12]!r}")
        position = match.end()
        kind = str(match.lastgroup)
        if kind != "space":
            yield kind, match.group()


def _unescape(body: str) -> str:
    def resolve(match: re.Match[str]) -> str:
        code = match[1]
        if code[0] == "x" and len(code) > 1:
            return chr(int(code[1:], 16))
        if code[0] in "01234567":
            return chr(int(code, 8) & 0xFF)
        return _SIMPLE_ESCAPES.get(code, code)

    return _ESCAPE.sub(resolve, body)


class _Parser:
    """A Pratt parser over the token list."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._next = 0
        self._nesting = 0

    def print_fmt(self) -> PrintFmt:
        literals = self._strings()
        if literals is None:
            self._fail("a string literal")
        arguments = []
        while self._take(","):
            arguments.append(self._expression())
        if self._peek() != _END:
            self._fail("',' or the end")
        return PrintFmt(literals, tuple(arguments))

    def _peek(self, ahead: int = 0) -> tuple[str, str]:
        place = self._next + ahead
        return self._tokens[place] if place < len(self._tokens) else _END

    def _take(self, operator: str) -> bool:
        if self._peek() != ("operator", operator):
            return False
        self._next += 1
        return True

    def _expect(self, operator: str) -> None:
        if not self._take(operator):
            self._fail(repr(operator))

    def _fail(self, wanted: str) -> NoReturn:
        kind, value = self._peek()
        found = "the end" if kind == "end" else repr(value[:24])
        raise PrintFmtError(f"{wanted} expected, found {found}")

    def _strings(self) -> str | None:
        parts = []
        while self._peek()[0] == "string":
            parts.append(_unescape(self._peek()[1][1:-1]))
            self._next += 1
        return "".join(parts) if parts else None

    def _expression(self, minimum: int = 0) -> Node:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise PrintFmtError("nested too deeply")
        left = self._unary()
        for _ in range(MAX_OPERATORS):
            kind, value = self._peek()
            if kind != "operator":
                break
            if value == "?" and minimum == 0:
                left = self._ternary(left)
                continue
            precedence = _PRECEDENCE.get(value, 0)
            if precedence <= minimum:
                break
            self._next += 1
            left = Binary(value, left, self._expression(precedence))
        else:
            raise PrintFmtError("too many operators in one expression")
        self._nesting -= 1
        return left

    def _ternary(self, condition: Node) -> Node:
        self._expect("?")
        if self._take(":"):
            return Ternary(condition, None, self._expression())
        yes = self._expression()
        self._expect(":")
        return Ternary(condition, yes, self._expression())

    def _unary(self) -> Node:
        kind, value = self._peek()
        if kind == "operator" and value in {"-", "+", "~", "!", "&", "*"}:
            self._next += 1
            self._nesting += 1
            if self._nesting > MAX_NESTING:
                raise PrintFmtError("nested too deeply")
            operand = self._unary()
            self._nesting -= 1
            return Dereference(operand) if value == "*" else Unary(value, operand)
        if kind == "operator" and value == "(":
            type_name = self._type_in_parentheses()
            if type_name is not None:
                self._nesting += 1
                if self._nesting > MAX_NESTING:
                    raise PrintFmtError("nested too deeply")
                operand = self._unary()
                self._nesting -= 1
                return Cast(type_name, operand)
        return self._postfix(self._primary())

    def _type_in_parentheses(self) -> TypeName | None:
        """Consume `(type)`; None, and nothing consumed, when it is not one."""
        ahead = 1
        words = []
        while self._peek(ahead)[0] == "name" and ahead < 8:
            words.append(self._peek(ahead)[1])
            ahead += 1
        pointers = 0
        while self._peek(ahead) == ("operator", "*") or self._peek(ahead)[1] in _QUALIFIERS:
            pointers += self._peek(ahead)[1] == "*"
            ahead += 1
        if not words or self._peek(ahead) != ("operator", ")"):
            return None
        plain = [word for word in words if word not in _QUALIFIERS]
        is_type = (
            pointers > 0
            or plain[:1] == []
            or plain[0] in _TAGS
            or all(word in _TYPE_WORDS for word in plain)
            or (len(plain) == 1 and plain[0].endswith("_t"))
        )
        if not is_type or plain[0:1] == ["REC"]:
            return None
        self._next += ahead + 1
        return TypeName(" ".join(plain) or "int", pointers)

    def _primary(self) -> Node:
        kind, value = self._peek()
        if kind == "string":
            return Text(self._strings() or "")
        if kind == "operator":
            return self._bracket()
        if kind == "end":
            self._fail("an expression")
        self._next += 1
        if kind == "number":
            return _number(value)
        if kind == "char":
            body = _unescape(value[1:-1])
            if len(body) != 1:
                raise PrintFmtError(f"character literal {value[:12]}")
            return Number(ord(body))
        return self._name(value)

    def _bracket(self) -> Node:
        if self._take("("):
            if self._peek() == ("operator", "{"):
                raise PrintFmtError("a gcc statement expression")
            inner = self._expression()
            self._expect(")")
            return inner
        if not self._take("{"):
            self._fail("an expression")
        return self._table_entry()

    def _name(self, name: str) -> Node:
        if name == "sizeof":
            return self._sizeof()
        if self._take("("):
            arguments: list[Node] = []
            while not self._take(")"):
                if arguments:
                    self._expect(",")
                    if self._take(")"):  # some tables end in a comma
                        break
                arguments.append(self._expression())
            return Call(name, _with_table(arguments))
        return Name(name)

    def _sizeof(self) -> Node:
        type_name = self._type_in_parentheses()
        if type_name is not None:
            return SizeOf(type_name)
        self._expect("(")
        operand = self._expression()
        self._expect(")")
        return Call("sizeof", (operand,))

    def _table_entry(self) -> Table:
        """Read the rest of `{value, "name"}`; `{}` and `{0, NULL}` end a table, hold nothing."""
        if self._take("}"):
            return Table(())
        value = self._expression()
        self._expect(",")
        name = self._expression()
        self._take(",")
        self._expect("}")
        if isinstance(name, Text):
            return Table(((value, name.text),))
        while isinstance(name, Cast):
            name = name.operand
        if isinstance(name, Number) and name.value == 0:
            return Table(())
        raise PrintFmtError("a table entry without a literal name")

    def _postfix(self, node: Node) -> Node:
        for _ in range(MAX_NESTING):
            if self._take("->"):
                kind, name = self._peek()
                if kind != "name" or node != Name("REC"):
                    self._fail("a field of REC")
                self._next += 1
                node = FieldRef(name)
            elif self._take("["):
                index = self._expression()
                self._expect("]")
                node = Index(node, index)
            else:
                return node
        raise PrintFmtError("nested too deeply")


def _with_table(arguments: list[Node]) -> tuple[Node, ...]:
    """Join the `{value, "name"}` arguments at the end into one Table."""
    entries = [one for one in arguments if isinstance(one, Table)]
    others = [one for one in arguments if not isinstance(one, Table)]
    if not entries:
        return tuple(others)
    return (*others, Table(tuple(pair for one in entries for pair in one.entries)))


def _number(text: str) -> Number:
    digits = text.rstrip("uUlL")
    suffix = text[len(digits) :].lower()
    if len(digits) > 24:
        raise PrintFmtError(f"number of {len(digits)} digits")
    if digits[:2].lower() == "0x":
        return Number(int(digits, 16), suffix, is_decimal=False)
    if len(digits) > 1 and digits[0] == "0":
        if not all(digit in "01234567" for digit in digits):
            raise PrintFmtError(f"octal number {digits}")
        return Number(int(digits, 8), suffix, is_decimal=False)
    return Number(int(digits), suffix)
