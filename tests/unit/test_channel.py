"""Messages between two processes, one of which may lie."""

import os
import socket
import struct

import pytest

from trace_recipe.channel import MAX_DESCRIPTORS, BrokenChannelError, Channel


@pytest.fixture
def ends():
    one, other = Channel.pair()
    yield one, other
    one.close()
    other.close()


def test_messages_arrive_whole_and_in_order(ends):
    for number in range(3):
        ends[0].send({"number": number, "text": "ä" * 1000})

    assert [ends[1].receive()[0]["number"] for _ in range(3)] == [0, 1, 2]


def test_descriptors_arrive_with_their_message(ends, tmp_path):
    opened = [
        os.open(tmp_path / f"{one}", os.O_CREAT | os.O_RDWR) for one in range(MAX_DESCRIPTORS)
    ]
    ends[0].send({"files": 1}, opened)
    message, received = ends[1].receive(with_descriptors=True)

    names = [os.readlink(f"/proc/self/fd/{fd}") for fd in received]
    for fd in (*opened, *received):
        assert fd in opened or not os.get_inheritable(fd)
        os.close(fd)
    assert message == {"files": 1}
    assert names == [str(tmp_path / f"{one}") for one in range(MAX_DESCRIPTORS)]


def test_descriptors_that_nobody_asked_for_are_closed(ends, tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    with open(tmp_path / "file", "w") as file:
        ends[0].send({"a": 1}, [file.fileno()])
    message, received = ends[1].receive()

    assert (message, received) == ({"a": 1}, [])
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_message_can_be_waited_for(ends):
    assert not ends[1].poll(0.01)
    ends[0].send({})
    assert ends[1].poll(1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01\x02",
        struct.pack("<II", 5, 0) + b"[]",
        struct.pack("<II", 2, 0) + b"[]",
        struct.pack("<II", 4, 0) + b"nope",
        struct.pack("<II", 0xFFFFFFFF, 0),
        struct.pack("<II", 1, 0) + b"\xff",
    ],
)
def test_what_is_no_message_is_a_broken_channel(data):
    mine, theirs = socket.socketpair()
    channel = Channel(mine)
    theirs.sendall(data)
    theirs.close()

    with pytest.raises(BrokenChannelError):
        channel.receive()
    channel.close()


def test_announced_descriptors_that_do_not_come_are_a_broken_channel():
    mine, theirs = socket.socketpair()
    channel = Channel(mine)
    theirs.sendall(struct.pack("<II", 2, 3) + b"{}")

    with pytest.raises(BrokenChannelError):
        channel.receive(with_descriptors=True)
    channel.close()
    theirs.close()


def test_sending_to_nobody_is_a_broken_channel(ends):
    ends[1].close()

    with pytest.raises(BrokenChannelError):
        ends[0].send({})
