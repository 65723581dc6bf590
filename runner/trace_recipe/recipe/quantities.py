"""Durations, sizes and CPU lists: the text of a recipe to whole nanoseconds, bytes and CPUs."""

from __future__ import annotations

import re

__all__ = [
    "CPU_LIST_PATTERN",
    "DURATION_PATTERN",
    "MAX_CPU",
    "MAX_DURATION_NS",
    "MAX_SIZE_BYTES",
    "SIZE_PATTERN",
    "RefusedValue",
    "parse_cpu_list",
    "parse_duration_ns",
    "parse_size_bytes",
]

MAX_DURATION_NS = 366 * 24 * 3600 * 10**9
MAX_SIZE_BYTES = 1 << 50
MAX_CPU = 9999
_MEANT_CHARS = 200  # nothing longer is a quantity that somebody meant

_UNITS_NS = {
    "h": 3600 * 10**9,
    "m": 60 * 10**9,
    "s": 10**9,
    "ms": 10**6,
    "us": 10**3,
    "ns": 1,
}
_UNITS_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

DURATION_PATTERN = "^" + "".join(f"([0-9]{{1,15}}{unit})?" for unit in _UNITS_NS) + "$"
SIZE_PATTERN = "^[1-9][0-9]{0,15}[KMG]?$"
CPU_LIST_PATTERN = "^[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*$"

_DURATION_WORDS = "a duration is whole numbers with units, the largest first: 250ms, 10s, 1m30s, 1h"
_SIZE_WORDS = "a size is a whole number of bytes, or one with K, M or G (binary): 512K, 8M, 1G"
_CPU_WORDS = "a CPU list is numbers and ranges, as in 0-3,7"
_QUOTED_CHARS = 60
_LOOSE_UNIT = re.compile(
    r"\s*([0-9]+(?:\.[0-9]+)?)\s*"
    r"(ns|nsecs?|us|µs|usecs?|ms|msecs?|s|secs?|seconds?|m|mins?|minutes?|h|hours?|hrs?|d|days?)(?![a-z])\s*"
)
_LOOSE_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmg])?(?:i?b|bytes?)?\s*", re.IGNORECASE)


class RefusedValue(ValueError):  # noqa: N818 - what a kind did to it; callers report a Problem
    """A scalar does not say what its place needs; `rule` names what no JSON Schema can say."""

    def __init__(self, what: str, why: str = "", fix: str = "", rule: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix
        self.rule = rule


def quoted(text: str) -> str:
    """Return text in quotes for a message: its beginning, when it is long."""
    return repr(text if len(text) <= _QUOTED_CHARS else f"{text[: _QUOTED_CHARS - 3]}...")


def parse_duration_ns(text: str) -> int:
    """Return a duration such as `1m30s` in nanoseconds; raises RefusedValue."""
    match = re.fullmatch(DURATION_PATTERN.strip("^$"), text)
    if not text or match is None:
        raise RefusedValue(
            f"{quoted(text)} is not a duration", _DURATION_WORDS, _duration_fix(text)
        )
    duration_ns = 0
    for part, unit_ns in zip(match.groups(), _UNITS_NS.values(), strict=True):
        duration_ns += int(part.rstrip("hmusn")) * unit_ns if part else 0
    if duration_ns > MAX_DURATION_NS:
        raise RefusedValue(
            f"{quoted(text)} is too long",
            "a recipe can run for 366 days at most",
            "leave the key out to record until it is stopped",
            rule="duration_too_long",
        )
    return duration_ns


def parse_size_bytes(text: str) -> int:
    """Return a size such as `512K` in bytes; raises RefusedValue."""
    if re.fullmatch(SIZE_PATTERN.strip("^$"), text) is None:
        raise RefusedValue(f"{quoted(text)} is not a size", _SIZE_WORDS, _size_fix(text))
    digits = text.rstrip("KMG")
    size_bytes = int(digits) * _UNITS_BYTES[text[len(digits) :]]
    if size_bytes > MAX_SIZE_BYTES:
        raise RefusedValue(
            f"{quoted(text)} is too large",
            "a size is 1 PiB (1048576G) at most",
            "write a smaller size",
            rule="size_too_large",
        )
    return size_bytes


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """Return the CPUs of a list such as `0-3,7`, sorted and each once; raises RefusedValue."""
    if re.fullmatch(CPU_LIST_PATTERN.strip("^$"), text) is None:
        tidy = re.sub(r"[\s,]+", ",", re.sub(r"\s*-\s*", "-", text[:_MEANT_CHARS].strip()))
        looks = re.fullmatch(CPU_LIST_PATTERN.strip("^$"), tidy) is not None
        fix = "write it as '0-3,7'"
        if looks and len(text) <= _MEANT_CHARS:
            fix = f"write {tidy!r}"
        if text.strip().lower() in ("all", "*", ""):
            fix = "take the key out to trace every CPU"
        raise RefusedValue(f"{quoted(text)} is not a CPU list", _CPU_WORDS, fix)
    chosen = bytearray(MAX_CPU + 1)  # a long list costs no more than its length
    for part in text.split(","):
        first, _, last = part.partition("-")
        if last and int(last) < int(first):
            raise RefusedValue(
                f"the range {part!r} goes backwards",
                _CPU_WORDS,
                f"write '{last}-{first}'",
                rule="cpu_range_backwards",
            )
        count = int(last or first) + 1 - int(first)
        chosen[int(first) : int(first) + count] = b"\1" * count
    return tuple(cpu for cpu, is_chosen in enumerate(chosen) if is_chosen)


def _duration_fix(text: str) -> str:
    """Return what the user may have meant: `1.5 sec` is 1s500ms."""
    if len(text) > _MEANT_CHARS:
        return "write it as 10s"
    if re.fullmatch(r"[0-9]{1,15}", text):
        return f"write a unit: {text}s"
    clock = re.fullmatch(r"([0-9]{1,3}):([0-5][0-9])", text)
    if clock is not None:
        return f"write '{int(clock[1])}m{int(clock[2])}s'"
    words = text.lower().removeprefix("-")
    parts = list(_LOOSE_UNIT.finditer(words))
    if not parts or "".join(part[0] for part in parts) != words:
        return "write it as 10s"
    return f"write {_as_duration(sum(_loose_ns(*part.groups()) for part in parts))!r}"


def _loose_ns(number: str, word: str) -> int:
    """Return a number and a unit as people write it in nanoseconds."""
    if word.startswith("d"):
        unit_ns = 24 * _UNITS_NS["h"]
    elif word[:2] in ("ns", "us", "ms"):
        unit_ns = _UNITS_NS[word[:2]]
    else:
        unit_ns = _UNITS_NS["us" if word == "µs" else word[0]]
    whole, _, fraction = number.partition(".")
    fraction = fraction[:15]
    part_ns: int = int(fraction or 0) * unit_ns // 10 ** len(fraction)
    return int(whole[:15]) * unit_ns + part_ns


def _as_duration(left_ns: int) -> str:
    parts = []
    for unit, size_ns in _UNITS_NS.items():
        count, left_ns = divmod(left_ns, size_ns)
        parts.append(f"{count}{unit}" if count else "")
    return "".join(parts) or "0s"


def _size_fix(text: str) -> str:
    """Return what the user may have meant: `8 MiB` is 8M, `1.5g` is 1536M."""
    match = _LOOSE_SIZE.fullmatch(text)
    if match is None:
        return "write it as 8M"
    number, unit = match[1], (match[2] or "").upper()
    whole, _, fraction = number.partition(".")
    fraction = fraction[:15]
    scale = _UNITS_BYTES[unit]
    size_bytes = int(whole[:15]) * scale + int(fraction or 0) * scale // 10 ** len(fraction)
    for name, unit_bytes in reversed(_UNITS_BYTES.items()):
        if size_bytes and size_bytes % unit_bytes == 0:
            return f"write '{size_bytes // unit_bytes}{name}'"
    return "a size is at least 1"
