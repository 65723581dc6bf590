"""Channel: messages and open descriptors between two processes of ours, over a socket pair."""

from __future__ import annotations

import json
import select
import socket
import struct
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MAX_DESCRIPTORS", "BrokenChannelError", "Channel"]

MAX_DESCRIPTORS = 250
"""So many go with one message (SCM_MAX_FD of include/net/scm.h is 253)."""

_HEAD = struct.Struct("<II")  # bytes of the message, descriptors beside it
_INT = struct.Struct("i")
_MAX_BYTES = 64 << 20
_PATIENCE_S = 30.0


class BrokenChannelError(Exception):
    """The other process has ended, or sends what no process of ours would."""


class Channel:
    """One end; what comes in is a JSON object, and nothing in it is trusted here."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._socket.settimeout(_PATIENCE_S)

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Return two connected ends."""
        one, other = socket.socketpair()
        return cls(one), cls(other)

    def fileno(self) -> int:
        """Return the descriptor of this end."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close this end; the other one reads its end."""
        self._socket.close()

    def wait_forever(self) -> None:
        """Let `receive` wait without limit from now on."""
        self._socket.settimeout(None)

    def poll(self, timeout_s: float = 0.0) -> bool:
        """Whether a message, or the end, is there within that time."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        return bool(poller.poll(timeout_s * 1000))

    def send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send an object and duplicates of up to MAX_DESCRIPTORS descriptors.

        Raises BrokenChannelError.
        """
        data = json.dumps(message).encode()
        head = _HEAD.pack(len(data), len(descriptors))
        try:
            if descriptors:
                socket.send_fds(self._socket, [head], descriptors)
            else:
                self._socket.sendall(head)
            self._socket.sendall(data)
        except OSError as error:
            raise BrokenChannelError(str(error)) from error

    def receive(self, *, with_descriptors: bool = False) -> tuple[dict[str, Any], list[int]]:
        """Return the next object and its descriptors; those that are not wanted are closed.

        Raises BrokenChannelError.
        """
        descriptors: list[int] = []
        try:
            head = self._head_with(descriptors) if with_descriptors else self._bytes(_HEAD.size)
            size, count = _HEAD.unpack(head)
            if size > _MAX_BYTES or (with_descriptors and count != len(descriptors)):
                raise BrokenChannelError(f"a message of {size} bytes and {count} descriptors")
            message = json.loads(self._bytes(size))
        except (OSError, ValueError, struct.error) as error:
            raise BrokenChannelError(str(error)) from error
        if not isinstance(message, dict):
            raise BrokenChannelError("a message that is no object")
        return message, descriptors

    def _head_with(self, descriptors: list[int]) -> bytes:
        # Not socket.recv_fds: it drops its flags, and a command that is started would inherit them.
        room = socket.CMSG_SPACE(MAX_DESCRIPTORS * _INT.size)
        head, beside, _, _ = self._socket.recvmsg(_HEAD.size, room, socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in beside:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                whole = data[: len(data) // _INT.size * _INT.size]
                descriptors += (number for (number,) in _INT.iter_unpack(whole))
        return head + self._bytes(_HEAD.size - len(head)) if head else head

    def _bytes(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._socket.recv(min(size - len(data), 1 << 20))
            if not part:
                raise BrokenChannelError("the other end is closed")
            data += part
        return bytes(data)
