"""What the running kernel cannot show: function and latency tracers, from recipe to nested text."""

import os
import re
import time
from pathlib import Path

import pytest

from tests.tracefs_tree import differences, snapshot

TRACEFS = Path("/sys/kernel/tracing")
GRAPH = """
recipe: v1
name: graph
{instance}
tracer: {{name: function_graph, graph_functions: [{root}], options: {{funcgraph-proc: true}}}}
run: {{command: [/bin/dd, if=/proc/version, of=/dev/null]}}
outputs: [{{text: graph.txt}}]
"""
FUNCTION = """
recipe: v1
name: functions
tracer: function
functions: {only: [vfs_read, vfs_write], not: [vfs_write]}
scope: {pids: [command], follow: true}
run: {command: [/bin/dd, if=/proc/version, of=/dev/null]}
outputs: [{text: functions.txt}, {jsonl: functions.jsonl}, {trace-dat: functions.dat}]
"""
IRQSOFF = """
recipe: v1
name: irqs
tracer: {name: irqsoff, options: {}}
options: {func_stack_trace: false}
duration: 1s
outputs: [{text: irqs.txt}]
"""
COUNTED = """
recipe: v1
name: counted
events:
  - event: sched:sched_switch
    filter: prev_comm == "sleep" || next_comm == "sleep"
    triggers: ["stacktrace:2 if next_prio > 0"]
run: {command: [/bin/sleep, "0.2"]}
outputs: [{text: counted.txt}]
"""


def _kernel_has(tracer: str) -> bool:
    return tracer in (TRACEFS / "available_tracers").read_text().split()


def _expand_the_top_buffer() -> None:
    """On 6.1 the first event enabled anywhere expands it for good; let that happen before."""
    name = f"expand-{os.getpid()}"
    (TRACEFS / "instances" / name).mkdir()
    fd = os.open(TRACEFS / "instances" / name / "events/sched/sched_switch/enable", os.O_WRONLY)
    os.write(fd, b"1")
    os.close(fd)
    (TRACEFS / "instances" / name).rmdir()
    fd = os.open(TRACEFS / "events/sched/sched_switch/enable", os.O_WRONLY)
    os.write(fd, b"1")
    os.lseek(fd, 0, 0)
    os.write(fd, b"0")
    os.close(fd)


@pytest.fixture
def unchanged():
    """The whole tree reads the same before and after."""
    _expand_the_top_buffer()
    before = snapshot()
    yield
    assert differences(before, snapshot()) == {}


def test_function_graph_with_a_root_prints_the_nested_form(cli, recipe, unchanged):
    text = GRAPH.format(root="vfs_read", instance="")
    done = cli("run", str(recipe(text)))
    if done.returncode == 3:  # before Linux 6.11 it runs at the top level only
        assert "cannot run in an instance" in done.stderr
        assert "state: restored" in done.stderr
        text = GRAPH.format(root="vfs_read", instance="instance: top")
        done = cli("run", str(recipe(text)))

    assert done.returncode == 0, done.stderr
    lines = (cli.directory / "graph.txt").read_text().splitlines()
    assert lines[0] == "# tracer: function_graph"
    opened = [line for line in lines if "|  vfs_read() {" in line]
    nested = [line for line in lines if re.search(r"\|    \w+\(\)( \{|;)", line)]
    closed = [line for line in lines if re.search(r"\d us +\|  \}", line)]
    assert min(len(opened), len(nested), len(closed)) > 0


def test_functions_only_and_not_record_just_these(cli, recipe, unchanged):
    done = cli("run", str(recipe(FUNCTION)))

    assert done.returncode == 0, done.stderr
    lines = [
        line
        for line in (cli.directory / "functions.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    names = {re.search(r": (\w+) <-", line)[1] for line in lines}
    assert names == {"vfs_read"}


def test_irqsoff_records_a_latency_trace(cli, recipe, unchanged):
    if not _kernel_has("irqsoff"):
        done = cli("run", str(recipe(IRQSOFF)))
        assert done.returncode == 3
        assert "irqsoff" in done.stderr
        assert "state: untouched" in done.stderr
        return
    done = cli("run", str(recipe(IRQSOFF)))

    assert done.returncode == 0, done.stderr
    text = (cli.directory / "irqs.txt").read_text()
    assert text.startswith("# tracer: irqsoff")
    if "no latency above the threshold was met" in done.stderr:  # an idle machine, in its second
        assert "latency:" not in text
    else:
        assert re.search(r"^# latency: \d+ us, #\d+/\d+", text, re.MULTILINE)
        assert re.search(r"the longest latency was \d+ us", done.stderr)
    assert len([line for line in text.splitlines() if line and not line.startswith("#")]) > 0


def test_a_filter_and_a_counted_trigger_do_what_they_say(cli, recipe, unchanged):
    done = cli("run", str(recipe(COUNTED)))

    assert done.returncode == 0, done.stderr
    text = (cli.directory / "counted.txt").read_text()
    assert text.count("<stack trace>") == 2
    switches = [line for line in text.splitlines() if " sched_switch: " in line]
    assert len(switches) >= 2
    assert all("sleep" in line for line in switches)


@pytest.mark.parametrize("with_guardian", [False, True])
def test_kill_9_under_a_function_tracer_is_recovered(cli, recipe, unchanged, with_guardian):
    text = FUNCTION.replace("[/bin/dd, if=/proc/version, of=/dev/null]", "[/bin/sleep, '30']")
    running = cli.start("run", str(recipe(text)))
    ends_at = time.monotonic() + 60
    while time.monotonic() < ends_at:
        made = list((TRACEFS / "instances").glob("*functions*/current_tracer"))
        if made and made[0].read_text() == "function\n":
            break
        time.sleep(0.05)
    cli.kill(running, with_guardian=with_guardian)

    done = cli("recover")

    assert done.returncode == 0, done.stderr
    assert "restored" in done.stdout
    assert ("by its guardian" in done.stdout) is not with_guardian


def test_the_top_level_is_put_back_exactly(cli, recipe, unchanged):
    path = recipe(
        "recipe: v1\nname: top\ninstance: top\n"
        "events: [{event: 'sched:sched_switch', filter: 'prev_prio < 200', triggers: ['traceoff:1']}]\n"
        "options: {sym-offset: true}\nclock: mono\nbuffer: {size: 2M, watermark: 0}\n"
        "scope: {cpus: [0], exclude_pids: [1]}\nduration: 100ms\noutputs: [{text: o.txt}]\n"
    )

    done = cli("run", "--allow-shared", str(path))

    assert done.returncode == 0, done.stderr
    assert "the top level is used" in cli("plan", str(path)).stdout
