"""Filters checked against an event: what the kernel refuses, and what could never match.

Refusals follow parse_pred() of kernel/trace/trace_events_filter.c. Where the kernel accepts what
compares the wrong bytes (an array with a number, a number cut to the width of its field, a pointer
into user memory read as the kernel's) the check refuses, because the trace would be silently wrong.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trace_recipe.errors import Problem
from trace_recipe.filters import (
    Comparison,
    CpuList,
    FilterNode,
    FunctionName,
    Number,
    String,
    comparisons,
    kernel_int,
)
from trace_recipe.formats import FieldKind
from trace_recipe.suggestions import closest, did_you_mean, either, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trace_recipe.formats import EventFormat, Field
    from trace_recipe.kernel import Kernel

__all__ = ["check_filter"]

# trace_define_generic_fields() of trace_events.c: every event has these.
_CPU_FIELDS = frozenset({"CPU", "cpu"})
_COMM_FIELDS = frozenset({"COMM", "comm"})
_TASK_COMM_LEN = 16
# What newer kernels or other tools call them.
_EVERYWHERE = {"common_cpu": "CPU", "common_comm": "COMM", "tid": "common_pid", "process": "COMM"}
_TEXT_OPERATORS = ("==", "!=", "~")

_Found = list[tuple[int, Problem]]


def check_filter(node: FilterNode, event: EventFormat, kernel: Kernel) -> list[tuple[int, Problem]]:
    """Return every reason why `kernel` would refuse, or could never match, the filter on `event`.

    Each reason comes with its character offset in the filter's text.
    """
    found: list[tuple[int, Problem]] = []
    for one in comparisons(node):
        found += _check_comparison(one, event, kernel)
    return found


def _check_comparison(one: Comparison, event: EventFormat, kernel: Kernel) -> _Found:
    own = next((field for field in event.fields if field.name == one.field), None)
    if own is None and one.field in _COMM_FIELDS:
        return _check_string(one, length=_TASK_COMM_LEN, ends_in_nul=True)
    if own is None and one.field in _CPU_FIELDS:
        return _check_cpu(one, kernel)
    field = own or next((field for field in event.common_fields if field.name == one.field), None)
    if field is None:
        return [(one.offset, _unknown_field(one.field, event))]
    if one.is_function:
        return _check_function(one, field, kernel)
    if _is_text(field):
        pointer = field.kind is FieldKind.SCALAR
        if one.is_user_string and not pointer:
            return [(one.offset, _copied_already(one.field))]
        if pointer and event.system == "syscalls" and not one.is_user_string:
            return [(one.offset, _user_pointer(one.field))]
        length = field.size if field.kind is FieldKind.ARRAY else 0
        return _check_string(one, length=length, ends_in_nul=field.name.endswith("comm"))
    if one.is_user_string:
        problem = Problem(
            f"'.ustring' on '{one.field}', which is '{field.declaration}'",
            why="it reads text through a pointer to char",
            fix=f"write '{one.field}'",
        )
        return [(one.offset, problem)]
    if _is_cpumask(field):
        return _check_cpumask(one, kernel)
    return _check_number(one, field, kernel)


def _is_text(field: Field) -> bool:
    """Whether filter_assign_type() makes the field a string."""
    if field.kind is FieldKind.SCALAR:
        return field.type in {"char *", "const char *"}
    return "char" in field.type


def _is_cpumask(field: Field) -> bool:
    return field.kind is FieldKind.DATA_LOC and "cpumask_t" in field.type


def _unknown_field(name: str, event: EventFormat) -> Problem:
    fields = [field.name for field in event.fields]
    every = [*fields, *(field.name for field in event.common_fields), "CPU", "COMM"]
    near = closest(name, every) or [one for one in fields if name in one][:3]
    if name in _EVERYWHERE:
        fix = f"write '{_EVERYWHERE[name]}'"
    elif near:
        fix = either(near)
    else:
        fix = "common_pid, CPU and COMM exist in every event"
    return Problem(
        f"no field '{name}' in {event.full_name}",
        why=f"the event has {listed(fields, longest=40)}" if fields else "it has no own fields",
        fix=fix,
    )


def _copied_already(field: str) -> Problem:
    return Problem(
        f"'.ustring' on '{field}', which holds its text in the record",
        why="'.ustring' follows a pointer into user memory",
        fix=f"write '{field}'",
    )


def _user_pointer(field: str) -> Problem:
    return Problem(
        f"'{field}' points into user memory, so this comparison never matches",
        why="without '.ustring' the kernel reads the address as its own memory",
        fix=f"write '{field}.ustring'",
    )


def _check_string(one: Comparison, *, length: int, ends_in_nul: bool) -> _Found:
    value = one.value
    if one.is_function:
        return [(one.offset, Problem(f"'.function' on the text '{one.field}'", fix="leave it out"))]
    if not isinstance(value, String):
        shown = value.text if isinstance(value, Number | CpuList) else ""
        shown = f"CPUS{{{shown}}}" if isinstance(value, CpuList) else shown
        operator = one.operator if one.operator in _TEXT_OPERATORS else "=="
        problem = Problem(
            f"'{one.field}' is text and {shown} has no quotes",
            why="the kernel compares text with quoted strings only",
            fix=f'write {one.field} {operator} "{shown}"',
        )
        return [(value.offset, problem)]
    if one.operator not in _TEXT_OPERATORS:
        problem = Problem(
            f"operator '{one.operator}' on the text '{one.field}'",
            why="text can be compared with ==, != and ~ (glob) only",
            fix=f"write {one.field} == {value.quote}{value.text}{value.quote}, or ~ with a glob",
        )
        return [(one.operator_offset, problem)]
    return _check_text(one, value, length, ends_in_nul=ends_in_nul)


def _check_text(one: Comparison, value: String, length: int, *, ends_in_nul: bool) -> _Found:
    quote = value.quote
    longest = length - 1 if ends_in_nul else length
    if length and one.operator != "~" and len(value.text) > longest:
        problem = Problem(
            f"'{value.text}' has {len(value.text)} characters and '{one.field}' holds {longest}",
            why="the kernel cuts the text when it records it, so this never matches",
            fix=f"write {one.field} {one.operator} {quote}{value.text[:longest]}{quote}",
        )
        return [(value.offset, problem)]
    if one.operator == "~" and value.text[:1].isdigit() and re.search(r"[*?\[]", value.text):
        # filter_parse_regex() takes a leading digit for an index, and then compares literally.
        problem = Problem(
            f"the glob '{value.text}' starts with a digit, so the kernel takes '*' literally",
            fix=f"write {one.field} ~ {value.quote}[{value.text[0]}]{value.text[1:]}{value.quote}",
        )
        return [(value.offset, problem)]
    return []


def _check_cpu(one: Comparison, kernel: Kernel) -> _Found:
    value = one.value
    if one.is_function or one.is_user_string:
        problem = Problem(f"a suffix on '{one.field}', the number of the CPU", fix="leave it out")
        return [(one.offset, problem)]
    if isinstance(value, String):
        return [(value.offset, _quoted_number(one, value))]
    if isinstance(value, CpuList):
        return _check_cpu_list(one, value, kernel)
    if one.operator in {"&", "~"}:
        problem = Problem(
            f"operator '{one.operator}' between '{one.field}' and a number never matches",
            fix=f"write {one.field} == N, or {one.field} & CPUS{{0-3}}",
        )
        return [(one.operator_offset, problem)]
    if (
        isinstance(value, Number)
        and value.value not in kernel.possible_cpus
        and (one.operator == "==")
    ):
        return [(value.offset, _absent_cpus([value.value], kernel))]
    return []


def _check_cpumask(one: Comparison, kernel: Kernel) -> _Found:
    value = one.value
    if isinstance(value, CpuList):
        return _check_cpu_list(one, value, kernel, is_mask=True)
    shown = value.text if isinstance(value, Number) else "0"
    problem = Problem(
        f"'{one.field}' is a set of CPUs and can be compared with CPUS{{}} only",
        why="with a number the kernel compares where the set lies in the record, not the set",
        fix=f"write {one.field} & CPUS{{{shown}}}",
    )
    return [(value.offset, problem)]


def _check_cpu_list(
    one: Comparison, value: CpuList, kernel: Kernel, *, is_mask: bool = False
) -> _Found:
    if one.operator not in {"==", "!=", "&"}:
        problem = Problem(
            f"operator '{one.operator}' with CPUS{{}}",
            why="a set of CPUs can be compared with ==, != and & (some in common) only",
            fix=f"write {one.field} & CPUS{{{value.text}}}",
        )
        return [(one.operator_offset, problem)]
    cpus = kernel.possible_cpus if value.cpus is None else value.cpus
    absent = [cpu for cpu in cpus if cpu not in kernel.possible_cpus]
    if absent:
        return [(value.offset, _absent_cpus(absent, kernel))]
    if not is_mask and len(cpus) > 1 and one.operator != "&":
        always = "never" if one.operator == "==" else "always"
        wanted = f"{one.field} & CPUS{{{value.text}}}"
        problem = Problem(
            f"one CPU {one.operator} a set of {len(cpus)} CPUs is {always} true",
            fix=f"write {wanted}" if one.operator == "==" else f"write !({wanted})",
        )
        return [(one.operator_offset, problem)]
    return []


def _absent_cpus(absent: Sequence[int], kernel: Kernel) -> Problem:
    last = kernel.possible_cpus[-1] if kernel.possible_cpus else 0
    return Problem(
        f"no CPU {listed(str(cpu) for cpu in absent)} on this machine",
        why=f"it has {len(kernel.possible_cpus)} CPUs, {kernel.possible_cpus[0]} to {last}",
        fix="name CPUs that it has",
    )


def _quoted_number(one: Comparison, value: String) -> Problem:
    bare = value.text if kernel_int(value.text) is not None else "NUMBER"
    return Problem(
        f"'{one.field}' is a number and {value.quote}{value.text}{value.quote} is text",
        fix=f"write {one.field} {one.operator if one.operator != '~' else '=='} {bare}",
    )


def _check_function(one: Comparison, field: Field, kernel: Kernel) -> _Found:
    if field.size != kernel.long_size or field.kind is not FieldKind.SCALAR:
        problem = Problem(
            f"'.function' on '{field.declaration}'",
            why=f"it needs a field of {kernel.long_size} bytes that holds an address",
            fix=f"write '{one.field}'",
        )
        return [(one.offset, problem)]
    if one.operator not in {"==", "!="}:
        problem = Problem(
            f"operator '{one.operator}' with '.function'",
            why="a function can be compared with == and != only",
            fix=f"write {one.field}.function == NAME",
        )
        return [(one.operator_offset, problem)]
    value = one.value
    if isinstance(value, FunctionName) and kernel.functions is not None:
        names = {line.partition(" ")[0] for line in kernel.functions}
        # The list holds what ftrace can trace; kallsyms, which counts here, holds more (`__name`
        # and `name.cold` variants often). So only what looks like a typo is refused.
        bare = value.name.strip("_").partition(".")[0]
        near = closest(value.name, names, cutoff=0.8) if value.name not in names else []
        if near and all(one.strip("_").partition(".")[0] != bare for one in near):
            problem = Problem(
                f"no function '{value.name}' in this kernel",
                fix=did_you_mean(value.name, near),
            )
            return [(value.offset, problem)]
    return []


def _check_number(one: Comparison, field: Field, kernel: Kernel) -> _Found:
    value = one.value
    if isinstance(value, String):
        return [(value.offset, _quoted_number(one, value))]
    if field.kind is not FieldKind.SCALAR or field.size not in {1, 2, 4, 8}:
        problem = Problem(
            f"'{one.field}' is '{field.declaration}' and cannot be filtered",
            why="the kernel accepts it and compares the wrong bytes: it filters text and numbers",
            fix="filter another field, or filter in a report",
        )
        return [(one.offset, problem)]
    if isinstance(value, CpuList):
        return _check_cpu_list(one, value, kernel)
    if one.operator == "~":
        problem = Problem(
            f"operator '~' on the number '{one.field}'",
            why="globs match text only",
            fix=f"write {one.field} ==, or a range such as {one.field} >= 1 && {one.field} <= 9",
        )
        return [(one.operator_offset, problem)]
    return _check_range(one, field, value) if isinstance(value, Number) else []


def _check_range(one: Comparison, field: Field, value: Number) -> _Found:
    bits = field.size * 8
    low = -(1 << bits - 1) if field.is_signed else 0
    high = (1 << bits - 1) - 1 if field.is_signed else (1 << bits) - 1
    # A bit pattern such as 0xfffffff2 is cut to the field's width, where it means what it says.
    # kstrtoll() takes none of 64 bits for a signed field.
    is_pattern = (
        field.is_signed
        and bits < 64
        and one.operator in {"==", "!=", "&"}
        and value.text[:2].lower() == "0x"
        and value.value < 1 << bits
    )
    if low <= value.value <= high or is_pattern:
        return []
    if value.value < 0 and not field.is_signed and one.operator in {"==", "!=", "&"}:
        fix = f"write {one.field} {one.operator} {hex((1 << bits) + value.value)}"
    elif field.is_signed and high < value.value < 1 << bits:
        fix = f"write {one.field} {one.operator} {value.value - (1 << bits)}"
    else:
        fix = f"write a number from {low} to {high}"
    sign = "signed" if field.is_signed else "unsigned"
    problem = Problem(
        f"{value.text} does not fit '{one.field}', {sign} and {bits} bits wide",
        why=f"the field holds {low} to {high}",
        fix=fix,
    )
    return [(value.offset, problem)]
