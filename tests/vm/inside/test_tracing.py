"""Tracing works in the machine at all: what every other test here builds on."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from trace_recipe.tracefs import Tracefs

TRACEFS = Tracefs()


@pytest.fixture
def instance():
    TRACEFS.make_instance("vm_test")
    yield TRACEFS.instance("vm_test")
    TRACEFS.remove_instance("vm_test")


def test_tracefs_is_mounted_and_has_tracers_events_and_instances():
    assert "function_graph" in TRACEFS.read("available_tracers").split()
    assert "sched:sched_switch" in TRACEFS.event_names()
    assert TRACEFS.read("current_tracer") == "nop\n"
    assert TRACEFS.is_directory("instances")


def test_a_sleep_shows_as_a_sched_switch_with_its_fields(instance):
    instance.write("events/sched/sched_switch/filter", 'prev_comm == "sleep"\n')
    instance.write("events/sched/sched_switch/enable", "1\n")

    child = subprocess.Popen(["/bin/sleep", "0.1"])
    assert child.wait() == 0
    instance.write("tracing_on", "0\n")

    line = re.compile(rf"sched_switch: prev_comm=\S+ prev_pid={child.pid} .* ==> next_comm=")
    assert line.search(instance.read("trace"))


def test_a_real_sub_buffer_is_read_from_trace_pipe_raw(instance):
    instance.write("events/sched/sched_switch/enable", "1\n")
    time.sleep(0.2)
    instance.write("tracing_on", "0\n")

    data = [_first_page(instance, cpu) for cpu in range(2)]

    assert any(len(page) == 4096 for page in data)


@pytest.mark.skipif(not shutil.which("trace-cmd"), reason="no trace-cmd in the machine")
def test_trace_cmd_records_and_reports(tmp_path):
    trace = tmp_path / "trace.dat"
    command = [
        "trace-cmd",
        "record",
        "-q",
        "-e",
        "sched:sched_switch",
        "-o",
        str(trace),
        "sleep",
        "0.1",
    ]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)

    report = subprocess.run(
        ["trace-cmd", "report", "-i", str(trace)], check=True, capture_output=True, text=True
    )

    assert "sched_switch" in report.stdout


def test_the_machine_has_what_a_run_needs():
    assert Path("/proc/self/status").exists()
    assert Path("/sys/devices/system/cpu/possible").read_text() == "0-1\n"
    assert Path("/proc/sys/kernel/random/boot_id").exists()


def _first_page(instance: Tracefs, cpu: int) -> bytes:
    import os

    fd = instance.open_raw(cpu)
    try:
        return os.read(fd, 4096)
    except BlockingIOError:
        return b""
    finally:
        os.close(fd)
