"""The event filter language: its grammar, offsets, and the check against an event's format."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trace_recipe.filter_checks import check_filter
from trace_recipe.filters import (
    And,
    Comparison,
    CpuList,
    FilterSyntaxError,
    FunctionName,
    Not,
    Number,
    Or,
    String,
    comparisons,
    parse_filter,
)
from trace_recipe.kernel import kernel_from_json

KERNELS = Path(__file__).parents[1] / "golden" / "kernels"


def load_kernel(name="rich-6.12"):
    return kernel_from_json(json.loads((KERNELS / f"{name}.json").read_text()), origin=name)


KERNEL = load_kernel()


def problems(text, event="sched:sched_switch", kernel=KERNEL):
    return check_filter(parse_filter(text), kernel.event_format(event), kernel)


def only_problem(text, event="sched:sched_switch", kernel=KERNEL):
    found = problems(text, event, kernel)
    assert len(found) == 1, found
    return found[0]


def refused(text):
    with pytest.raises(FilterSyntaxError) as caught:
        parse_filter(text)
    return caught.value


# the grammar


def test_and_binds_more_than_or():
    node = parse_filter("a == 1 || b == 2 && c == 3")

    assert isinstance(node, Or)
    assert isinstance(node.operands[0], Comparison)
    assert isinstance(node.operands[1], And)
    assert [one.field for one in comparisons(node)] == ["a", "b", "c"]


def test_parentheses_and_not_nest():
    node = parse_filter("!(a == 1 && !(b == 2)) && c == 3")

    assert isinstance(node, And)
    assert isinstance(node.operands[0], Not)
    assert isinstance(node.operands[0].operand, And)
    assert [one.offset for one in comparisons(node)] == [2, 14, 26]


def test_not_reaches_only_the_next_comparison():
    node = parse_filter("!a == 1 && b == 2")

    assert isinstance(node, And)
    assert isinstance(node.operands[0], Not)
    assert isinstance(node.operands[1], Comparison)


def test_blanks_are_not_needed_between_numbers_and_operators():
    node = parse_filter("a==1&&b!=2||c<=3")

    assert [one.operator for one in comparisons(node)] == ["==", "!=", "<="]


@pytest.mark.parametrize("operator", ["==", "!=", "<", "<=", ">", ">=", "&", "~"])
def test_every_operator_is_read_whole(operator):
    node = parse_filter(f"field {operator} 'x'")

    assert isinstance(node, Comparison)
    assert (node.operator, node.operator_offset) == (operator, 6)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("10", 10), ("-1", -1), ("0x1F", 31), ("0X1f", 31), ("010", 8), ("-0x2", -2)],
)
def test_numbers_are_base_0(text, value):
    node = parse_filter(f"a == {text}")

    assert isinstance(node, Comparison)
    assert node.value == Number(text, value, 5)


@pytest.mark.parametrize("quote", ["'", '"'])
def test_both_quotes_hold_the_other_quote_and_operators(quote):
    other = '"' if quote == "'" else "'"
    node = parse_filter(f"comm == {quote}a{other} && (b{quote}")

    assert isinstance(node, Comparison)
    assert node.value == String(f"a{other} && (b", quote, 8)


def test_a_cpu_list_is_read_as_cpus():
    node = parse_filter("CPU & CPUS{0-2,7}")

    assert isinstance(node, Comparison)
    assert node.value == CpuList("0-2,7", (0, 1, 2, 7), 6)


def test_a_function_name_is_unquoted_and_a_suffix_is_kept():
    node = parse_filter("call_site.function == vfs_read && ptr.ustring ~ 'a*'")
    first, second = comparisons(node)

    assert first.is_function and first.value == FunctionName("vfs_read", 22)
    assert second.is_user_string and not second.is_function


# refused texts: (text, offset, part of the message, part of the fix)

REFUSED = [
    ("", 0, "empty", ""),
    ("   ", 0, "empty", ""),
    ("0", 0, "would clear", "leave the key out"),
    (" a == 1", 0, "blanks around", ""),
    ("a == 1 ", 6, "blanks around", ""),
    ("a == 1 &&\nb == 2", 9, "one line", ">-"),
    ("a == 'é'", 6, "printable ASCII", ""),
    ("a == 1\tx", 6, "character", ""),
    ("a = 1", 2, "'='", "'=='"),
    ("a =~ 'x'", 2, "'=~'", "'~'"),
    ("a !~ 'x'", 2, "'!~'", "!(FIELD"),
    ("a === 1", 2, "'==='", "'=='"),
    ("a =< 1", 2, "'=<'", "'<='"),
    ("a is 1", 2, "no operator after 'a'", "'=='"),
    ("a", 1, "no operator after 'a'", "OPERATOR"),
    ("a && b == 1", 2, "no operator after 'a'", ""),
    ("a ==", 4, "no value for 'a'", ""),
    ("a == && b == 1", 5, "no value for 'a'", ""),
    ("a == bash", 5, "'bash' has no quotes", '"bash"'),
    ("a == 'bash", 5, "no closing '", ""),
    ("a == 1abc", 5, "'1abc' is not an integer", "unit"),
    ("a == 1.5", 5, "not an integer", ""),
    ("a == 08", 5, "not an integer", "octal"),
    ("a == 0x", 5, "not an integer", ""),
    ("a == -", 5, "not an integer", ""),
    ("a == +1", 5, "'+'", ""),
    ("a == 000000000000000000000001", 5, "24 characters", "leading zeros"),
    ("a == 1 and b == 2", 7, "'and' after", "'&&'"),
    ("a == 1 & b == 2", 7, "'&' after", "'&&'"),
    ("a == 1 b == 2", 7, "'b' after", "&& or ||"),
    ("a == 1 &&", 9, "filter ends", ""),
    ("a == 1 || !", 11, "filter ends", ""),
    ("(a == 1", 0, "'(' without", "add the ')'"),
    ("(a == 1 x", 8, "'x' after", ""),
    ("a == 1)", 6, "')' without", ""),
    ("()", 1, "where a comparison", ""),
    ("'x' == a", 0, "starts with a field", ""),
    ("5 == a", 0, "starts with a field", "FIELD == NUMBER"),
    ("!= 1", 0, "starts with a field", ""),
    ("== 1", 0, "'='", "FIELD OPERATOR VALUE"),
    ("a.string == 'x'", 1, "no suffix '.string'", "write 'a' alone"),
    ("a.ustr == 'x'", 1, "no suffix '.ustr'", "'ustring'"),
    ("a.function == 'x'", 14, "with quotes", "write x"),
    ("(a.function == x)", 16, "right after a function name", "put a blank"),
    ("a.function == ", 13, "blanks around", ""),
    ("a & CPUS", 8, "no '{'", "CPUS{0-3}"),
    ("a & CPUS{0", 8, "no closing '}'", ""),
    ("a & CPUS{}", 9, "no CPUs", ""),
    ("a & CPUS{3-1}", 9, "not a list of CPUs", "ascending"),
    ("a & CPUS{0;1}", 9, "not a list of CPUs", ""),
    ("a & CPUS{0-99999}", 9, "not a list of CPUs", ""),
]


@pytest.mark.parametrize(("text", "offset", "what", "fix"), REFUSED)
def test_a_wrong_filter_is_refused_where_it_is_wrong(text, offset, what, fix):
    error = refused(text)

    assert error.offset == offset
    assert what in error.problem.what + error.problem.why
    assert fix in error.problem.fix


def test_a_string_of_255_characters_is_the_longest():
    parse_filter(f"comm == '{'x' * 255}'")

    assert "256 characters" in refused(f"comm == '{'x' * 256}'").problem.what


def test_a_filter_of_1024_characters_is_the_longest():
    longest = "a == 1 ||" + " " * 1009 + "b == 1"

    parse_filter(longest)

    assert len(longest) == 1024
    assert refused(longest + "0").offset == 1024


def test_nesting_is_bounded_and_never_overflows_the_stack():
    parse_filter("(" * 60 + "a == 1" + ")" * 60)

    assert "inside each other" in refused("(" * 500 + "a == 1" + ")" * 500).problem.what
    assert "inside each other" in refused("!" * 500 + "a == 1").problem.what


@given(st.text(alphabet="ab01 '\"()!&|=<>~.{}-CPUSx", max_size=60))
def test_any_text_is_parsed_or_refused_inside_its_bounds(text):
    try:
        fields = [(one.offset, one.field) for one in comparisons(parse_filter(text))]
    except FilterSyntaxError as error:
        fields = [(error.offset, "")]

    assert fields
    assert all(offset <= len(text) and text.startswith(f, offset) for offset, f in fields)


# against an event


@pytest.mark.parametrize(
    "text",
    [
        "prev_pid > 10 && next_comm == 'bash'",
        "prev_comm ~ 'kworker*' || common_pid == 1",
        "prev_pid & 0xff",
        "prev_pid == -1",
        "prev_pid == 0xffffffff",
        "common_flags & 255",
        "COMM == 'bash' && CPU == 1",
        "comm ~ '*sh' && cpu & CPUS{0-1}",
        "CPU == CPUS{1}",
        "CPU & CPUS{all}",
        "prev_state.function == schedule",
        "prev_state.function != 0xffffffff81000000",
        "next_prio < 100 && !(prev_prio >= 100)",
    ],
)
def test_a_right_filter_has_no_problem(text):
    assert problems(text) == []


@pytest.mark.parametrize(
    ("text", "event"),
    [
        ("cpumask & CPUS{0-1}", "ipi:ipi_send_cpumask"),
        ("filename.ustring ~ '/etc/*'", "syscalls:sys_enter_openat"),
        ("filename ~ '/usr/*'", "sched:sched_process_exec"),
        ("name == 'timer'", "irq:irq_handler_entry"),
        ("call_site.function == vfs_read", "kmem:kmalloc"),
        ("id == 257", "raw_syscalls:sys_enter"),
        ("common_type != 0", "syscalls:sys_exit_mount"),
    ],
)
def test_a_right_filter_has_no_problem_on_other_kinds_of_fields(text, event):
    assert problems(text, event) == []


# (filter, event, offset, part of what and why, part of the fix)
WRONG = [
    ("prev_pio > 1", "sched:sched_switch", 0, "no field 'prev_pio'", "'prev_prio'"),
    ("a == 1 && prev_prio > 1", "sched:sched_switch", 0, "the event has prev_comm", ""),
    ("pid == 1", "sched:sched_switch", 0, "no field 'pid'", "pid'"),
    ("common_cpu == 1", "sched:sched_switch", 0, "no field", "CPU"),
    ("stacktrace == 1", "sched:sched_switch", 0, "no field", ""),
    ("prev_comm < 'x'", "sched:sched_switch", 10, "==, != and ~", "prev_comm == 'x'"),
    ("prev_comm == 5", "sched:sched_switch", 13, "is text", '"5"'),
    ("prev_comm & CPUS{0}", "sched:sched_switch", 12, "is text", ""),
    ("COMM == 5", "sched:sched_switch", 8, "is text", '"5"'),
    ("COMM > 'a'", "sched:sched_switch", 5, "operator '>'", ""),
    ("COMM == 'systemd-journald'", "sched:sched_switch", 8, "holds 15", "'systemd-journal'"),
    ("prev_comm != '0123456789abcdef'", "sched:sched_switch", 13, "never matches", ""),
    ("prev_comm ~ '9p*'", "sched:sched_switch", 12, "starts with a digit", "[9]p*"),
    ("prev_pid == 'x'", "sched:sched_switch", 12, "is a number", "NUMBER"),
    ("prev_pid == '5'", "sched:sched_switch", 12, "is a number", "prev_pid == 5"),
    ("prev_pid ~ 5", "sched:sched_switch", 9, "globs match text", ""),
    ("prev_pid == 0x1ffffffff", "sched:sched_switch", 12, "32 bits", ""),
    ("prev_pid == 4294967295", "sched:sched_switch", 12, "32 bits", "-1"),
    ("prev_pid < 0xffffffff", "sched:sched_switch", 11, "32 bits", "-1"),
    ("prev_state == 0xffffffffffffffff", "sched:sched_switch", 14, "64 bits", "-1"),
    ("common_flags == -1", "sched:sched_switch", 16, "unsigned", "0xff"),
    ("common_flags == 256", "sched:sched_switch", 16, "0 to 255", ""),
    ("prev_comm.ustring == 'x'", "sched:sched_switch", 0, "in the record", "'prev_comm'"),
    ("prev_pid.ustring == 1", "sched:sched_switch", 0, "pointer to char", "'prev_pid'"),
    ("prev_pid.function == schedule", "sched:sched_switch", 0, "8 bytes", ""),
    ("prev_state.function > schedule", "sched:sched_switch", 20, "== and !=", ""),
    ("prev_comm.function == schedule", "sched:sched_switch", 0, "8 bytes", ""),
    ("COMM.function == schedule", "sched:sched_switch", 0, "'.function' on the text", ""),
    ("CPU.ustring == 1", "sched:sched_switch", 0, "suffix", ""),
    ("prev_state.function == vfs_reed", "sched:sched_switch", 23, "no function", "vfs_read"),
    ("CPU == 'x'", "sched:sched_switch", 7, "is a number", ""),
    ("CPU & 1", "sched:sched_switch", 4, "never matches", "CPUS{"),
    ("CPU == 9", "sched:sched_switch", 7, "no CPU 9", ""),
    ("CPU & CPUS{2-5}", "sched:sched_switch", 6, "no CPU 4, 5", ""),
    ("CPU < CPUS{0}", "sched:sched_switch", 4, "==, != and &", "CPU & CPUS{0}"),
    ("CPU == CPUS{0-1}", "sched:sched_switch", 4, "never true", "CPU & CPUS{0-1}"),
    ("CPU != CPUS{0-1}", "sched:sched_switch", 4, "always true", "!(CPU & CPUS{0-1})"),
    ("cpumask == 3", "ipi:ipi_send_cpumask", 11, "set of CPUs", "CPUS{3}"),
    ("cpumask ~ CPUS{0}", "ipi:ipi_send_cpumask", 8, "operator '~'", ""),
    ("args == 5", "raw_syscalls:sys_enter", 0, "cannot be filtered", ""),
    ("args == 'x'", "raw_syscalls:sys_enter", 8, "is a number", ""),
    ("phys_addrs == 5", "dma:dma_map_sg", 0, "cannot be filtered", ""),
    ("filename ~ '/etc/*'", "syscalls:sys_enter_openat", 0, "user memory", "filename.ustring"),
    ("filename == 5", "syscalls:sys_enter_openat", 0, "user memory", ""),
    ("prev_pid == 1", "irq:irq_handler_entry", 0, "no field 'prev_pid' in irq:", ""),
]


@pytest.mark.parametrize(("text", "event", "offset", "what", "fix"), WRONG)
def test_a_wrong_comparison_is_found_at_its_place(text, event, offset, what, fix):
    found = problems(text, event)

    assert [at for at, _ in found] == [offset]
    problem = found[0][1]
    assert what in problem.what + problem.why
    assert fix in problem.fix


def test_every_wrong_comparison_of_a_filter_is_found():
    found = problems("prev_pio > 1 && prev_comm < 'x' || nxt_pid == 'y'")

    assert [offset for offset, _ in found] == [0, 26, 35]


def test_a_function_that_cannot_be_traced_is_left_to_the_kernel():
    assert problems("prev_state.function == __schedule") == []
    assert problems("prev_state.function == schedule.cold") == []
    assert problems("prev_state.function == some_driver_function") == []


def test_no_function_is_refused_when_the_functions_are_unknown():
    unknown = replace(KERNEL, functions=None)

    assert problems("prev_state.function == vfs_reed", kernel=unknown) == []


def test_a_problem_has_one_line_and_a_fix():
    for text, event, *_ in WRONG:
        for _, problem in problems(text, event):
            assert "\n" not in problem.what
            assert not problem.what[0].isupper()
            assert problem.fix
