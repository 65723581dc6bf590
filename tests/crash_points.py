"""Kills a forked process at its n-th system call that changes something, or refuses it the call.

The calls are those of the `os` module, through which the executor, the restorer and the journal do
everything they do. A call that changes nothing (a read, a plain open) is no place to stop at: what
a killed process leaves is the same before and after it.
"""

from __future__ import annotations

import errno
import os
import signal
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Stop", "boundary", "count_points", "refuse_at", "stop_at"]

# These take effect when they are closed, with whatever was written so far.
_COMMITTED_AT_CLOSE = (
    "set_ftrace_filter",
    "set_ftrace_notrace",
    "set_graph_function",
    "set_graph_notrace",
    "stack_trace_filter",
    "free_buffer",
)
_PLAIN = ("mkdir", "rmdir", "unlink", "rename", "replace", "link", "ftruncate")
_KEPT = 3  # standard input, output and error are not what is swept


@dataclass(frozen=True, slots=True)
class Stop:
    """Where a process was stopped: `when` is before, after, torn (half of a line of the journal is
    written), or refused (the call fails, and the process goes on).
    """

    number: int
    when: str
    call: str

    def __str__(self) -> str:
        return f"point {self.number}, {self.when} {self.call}"


def stop_at(number: int, when: str, action: Callable[[], object]) -> Stop | None:
    """Run `action` in a child that is killed at its `number`-th boundary; None: it ran to its end.

    Raises RuntimeError when the child ended in any other way.
    """
    status, said = _run_in_child(_Counter(number, when), action)
    if status == -signal.SIGKILL and said:
        return Stop(number, when, said)
    if status:
        raise RuntimeError(f"the child ended with status {status} instead of at point {number}")
    return None


def refuse_at(number: int, action: Callable[[], object]) -> Stop | None:
    """Run `action` to its end in a child whose `number`-th boundary fails; None: it has fewer."""
    status, said = _run_in_child(_Counter(number, "refused"), action)
    if status:
        raise RuntimeError(f"the child ended with status {status} after point {number}")
    return Stop(number, "refused", said) if said else None


def count_points(action: Callable[[], object]) -> int:
    """Run `action` to its end in a child; return how many boundaries it has."""
    status, said = _run_in_child(_Counter(0, "counted"), action)
    if status:
        raise RuntimeError(f"the child ended with status {status}")
    return int(said)


def _run_in_child(counter: _Counter, action: Callable[[], object]) -> tuple[int, str]:
    """Return the child's status, negative for a signal, and what the counter said in the end."""
    reader, counter.report = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reader)
            counter.install()
            action()
            counter.end()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(counter.report)
    with os.fdopen(reader, errors="replace") as stream:
        said = stream.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


def boundary(call: str, action: Callable[[], Any]) -> Any:
    """Do what a simulated kernel does in one call; counted in a child of `stop_at`."""
    return action() if _counter is None else _counter.pass_by(call, action)


_counter: _Counter | None = None


class _Counter:
    """Stands before the functions of `os` in the process that is to be killed."""

    def __init__(self, number: int, when: str) -> None:
        self.number = number
        self.when = when
        self.count = 0
        self.report = -1
        self.is_inside = False
        self.paths: dict[int, str] = {}
        self.real = {name: getattr(os, name) for name in ("open", "write", "close", *_PLAIN)}

    def install(self) -> None:
        global _counter  # noqa: PLW0603 - the child is this one run
        _counter = self
        os.open, os.write, os.close = self._open, self._write, self._close
        for name in _PLAIN:
            setattr(os, name, self._counted(name))

    def pass_by(
        self, call: str, action: Callable[[], Any], refusal: int | None = errno.EBUSY
    ) -> Any:
        if self.is_inside:  # what a simulated kernel does within one of its calls
            return action()
        self.count += 1
        if self.count == self.number and self.when == "before":
            self._stop(call)
        if self.count == self.number and self.when == "refused" and refusal:
            self.say(call)
            raise OSError(refusal, "refused by the sweep")
        self.is_inside = True
        try:
            return action()
        finally:
            self.is_inside = False
            if self.count == self.number and self.when != "refused":
                self._stop(call)

    def say(self, text: str) -> None:
        self.real["write"](self.report, text.encode("utf-8", "surrogateescape"))

    def end(self) -> None:
        if self.when == "counted":
            self.say(str(self.count))

    def _stop(self, call: str) -> None:
        self.say(call)
        os.kill(os.getpid(), signal.SIGKILL)

    def _counted(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            words = " ".join(map(str, arguments))
            return self.pass_by(f"{name} {words}", lambda: self.real[name](*arguments, **options))

        return call

    def _open(self, path: Any, flags: int, *arguments: Any, **options: Any) -> Any:
        def action() -> int:
            fd: int = self.real["open"](path, flags, *arguments, **options)
            if flags & (os.O_WRONLY | os.O_RDWR):
                self.paths[fd] = str(path)
            return fd

        if not flags & (os.O_TRUNC | os.O_CREAT):
            return action()
        return self.pass_by(f"open {path}", action)

    def _write(self, fd: int, data: Any) -> Any:
        if fd < _KEPT:
            return self.real["write"](fd, data)
        path = self.paths.get(fd, str(fd))
        is_file = not path.startswith("/sys/")
        call = f"{'append' if is_file else 'write'} {path} {bytes(data)[:60]!r}"
        if is_file and self.when == "torn" and self.count + 1 == self.number:
            self.real["write"](fd, data[: len(data) // 2])
            self._stop(call)
        refusal = errno.ENOSPC if is_file else errno.EBUSY
        return self.pass_by(call, lambda: self.real["write"](fd, data), refusal)

    def _close(self, fd: int) -> None:
        path = self.paths.pop(fd, "")
        if path.endswith(_COMMITTED_AT_CLOSE):
            self.pass_by(f"close {path}", lambda: self.real["close"](fd), refusal=None)
        else:
            self.real["close"](fd)
