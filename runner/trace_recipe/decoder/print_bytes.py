"""Bytes of a record as the text lib/vsprintf.c and the __print_* helpers make of them."""

from __future__ import annotations

import ipaddress
import struct
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "array_text",
    "bitmap_list",
    "bitmask_text",
    "hex_dump",
    "hex_text",
    "ip4_text",
    "ip6_text",
    "mac_text",
    "sockaddr_text",
    "uuid_text",
]

_AF_INET, _AF_INET6 = 2, 10
_HEX_LIMIT = 64  # bytes: what %*ph prints at most


def hex_text(raw: bytes, separator: str = " ") -> str:
    """Return two lower case digits per byte."""
    return raw.hex(separator) if separator else raw.hex()


def array_text(raw: bytes, size: int, byte_order: str) -> str:
    """Return `{0x1,0x2}` for elements of `size` bytes, as __print_array does."""
    order = "little" if byte_order == "<" else "big"
    count = len(raw) // size
    numbers = (
        int.from_bytes(raw[at : at + size], order)  # type: ignore[arg-type]  # a literal by now
        for at in range(0, count * size, size)
    )
    return "{" + ",".join(f"{number:#x}" for number in numbers) + "}"


def bitmask_text(raw: bytes, long_size: int, byte_order: str) -> str:
    """Return the mask in hex, most significant word first, a comma every 32 bits."""
    groups = [
        f"{word >> shift & 0xFFFFFFFF:08x}"
        for word in reversed(_words(raw, long_size, byte_order))
        for shift in range(long_size * 8 - 32, -1, -32)
    ]
    return ",".join(groups)


def bitmap_list(raw: bytes, long_size: int, byte_order: str, bits: int | None = None) -> str:
    """Return the set bits as `0-3,7`."""
    # The number of bits comes from the record, so it may be anything.
    words = np.array(_words(raw, long_size, byte_order), f"<u{long_size}")
    flags = np.unpackbits(words.view(np.uint8), bitorder="little")
    return ",".join(
        _ranges(np.flatnonzero(flags if bits is None else flags[: max(bits, 0)]).tolist())
    )


def _words(raw: bytes, long_size: int, byte_order: str) -> list[int]:
    code = byte_order + ("Q" if long_size == 8 else "I")
    whole = len(raw) - len(raw) % long_size
    return [word for (word,) in struct.iter_unpack(code, raw[:whole])]


def _ranges(bits: Iterable[int]) -> list[str]:
    ranges: list[list[int]] = []
    for bit in bits:
        if ranges and bit == ranges[-1][1] + 1:
            ranges[-1][1] = bit
        else:
            ranges.append([bit, bit])
    return [f"{first}-{last}" if last > first else f"{first}" for first, last in ranges]


def mac_text(raw: bytes, variant: str) -> str:
    """Return a MAC address for %pM, %pMF, %pMR, %pm, %pmR; `variant` is what follows the p."""
    raw = raw[:6]
    if len(raw) < 6:
        return ""
    if "R" in variant:
        raw = raw[::-1]
    if variant[0] == "m":
        return raw.hex()
    return raw.hex("-" if "F" in variant else ":")


def ip4_text(raw: bytes, variant: str = "I4") -> str:
    """Return an IPv4 address for %pI4 and %pi4, with h, n, b, l for the byte order."""
    if len(raw) < 4:
        return ""
    raw = raw[:4]
    if variant[2:3] in {"h", "l"}:
        raw = raw[::-1]
    return ".".join(f"{byte:03d}" if variant[0] == "i" else f"{byte}" for byte in raw)


def ip6_text(raw: bytes, variant: str = "I6") -> str:
    """Return an IPv6 address for %pI6 (all groups), %pi6 (no colons) and %pI6c (compressed)."""
    if len(raw) < 16:
        return ""
    raw = raw[:16]
    if variant[0] == "i":
        return raw.hex()
    if "c" not in variant:
        return raw.hex(":", 2)
    address = ipaddress.IPv6Address(raw)
    mapped = address.ipv4_mapped
    if mapped is not None:
        return f"::ffff:{mapped}"
    if raw[8:12] in {b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe"}:  # ISATAP: the tail is IPv4
        head = str(ipaddress.IPv6Address(raw[:12] + b"\x01\x01\x01\x01")).removesuffix("101:101")
        return head + ip4_text(raw[12:])
    return str(address)


def sockaddr_text(raw: bytes, variant: str, byte_order: str) -> str:
    """Return a struct sockaddr for %pIS with p (port), f (flow), s (scope), c (compressed)."""
    if len(raw) < 8:
        return "(invalid address)" if raw else "(null)"
    (family,) = struct.unpack_from(byte_order + "H", raw)
    (port,) = struct.unpack_from(">H", raw, 2)
    flags = variant[2:]
    if family == _AF_INET:
        text = ip4_text(raw[4:8])
        return f"{text}:{port}" if "p" in flags else text
    if family != _AF_INET6 or len(raw) < 28:
        return "(invalid address)"
    text = ip6_text(raw[8:24], "I6c" if "c" in flags else "I6")
    if not set(flags) & set("pfs"):
        return text
    text = f"[{text}]"
    if "p" in flags:
        text += f":{port}"
    if "f" in flags:
        (flow,) = struct.unpack_from(">I", raw, 4)
        text += f"/{flow & 0x0FFFFFFF}"
    if "s" in flags:
        (scope,) = struct.unpack_from(byte_order + "I", raw, 24)
        text += f"%{scope}"
    return text


def uuid_text(raw: bytes, variant: str) -> str:
    """Return a UUID for %pU; b or B big endian (default b), l or L little; capitals in upper."""
    if len(raw) < 16:
        return ""
    raw = raw[:16]
    order = variant[1:2]
    if order in {"l", "L"}:
        raw = raw[3::-1] + raw[5:3:-1] + raw[7:5:-1] + raw[8:]
    digits = raw.hex()
    text = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    return text.upper() if order in {"B", "L"} else text


def hex_bytes(raw: bytes, count: int, variant: str) -> str:
    """Return %*ph, %*phC, %*phD, %*phN: at most 64 bytes."""
    separator = {"C": ":", "D": "-", "N": ""}.get(variant[1:2], " ")
    return hex_text(raw[: min(max(count, 0), _HEX_LIMIT)], separator)


def hex_dump(raw: bytes, prefix: str, kind: int, row: int, group: int, *, ascii_: bool) -> str:
    """Return __print_hex_dump's lines, each after a newline; kind 2 puts the offset first.

    Kind 1 (the address) is not in the trace and prints the offset too.
    """
    row = row if row in {16, 32} else 16
    group = group if group in {1, 2, 4, 8} and len(raw) % group == 0 else 1
    columns = row // group * (2 * group + 1) + 1
    lines = []
    for at in range(0, len(raw), row):
        part = raw[at : at + row]
        groups = [part[i : i + group][::-1].hex() for i in range(0, len(part), group)]
        text = " ".join(groups)
        if ascii_:
            shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
            text = f"{text:<{columns}}{shown}"
        lines.append(f"{prefix}{at:08x}: {text}" if kind else f"{prefix}{text}")
    return "\n" + "\n".join(lines) + ("\n" if lines else "")
