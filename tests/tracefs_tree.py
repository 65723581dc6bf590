"""Snapshots of every readable control file of the real tracefs, to compare before and after."""

import re
from pathlib import Path

from trace_recipe.errors import TracefsError
from trace_recipe.tracefs import Tracefs

# Changing by themselves, consuming, or documentation: nothing that a run could put back.
VOLATILE = re.compile(
    r"(^|/)(trace|trace_pipe|trace_pipe_raw|snapshot_raw|stats|saved_cmdlines|saved_tgids|README"
    r"|printk_formats|eval_map|available_\w+|enabled_functions|touched_functions|uprobe_profile"
    r"|kprobe_profile|dyn_ftrace_total_info|free_buffer|trace_marker|trace_marker_raw|hist"
    r"|format|id|header_page|header_event|stack_trace|function\d+|buffer_meta|hist_debug|inject"
    r"|tracing_max_latency|trace_stat/.*)$"
)
OURS = re.compile(r"trace-recipe-|user-markers|tr-test|sweep-|messy-")


def snapshot(mount: str = "/sys/kernel/tracing") -> dict[str, str]:
    """Return {file: text or errno} of the top level and of every instance."""
    tree = Tracefs(Path(mount))
    found = {}
    roots = {"": tree}
    for name in tree.list("instances"):
        if not OURS.match(name):  # somebody else works on this machine too; theirs come and go
            continue
        roots[f"instances/{name}/"] = tree.instance(name)
        found[f"instances/{name}"] = "instance"
    for prefix, root in roots.items():
        for file in root.walk():
            if VOLATILE.search(file):
                continue
            try:
                found[f"{prefix}{file}"] = root.read(file)
            except TracefsError as error:
                found[f"{prefix}{file}"] = f"errno {error.errno}"
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
