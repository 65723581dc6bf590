"""A load that makes many events of every common kind, and the recipe that records it alone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

__all__ = ["mixed_command", "mixed_recipe"]

# Two processes play ping-pong through pipes, write small files, sleep, run programs, and are
# interrupted by a timer. The last line tells the CPU time of all of it to who asks for it.
LOAD = """
import os, signal, subprocess, sys, time
turns, directory = int(sys.argv[1]), sys.argv[2]
signal.signal(signal.SIGALRM, lambda *_: None)
ping, pong = os.pipe(), os.pipe()
child = os.fork()
receive, send = (pong[0], ping[1]) if child else (ping[0], pong[1])
path = os.path.join(directory, f"file{os.getpid()}")
signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
for turn in range(turns):
    if child:
        os.write(send, b"x")
    if os.read(receive, 1) != b"x":
        break
    if not child:
        os.write(send, b"x")
    if turn % 20 == 0:
        file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        os.write(file, b"hello")
        os.lseek(file, -2, os.SEEK_END)
        os.read(file, 5)
        os.close(file)
        os.unlink(path)
    if turn % 50 == 0:
        os.path.exists(path)
        time.sleep(1e-5)
    if turn % 3000 == 0:
        subprocess.run(["/bin/true"], check=True)
signal.setitimer(signal.ITIMER_REAL, 0)
if child:
    os.waitpid(child, 0)
    with open(os.path.join(directory, "load_cpu_s"), "w") as file:
        file.write(str(sum(os.times()[:4])))
"""


def mixed_command(*, turns: int, directory: Path) -> list[str]:
    """Return the command of the load; it writes its CPU seconds to `directory`/load_cpu_s."""
    return [sys.executable, "-c", LOAD, str(turns), str(directory)]


def mixed_recipe(
    systems: Collection[str], *, turns: int, directory: Path, buffer_size: str = "32M"
) -> dict[str, Any]:
    """Return a recipe that records all events of `systems` of the load into trace.dat."""
    return {
        "recipe": "v1",
        "name": "million",
        "events": [f"{system}:*" for system in sorted(systems)],
        "scope": {"pids": ["command"], "follow": True},
        "buffer": {"size": buffer_size},
        "clock": "mono",
        "loss": {"max": 0, "action": "fail"},
        "run": {"command": mixed_command(turns=turns, directory=directory), "timeout": "240s"},
        "outputs": [{"trace-dat": "trace.dat"}],
    }
