"""No trace.dat, however damaged, does worse than a DecodeError or a report of what is lost."""

from __future__ import annotations

import random
import struct
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import zstandard

from tests.trace_dat_cases import contents, make_buffer, make_data, written
from trace_recipe.errors import DecodeError
from trace_recipe.events import ArrayPages
from trace_recipe.held_files import hold_file
from trace_recipe.trace_dat import read_trace_dat
from trace_recipe.trace_dat.pages import ChunkedPages, PlainPages

VARIANTS: dict[str, dict[str, Any]] = {
    "v7-zstd": {},
    "v7-none": {"compression": "none"},
    "v6": {"version": 6},
    "big endian": {},
}
ROUNDS = 400
MEMORY_LIMIT_BYTES = 400 << 20  # a table of 256 MiB is allowed, and its text


@pytest.fixture(scope="module")
def files():
    top, one = make_buffer(count=2), make_buffer("one", cpus=(1,))
    big = make_data(order=">", long_size=4)
    return {
        name: written(big if name == "big endian" else make_data(top, one), **options)
        for name, options in VARIANTS.items()
    }


def pages_of(data, cpu):
    """Return the sub-buffers of one CPU, which tell of damages."""
    pages = data.buffers[0].cpus[cpu]
    assert isinstance(pages, PlainPages | ChunkedPages)
    return pages


def read_all(path):
    """Read a file and all its sub-buffers; return the data, or None when it is refused."""
    try:
        data = read_trace_dat(hold_file(path))
        for buffer in data.buffers:
            for pages in buffer.cpus.values():
                for first in range(0, min(pages.count, 1 << 16), 64):
                    block = pages.read(first, 64)
                    assert block.shape[1] == buffer.subbuf_size_bytes
    except DecodeError as error:
        return None if error.file == str(path) else pytest.fail(f"no file in: {error}")
    return data


@pytest.mark.parametrize("name", VARIANTS)
def test_flipped_bytes_give_a_decode_error_or_data(files, tmp_path, name):
    chance = random.Random(name)
    path = tmp_path / "trace.dat"
    content = files[name]
    tracemalloc.start()
    for _ in range(ROUNDS):
        damaged = bytearray(content)
        for _ in range(chance.choice((1, 2, 8, 64))):
            # Most bytes are pages, which this reader does not interpret: aim at the rest too.
            place = chance.randrange(len(damaged))
            while damaged[place] == 0 and chance.random() < 0.5:
                place = chance.randrange(len(damaged))
            damaged[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        path.write_bytes(damaged)
        read_all(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MEMORY_LIMIT_BYTES


@pytest.mark.parametrize("name", VARIANTS)
def test_every_number_may_be_the_largest_or_smallest(files, tmp_path, name):
    path = tmp_path / "trace.dat"
    content = files[name]
    # All headers, options and tables, but not the inside of page-aligned data.
    places = [at for at in range(len(content) - 4) if any(content[at : at + 4])]
    chance = random.Random(1)
    for place in [*range(64), *chance.sample(places, ROUNDS)]:
        for value in (0, 0xFFFFFFFF, 0x7FFFFFFF):
            path.write_bytes(content[:place] + struct.pack("<I", value) + content[place + 4 :])
            read_all(path)


@pytest.mark.parametrize("name", VARIANTS)
def test_truncated_files_give_a_decode_error_or_say_what_is_missing(files, tmp_path, name):
    chance = random.Random(name)
    path = tmp_path / "trace.dat"
    content = files[name]
    for size in [*range(40), *chance.sample(range(40, len(content)), 100)]:
        path.write_bytes(content[:size])
        data = read_all(path)
        if data is not None:
            damages = [d for b in data.buffers for pages in b.cpus.values() for d in pages.damages]
            assert any("missing" in reason for _, reason in damages)


def test_a_truncated_version_6_file_keeps_the_pages_before_its_end(tmp_path):
    data = make_data(make_buffer(cpus=(0, 1), count=4))
    path = tmp_path / "trace.dat"
    path.write_bytes(written(data, version=6)[: -4096 - 100])
    back = read_trace_dat(hold_file(path))

    kept, cut = pages_of(back, 0), pages_of(back, 1)
    assert kept.damages == ()
    assert kept.read(0, 4).tobytes() == contents(data.buffers[0])[0]
    # Half of a sub-buffer is given, padded; the decoder stops where its records end.
    assert cut.count == 4
    assert cut.read(0, 3).tobytes() == contents(data.buffers[0])[1][: 3 * 4096]
    assert [reason for _, reason in cut.damages] == ["4196 bytes of sub-buffers are missing"]


def test_a_chunk_that_does_not_unpack_is_empty_and_reported_once(tmp_path):
    data = make_data(make_buffer(cpus=(0,), count=200))
    content = bytearray(written(data))
    path = tmp_path / "trace.dat"
    path.write_bytes(content)
    whole_pages = pages_of(read_trace_dat(hold_file(path)), 0)
    assert isinstance(whole_pages, ChunkedPages)
    second = whole_pages._chunks[1]
    middle = second.offset_bytes + second.packed_bytes // 2
    content[second.offset_bytes : middle] = bytes(middle - second.offset_bytes)
    path.write_bytes(content)
    pages = pages_of(read_trace_dat(hold_file(path)), 0)
    whole = data.buffers[0].cpus[0].read(0, 200)

    assert pages.count == 200
    assert (pages.read(0, 64) == whole[:64]).all()
    assert not pages.read(64, 64).any()
    assert pages.read(0, 1).any()
    assert (pages.read(100, 100)[28:] == whole[128:]).all()
    assert len(pages.damages) == 1
    assert pages.damages[0][0] == second.offset_bytes
    assert "64 sub-buffers" in pages.damages[0][1]


@pytest.mark.parametrize("size", [1 << 27, 8192])
def test_a_chunk_that_is_said_to_hold_more_than_it_can_is_reported(tmp_path, size):
    plain = make_data(make_buffer(cpus=(0,), count=1))
    packed = zstandard.ZstdCompressor(write_content_size=False).compress(
        contents(plain.buffers[0])[0]
    )
    content = written(plain)
    path = tmp_path / "trace.dat"
    path.write_bytes(content)
    pages = pages_of(read_trace_dat(hold_file(path)), 0)
    assert isinstance(pages, ChunkedPages)
    place = pages._chunks[0].offset_bytes
    assert len(packed) <= pages._chunks[0].packed_bytes
    chunk = struct.pack("<II", len(packed), size) + packed
    path.write_bytes(content[: place - 8] + chunk + content[place - 8 + len(chunk) :])
    pages = pages_of(read_trace_dat(hold_file(path)), 0)

    assert pages.count <= 2
    assert not pages.read(0, 2).any()
    assert len(pages.damages) == 1


def test_a_length_beyond_the_end_of_the_file_allocates_nothing(tmp_path):
    content = written(make_data(raw_options=((99, b"from the future"),)), version=6)
    place = content.index(b"from the future")
    path = tmp_path / "trace.dat"
    path.write_bytes(content[: place - 4] + struct.pack("<I", 1 << 30) + content[place:])
    tracemalloc.start()
    with pytest.raises(DecodeError, match=r"option 99 needs 1073741824 bytes"):
        read_trace_dat(hold_file(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 16 << 20


def test_a_damaged_table_of_names_does_not_cost_the_events(tmp_path, caplog):
    data = make_data()
    content = written(data, compression="none")
    text = data.kallsyms_text.encode()
    place = content.index(struct.pack("<I", len(text)) + text)
    path = tmp_path / "trace.dat"
    path.write_bytes(content[:place] + struct.pack("<I", 1 << 30) + content[place + 4 :])
    back = read_trace_dat(hold_file(path))

    assert back.symbols is None
    assert contents(back.buffers[0]) == contents(data.buffers[0])
    assert "kallsyms" in caplog.text


def test_a_loop_of_options_ends(tmp_path):
    content = written(make_data(), compression="none")
    start = content.index(b"none\0\0") + 6
    options = content[start : start + 8]
    assert content.endswith(struct.pack("<HIQ", 0, 8, 0))
    path = tmp_path / "trace.dat"
    path.write_bytes(content[:-8] + options)

    assert len(read_trace_dat(hold_file(path)).buffers) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a trace.dat"),
        (b"\x17\x08\x44tracinG6\0", "not a trace.dat"),
        (b"\x17\x08\x44tracing5\0", "version '5'"),
        (b"\x17\x08\x44tracing7\0\2\x08\0\x10\0\0", "byte order 2"),
        (b"\x17\x08\x44tracing7\0\0\x08\0\0\0\0", "sub-buffer size of 0"),
        (b"\x17\x08\x44tracing7\0\0\x08\0\x10\0\0lzma\0\0" + bytes(8), "compression 'lzma'"),
        (b"\x17\x08\x44tracing7\0\0\x08\0\x10\0\0none\0\0" + b"\xff" * 8, "behind the end"),
        (b"\x17\x08\x44tracing6\0\0\x08\0\x10\0\0header_pageX", "no header_page"),
    ],
)
def test_what_is_wrong_with_the_start_is_said(tmp_path, content, message):
    path = tmp_path / "trace.dat"
    path.write_bytes(content)

    with pytest.raises(DecodeError, match=message):
        read_trace_dat(hold_file(path))


def test_the_text_of_a_latency_tracer_is_refused_by_name(tmp_path):
    content = written(make_data(), version=6)
    start = content.index(b"flyrecord\0")
    path = tmp_path / "trace.dat"
    path.write_bytes(content[:start] + b"latency  \0# tracer: irqsoff\n")

    with pytest.raises(DecodeError, match="latency tracer"):
        read_trace_dat(hold_file(path))


def test_a_file_that_shrinks_after_it_was_read_is_a_decode_error(tmp_path):
    path = tmp_path / "trace.dat"
    path.write_bytes(written(make_data(), compression="none"))
    pages = read_trace_dat(hold_file(path)).buffers[0].cpus[0]
    path.write_bytes(b"")

    with pytest.raises(DecodeError, match="shorter"):
        pages.read(0, 1)


def region_rows(content):
    """Return where the (offset, size) of each CPU of the last buffer of a plain file stand."""
    end = len(content) - 14  # the option that ends the options
    return [end - 16 * back - 4 * (back - 1) for back in (2, 1)]


def test_bytes_that_two_cpus_claim_belong_to_the_first(tmp_path):
    data = make_data(make_buffer(cpus=(0, 1), count=2))
    content = bytearray(written(data, compression="none"))
    first, second = region_rows(content)
    content[second : second + 16] = content[first : first + 16]
    path = tmp_path / "trace.dat"
    path.write_bytes(content)
    back = read_trace_dat(hold_file(path))

    assert contents(back.buffers[0])[0] == contents(data.buffers[0])[0]
    assert pages_of(back, 1).count == 0
    [(_, reason)] = pages_of(back, 1).damages
    assert "another CPU's too" in reason


def test_what_is_no_whole_sub_buffer_inside_the_file_is_left_out(tmp_path):
    data = make_data(make_buffer(cpus=(0, 1), count=2))
    content = bytearray(written(data, compression="none"))
    first, _ = region_rows(content)
    assert struct.unpack_from("<Q", content, first + 8) == (2 * 4096,)
    struct.pack_into("<Q", content, first + 8, 4096 + 100)
    path = tmp_path / "trace.dat"
    path.write_bytes(content)
    pages = pages_of(read_trace_dat(hold_file(path)), 0)

    assert pages.count == 1
    assert [reason for _, reason in pages.damages] == ["100 bytes are no whole sub-buffer"]


def test_a_sub_buffer_larger_than_any_kernels_is_refused(tmp_path):
    path = tmp_path / "trace.dat"
    content = written(make_data(), version=6)
    for size, is_read in ((1 << 20, True), (1 << 21, False)):
        path.write_bytes(content[:14] + struct.pack("<I", size) + content[18:])
        if is_read:
            assert read_trace_dat(hold_file(path)).buffers[0].subbuf_size_bytes == size
        else:
            with pytest.raises(DecodeError, match=f"sub-buffer size of {size}"):
                read_trace_dat(hold_file(path))


def test_chunks_that_would_unpack_to_far_more_than_the_file_are_refused(tmp_path):
    pages = np.zeros((256, 4096), np.uint8)  # a megabyte that shrinks to less than a hundred bytes
    cpus = {cpu: ArrayPages(pages) for cpu in range(1100)}
    data = make_data(replace(make_buffer(), cpus=cpus, stats={}), cpu_count=1100)
    content = bytearray(written(data))
    path = tmp_path / "trace.dat"
    path.write_bytes(content)
    assert (
        len(read_trace_dat(hold_file(path)).buffers[0].cpus) == 1100
    )  # in chunks of 256 KiB as we write
    assert len(content) < 5 << 20

    packed = zstandard.ZstdCompressor().compress(bytes(1 << 20))
    chunk = struct.pack("<III", 1, len(packed), 1 << 20) + packed
    for place, _ in regions_of(content, 1100):
        content[place : place + len(chunk)] = chunk
    path.write_bytes(content)
    with pytest.raises(DecodeError, match="bytes at a time"):
        read_trace_dat(hold_file(path))


def regions_of(content, count):
    """Return the (offset, size) of the CPUs of the last buffer of a version 7 file."""
    start = len(content) - 14 - 20 * count
    return [struct.unpack_from("<QQ", content, start + 20 * index + 4) for index in range(count)]


def test_options_without_end_are_refused(tmp_path):
    path = tmp_path / "trace.dat"
    path.write_bytes(written(make_data(raw_options=((99, b""),) * 140_000)))

    with pytest.raises(DecodeError, match="more than 131072 options"):
        read_trace_dat(hold_file(path))


def test_a_section_that_is_named_many_times_is_read_once(tmp_path, caplog):
    kallsyms = "".join(f"{number:x} t symbol\n" for number in range(1, 1 << 19))
    content = written(make_data(kallsyms_text=kallsyms))  # 40 times would be beyond all limits
    option = content.rindex(struct.pack("<HI", 19, 8))
    repeated = content[option : option + 14] * 40
    content = bytearray(content[:option] + repeated + content[option:])
    start = content.index(b"zstd\0") + 5
    start = content.index(b"\0", start) + 1
    (options,) = struct.unpack_from("<Q", content, start)
    (size,) = struct.unpack_from("<Q", content, options + 8)
    struct.pack_into("<Q", content, options + 8, size + len(repeated))
    path = tmp_path / "trace.dat"
    path.write_bytes(content)

    assert read_trace_dat(hold_file(path)).kallsyms_text == kallsyms
    assert caplog.text == ""


def test_buffers_with_more_cpus_than_machines_have_are_left_out(tmp_path, caplog):
    none = replace(make_buffer(), cpus={}, stats={})
    path = tmp_path / "trace.dat"
    buffers = [replace(none, name=f"b{number}") for number in range(3)]
    path.write_bytes(written(make_data(*buffers, cpu_count=10_000), version=6))
    assert len(read_trace_dat(hold_file(path)).buffers) == 4

    content = path.read_bytes()
    block = content.rindex(b"flyrecord\0") + 10
    full = b"".join(struct.pack("<QQ", 1, 1) for _ in range(10_000))
    for place in [at for at in range(len(content)) if content.startswith(b"flyrecord\0", at)]:
        content = content[: place + 10] + full + content[place + 10 + len(full) :]
    assert content[block : block + 16] == full[:16]
    path.write_bytes(content)
    assert len(read_trace_dat(hold_file(path)).buffers) == 3
    assert "more than 32768 CPUs" in caplog.text
