"""Boot a kernel and run something of the project in it, by hand.

    python -m tests.vm run --kernel all-tracers -- tests/vm/inside -k graph -x
    python -m tests.vm run --kernel debian-6.1 --shell 'cat /sys/kernel/tracing/available_tracers'
    python -m tests.vm run --kernel all                       (what test_vm.py runs, on all three)
    python -m tests.vm kernels                                (find or download them)

A kernel is `debian-6.1`, `debian-6.12`, `all-tracers`, `all`, or the path of an image. The shell is
busybox's, in /project (a copy of the working tree as it is now), with `python` the one that runs
this and `trace-cmd` beside it. Exit status: that of the command; 125 when the machine failed.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.vm import kernels
from tests.vm.inner import inner_tests
from tests.vm.kernels import KERNELS, KernelAbsentError, find_kernel
from tests.vm.machine import MachineError, run_pytest, run_shell


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.vm",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("kernels", help="find or download every kernel")
    run = commands.add_parser("run", help="boot a kernel and run pytest or a shell command")
    run.add_argument(
        "--kernel", default="all", help="debian-6.1, debian-6.12, all-tracers, all, PATH"
    )
    run.add_argument("--shell", help="a shell command instead of pytest")
    run.add_argument("--append", default="", help="words for the kernel's command line")
    run.add_argument("--timeout", type=float, default=300, help="seconds for boot and run")
    run.add_argument("--console", action="store_true", help="print the kernel's console afterwards")
    run.add_argument("pytest_arguments", nargs="*", metavar="-- PYTEST ARGUMENTS")
    arguments = parser.parse_args()
    if arguments.command == "kernels":
        return kernels.main()
    names = KERNELS if arguments.kernel == "all" else (arguments.kernel,)
    return max(_run(name, arguments) for name in names)


def _run(name: str, arguments: argparse.Namespace) -> int:
    started = time.monotonic()
    try:
        kernel = find_kernel(name) if name in KERNELS else Path(name)
        options = {"timeout_s": arguments.timeout, "append": arguments.append, "show": _show}
        if arguments.shell:
            outcome = run_shell(kernel, arguments.shell, **options)
        else:
            outcome = run_pytest(kernel, arguments.pytest_arguments or inner_tests(name), **options)
    except (KernelAbsentError, MachineError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 125
    if arguments.console:
        print(outcome.console)
    seconds = time.monotonic() - started
    print(f"[{name}: exit status {outcome.status}, {seconds:.0f} s]", file=sys.stderr)
    return outcome.status


def _show(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
