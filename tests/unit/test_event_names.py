"""Event names: braces, globs, `!`, their offsets, and how they match."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trace_recipe.event_names import EventNameError, Glob, parse_event_names

EVENTS = (
    "irq:irq_handler_entry",
    "irq:softirq_entry",
    "sched:sched_switch",
    "sched:sched_wakeup",
    "syscalls:sys_enter_mount",
    "syscalls:sys_exit_mount",
    "xdp:mem_connect",
)


def expanded(text):
    return [one.text for one in parse_event_names(text).expansions]


def test_a_plain_name_stands_for_itself():
    names = parse_event_names("sched:sched_switch")
    [one] = names.expansions

    assert not names.is_negated
    assert (one.system, one.name, one.offset, one.name_offset) == ("sched", "sched_switch", 0, 6)
    assert one.among(EVENTS) == ["sched:sched_switch"]


def test_a_leading_exclamation_mark_takes_out():
    names = parse_event_names("!sched:sched_*")

    assert names.is_negated
    assert [one.text for one in names.expansions] == ["sched:sched_*"]
    assert names.expansions[0].offset == 1


def test_braces_multiply_and_nest():
    assert expanded("a:{b,c}_{d,e}") == ["a:b_d", "a:b_e", "a:c_d", "a:c_e"]
    assert expanded("a:{b,c{d,e}}") == ["a:b", "a:cd", "a:ce"]
    assert expanded("{a,b}:x") == ["a:x", "b:x"]
    assert expanded("a:x{,_y}") == ["a:x", "a:x_y"]
    assert expanded("a:{b,b}") == ["a:b"]


def test_an_expansion_points_to_its_last_alternative():
    text = "syscalls:sys_{enter,exit}_{mount,umount}"
    offsets = {one.text: text[one.offset :] for one in parse_event_names(text).expansions}

    assert offsets["syscalls:sys_enter_umount"] == "umount}"
    assert offsets["syscalls:sys_exit_mount"] == "mount,umount}"


@pytest.mark.parametrize(
    ("text", "matched"),
    [
        ("sched:*", ["sched:sched_switch", "sched:sched_wakeup"]),
        ("*:*", list(EVENTS)),
        ("*:sys_enter_*", ["syscalls:sys_enter_mount"]),
        ("*irq:*entry", ["irq:irq_handler_entry", "irq:softirq_entry"]),
        ("sched:sched_[sw]*", ["sched:sched_switch", "sched:sched_wakeup"]),
        ("sched:sched_[!s]*", ["sched:sched_wakeup"]),
        ("sched:sched_[a-s]*", ["sched:sched_switch"]),
        ("xd?:mem_connect", ["xdp:mem_connect"]),
        ("sched:switch", []),
        ("sched:SCHED_*", []),
        ("s*switch:*", []),
        ("sche:*", []),
    ],
)
def test_globs_match_whole_names_and_do_not_cross_the_colon(text, matched):
    [one] = parse_event_names(text).expansions

    assert one.among(EVENTS) == matched


@pytest.mark.parametrize(
    ("text", "offset", "what", "fix"),
    [
        ("sched_switch", 0, "'sched_switch' has no system", "SYSTEM:sched_switch"),
        ("a:{b,c}:d", 7, "second ':'", ""),
        ("sched/sched_switch", 5, "'/'", "'sched:sched_switch'"),
        ("sched.sched_switch", 5, "'.'", "'sched:sched_switch'"),
        ("sched:sched switch", 11, "blank", "one event per entry"),
        ("a:b,c:d", 3, "outside of braces", "{a,b}"),
        ("a:{b,c", 2, "'{' without", ""),
        ("a:b}", 3, "'}' without", ""),
        ("a:{b,{c}", 2, "'{' without", ""),
        (":b", 0, "no system", "*:b"),
        ("a:", 1, "no event", "a:*"),
        ("a:b!c", 3, "'!' inside", "put it first"),
        ("!!a:b", 1, "'!' inside", ""),
        ("a:b[c", 3, "'[' without", ""),
        ("a:é", 2, "character 'é'", "ASCII"),
        ("a:$b", 2, "character '$'", ""),
        ("a:" + "x" * 1100, 1024, "1102 characters", ""),
        ("a:" + "{a,b,c,d,e,f,g,h,i,j}" * 4, 0, "more than 1000 names", "glob"),
        ("a:" + "{}" * 40, 2, "more than 32 braces", ""),
        ("a:" + "{" * 12 + "b" + "}" * 12, 10, "inside each other", ""),
    ],
)
def test_a_wrong_name_is_refused_where_it_is_wrong(text, offset, what, fix):
    with pytest.raises(EventNameError) as caught:
        parse_event_names(text)

    assert caught.value.offset == offset
    assert what in caught.value.problem.what
    assert fix in caught.value.problem.fix


def test_a_thousand_names_are_the_most():
    assert len(expanded("a:" + "{a,b,c,d,e,f,g,h,i,j}" * 3)) == 1000


@given(st.text(alphabet="ab:*?[]{},!", max_size=40))
def test_any_text_is_parsed_or_refused_inside_its_bounds(text):
    try:
        offsets = [one.offset for one in parse_event_names(text).expansions]
    except EventNameError as error:
        offsets = [error.offset]

    assert offsets
    assert all(0 <= offset <= len(text) for offset in offsets)


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("vfs_*", ["vfs_", "vfs_read"], ["vfs", "xvfs_read", "VFS_read"]),
        ("*lock*", ["lock", "spin_lock_bh"], ["loc", "l*ck"]),
        ("sys_?nlink", ["sys_unlink"], ["sys_nlink", "sys_uunlink"]),
        ("v[a-f]s", ["vfs", "vas"], ["vgs", "v-s", "vs"]),
        ("v[!a-f]s", ["vgs", "v-s"], ["vfs", "vs"]),
        ("v[]x]s", ["v]s", "vxs"], ["v]x]s"]),
        ("v[fs", ["v[fs"], ["vfs"]),
        ("v.s+", ["v.s+"], ["vfs", "vfss"]),
        ("vfs_read", ["vfs_read"], ["vfs_read\n", "vfs_reads"]),
    ],
)
def test_a_glob_matches_whole_names(pattern, matching, others):
    glob = Glob(pattern)

    assert glob.among(matching + others) == matching
    assert [name for name in matching + others if glob.matches(name)] == matching


def test_no_glob_takes_exponential_time():
    started = time.perf_counter()

    assert not Glob("*a" * 60 + "b").matches("a" * 1000)

    assert time.perf_counter() - started < 5


def test_a_glob_without_wildcards_is_plain():
    assert Glob("vfs_read").is_plain
    assert not Glob("vfs_[rw]*").is_plain
    assert Glob("vfs_read").among(["vfs_read", "vfs_readv"]) == ["vfs_read"]
    assert Glob("vfs_re*").among(["vfs_read", "vfs_write", "vfs_readv"]) == [
        "vfs_read",
        "vfs_readv",
    ]
