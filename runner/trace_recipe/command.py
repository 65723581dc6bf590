"""Command: the process that a recipe runs, forked early and held until the recording has begun.

It is held because its pid belongs into the plan, and because a child forked after `event-fork` is
on would inherit the runner's exclusion from the trace.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

from trace_recipe.errors import Problem, RecipeError, errno_text
from trace_recipe.processes import family, process, running, send

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trace_recipe.invoker import Invoker
    from trace_recipe.processes import Process
    from trace_recipe.recipe.parts.session import Run

__all__ = ["MARK", "HeldCommand"]

MARK = "TRACE_RECIPE_RUN"
"""The variable by which everything that a command has started is known: the id of the run."""

_GRACE_S = 3.0
_STEP_S = 0.02
_NOT_STARTED = 127
_STANDARD_OUTPUT = 1
# What a program needs to behave as in its user's terminal; all else of root's stays behind.
_KEPT_VARIABLES = ("LANG", "LC_ALL", "LC_CTYPE", "TERM", "TZ", "COLORTERM", "DISPLAY")
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class HeldCommand:
    """A forked child that waits for `release`, then becomes the recipe's command."""

    def __init__(
        self,
        run: Run,
        invoker: Invoker,
        environment: Mapping[str, str],
        *,
        run_id: str,
        stdout: int = _STANDARD_OUTPUT,
    ) -> None:
        """Fork it; `stdout` is the descriptor that becomes its standard output."""
        self._gate_read, self._gate_write = os.pipe2(os.O_CLOEXEC)
        self._error_read, self._error_write = os.pipe2(os.O_CLOEXEC)
        # Ignored by some parents; then the kernel would keep no exit status.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.exit_status: int | None = None
        self._words = run.command
        self._run_id = run_id
        self._stdout = stdout
        self.pid = os.fork()
        if self.pid == 0:
            self._become(run, invoker, environment)
        self.end_fd = _pidfd(self.pid)
        """Readable once it has ended; None when the kernel has no pidfd_open(2)."""
        os.close(self._gate_read)
        os.close(self._error_write)

    def release(self) -> None:
        """Let it run; raises RecipeError when it cannot be started."""
        with contextlib.suppress(BrokenPipeError):  # somebody has killed it while it was held
            os.write(self._gate_write, b"go")
        os.close(self._gate_write)
        self._gate_write = -1
        with os.fdopen(self._error_read, "rb") as stream:
            answer = stream.read()
        if answer:
            self.wait()
            what, _, number = answer.decode().partition(":")
            raise RecipeError(
                Problem(
                    f"cannot {what} '{self._words[0]}': {errno_text(int(number))}",
                    why="a command is started directly, never through a shell",
                    fix="name a program in PATH or by its whole path",
                    key="run.command",
                )
            )

    def poll(self) -> int | None:
        """Return the exit status once it has ended (128 + signal when killed), else None."""
        if self.exit_status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._ended(status)
        return self.exit_status

    def wait(self) -> int:
        """Wait for its end."""
        if self.exit_status is None:
            self._ended(os.waitpid(self.pid, 0)[1])
        assert self.exit_status is not None
        return self.exit_status

    def end(self) -> None:
        """Terminate what it is and has started, unless it was seen to end; SIGKILL after a while.

        It stays in the terminal's process group, so that an interactive program works. What it
        left in the background before it ended by itself is meant to stay.
        """
        if self._gate_write >= 0:  # never released: it must not run at all
            os.close(self._gate_write)
            self._gate_write = -1
            os.close(self._error_read)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait()
            return
        if self.exit_status is not None:
            return
        mark = f"{MARK}={self._run_id}".encode()
        own = process(self.pid)
        left: set[Process] = {own} if own else set()
        # A last time, for what was started while the others were ended.
        for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL):
            left = family(left, mark)
            send(number, left)
            send(signal.SIGCONT, left)  # a stopped process takes no SIGTERM
            left = self._wait_for(left)
        self.poll()

    def _wait_for(self, processes: set[Process]) -> set[Process]:
        """Return those that still run after three seconds."""
        ends_at = time.monotonic() + _GRACE_S
        while True:
            self.poll()
            left = running(processes)
            if not left or time.monotonic() >= ends_at:
                return left
            time.sleep(_STEP_S)

    def _ended(self, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        self.exit_status = code if code >= 0 else 128 - code
        if self.end_fd is not None:
            os.close(self.end_fd)
            self.end_fd = None

    def _become(self, run: Run, invoker: Invoker, environment: Mapping[str, str]) -> None:
        """Run in the child only; never returns."""
        what = "prepare"
        try:
            os.close(self._gate_write)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup holds for it too
                    signal.signal(number, signal.SIG_DFL)
            if not os.read(self._gate_read, 2):
                os._exit(_NOT_STARTED)
            variables = dict(environment)
            if run.as_user == "invoking" and invoker.is_other:
                os.setgroups(invoker.groups)
                os.setresgid(invoker.gid, invoker.gid, invoker.gid)
                os.setresuid(invoker.uid, invoker.uid, invoker.uid)
                kept = {name: environment[name] for name in _KEPT_VARIABLES if name in environment}
                variables = {
                    **kept,
                    "HOME": invoker.home,
                    "USER": invoker.name,
                    "LOGNAME": invoker.name,
                    "PATH": environment.get("PATH", _DEFAULT_PATH),
                }
            variables.update({**run.environment, MARK: self._run_id})
            if self._stdout != _STANDARD_OUTPUT:
                os.dup2(self._stdout, _STANDARD_OUTPUT)
            if run.directory is not None:
                what = "enter the directory for"
                os.chdir(run.directory)
            what = "run"
            os.execvpe(run.command[0], list(run.command), variables)  # noqa: S606 - a list, no shell
        except OSError as error:
            os.write(self._error_write, f"{what}:{error.errno}".encode())
        finally:
            os._exit(_NOT_STARTED)


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError:  # Linux before 5.3, or a sandbox: who waits looks from time to time
        return None
