"""Snapshots of every readable control file of the real tracefs, to compare before and after.

Read without the project's own code: what is judged here is not its own judge.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

# Changing by themselves, consuming, or documentation: nothing that a run could put back.
VOLATILE = frozenset({
    "README", "buffer_meta", "dyn_ftrace_total_info", "enabled_functions", "eval_map",
    "format", "free_buffer", "header_event", "header_page", "hist", "hist_debug", "id",
    "inject", "kprobe_profile", "printk_formats", "saved_cmdlines", "saved_tgids",
    "snapshot_raw", "stack_trace", "stats", "touched_functions", "trace", "trace_marker",
    "trace_marker_raw", "trace_pipe", "trace_pipe_raw", "trace_stat", "uprobe_profile",
})  # fmt: skip
OURS = re.compile(r"trace-recipe-|user-markers|tr-test|sweep-|messy-")
_READ_BYTES = 1 << 16
_WHOLE_BYTES = 1 << 11  # a shorter answer is all there is; a longer one may go on


def snapshot(
    mount: str = "/sys/kernel/tracing", *, instances: re.Pattern[str] = OURS
) -> dict[str, str]:
    """Return {file: text or errno} of the top level and of the instances with such names.

    Somebody else works on this machine too; their instances come and go.
    """
    found = dict(_readings(Path(mount), ""))
    for name in os.listdir(f"{mount}/instances"):
        if instances.match(name):
            found[f"instances/{name}"] = "instance"
            found.update(_readings(Path(mount, "instances", name), f"instances/{name}/"))
    return found


def differences(before: dict[str, str], after: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Return {file: (before, after)} of what is not the same."""
    return {
        file: (before.get(file, "(absent)"), after.get(file, "(absent)"))
        for file in sorted(before.keys() | after.keys())
        if before.get(file) != after.get(file)
    }


def is_recording(instance: Path) -> bool:
    """Whether an instance is there, has events enabled and is turned on."""
    try:
        on = (instance / "tracing_on").read_text().strip() == "1"
        return on and bool((instance / "set_event").read_text())
    except OSError:  # it has just been made, or is being removed
        return False


def _readings(directory: Path, prefix: str) -> Iterator[tuple[str, str]]:
    # Thousands of files, for every point of a crash sweep: nothing slower than scandir will do.
    with os.scandir(directory) as entries:
        for entry in entries:
            name = entry.name
            if name in VOLATILE or name.startswith("available_"):
                continue
            if not entry.is_dir():
                yield f"{prefix}{name}", _reading(entry.path)
            elif prefix or name != "instances":
                yield from _readings(Path(entry.path), f"{prefix}{name}/")


def _reading(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.read(fd, _READ_BYTES)
            if len(data) >= _WHOLE_BYTES:
                while chunk := os.read(fd, _READ_BYTES):
                    data += chunk
        finally:
            os.close(fd)
    except OSError as error:
        return f"errno {error.errno}"
    return data.decode("utf-8", "surrogateescape")
