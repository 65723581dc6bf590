"""Each shipped recipe records, on this kernel, what it is for; and nothing of it stays behind."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.trace_text import saved_cmdlines
from tests.tracefs_tree import is_recording
from trace_recipe.decoder import decode
from trace_recipe.recording import hold_recording, open_recording

pytestmark = pytest.mark.tracefs

INSTANCES = Path("/sys/kernel/tracing/instances")
# recipe: (what provokes it, events that must be in the output, words that must stand in the text)
CASES = {
    "mount-audit": (
        "mounts",
        ["sys_enter_mount", "sys_exit_umount", "sys_enter_fsopen", "sys_exit_fsmount"],
        ["sys_mount(dev_name: 0x", "sys_umount(name: 0x", "sys_mount -> 0x0"],
    ),
    "file-opens": (
        "opens",
        ["sys_enter_openat", "sys_exit_openat"],
        ["sys_openat(dfd: ", "O_RDWR", "ENOENT"],
    ),
    "exec-snoop": ("execs", ["sched_process_exec"], ["filename=/bin/true"]),
    "process-lifetime": (
        "execs",
        ["sched_process_fork", "sched_process_exec", "sched_process_exit", "task_newtask"],
        ["comm=true"],
    ),
    "signals-kills": (
        "signals",
        ["signal_generate", "signal_deliver", "sys_enter_kill"],
        ["sig=15", "SIGTERM"],
    ),
    "syscall-errors": ("errors", ["sys_exit"], ["NR 3 = -9"]),
    "tcp-connections": (
        "connections",
        ["inet_sock_set_state"],
        ["newstate=TCP_ESTABLISHED", "sport=", "daddr=127.0.0.1"],
    ),
    "tcp-retransmits": ("retransmits", ["tcp_retransmit_skb"], ["state=TCP_SYN_SENT"]),
    "sched-timeline": ("sleeps", ["sched_switch", "sched_waking"], []),
    "irq-activity": (
        "interrupts",
        ["irq_handler_entry", "softirq_entry", "softirq_exit"],
        ["vec="],
    ),
    "page-faults": ("faults", ["page_fault_user"], ["address=", "error_code=0x"]),
    "user-markers": (
        "marks",
        ["print"],
        ["tracing_mark_write: order 4711 accepted", "user-markers begins", "user-markers ends"],
    ),
}


@dataclass(frozen=True)
class Done:
    """A run that was interrupted, and the process that had provoked what it looks for."""

    returncode: int
    stdout: str
    stderr: str
    provoker: int


def _run_with(cli, name: str, provocation: str) -> Done:
    recipe = ROOT / "recipes" / f"{name}.yaml"
    running = cli.start("run", str(recipe), "--set", "duration=600s", "--recording", "out.rec")
    ends_at = time.monotonic() + 30
    while not any(is_recording(one) for one in INSTANCES.iterdir() if name in one.name):
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < ends_at
        time.sleep(0.02)
    command = [sys.executable, "-m", "tests.provoke", provocation]
    with subprocess.Popen(command, cwd=ROOT, env=cli.environment()) as provoking:
        assert provoking.wait(timeout=60) == 0
    running.send_signal(2)
    out, err = running.communicate(timeout=60)
    return Done(running.returncode, out, err, provoking.pid)


def test_every_shipped_recipe_has_a_case():
    assert set(CASES) == {path.stem for path in (ROOT / "recipes").glob("*.yaml")}


@pytest.mark.parametrize("name", CASES)
def test_a_shipped_recipe_records_what_it_is_for(cli, untouched, name):
    provocation, events, words = CASES[name]

    done = _run_with(cli, name, provocation)

    assert done.returncode == 130, done.stderr
    assert ", 0 lost; " in done.stderr
    restored = done.stderr.split("restored ")[1].split()[0].strip(";()")
    assert restored.split("/")[0] == restored.split("/")[1]
    where = cli.directory / "out.rec"
    data = open_recording(where, hold_recording(where))
    found = {columns.format.name for events in decode(data) for columns in events}
    assert set(events) <= found
    text = done.stdout
    if name == "sched-timeline":
        assert (cli.directory / "sched-timeline.dat").stat().st_size > 4096
        text = cli("report", "out.rec").stdout
    assert [word for word in words if word not in text] == []
    assert not list(INSTANCES.glob(f"*{name}*"))


def test_a_mount_appears_with_pid_comm_arguments_and_result_in_order(cli, untouched):
    done = _run_with(cli, "mount-audit", "mounts")

    assert done.returncode == 130, done.stderr
    report = cli("report", "out.rec", "--as", "jsonl")
    events = [json.loads(line) for line in report.stdout.splitlines()]
    assert [event["ts"] for event in events] == sorted(event["ts"] for event in events)
    by_name = {event["event"]: event for event in events if event["pid"] == done.provoker}
    enter, leave = by_name["syscalls:sys_enter_umount"], by_name["syscalls:sys_exit_umount"]
    # The kernel keeps the names of the last tasks only.
    assert enter["comm"].startswith("python") or done.provoker not in saved_cmdlines()
    assert leave["fields"]["ret"] == 0
    assert by_name["syscalls:sys_enter_fsmount"]["fields"]["flags"] == 0
    assert by_name["syscalls:sys_exit_fsmount"]["fields"]["ret"] >= 3
    assert enter["ts"] < leave["ts"] < by_name["syscalls:sys_enter_fsopen"]["ts"]
    assert os.getpid() not in {event["pid"] for event in events}
