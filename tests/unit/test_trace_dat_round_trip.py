"""What the writer writes, the reader reads back: both versions, byte orders, long sizes."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import zstandard

from tests.trace_dat_cases import contents, make_buffer, make_data, written
from trace_recipe.decoder import decode
from trace_recipe.errors import DecodeError, OutputError
from trace_recipe.held_files import hold_file
from trace_recipe.sinks.trace_dat import TraceDatSink
from trace_recipe.trace_dat import read_trace_dat
from trace_recipe.trace_dat.pages import PlainPages

VARIANTS = [(7, "zstd"), (7, "none"), (6, "none")]
SAME = [
    "formats",
    "byte_order",
    "long_size",
    "data_offset",
    "cpu_count",
    "header_page_text",
    "header_event_text",
    "cmdlines",
    "printk_formats",
    "kallsyms_text",
    "printk_text",
    "uname",
]


@pytest.fixture(params=VARIANTS, ids=["v7-zstd", "v7-none", "v6"])
def variant(request):
    return {"version": request.param[0], "compression": request.param[1]}


def again(data, path, **options):
    path.write_bytes(written(data, **options))
    return read_trace_dat(hold_file(path))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("long_size", [4, 8])
def test_everything_comes_back_in_each_byte_order_and_long_size(
    tmp_path, variant, order, long_size
):
    data = make_data(order=order, long_size=long_size)
    back = again(data, tmp_path / "trace.dat", **variant)

    assert written(data, **variant)[12:14] == bytes([order == ">", long_size])
    assert {name: getattr(back, name) for name in SAME} == {
        name: getattr(data, name) for name in SAME
    }
    (buffer,) = back.buffers
    assert (buffer.name, buffer.clock, buffer.subbuf_size_bytes) == ("", "mono", 4096)
    assert buffer.stats == data.buffers[0].stats
    assert contents(buffer) == contents(data.buffers[0])
    assert [pages.count for pages in buffer.cpus.values()] == [3, 4]
    assert not any(pages.damages for pages in buffer.cpus.values())
    assert back.symbols is not None
    assert back.symbols.find(0xFFFFFFFF81000004) == ("_stext", 4)
    assert back.wall_offset_ns is None


def test_each_read_gives_what_was_asked_for_across_chunk_borders(tmp_path, variant):
    data = make_data(make_buffer(size=128, cpus=(0,), count=5000))
    whole = data.buffers[0].cpus[0].read(0, 5000)
    pages = again(data, tmp_path / "trace.dat", **variant).buffers[0].cpus[0]

    assert pages.count == 5000
    for first, count in [(0, 1), (2047, 2), (2048, 1), (1, 4999), (4999, 1), (4990, 50), (0, 0)]:
        np.testing.assert_array_equal(pages.read(first, count), whole[first : first + count])


def test_several_buffers_keep_names_clocks_and_cpus_and_the_top_comes_first(tmp_path, variant):
    one = make_buffer("one", cpus=(1,), clock="boot")
    two = make_buffer("two", cpus=(0, 3), count=1)
    back = again(make_data(one, two), tmp_path / "trace.dat", **variant)

    assert [(b.name, b.clock) for b in back.buffers] == [
        ("", "boot"),
        ("one", "boot"),
        ("two", "mono"),
    ]
    assert [contents(b) for b in back.buffers] == [{}, contents(one), contents(two)]
    assert [b.stats for b in back.buffers] == [{}, one.stats, two.stats]

    top = make_buffer("", count=2)
    back = again(make_data(one, top), tmp_path / "trace.dat", **variant)
    assert [contents(b) for b in back.buffers] == [contents(top), contents(one)]


def test_the_only_buffer_of_a_private_instance_becomes_the_top_one(tmp_path, variant):
    back = again(make_data(make_buffer("private")), tmp_path / "trace.dat", **variant)

    assert [b.name for b in back.buffers] == [""]


def test_sub_buffer_sizes_may_differ_in_version_7_only(tmp_path):
    small, large = make_buffer("a", size=4096), make_buffer("b", size=65536, count=2)
    data = make_data(small, large)
    back = again(data, tmp_path / "trace.dat")

    assert [b.subbuf_size_bytes for b in back.buffers] == [4096, 4096, 65536]
    assert [contents(b) for b in back.buffers[1:]] == [contents(small), contents(large)]
    # trace-cmd cannot unpack buffers of another size than the top one's.
    assert all(isinstance(p, PlainPages) for b in back.buffers for p in b.cpus.values())
    with pytest.raises(OutputError, match="one sub-buffer size"):
        written(data, version=6)


def test_options_of_the_file_it_came_from_survive_and_are_not_doubled(tmp_path, variant):
    options = (
        (1, b"0x3e8\0"), (7, b"25\0"), (9, b"3.1.6\0"), (4, b"local global [mono]\n\0"),
        (11, struct.pack("<Q", 77)), (99, b"from the future"),
    )  # fmt: skip
    data = make_data(raw_options=options)
    once = again(data, tmp_path / "once.dat", **variant)
    twice = again(once, tmp_path / "twice.dat", **variant)

    assert once.raw_options[: len(options)] == options
    assert twice.raw_options == once.raw_options
    assert twice.wall_offset_ns == 1_000_025
    assert twice.uname == data.uname
    assert sum(option == 4 for option, _ in twice.raw_options) == 1


def test_a_date_says_nothing_about_a_clock_that_counts_no_nanoseconds(tmp_path):
    data = make_data(make_buffer(clock="counter"), raw_options=((1, b"0x3e8\0"),))

    assert again(data, tmp_path / "trace.dat").wall_offset_ns is None


def test_the_wall_offset_is_not_written_as_a_date(tmp_path, variant):
    back = again(make_data(wall_offset_ns=10**18), tmp_path / "trace.dat", **variant)

    assert 1 not in {option for option, _ in back.raw_options}


@pytest.mark.parametrize("order", ["<", ">"])
def test_processor_ticks_are_decoded_to_nanoseconds_and_written_again_as_they_are(
    tmp_path, variant, order
):
    # What a processor of 2.1 GHz has: 0.476 ns for a tick.
    option = (14, struct.pack(f"{order}IIQ", 7989830, 24, 5_000_000_000))
    ticks = make_buffer("ticks", cpus=(0,), count=1, clock="x86-tsc", order=order)
    mono = make_buffer("mono", cpus=(0,), count=1, clock="mono", order=order)
    if variant["version"] == 6:  # has one clock for all
        mono = replace(mono, clock="x86-tsc")
    data = make_data(ticks, mono, order=order, raw_options=(option, (1, b"0x3e8\0")))
    once = again(data, tmp_path / "once.dat", **variant)
    twice = again(once, tmp_path / "twice.dat", **variant)

    for back in (once, twice):
        assert [one.in_ns for one in back.buffers] == [True, True, True]
        assert contents(back.buffers[1]) == contents(ticks)
        assert option in back.raw_options
        assert back.wall_offset_ns == 1_000_000
        times = times_of(back)
        assert times[1][:3] == [476230978, 476231455, 476231931]
        assert times[1][-1] == (1_000_000_000 + 254 * 1000) * 7989830 >> 24
        assert times[2][0] == (476230978 if variant["version"] == 6 else 1_000_000_000)


def times_of(data):
    found: dict[int, list[int]] = {}
    for events in decode(data):
        for columns in events:
            for buffer, time in zip(columns.buffer, columns.timestamp_ns, strict=True):
                found.setdefault(int(buffer), []).append(int(time))
    return found


def test_ticks_without_a_factor_stay_ticks(tmp_path, variant):
    option = (14, struct.pack("<IIQ", 0, 0, 0))
    data = make_data(make_buffer(clock="x86-tsc"), raw_options=(option, (1, b"0x3e8\0")))
    back = again(data, tmp_path / "trace.dat", **variant)

    assert not back.buffers[0].in_ns
    assert times_of(back)[0][0] == 1_000_000_000
    assert back.wall_offset_ns is None


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\1\0\0\0\2", "needs 4 bytes"), (struct.pack("<IIQ", 1, 64, 0), "by 64 bits")],
)
def test_a_scale_that_makes_no_sense_is_refused(tmp_path, variant, content, message):
    path = tmp_path / "trace.dat"
    path.write_bytes(written(make_data(raw_options=((14, content),)), **variant))

    with pytest.raises(DecodeError, match=f"TSC2NSEC.*{message}"):
        read_trace_dat(hold_file(path))


def test_frames_without_content_size_and_zlib_are_read(tmp_path):
    plain = written(make_data(), compression="none")
    zstd = zstandard.ZstdCompressor(write_content_size=False)
    packers = {b"zstd\x001.5.4\0": zstd.compress, b"zlib\x001.2.13\0": zlib.compress}
    for name, pack in packers.items():
        path = tmp_path / name[:4].decode()
        path.write_bytes(repacked(plain, name, pack))
        back = read_trace_dat(hold_file(path))

        assert contents(back.buffers[0]) == contents(make_data().buffers[0])
        assert back.kallsyms_text == make_data().kallsyms_text


def repacked(plain, name, pack):
    """Return a plain little-endian version 7 file, compressed as trace-cmd does it."""
    source = plain.index(b"none\0\0") + 6
    (options,) = struct.unpack_from("<Q", plain, source)
    out = io.BytesIO()
    out.write(plain[: source - 6] + name + bytes(8))

    def section(number, content):
        start = out.tell()
        packed = pack(content)
        out.write(struct.pack("<HHIQ", number, 1, 0, len(packed) + 8))
        out.write(struct.pack("<II", len(packed), len(content)) + packed)
        return start

    def buffer(content):
        offset, cpus = content[:8], []
        (count,) = struct.unpack_from("<I", content, len(content) - 2 * 20 - 4)
        start = out.tell()
        out.write(struct.pack("<HHIQ", 3, 1, 0, 0))
        for index in range(count):
            row = len(content) - 20 * (count - index)
            cpu, place, size = struct.unpack_from("<IQQ", content, row)
            pages = plain[place : place + size]
            chunks = [pack(pages[at : at + 40960]) for at in range(0, size, 40960)]
            sizes = [len(pages[at : at + 40960]) for at in range(0, size, 40960)]
            out.write(bytes(-out.tell() % 4096))
            at = out.tell()
            out.write(struct.pack("<I", len(chunks)))
            for chunk, length in zip(chunks, sizes, strict=True):
                out.write(struct.pack("<II", len(chunk), length) + chunk)
            cpus.append(struct.pack("<IQQ", cpu, at, out.tell() - at - 4))
        assert len(offset) == 8
        return struct.pack("<Q", start) + content[8 : -20 * count] + b"".join(cpus)

    place, kept = options + 16, b""
    while True:
        number, size = struct.unpack_from("<HI", plain, place)
        content = plain[place + 6 : place + 6 + size]
        place += 6 + size
        if number == 0:
            break
        if number == 3:
            content = buffer(content)
        elif 16 <= number <= 21:
            (at,) = struct.unpack("<Q", content)
            (length,) = struct.unpack_from("<Q", plain, at + 8)
            content = struct.pack("<Q", section(number, plain[at + 16 : at + 16 + length]))
        kept += struct.pack("<HI", number, len(content)) + content
    # Two option sections, the second found through the first, as trace-cmd writes them.
    first = out.tell()
    out.write(struct.pack("<HHIQ", 0, 0, 0, 14) + struct.pack("<HIQ", 0, 8, first + 30))
    section(0, kept + struct.pack("<HIQ", 0, 8, 0))
    out.seek(source - 6 + len(name))
    out.write(struct.pack("<Q", first))
    return out.getvalue()


def test_version_6_may_list_the_top_buffer_a_second_time(tmp_path):
    data = make_data(make_buffer(""), make_buffer("one"))
    path = tmp_path / "trace.dat"
    content = written(data, version=6)
    option = content.index(struct.pack("<HI", 3, 12)) + 6
    top = struct.pack("<Q", content.index(b"flyrecord\0"))
    path.write_bytes(content[:option] + top + bytes(4) + content[option + 12 :])
    back = read_trace_dat(hold_file(path))

    assert [contents(buffer) for buffer in back.buffers] == [contents(data.buffers[0])]


def test_the_sink_writes_the_whole_recording(tmp_path):
    stream = io.BytesIO()
    TraceDatSink(stream, version=6, compression="none").begin(make_data())

    assert stream.getvalue() == written(make_data(), version=6)


def test_a_recording_without_tables_symbols_or_events_is_written_and_read(tmp_path, variant):
    empty = replace(make_buffer(), cpus={}, stats={})
    data = make_data(
        empty, cmdlines={}, printk_formats={}, symbols=None, kallsyms_text="", printk_text="",
        uname="",
    )  # fmt: skip
    back = again(replace(data, formats={}), tmp_path / "trace.dat", **variant)

    assert back.formats == {}
    assert back.symbols is None
    assert [contents(buffer) for buffer in back.buffers] == [{}]
    assert back.cpu_count == 4
