"""`trace-recipe` and `python -m trace_recipe`."""

import gc
import signal

_GC_THRESHOLD = 50_000


def main() -> None:
    """Run the command line.

    Until a command takes care of signals itself Ctrl-C just ends the process: nothing is changed
    yet, and importing takes long enough to be interrupted.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Nearly all that importing allocates stays: looking through it for garbage every 700 objects
    # takes more than a tenth of the time.
    gc.set_threshold(_GC_THRESHOLD)
    from trace_recipe.cli import main as run_command_line  # noqa: PLC0415 - after the signal

    run_command_line()


if __name__ == "__main__":
    main()
