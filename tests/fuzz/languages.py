"""Texts in the languages that the product reads, mostly right and wrong in one place or two."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.fuzz.mutations import HARD_NUMBERS, HARD_TEXTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from random import Random

__all__ = [
    "FILTER_WORDS",
    "FORMAT_WORDS",
    "PRINT_FMT_WORDS",
    "TRIGGER_WORDS",
    "YAML_WORDS",
    "event_names_text",
    "filter_text",
    "format_text",
    "print_fmt_text",
    "recipe_tree",
    "trigger_text",
]

FILTER_WORDS = (
    "==", "!=", "<", "<=", ">", ">=", "&", "~", "&&", "||", "!", "(", ")", "'", '"', "CPUS{", "}",
    "CPUS{0-3}", ".ustring", ".function", "CPU", "COMM", "comm", "common_pid", "0x", "0", "if", "=",
    "==NULL", "*", "?", "[", "and", "or", " ", "schedule", "vfs_read",
)  # fmt: skip
TRIGGER_WORDS = (
    "traceon", "traceoff", "stacktrace", "snapshot", "enable_event", "disable_event", "hist:keys=x",
    ":", " if ", "if", "sched:sched_switch", ":1", ":0", ":-1", ":count=1", "!", "unlimited",
    *FILTER_WORDS,
)  # fmt: skip
FORMAT_WORDS = (
    "name: ", "ID: ", "format:\n", "\tfield:", ";\toffset:", ";\tsize:", ";\tsigned:", ";", "\n",
    "\n\n", "print fmt: ", "__data_loc ", "__rel_loc ", "char", "char[]", "[]", "[16]", "[N]", "*",
    "const char *", "unsigned long", "struct x y", "common_", "int ", "u8 raw[", "size:0;", "0;",
)  # fmt: skip
PRINT_FMT_WORDS = (
    "REC->", "__get_str(", "__print_flags(", "__print_symbolic(", "__print_hex(", "__print_array(",
    "__get_dynamic_array(", "__get_dynamic_array_len(", "__get_bitmask(", "__get_cpumask(",
    "__get_sockaddr(", "__print_hex_dump(", "__print_ns_to_secs(", "sizeof(", "(u8)", "(char *)",
    "(unsigned long long)", '{1, "A"}', "{", "}", "?", ":", "<<", ">>", "->", "%s", "%d", "%*d",
    "%.*s", "%pS", "%pI6c", "%pISpc", "%*pbl", "%*ph", "%pU", "%llx", "%99999999d", "%.99999999s",
    "%999999999999999999999999d", "\\x41", "\\", '"', ",", "({", "REC->a[", "0x", "'a'", "NULL",
)  # fmt: skip
YAML_WORDS = (
    "- ", ": ", "\n", "\n  ", "\n- ", "\n\n", "|", ">", ">-", "|2-", "&a", "*a", "!!str ", "---",
    "...", "%YAML 1.2\n---\n", "# ", "{", "}", "[", "]", ", ", "'", '"', "<<: ", "? ", "~", "null",
    "true", "yes", ".inf", "0o17", "0x1f", "${x}", "${", "$${", "\t", "\ufeff", "\\u0041", "\\",
)  # fmt: skip
_TYPES = (
    "u8", "s8", "u16", "short", "int", "unsigned int", "u32", "u64", "s64", "long", "unsigned long",
    "size_t", "bool", "char", "const char *", "void *", "struct page *", "pid_t", "__be32",
    "cpumask_t", "enum x", "", "long long unsigned",
)  # fmt: skip
_NAMES = ("a", "b", "c", "comm", "text", "caller", "buf", "ip", "fmt", "str", "args", "func", "id")
_CALLS = (
    "__get_str", "__get_rel_str", "__get_dynamic_array", "__get_rel_dynamic_array",
    "__get_dynamic_array_len", "__get_bitmask", "__get_cpumask", "__get_sockaddr", "__print_hex",
    "__print_hex_str", "__print_array", "__print_dynamic_array", "__print_flags", "__print_symbolic",
    "__print_flags_u64", "__print_ns_to_secs", "__print_ns_without_secs", "__print_hex_dump",
    "__builtin_expect", "jiffies_to_msecs", "jbd2_dev_to_name", "unknown", "sizeof",
)  # fmt: skip
_CONVERSIONS = (
    "%d", "%u", "%x", "%#llx", "%lu", "%hhd", "%c", "%s", "%-20s", "%.4s", "%.*s", "%*d", "%08lx",
    "%p", "%pS", "%ps", "%pB", "%px", "%pK", "%pI4", "%pI6c", "%pi6", "%pISpc", "%pM", "%pMR", "%pU",
    "%pUl", "%*pbl", "%*pb", "%*ph", "%16phN", "%ph", "%pd", "%pa", "%pe", "%zu", "%Lx", "%o", "%i",
    "%%", "%", "text", "\\n", '\\"', "%q", "%n", "%5%",
)  # fmt: skip
_BINARY = (
    "+",
    "-",
    "*",
    "/",
    "%",
    "&",
    "|",
    "^",
    "<<",
    ">>",
    "==",
    "!=",
    "<",
    ">",
    "<=",
    ">=",
    "&&",
    "||",
)
_UNARY = ("-", "~", "!", "*", "&", "+", "(u8)", "(s16)", "(int)", "(u64)", "(char *)", "(void *)",
          "(struct x *)", "(const u32 *)", "(unsigned long)", "(bool)")  # fmt: skip


def filter_text(random: Random, fields: Sequence[str], depth: int = 3) -> str:
    """Return a filter on some of the fields."""
    shape = random.random()
    if depth and shape < 0.35:
        joint = random.choice((" && ", " || ", "&&", "||"))
        count = random.choice((2, 2, 3, 6))
        return joint.join(filter_text(random, fields, depth - 1) for _ in range(count))
    if depth and shape < 0.5:
        return f"{random.choice(('!', '', '! '))}({filter_text(random, fields, depth - 1)})"
    field = random.choice(fields) if random.random() < 0.95 else random.choice(HARD_TEXTS)
    field += random.choice(("", "", "", "", "", ".ustring", ".function"))
    blank = random.choice((" ", "", "  "))
    operator = random.choice(("==", "!=", "<", "<=", ">", ">=", "&", "~"))
    return f"{field}{blank}{operator}{blank}{_filter_value(random)}"


def _filter_value(random: Random) -> str:
    match random.randrange(8):
        case 0 | 1:
            return str(random.choice((random.randrange(100), random.randrange(1 << 64))))
        case 2:
            return random.choice(HARD_NUMBERS)
        case 3 | 4:
            quote = random.choice("'\"")
            return f"{quote}{random.choice(('*', '', 'ba?h', '[a-z]*', 'x' * 40))}{quote}"
        case 5:
            parts = ",".join(
                random.choice(("0", "1-3", "7-2", "8191", "0-99999", "0-999999", "999999"))
                for _ in range(random.choice((1, 2, 90)))
            )
            return f"CPUS{{{parts}}}"
        case 6:
            return random.choice(("schedule", "vfs_read", "__x64_sys_read.constprop.0"))
        case _:
            return random.choice(HARD_TEXTS)


def trigger_text(random: Random, fields: Sequence[str], events: Sequence[str]) -> str:
    """Return a trigger, with a filter on some of the fields or without."""
    name = random.choice(TRIGGER_WORDS[:7])
    target = f":{random.choice(events)}" if name.endswith("_event") or random.random() < 0.1 else ""
    count = random.choice(("", "", f":{random.choice(HARD_NUMBERS)}", ":5", ":"))
    condition = f" if {filter_text(random, fields, 2)}" if random.random() < 0.5 else ""
    return f"{name}{target}{count}{condition}"


def event_names_text(random: Random, events: Sequence[str], depth: int = 3) -> str:
    """Return a pattern of event names, as recipes have them."""
    text = random.choice(events)
    for _ in range(random.choice((0, 1, 1, 2, 4))):
        at = random.randrange(len(text) + 1)
        end = min(len(text), at + random.choice((0, 1, 4)))
        text = text[:at] + _name_part(random, depth) + text[end:]
    return random.choice(("", "", "", "!")) + text


def _name_part(random: Random, depth: int) -> str:
    match random.randrange(6):
        case 0:
            return "*" * random.choice((1, 1, 2, 50))
        case 1:
            return "?" * random.choice((1, 3, 60))
        case 2:
            return random.choice(
                ("[a-z]", "[!a-z]", "[]]", "[!]]", "[", "[z-a]", "[a-]", "[-]", "[[]")
            )
        case 3 | 4 if depth:
            parts = (_name_part(random, depth - 1) for _ in range(random.choice((1, 2, 3, 9))))
            return "{" + ",".join(parts) + "}"
        case _:
            return random.choice(("enter", "exit", "_", "", "a", "}", "{", ",", ":", "!", "-", "^"))


def format_text(random: Random) -> str:
    """Return the text of a format file with fields of any kind, and a print fmt."""
    lines = [
        f"name: {random.choice(('made', 'print', 'bprint', 'kernel_stack', 'sys_enter_x'))}",
        f"ID: {random.choice(('7', '65535', '0', random.choice(HARD_NUMBERS)))}",
        "format:",
        "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;",
        "\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;",
        "\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;",
        "\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;",
        "",
    ]
    names: list[str] = []
    offset = 8
    for _ in range(random.randrange(9)):
        line, name, offset = _field_line(random, offset)
        lines.append(line)
        names.append(name)
    lines += ["", f"print fmt: {print_fmt_text(random, names or ['common_pid'])}", ""]
    return "\n".join(lines)


def _field_line(random: Random, offset: int) -> tuple[str, str, int]:
    name, kind = random.choice(_NAMES), random.choice(_TYPES)
    size = random.choice((1, 2, 4, 4, 8, 8, 16, 3, 0))
    match random.randrange(8):
        case 0:
            declaration, size = f"__data_loc {kind}[] {name}", random.choice((4, 4, 4, 2, 8))
        case 1:
            declaration, size = f"__rel_loc {kind}[] {name}", 4
        case 2 | 3:
            length = random.choice(
                ("1", "2", "16", "N", "", "0", "1 << 3", random.choice(HARD_NUMBERS))
            )
            declaration = f"{kind} {name}[{length}]"
        case _:
            declaration = f"{kind} {name}"
    place = str(offset)
    if random.random() < 0.1:
        place = random.choice(HARD_NUMBERS)
    width = str(size) if random.random() < 0.95 else random.choice(HARD_NUMBERS)
    signed = random.choice(("0", "0", "1", "1", "-1"))
    line = f"\tfield:{declaration};\toffset:{place};\tsize:{width};\tsigned:{signed};"
    return line, name, offset + random.choice((size, size, size, 0, 1, 8))


def print_fmt_text(random: Random, fields: Sequence[str]) -> str:
    """Return a print fmt: a format and about as many expressions as it has conversions."""
    parts = [random.choice(_CONVERSIONS) for _ in range(random.randrange(6))]
    text = random.choice((" ", "", "=", ": ")).join(parts)
    wanted = sum(part.startswith("%") and part != "%%" for part in parts) + text.count("*")
    count = max(0, wanted + random.choice((0, 0, 0, 0, 1, -1)))
    return ", ".join([f'"{text}"', *(_expression(random, fields, 4) for _ in range(count))])


def _expression(random: Random, fields: Sequence[str], depth: int) -> str:
    def inner() -> str:
        return _expression(random, fields, depth - 1)

    shape = random.randrange(12) if depth else random.randrange(4)
    match shape:
        case 0 | 1 | 2:
            return f"REC->{random.choice(fields)}"
        case 3:
            return random.choice(("0", "1", "-1", "0xffffffffUL", "8", "ENUM", '"s"', "'c'", "31",
                                  "64", "REC->none", "REC", random.choice(HARD_NUMBERS)))  # fmt: skip
        case 4 | 5:
            return f"({inner()} {random.choice(_BINARY)} {inner()})"
        case 6:
            return f"{random.choice(_UNARY)}{inner()}"
        case 7:
            return f"({inner()} ? {inner()} : {inner()})"
        case 8:
            return f"{inner()}[{inner()}]"
        case 9:
            entries = "".join(
                f', {{ {random.choice(("0", "1", "1 << 3", "-1", "0x80000000UL", "E"))}, "{name}" }}'
                for name in ("A", "b c", "%s", "")[: random.randrange(5)]
            )
            call = random.choice(('__print_flags({}, "|"{})', "__print_symbolic({}{})"))
            return call.format(inner(), entries)
        case _:
            name = random.choice(_CALLS)
            if name.startswith("__get"):
                return f"{name}({random.choice(fields)})"
            count = random.choice((1, 2, 2, 3, 7))
            return f"{name}({', '.join(inner() for _ in range(count))})"


def recipe_tree(
    random: Random, tree: Any, examples: Mapping[str, Sequence[Any]], texts: Callable[[], str]
) -> Any:
    """Return a recipe's data after a few changes of values and keys; `tree` stays as it is.

    `examples` are values by the name of their key, `texts` makes texts in one of the languages.
    """
    tree = json.loads(json.dumps(tree))
    for _ in range(random.choice((1, 1, 2, 3, 6))):
        holders = list(_holders(tree))
        if not holders:
            return tree
        holder, key = random.choice(holders)
        match random.randrange(7):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                name = random.choice(list(examples))
                holder[name] = random.choice(examples[name])
            case 2 if isinstance(holder, list):
                holder.append(random.choice(holder) if holder else texts())
            case 3:
                holder[key] = random.choice(
                    (None, True, False, 0, -1, 1.5, 1 << 70, [], {}, [[]], "")
                )
            case 4:
                holder[key] = random.choice((*HARD_TEXTS, *HARD_NUMBERS))
            case 5 if key in examples:
                holder[key] = random.choice(examples[key])
            case _:
                holder[key] = texts()
    return tree


def _holders(tree: Any) -> list[tuple[Any, Any]]:
    """Return every (mapping or list, key) of a tree."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            pairs: list[tuple[Any, Any]] = list(one.items())
        elif isinstance(one, list):
            pairs = list(enumerate(one))
        else:
            continue
        found += ((one, key) for key, _ in pairs)
        waiting += (value for _, value in pairs)
    return found
