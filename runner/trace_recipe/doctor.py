"""Doctor: what stands in the way of tracing on a machine, and what works all the same."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from trace_recipe.buffer_sizes import default_buffer_bytes
from trace_recipe.machine import LOCKDOWN
from trace_recipe.needed_files import OF_ROOT
from trace_recipe.permission import Permission
from trace_recipe.policy import POLICY_FILE, RUN
from trace_recipe.state_directory import command_line
from trace_recipe.suggestions import listed
from trace_recipe.tracefs import MOUNT_POINT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trace_recipe.invoker import Invoker
    from trace_recipe.kernel import Kernel
    from trace_recipe.machine import Machine, Mount
    from trace_recipe.needed_files import NeededFile
    from trace_recipe.policy import Policy

__all__ = [
    "Finding",
    "Level",
    "can_run",
    "examine",
    "examine_files",
    "examine_policy",
]

_MIB = 1 << 20
_LOW_SPOOL_BYTES = 256 * _MIB

_FUNCTION_FILES = frozenset(
    {
        "available_filter_functions",
        "set_ftrace_filter",
        "set_ftrace_notrace",
        "set_ftrace_pid",
        "set_graph_function",
        "set_graph_notrace",
    }
)
_TRACER_CONFIGS = {
    "function": "CONFIG_FUNCTION_TRACER",
    "function_graph": "CONFIG_FUNCTION_GRAPH_TRACER",
    "irqsoff": "CONFIG_IRQSOFF_TRACER",
    "preemptoff": "CONFIG_PREEMPT_TRACER",
    "wakeup": "CONFIG_SCHED_TRACER",
    "hwlat": "CONFIG_HWLAT_TRACER",
    "osnoise": "CONFIG_OSNOISE_TRACER",
    "timerlat": "CONFIG_TIMERLAT_TRACER",
    "blk": "CONFIG_BLK_DEV_IO_TRACE",
}
_FILE_CONFIGS = {
    "kprobe_events": ("kprobes", "CONFIG_KPROBE_EVENTS"),
    "uprobe_events": ("uprobes", "CONFIG_UPROBE_EVENTS"),
    "synthetic_events": ("synthetic events", "CONFIG_SYNTH_EVENTS"),
    "snapshot": ("snapshots", "CONFIG_TRACER_SNAPSHOT"),
    "set_ftrace_filter": ("function filters", "CONFIG_DYNAMIC_FTRACE"),
    "set_graph_function": ("graph functions", "CONFIG_FUNCTION_GRAPH_TRACER"),
}
_TRIGGER_CONFIGS = {
    "hist": ("histograms", "CONFIG_HIST_TRIGGERS"),
    "snapshot": ("the snapshot trigger", "CONFIG_TRACER_SNAPSHOT"),
}


class Level(StrEnum):
    """How much a finding matters: with one that is bad, no recipe with events can run."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    topic: str
    what: str
    why: str = ""
    fix: str = ""

    def lines(self) -> list[str]:
        """Return the finding for a terminal."""
        lines = [f"{self.level:4}  {self.topic}: {self.what}"]
        if self.why:
            lines.append(f"        why: {self.why}")
        if self.fix:
            lines.append(f"        fix: {self.fix}")
        return lines

    def as_json(self) -> dict[str, str]:
        """Return the same parts as JSON data."""
        return {
            "level": self.level.value,
            "topic": self.topic,
            "what": self.what,
            "why": self.why,
            "fix": self.fix,
        }


def can_run(findings: Iterable[Finding]) -> bool:
    """Whether nothing found stops a recipe with events."""
    return all(finding.level is not Level.BAD for finding in findings)


def examine(machine: Machine) -> tuple[Finding, ...]:
    """Return what the machine's state means for tracing, most fundamental first."""
    findings = [_examine_mount(machine)]
    if machine.mount:
        findings.append(_examine_permissions(machine, machine.mount))
    findings.append(_examine_lockdown(machine))
    if machine.kernel:
        findings += _examine_kernel(machine.kernel)
    findings.append(_examine_state(machine))
    findings += _examine_journals(machine)
    findings += [_examine_memory(machine), _examine_space(machine), _examine_trace_cmd(machine)]
    return tuple(findings)


def examine_policy(policy: Policy) -> tuple[Finding, ...]:
    """Return what the policy of this machine lets its user do."""
    topic, names = "policy", list(Permission)
    if policy.file is None:
        what = f"none ({POLICY_FILE}): {policy.user} may give every permission ({listed(names)})"
        return (Finding(Level.OK, topic, what),)
    findings = []
    verdict = policy.verdict(RUN)
    if not verdict.is_allowed:
        what = f"{policy.user} may not run recipes"
        why, fix = f"{verdict.place} {verdict.words}", f"ask who keeps {policy.file}"
        findings.append(Finding(Level.BAD, topic, what, why, fix))
    verdicts = {name: policy.verdict(name) for name in names}
    given = [name for name, one in verdicts.items() if one.is_allowed]
    kept = [
        f"{name} (line {one.place.line})"
        for name, one in verdicts.items()
        if one.place and not one.is_allowed
    ]
    what = f"{policy.file}: {policy.user} may give {listed(given) or 'no permission'}"
    findings.append(Finding(Level.OK, topic, what, f"not {listed(kept)}" if kept else ""))
    if unknown := policy.unknown_names():
        why = "a rule for them alone never holds"
        what = f"this machine does not know {listed(unknown)}"
        findings.append(Finding(Level.WARN, topic, what, why, f"correct {policy.file}"))
    return tuple(findings)


def _examine_mount(machine: Machine) -> Finding:
    topic = "tracefs"
    if machine.mount:
        debugfs = "mounted" if machine.debugfs else "not mounted, and not needed"
        return Finding(Level.OK, topic, f"mounted on {machine.mount.where}; debugfs is {debugfs}")
    command = f"mount -t tracefs nodev {MOUNT_POINT}"
    if not machine.knows_tracefs:
        return Finding(
            Level.BAD, topic, "this kernel has no tracefs",
            why="'tracefs' is not in /proc/filesystems: it is built without CONFIG_FTRACE",
            fix="use a kernel with CONFIG_FTRACE=y; --kernel FILE still checks recipes",
        )  # fmt: skip
    if machine.can_mount:
        return Finding(
            Level.WARN, topic, "not mounted", why="nothing has used it since the machine started",
            fix=f"`trace-recipe run` mounts it, or: {command}",
        )  # fmt: skip
    return Finding(
        Level.BAD, topic, "not mounted, and you may not mount it",
        why=f"mounting needs CAP_SYS_ADMIN; this process runs as uid {machine.uid} without it",
        fix=f"run with sudo, or let root do: {command}",
    )  # fmt: skip


def _examine_permissions(machine: Machine, mount: Mount) -> Finding:
    topic = "permissions"
    seen = f"uid {machine.uid}; {mount.where} has mode {mount.mode:04o} and group {mount.gid}"
    if mount.refused and machine.uid == 0:
        return Finding(
            Level.BAD, topic, f"tracefs cannot be read ({mount.refused})",
            why="root is refused too: lockdown in confidentiality mode, or a container's policy",
            fix="boot without lockdown, or run outside of the container",
        )  # fmt: skip
    if mount.refused:
        remount = f"mount -o remount,gid=GROUP,mode=0750 {mount.where}"
        return Finding(
            Level.BAD, topic, f"tracefs cannot be read ({mount.refused})",
            why=f"this process runs as {seen}",
            fix=f"run with sudo, or let root do: {remount}; `sudo trace-recipe doctor --for RECIPE`"
            " prints the commands that give you just what a recipe needs",
        )  # fmt: skip
    if mount.is_read_only:
        return Finding(
            Level.BAD, topic, f"{mount.where} is mounted read-only",
            why="a container often has it so",
            fix=f"run outside of the container, or: mount -o remount,rw {mount.where}",
        )  # fmt: skip
    if not mount.can_write:
        return Finding(
            Level.BAD, topic, "tracefs can be read but no instance can be made in it", why=seen,
            fix="run with sudo; `list`, `explain`, `check` and `plan` work as it is",
        )  # fmt: skip
    return Finding(Level.OK, topic, seen)


def _examine_lockdown(machine: Machine) -> Finding:
    topic = "lockdown"
    refused = machine.kernel.refused if machine.kernel else {}
    names = ", ".join(refused)
    if machine.lockdown is not None:
        modes = machine.lockdown.split()
        mode = next((word.strip("[]") for word in modes if word.startswith("[")), machine.lockdown)
        if mode == "none":
            return Finding(Level.OK, topic, "none")
        return Finding(
            Level.WARN, topic, f"mode '{mode}'",
            why="integrity closes function tracing and kernel probes"
            + (f": {names} refused" if names else "")
            + ("; confidentiality closes all of tracefs" if mode == "confidentiality" else ""),
            fix="boot without lockdown (no lockdown=, Secure Boot off) to get them; events work"
            if mode != "confidentiality"
            else "boot with lockdown=integrity or without",
        )  # fmt: skip
    if refused and machine.uid == 0:
        return Finding(
            Level.WARN, topic, "mode unknown, but files are refused as under lockdown",
            why=f"no {LOCKDOWN} here, and opening these fails: {_refusals(refused.items())}",
            fix="boot without lockdown, or run outside of a restricted container; events work",
        )  # fmt: skip
    return Finding(Level.OK, topic, f"no sign of it (no {LOCKDOWN})")


def _examine_kernel(kernel: Kernel) -> list[Finding]:
    findings = []
    if kernel.events:
        systems = len(kernel.systems)
        triggers = " ".join(kernel.triggers) or "none"
        findings.append(
            Finding(
                Level.OK, "works",
                f"{len(kernel.events)} events of {systems} systems, filters, instances, markers;"
                f" triggers: {triggers}; clocks: {' '.join(kernel.clocks)};"
                f" tracers: {' '.join(kernel.tracers)}",
            )
        )  # fmt: skip
    else:
        findings.append(
            Finding(
                Level.BAD, "events", "this kernel has no events",
                why="it is built without CONFIG_EVENT_TRACING", fix="use another kernel",
            )
        )  # fmt: skip
    if "syscalls" not in kernel.systems:
        findings.append(
            Finding(
                Level.WARN, "events", "no syscall events (syscalls:*)",
                why="built without CONFIG_FTRACE_SYSCALLS",
                fix="use raw_syscalls:sys_enter, or another kernel",
            )
        )  # fmt: skip
    findings += _examine_functions(kernel)
    findings += _examine_missing(kernel)
    return findings


def _examine_functions(kernel: Kernel) -> list[Finding]:
    refused = [
        (name, kernel.refused[name]) for name in sorted(_FUNCTION_FILES & set(kernel.refused))
    ]
    if not refused:
        return []
    has_tracer = "function" in kernel.tracers
    return [
        Finding(
            Level.WARN, "functions", f"function tracing is refused ({_refusals(refused)})",
            why="lockdown or a container's policy closes these files, to root too"
            + ("; the tracer 'function' is listed all the same" if has_tracer else ""),
            fix="trace events instead, or boot without lockdown",
        )
    ]  # fmt: skip


def _examine_missing(kernel: Kernel) -> list[Finding]:
    findings = []
    absent = [name for name in _TRACER_CONFIGS if name not in kernel.tracers]
    if absent:
        findings.append(_missing("tracers", [(name, _TRACER_CONFIGS[name]) for name in absent]))
    features = [pair for file, pair in _FILE_CONFIGS.items() if file not in kernel.control_files]
    if kernel.triggers:
        features += [pair for word, pair in _TRIGGER_CONFIGS.items() if word not in kernel.triggers]
    if features:
        findings.append(_missing("features", features))
    return findings


def _missing(topic: str, pairs: Sequence[tuple[str, str]]) -> Finding:
    return Finding(
        Level.WARN,
        topic,
        f"not here: {', '.join(name for name, _ in pairs)}",
        why=f"a kernel has them with {', '.join(dict.fromkeys(word for _, word in pairs))}",
        fix="use such a kernel if a recipe asks for one; events do not need them",
    )


def _examine_state(machine: Machine) -> Finding:
    if not machine.state_error:
        return Finding(Level.OK, "state", f"journals can be kept in {machine.state_directory}")
    return Finding(
        Level.BAD,
        "state",
        f"no journal can be kept in {machine.state_directory}: {machine.state_error}",
        why="nothing is changed in the kernel before the way back is on disk",
        fix="run as root, or name another directory with --state-dir",
    )


def _examine_journals(machine: Machine) -> list[Finding]:
    if machine.journals_error:
        what = f"journals cannot be read: {machine.journals_error}"
        return [Finding(Level.WARN, "journals", what, fix="look as root")]
    stale = [state for state in machine.journals if not state.is_live]
    live = [state for state in machine.journals if state.is_live]
    findings = []
    if live:
        names = ", ".join(f"{state.recipe} (pid {state.pid})" for state in live)
        findings.append(Finding(Level.OK, "journals", f"running now: {names}"))
    if stale:
        names = ", ".join(f"{state.recipe} ({state.run_id})" for state in stale)
        findings.append(
            Finding(
                Level.WARN, "journals", f"ended without being put back: {names}",
                why="the process was killed; what it changed may still be changed",
                fix=command_line("recover", machine.state_directory),
            )
        )  # fmt: skip
    return findings


def _examine_memory(machine: Machine) -> Finding:
    cpus = len(machine.kernel.possible_cpus) if machine.kernel else os.cpu_count() or 1
    wanted = cpus * default_buffer_bytes(cpus)
    shown = f"the default buffer takes {wanted // _MIB} MiB ({cpus} CPUs)"
    free = machine.available_bytes
    if free is None or free >= 2 * wanted:
        have = "" if free is None else f", {free // _MIB} MiB are available"
        return Finding(Level.OK, "memory", f"{shown}{have}")
    return Finding(
        Level.WARN, "memory", f"{shown}, only {free // _MIB} MiB are available",
        why="the ring buffer is kernel memory and is not swapped",
        fix="set buffer.size in the recipe, in bytes per CPU (such as 512K)",
    )  # fmt: skip


def _examine_space(machine: Machine) -> Finding:
    free, where = machine.spool_free_bytes, machine.spool_directory
    if free is None:
        return Finding(
            Level.BAD, "disk", f"'{where}' cannot be used", why="raw pages are spooled there",
            fix=f"make it: mkdir -m 1777 {where}",
        )  # fmt: skip
    shown = f"{free // _MIB} MiB are free in {where}"
    if free >= _LOW_SPOOL_BYTES:
        return Finding(Level.OK, "disk", shown)
    return Finding(
        Level.WARN, "disk", f"only {shown}",
        why="raw pages are spooled there: a million events take about 40 MiB",
        fix="free space, or record to another place with `run --recording DIR`",
    )  # fmt: skip


def _examine_trace_cmd(machine: Machine) -> Finding:
    if machine.trace_cmd:
        return Finding(Level.OK, "trace-cmd", f"{machine.trace_cmd} can read our trace.dat")
    return Finding(Level.OK, "trace-cmd", "not installed, and not needed: `report` reads trace.dat")


def _refusals(refused: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name}: {word}" for name, word in refused)


# -- one recipe -------------------------------------------------------------------------------


def examine_files(needs: Iterable[NeededFile], who: Invoker) -> tuple[Finding, ...]:
    """Return one finding for what a mode keeps from the user, and one for each other refusal."""
    every = tuple(needs)
    findings = [
        Finding(
            Level.BAD, "files", f"cannot {one.access} {one.file} ({one.error})",
            why=_ACCESS_REASONS.get(one.error, "the kernel refuses it"),
            fix=_ACCESS_FIXES.get(one.error, "leave out the key that needs it"),
        )
        for one in every
        if one.error not in {"", "EACCES"}
    ]  # fmt: skip
    if kept := [one for one in every if one.error == "EACCES"]:
        findings.append(
            Finding(
                Level.BAD, "files",
                f"{who.name} (uid {who.uid}) lacks rights on {len(kept)} of {len(every)} files",
                why=OF_ROOT,
                fix="run with sudo, or let root run the commands below",
            )
        )  # fmt: skip
    if not findings:
        what = f"{who.name} (uid {who.uid}) has rights on all {len(every)} files of the recipe"
        findings.append(Finding(Level.OK, "files", what))
    return tuple(findings)


_ACCESS_REASONS = {
    "EPERM": "lockdown or a container's policy closes it, to root too",
    "ENOENT": "this kernel has no such file",
}
_ACCESS_FIXES = {"EPERM": "leave out the key that needs it, or boot without lockdown"}
