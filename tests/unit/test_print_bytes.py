"""Bytes as lib/vsprintf.c prints them."""

import pytest

from trace_recipe.decoder.print_bytes import (
    array_text,
    bitmap_list,
    bitmask_text,
    hex_bytes,
    hex_dump,
    ip4_text,
    ip6_text,
    mac_text,
    sockaddr_text,
    uuid_text,
)

SIX = bytes.fromhex("20010db8000000000000ff0000428329")
UUID = bytes(range(16))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ip4_text(b"\x7f\0\0\1"), "127.0.0.1"),
        (ip4_text(b"\x7f\0\0\1", "i4"), "127.000.000.001"),
        (ip4_text(b"\1\0\0\x7f", "I4l"), "127.0.0.1"),
        (ip6_text(SIX), "2001:0db8:0000:0000:0000:ff00:0042:8329"),
        (ip6_text(SIX, "i6"), SIX.hex()),
        (ip6_text(SIX, "I6c"), "2001:db8::ff00:42:8329"),
        (ip6_text(bytes(15) + b"\1", "I6c"), "::1"),
        (ip6_text(bytes(10) + b"\xff\xff\x7f\0\0\1", "I6c"), "::ffff:127.0.0.1"),
        (ip6_text(bytes.fromhex("fe800000000000000000 5efe c0a80001"), "I6c"),
         "fe80::5efe:192.168.0.1"),
        (mac_text(b"\1\2\3\4\5\xfe", "M"), "01:02:03:04:05:fe"),
        (mac_text(b"\1\2\3\4\5\xfe", "MF"), "01-02-03-04-05-fe"),
        (mac_text(b"\1\2\3\4\5\xfe", "MR"), "fe:05:04:03:02:01"),
        (mac_text(b"\1\2\3\4\5\xfe", "m"), "0102030405fe"),
        (uuid_text(UUID, "U"), "00010203-0405-0607-0809-0a0b0c0d0e0f"),
        (uuid_text(UUID, "UB"), "00010203-0405-0607-0809-0A0B0C0D0E0F"),
        (uuid_text(UUID, "Ul"), "03020100-0504-0706-0809-0a0b0c0d0e0f"),
        (uuid_text(UUID, "UL"), "03020100-0504-0706-0809-0A0B0C0D0E0F"),
        (hex_bytes(b"\0\1\2", 3, "h"), "00 01 02"),
        (hex_bytes(b"\0\1\2", 2, "hC"), "00:01"),
        (hex_bytes(b"\0\1\2", 9, "hD"), "00-01-02"),
        (hex_bytes(bytes(100), 100, "hN"), "00" * 64),
        (array_text(b"\1\0\2\0", 2, "<"), "{0x1,0x2}"),
        (array_text(b"\0\1\0\2", 2, ">"), "{0x1,0x2}"),
        (array_text(b"", 8, "<"), "{}"),
        (bitmask_text(b"\3\0\0\0\1\0\0\0", 8, "<"), "00000001,00000003"),
        (bitmask_text(b"\0\0\0\3\0\0\0\1", 4, ">"), "00000001,00000003"),
        (bitmap_list(b"\x8f\0\0\0\0\0\0\x80", 8, "<"), "0-3,7,63"),
        (bitmap_list(b"\x8f\0\0\0\0\0\0\x80", 8, "<", 6), "0-3"),
        (bitmap_list(bytes(8), 8, "<"), ""),
        (sockaddr_text(b"\2\0\x1f\x90\x7f\0\0\1" + bytes(8), "ISpc", "<"), "127.0.0.1:8080"),
        (sockaddr_text(b"\0\2\x1f\x90\x7f\0\0\1" + bytes(8), "IS", ">"), "127.0.0.1"),
        (sockaddr_text(b"\x0a\0\x1f\x90\0\0\0\5" + SIX + b"\2\0\0\0", "ISpfsc", "<"),
         "[2001:db8::ff00:42:8329]:8080/5%2"),
        (sockaddr_text(b"\1\0" + bytes(20), "ISpc", "<"), "(invalid address)"),
    ],
)  # fmt: skip
def test_bytes_become_the_kernels_text(text, expected):
    assert text == expected


@pytest.mark.parametrize(
    "convert",
    [
        ip4_text, ip6_text, lambda raw: mac_text(raw, "M"), lambda raw: uuid_text(raw, "U"),
        lambda raw: bitmask_text(raw, 8, "<"), lambda raw: bitmap_list(raw, 8, "<"),
    ],
)  # fmt: skip
def test_too_few_bytes_give_an_empty_text(convert):
    assert convert(b"\1") == ""


def test_a_hex_dump_starts_on_a_line_of_its_own():
    dump = hex_dump(b"kernel hex dump..", "> ", 2, 16, 1, ascii_=True)
    assert dump == (
        "\n> 00000000: 6b 65 72 6e 65 6c 20 68 65 78 20 64 75 6d 70 2e  kernel hex dump."
        f"\n> 00000010: {'2e':<49s}.\n"
    )
    assert hex_dump(b"\1\2\3\4", "", 0, 16, 4, ascii_=False) == "\n04030201\n"


def test_bitmaps_of_any_size_and_length_cost_no_more_than_their_bytes():
    ones = b"\xff" * (1 << 20)
    assert bitmap_list(ones, 8, "<") == f"0-{(8 << 20) - 1}"
    assert bitmap_list(b"\5\0\0\0\0\0\0\x80", 8, "<", 1 << 62) == "0,2,63"
    assert bitmap_list(b"\5\0\0\0\0\0\0\x80", 8, "<", -1) == ""
    assert bitmap_list(b"\0\0\0\1\0\0\0\2", 4, ">", 40) == "0,33"
    assert bitmask_text(ones, 8, "<").count("ffffffff") == 1 << 18
    assert bitmask_text(b"\0\0\0\1\0\0\0\2", 4, ">") == "00000002,00000001"
