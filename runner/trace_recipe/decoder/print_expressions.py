"""Evaluate parsed print fmt expressions over whole columns, with C's conversions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from trace_recipe.decoder.print_fmt import (
    Binary,
    Call,
    Cast,
    Dereference,
    FieldRef,
    Index,
    Name,
    Node,
    Number,
    PrintFmtError,
    SizeOf,
    Table,
    Ternary,
    Text,
    TypeName,
    Unary,
)
from trace_recipe.decoder.print_names import enum_values
from trace_recipe.decoder.print_values import (
    INT,
    NO_ROWS,
    U8,
    Array,
    CInteger,
    IntegerValue,
    Place,
    PointerValue,
    Rows,
    StringValue,
    Typing,
    Value,
    as_string,
    constant,
    constant_string,
    visible,
)
from trace_recipe.formats import Field, FieldKind

if TYPE_CHECKING:
    from trace_recipe.formats import EventFormat

__all__ = ["Expressions"]


_Operation: TypeAlias = Callable[[Array, Array], Array]


def _quotient(left: Array, right: Array) -> Array:
    """C's division: towards zero; a zero divisor gives 0 instead of a trap."""
    safe = np.where(right == 0, np.ones_like(right), right)
    result: Array = np.floor_divide(left, safe)
    if left.dtype.kind == "i":
        result = result + ((result < 0) & (result * safe != left))
    return np.where(right == 0, np.zeros_like(result), result)


def _remainder(left: Array, right: Array) -> Array:
    safe = np.where(right == 0, np.ones_like(right), right)
    result: Array = np.where(right == 0, np.zeros_like(left), np.fmod(left, safe))
    return result


_ARITHMETIC: dict[str, _Operation] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": _quotient, "%": _remainder,
    "&": np.bitwise_and, "|": np.bitwise_or, "^": np.bitwise_xor,
}  # fmt: skip
_COMPARISONS: dict[str, _Operation] = {
    "==": np.equal, "!=": np.not_equal, "<": np.less, ">": np.greater, "<=": np.less_equal,
    ">=": np.greater_equal,
}  # fmt: skip


class Expressions:
    """Compiles the expressions of one event; the helpers' calls are handed to `call`."""

    def __init__(
        self,
        event: EventFormat,
        typing: Typing,
        byte_order: str,
        call: Callable[[Expressions, Call], Value],
    ) -> None:
        self.event = event
        self.typing = typing
        self.byte_order = byte_order
        self._names = enum_values(event.print_fmt)
        self._call = call

    def compile(self, node: Node) -> Value:
        """Return what evaluates the node; raises PrintFmtError when the trace cannot tell."""
        match node:
            case Number():
                return constant(node.value, self.typing.of_number(node))
            case Text(text):
                return constant_string("\n".join(visible(line) for line in text.split("\n")))
            case FieldRef(name):
                return self._field(name)
            case Name(name):
                # Its value is not in the trace unless it is one of the well-known enums.
                return constant(self._names.get(name, 0), self.typing.long)
            case Unary("&", operand):
                return self._address(operand)
            case Unary(operator, operand):
                return self._unary(operator, self.integer(operand))
            case Binary(operator, left, right):
                return self._binary(operator, left, right)
            case Ternary():
                return self._ternary(node)
            case Cast(type_name, operand):
                return self._cast(type_name, self.compile(operand))
            case Dereference(operand):
                return self._element(self.compile(operand), constant(0, INT))
            case Index(base, index):
                return self._element(self.compile(base), self.integer(index))
            case SizeOf(type_name):
                ctype = self.typing.of(type_name)
                if ctype is None:
                    raise PrintFmtError(f"the size of '{type_name.name}' is not known")
                return constant(ctype.bits // 8, self.typing.ulong)
            case Call():
                return self._call(self, node)
            case Table():
                raise PrintFmtError("a table outside __print_flags and __print_symbolic")

    def integer(self, node: Node) -> IntegerValue:
        """Compile a node that must be an integer."""
        value = self.compile(node)
        if not isinstance(value, IntegerValue):
            raise PrintFmtError("a string or an array where an integer is needed")
        return value

    def constant_integer(self, node: Node) -> int | None:
        """Return the value of a constant expression, None when it needs the trace or is unknown.

        Unlike everywhere else an unknown identifier is unknown, not 0: a table entry of unknown
        value must never match.
        """
        if self._has_unknown(node):
            return None
        value = self.compile(node)
        return value.constant if isinstance(value, IntegerValue) else None

    def _has_unknown(self, node: Node) -> bool:
        match node:
            case Name(name):
                return name not in self._names
            case Unary(_, operand) | Cast(_, operand) | Dereference(operand):
                return self._has_unknown(operand)
            case Binary(_, left, right):
                return self._has_unknown(left) or self._has_unknown(right)
            case Ternary(condition, yes, no):
                inner = [condition, no] + ([yes] if yes is not None else [])
                return any(map(self._has_unknown, inner))
            case _:
                return False

    def field(self, name: str) -> Field:
        """Return the field; raises PrintFmtError when the event has none of that name."""
        found = self.event.find(name)
        if found is None:
            raise PrintFmtError(f"no field '{name}'")
        return found

    def pointer(self, field: Field) -> PointerValue:
        """Return a pointer to the first byte of the field's data."""
        name = field.name
        width = field.element_size if field.element_size in {1, 2, 4, 8} else 1
        element = CInteger(width * 8, field.is_signed and not field.is_string)
        return PointerValue(element, lambda rows: rows.columns.dynamic(name), field)

    def _field(self, name: str) -> Value:
        field = self.field(name)
        if field.kind is not FieldKind.SCALAR:
            return self.pointer(field)
        ctype = CInteger(field.size * 8, field.is_signed)
        return IntegerValue(ctype, lambda rows: rows.integers(field))

    def _address(self, operand: Node) -> Value:
        if isinstance(operand, FieldRef):
            return self.pointer(self.field(operand.name))
        if isinstance(operand, Index):
            base = self.compile(operand.base)
            if isinstance(base, PointerValue):
                return self._advance(base, self.integer(operand.index))
        raise PrintFmtError("the address of something that is not in the record")

    @staticmethod
    def _unary(operator: str, operand: IntegerValue) -> Value:
        inner = operand.evaluate
        if operator == "!":
            return _folded(INT, lambda rows: (inner(rows) == 0).astype(np.int32), operand)
        wide = operand.as_type(operand.ctype.promoted())
        inner = wide.evaluate
        if operator == "-":
            return _folded(wide.ctype, lambda rows: np.negative(inner(rows)), wide)
        if operator == "~":
            return _folded(wide.ctype, lambda rows: np.invert(inner(rows)), wide)
        return wide

    def _binary(self, operator: str, left_node: Node, right_node: Node) -> Value:
        if operator in {"&&", "||"}:
            return self._logical(operator, left_node, right_node)
        left, right = self.compile(left_node), self.compile(right_node)
        if isinstance(left, PointerValue) and isinstance(right, IntegerValue) and operator == "+":
            return self._advance(left, right)
        if not isinstance(left, IntegerValue) or not isinstance(right, IntegerValue):
            raise PrintFmtError(f"'{operator}' between things that are not integers")
        if operator in {"<<", ">>"}:
            return self._shift(operator, left, right)
        ctype = self.typing.common(left.ctype, right.ctype)
        one, two = left.as_type(ctype).evaluate, right.as_type(ctype).evaluate
        if operator in _COMPARISONS:
            compare = _COMPARISONS[operator]
            return _folded(
                INT, lambda rows: compare(one(rows), two(rows)).astype(np.int32), left, right
            )
        operation = _ARITHMETIC[operator]
        return _folded(ctype, lambda rows: operation(one(rows), two(rows)), left, right)

    @staticmethod
    def _shift(operator: str, left: IntegerValue, right: IntegerValue) -> Value:
        ctype = left.ctype.promoted()
        one, two = left.as_type(ctype).evaluate, right.evaluate
        mask, dtype = ctype.bits - 1, ctype.dtype
        shift = np.left_shift if operator == "<<" else np.right_shift

        def shifted(rows: Rows) -> Array:
            # The count is taken modulo the width, as x86 and arm64 do where C says nothing.
            result: Array = shift(one(rows), (two(rows) & mask).astype(dtype))
            return result

        return _folded(ctype, shifted, left, right)

    def _logical(self, operator: str, left_node: Node, right_node: Node) -> Value:
        left, right = self._truth(left_node), self._truth(right_node)
        one, two = left.evaluate, right.evaluate
        both = np.logical_and if operator == "&&" else np.logical_or
        return _folded(INT, lambda rows: both(one(rows), two(rows)).astype(np.int32), left, right)

    def _truth(self, node: Node) -> IntegerValue:
        value = self.compile(node)
        if isinstance(value, IntegerValue):
            return value
        return constant(1, INT)  # a pointer into the record is never NULL

    def _ternary(self, node: Ternary) -> Value:
        condition = self._truth(node.condition)
        yes = self.compile(node.yes) if node.yes is not None else condition
        no = self.compile(node.no)
        if condition.constant is not None:
            return yes if condition.constant else no
        test = condition.evaluate
        if isinstance(yes, IntegerValue) and isinstance(no, IntegerValue):
            ctype = self.typing.common(yes.ctype, no.ctype)
            one, two = yes.as_type(ctype).evaluate, no.as_type(ctype).evaluate
            return IntegerValue(ctype, lambda rows: np.where(test(rows) != 0, one(rows), two(rows)))
        first, second = as_string(yes).evaluate, as_string(no).evaluate

        def chosen(rows: Rows) -> list[str]:
            truth = test(rows) != 0
            if truth.all():
                return first(rows)
            if not truth.any():
                return second(rows)
            return [
                a if pick else b
                for pick, a, b in zip(truth.tolist(), first(rows), second(rows), strict=True)
            ]

        return StringValue(chosen)

    def _cast(self, type_name: TypeName, value: Value) -> Value:
        if isinstance(value, StringValue):
            return value
        if isinstance(value, PointerValue):
            if not type_name.pointers:
                raise PrintFmtError("the address of the record as a number")
            element = self.typing.of(TypeName(type_name.name, type_name.pointers - 1)) or U8
            return PointerValue(element, value.locate, value.field)
        if type_name == TypeName("bool") or type_name == TypeName("_Bool"):
            inner = value.evaluate
            return _folded(U8, lambda rows: (inner(rows) != 0).astype(np.uint8), value)
        ctype = self.typing.of(type_name)
        return value if ctype is None else value.as_type(ctype)

    @staticmethod
    def _advance(base: PointerValue, steps: IntegerValue) -> PointerValue:
        width, locate, count = base.element.bits // 8, base.locate, steps.evaluate

        def located(rows: Rows) -> Place:
            start, size = locate(rows)
            moved = np.clip(count(rows).astype(np.int64) * width, 0, size)
            return start + moved, size - moved

        return PointerValue(base.element, located)

    def _element(self, base: Value, index: IntegerValue) -> Value:
        if not isinstance(base, PointerValue):
            raise PrintFmtError("memory outside the record")
        element, locate = base.element, base.locate
        width = element.bits // 8
        field = base.field
        place = index.constant
        if (
            field is not None
            and field.kind is FieldKind.ARRAY
            and width == field.element_size
            and place is not None
        ):
            if not 0 <= place < field.length:
                raise PrintFmtError(f"index {place} outside '{field.name}'")
            dtype = element.dtype
            return IntegerValue(element, lambda rows: rows.integers(field, place).astype(dtype))
        number = index.evaluate

        def loaded(rows: Rows) -> Array:
            start, size = locate(rows)
            step = number(rows).astype(np.int64)
            limit = size // width
            inside = (step >= 0) & (step < limit)
            reach = start + np.where(inside, step, 0) * width
            return rows.integers_at(reach, np.broadcast_to(inside, reach.shape), element)

        return IntegerValue(element, loaded)


def _folded(
    ctype: CInteger, evaluate: Callable[[Rows], Array], *operands: IntegerValue
) -> IntegerValue:
    """Return the operation's value, worked out now when all operands are constants."""
    if all(one.constant is not None for one in operands):
        with np.errstate(all="ignore"):
            return constant(int(evaluate(NO_ROWS)[0]), ctype)
    return IntegerValue(ctype, evaluate)
