"""The command line on a kernel whose CPU 0 cannot be read any more after some events.

    python -m tests.faulty run recipe.yaml

A closed terminal stands in for the CPU's trace_pipe_raw from then on: it answers with EIO.
"""

import os
import sys
import threading
import time

from trace_recipe.__main__ import main
from trace_recipe.recorder import parse_stats
from trace_recipe.tracefs import Tracefs

WORKS_FOR_EVENTS = 10_000
_open_raw = Tracefs.open_raw


def _faulty(self: Tracefs, cpu: int) -> int:
    fd = _open_raw(self, cpu)
    if cpu == 0:
        threading.Thread(target=_break, args=(self, fd), daemon=True).start()
    return fd


def _break(instance: Tracefs, fd: int) -> None:
    while parse_stats(0, instance.read("per_cpu/cpu0/stats")).read_events < WORKS_FOR_EVENTS:
        time.sleep(0.01)
    master, slave = os.openpty()
    os.close(slave)
    os.set_blocking(master, False)
    os.dup2(master, fd, inheritable=False)
    os.close(master)


if __name__ == "__main__":
    Tracefs.open_raw = _faulty  # type: ignore[method-assign]
    sys.argv[0] = "trace-recipe"
    main()
