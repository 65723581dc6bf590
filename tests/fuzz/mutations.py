"""Changes to texts and bytes that make readers stumble."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

__all__ = ["HARD_NUMBERS", "HARD_TEXTS", "mutated_bytes", "mutated_text"]

HARD_NUMBERS = (
    "0", "-0", "-1", "00", "08", "0x", "0x0", "0xg", "+1", ".5", "1.5", "1e999", "1_000", "0b1", "7",
    "127", "128", "255", "256", "4096", "65535", "65536", "1048576", "2147483647", "2147483648",
    "4294967295", "4294967296", "9223372036854775807", "9223372036854775808",
    "18446744073709551615", "18446744073709551616", "9" * 30, "9" * 400, "9" * 5000, "0" * 60 + "1",
    "0x" + "f" * 17, "\u0663\u0664", "\u00b2", "\uff11",
)  # fmt: skip
HARD_TEXTS = (
    "", " ", "\t", "\n", "\r", "\r\n", "\0", "\x01", "\x1b[31m", "\x7f", "\x85", "\xa0", "\xad",
    "\u0130", "\u200b", "\u2028", "\u202e", "\ufeff", "\ufffe", "\ud800", "\udc80", "\udfff",
    "\U0001f600", "\U0010ffff", "e\u0301", "'", '"', "\\", "`", "$", "${", "${x}", "%", "%s", "%n",
    "%%", "{", "}", "[", "]", "(", ")", "<", ">", "!", "*", "?", "#", "&", "|", "~", "^", ":", ";",
    ",", ".", "..", "../", "/", "//", "-", "--", "@", "=", "==", "\\x", "\\u", "\\0", "NaN",
    "null", "true", "REC->", "__", "A" * 64, "A" * 5000,
)  # fmt: skip
_MAX_CHARS = 20_000
_WIDTHS = (1, 2, 4, 8)
_HARD_BYTES = (
    b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f",
    b"\0\0\0\x80", b"\x00\x10\0\0", b"\0\0\x10\0", b"\xff" * 8, b"\0" * 8, b"\0" * 7 + b"\x80",
    b"\0" * 64, b"\xff" * 64,
)  # fmt: skip


def mutated_text(
    random: Random, text: str, *, words: Sequence[str] = (), others: Sequence[str] = ()
) -> str:
    """Return `text` after a few changes; `words` and parts of `others` are put in."""
    for _ in range(_few(random)):
        text = random.choice(_TEXT_CHANGES)(random, text, words, others)[:_MAX_CHARS]
    return text


def mutated_bytes(random: Random, data: bytes, *, others: Sequence[bytes] = ()) -> bytes:
    """Return `data` after a few changes; parts of `others` are put in."""
    changed = bytearray(data)
    for _ in range(_few(random)):
        random.choice(_BYTE_CHANGES)(random, changed, others)
    return bytes(changed)


def _few(random: Random) -> int:
    """Mostly one or two: many changes at once are all found by the first check."""
    return random.choice((1, 1, 1, 2, 2, 3, 5, 12))


def _span(random: Random, length: int) -> tuple[int, int]:
    start = random.randrange(length + 1)
    return start, min(length, start + random.choice((0, 1, 1, 2, 3, 5, 8, 20, 80, 400)))


# -- texts: each takes (random, text, words, others)


def _insert(random: Random, text: str, words: Sequence[str], _others: Sequence[str]) -> str:
    at = random.randrange(len(text) + 1)
    source = random.choice((words or HARD_TEXTS, HARD_TEXTS, HARD_NUMBERS))
    return text[:at] + random.choice(source) + text[at:]


def _replace(random: Random, text: str, words: Sequence[str], _others: Sequence[str]) -> str:
    start, end = _span(random, len(text))
    source = random.choice((words or HARD_TEXTS, HARD_TEXTS, HARD_NUMBERS))
    return text[:start] + random.choice(source) + text[end:]


def _delete(random: Random, text: str, _words: Sequence[str], _others: Sequence[str]) -> str:
    start, end = _span(random, len(text))
    return text[:start] + text[end:]


def _repeat(random: Random, text: str, _words: Sequence[str], _others: Sequence[str]) -> str:
    start, end = _span(random, len(text))
    times = random.choice((2, 2, 3, 10, 40, 100, 1000, 4000))
    return text[:start] + text[start:end] * times + text[end:]


def _cut(random: Random, text: str, _words: Sequence[str], _others: Sequence[str]) -> str:
    at = random.randrange(len(text) + 1)
    return text[:at] if random.random() < 0.7 else text[at:]


def _splice(random: Random, text: str, _words: Sequence[str], others: Sequence[str]) -> str:
    other = random.choice(others) if others else text
    start, end = _span(random, len(text))
    begin, stop = _span(random, len(other))
    return text[:start] + other[begin:stop] + text[end:]


def _swap(random: Random, text: str, _words: Sequence[str], _others: Sequence[str]) -> str:
    first, second = sorted(random.randrange(len(text) + 1) for _ in range(2))
    middle = random.randint(first, second)
    return text[:first] + text[middle:second] + text[first:middle] + text[second:]


def _number(random: Random, text: str, words: Sequence[str], others: Sequence[str]) -> str:
    """Put a hard number in the place of one of the text's own."""
    places = [at for at, char in enumerate(text[:2000]) if char.isdecimal()]
    if not places:
        return _insert(random, text, words, others)
    start = end = random.choice(places)
    while end < len(text) and text[end].isalnum():
        end += 1
    return text[:start] + random.choice(HARD_NUMBERS) + text[end:]


def _nest(random: Random, text: str, _words: Sequence[str], _others: Sequence[str]) -> str:
    start, end = _span(random, len(text))
    depth = random.choice((1, 2, 10, 33, 70, 300, 2000))
    opening, closing = random.choice(("()", "[]", "{}", "! ", "-*", "<>"))
    return text[:start] + opening * depth + text[start:end] + closing * depth + text[end:]


_TEXT_CHANGES: tuple[Callable[[Random, str, Sequence[str], Sequence[str]], str], ...] = (
    _insert, _insert, _replace, _replace, _delete, _repeat, _cut, _splice, _splice, _swap, _number,
    _nest,
)  # fmt: skip


# -- bytes: each changes a bytearray in place


def _flip(random: Random, data: bytearray, _others: Sequence[bytes]) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _set_byte(random: Random, data: bytearray, _others: Sequence[bytes]) -> None:
    if data:
        data[random.randrange(len(data))] = random.choice(
            (0, 1, 0x7F, 0x80, 0xFF, random.randrange(256))
        )


def _set_number(random: Random, data: bytearray, _others: Sequence[bytes]) -> None:
    width = random.choice(_WIDTHS)
    if len(data) < width:
        return
    at = random.randrange(len(data) - width + 1)
    if random.random() < 0.7:
        at &= ~(width - 1)
    order = random.choice(("little", "little", "big"))
    value = int.from_bytes(data[at : at + width], order)  # type: ignore[arg-type] # one of the two
    top = 1 << 8 * width
    value = random.choice(
        (value + 1, value - 1, value * 2, -value, value + 4, value - 4, 0, 1, top - 1, top // 2,
         top // 2 - 1, random.randrange(top), random.randrange(256), len(data), len(data) - at)
    )  # fmt: skip
    data[at : at + width] = (value % top).to_bytes(width, order)  # type: ignore[arg-type] # as above


def _put(random: Random, data: bytearray, _others: Sequence[bytes]) -> None:
    start, end = _span(random, len(data))
    hard = random.choice(_HARD_BYTES)
    data[start : end if random.random() < 0.5 else start + len(hard)] = hard


def _remove(random: Random, data: bytearray, _others: Sequence[bytes]) -> None:
    start, end = _span(random, len(data))
    del data[start:end]


def _double(random: Random, data: bytearray, _others: Sequence[bytes]) -> None:
    start, end = _span(random, len(data))
    data[start:start] = data[start:end] * random.choice((1, 1, 2, 30))


def _take_over(random: Random, data: bytearray, others: Sequence[bytes]) -> None:
    other = random.choice(others) if others else bytes(data)
    start, end = _span(random, len(data))
    begin, stop = _span(random, len(other))
    data[start:end] = other[begin:stop]


def _truncate(random: Random, data: bytearray, _others: Sequence[bytes]) -> None:
    del data[random.randrange(len(data) + 1) :]


_BYTE_CHANGES: tuple[Callable[[Random, bytearray, Sequence[bytes]], None], ...] = (
    _flip, _flip, _set_byte, _set_byte, _set_number, _set_number, _set_number, _put, _remove,
    _double, _take_over, _truncate,
)  # fmt: skip
