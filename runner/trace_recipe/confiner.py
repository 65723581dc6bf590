"""Confiner: runs work in a child process that has no right of root's, for what others wrote.

The child is `nobody`, also when the invoking user is root: without capabilities uid 0 still owns
/etc/passwd. What it works on it gets as open descriptors.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import signal
import traceback
from typing import TYPE_CHECKING

from trace_recipe.channel import BrokenChannelError, Channel
from trace_recipe.errors import OutputError, Problem, errno_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import NoReturn

__all__ = ["Confined", "drop_rights"]

_NOBODY = 65534  # the overflow uid, which owns nothing (kernel/sys.c)
# include/uapi/linux/prctl.h
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP = 1, 4, 24
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
_CAPABILITY_VERSION_3 = 0x20080522  # include/uapi/linux/capability.h
_CAPABILITIES = 64
_STANDARD = (0, 1, 2)


class Confined:
    """A forked child that runs `work` on its end of a channel, after it has given up its rights.

    It has the descriptors in `keep` and no other, not even the terminal's; signals of the terminal
    are not for it. It ends with its parent. Raises OutputError when it cannot be confined.
    """

    def __init__(self, work: Callable[[Channel], None], *, keep: Iterable[int] = ()) -> None:
        self.channel, theirs = Channel.pair()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            self.channel.close()
            _become(work, theirs, {*keep, theirs.fileno()}, parent)
        theirs.close()
        try:
            answer, _ = self.channel.receive()
        except BrokenChannelError:
            answer = {"refused": "it ended"}
        if "refused" in answer:
            self.end()
            raise OutputError(
                Problem(
                    f"no process without root's rights can be made: {answer['refused']}",
                    why="what was recorded is decoded and written by such a process alone",
                    fix="see whether a container or a security module forbids setuid or prctl",
                )
            )

    def end(self) -> int:
        """Kill it if it still runs; return its exit status, negative for a signal."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self.pid = 0
            self.channel.close()
        return self._status


def drop_rights() -> None:
    """Give up every right of root's for good; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(_CAPABILITIES):
        # Refused without CAP_SETPCAP, and EINVAL behind the last capability of this kernel.
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    if os.geteuid() == 0:
        try:
            os.setgroups(())
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        except OSError as error:
            # A user namespace that maps root alone, or a root that may not change its user: there
            # is nobody else to be, and this root is worth no more than its capabilities.
            if error.errno not in {errno.EPERM, errno.EINVAL}:
                raise
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: twice 32 bits each
    if libc.capset(ctypes.byref(header), ctypes.byref(none)):
        raise _last_error()
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise _last_error()
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # else other processes of this user could look into it


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _allow_many_files() -> None:
    """Raise the soft limit, which is low for the sake of programs that use select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _become(
    work: Callable[[Channel], None], channel: Channel, keep: set[int], parent: int
) -> NoReturn:
    """Run in the child only."""
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        _close_all_but(keep)
        _allow_many_files()
        try:
            drop_rights()
        except OSError as error:
            channel.send({"refused": errno_text(error.errno or 0)})
            os._exit(status)
        # After the change of user, which resets it.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == parent:
            channel.send({"confined": True})
            channel.wait_forever()
            work(channel)
            status = 0
    except BrokenChannelError:
        status = 0  # the parent has heard enough
    except BaseException:  # noqa: BLE001 - whatever it is, the parent tells it
        with contextlib.suppress(BrokenChannelError):
            channel.send({"crashed": traceback.format_exc()})
    finally:
        os._exit(status)


def _close_all_but(keep: set[int]) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in _STANDARD:
        if number not in keep:
            os.dup2(nowhere, number)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers, not paths
        number = int(name)
        if number not in _STANDARD and number not in keep:
            with contextlib.suppress(OSError):  # the directory's own
                os.close(number)
