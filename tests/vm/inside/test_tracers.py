"""What the running kernel cannot show: function and latency tracers, from recipe to nested text."""

import os
import re
import time
from pathlib import Path

import pytest

from tests.tracefs_tree import differences, snapshot
from trace_recipe.executor import apply
from trace_recipe.plan import COMMAND, RUNNER
from trace_recipe.planner import make_plan
from trace_recipe.prober import probe_kernel
from trace_recipe.recipe.load import load_recipe
from trace_recipe.resolver import resolve
from trace_recipe.tracefs import Tracefs

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
allow: [function-all]
tracer: {name: irqsoff, options: {}}
options: {func_stack_trace: false}
duration: 1s
outputs: [{text: irqs.txt}]
"""
TOP_FUNCTIONS = """
recipe: v1
name: top-functions
instance: top
tracer: {name: function_graph, graph_functions: [vfs_write]}
functions: {only: ['vfs_w*', vfs_open], not: [vfs_writev]}
outputs: [{text: o.txt}]
"""
LISTS = ("set_ftrace_filter", "set_ftrace_notrace", "set_graph_function")
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
        assert "recipe.yaml:5:16: error: tracer" in done.stderr
        assert "cannot run in an instance" in done.stderr
        assert "state: untouched" in done.stderr
        assert cli("plan", str(recipe(text))).returncode == 3
        text = GRAPH.format(root="vfs_read", instance="instance: top")
        done = cli("run", "--allow-shared", str(recipe(text)))

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
    done = cli("run", "--allow", "function-all", str(recipe(IRQSOFF)))
    if not _kernel_has("irqsoff"):
        assert done.returncode == 3
        assert "irqsoff" in done.stderr
        assert "state: untouched" in done.stderr
        return

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
    text = FUNCTION.replace("[/bin/dd, if=/proc/version, of=/dev/null]", "[/bin/sleep, '600']")
    running = cli.start("run", str(recipe(text)))
    ends_at = time.monotonic() + 120
    tracers = "instances/*functions*/current_tracer"
    while not any(one.read_text() == "function\n" for one in TRACEFS.glob(tracers)):
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < ends_at
        time.sleep(0.05)
    cli.kill(running, with_guardian=with_guardian)

    done = cli("recover")

    assert done.returncode == 0, done.stderr
    assert "restored" in done.stdout
    assert ("by its guardian" in done.stdout) is not with_guardian


@pytest.fixture
def irreplaceable():
    """Objects of somebody else that cannot be made again from what is read of them.

    An address reads as a hash of it, and an event probe without its filter.
    """
    has_probes = (TRACEFS / "kprobe_events").exists()
    if has_probes:
        symbols = map(str.split, Path("/proc/kallsyms").read_text().splitlines())
        address = next(words[0] for words in symbols if words[2] == "vfs_fsync")
        _write("dynamic_events", f"p:theirs/address 0x{address}\n", os.O_APPEND)
        probe = "e:theirs/filtered sched/sched_process_exec pid=$pid if pid > 1\n"
        _write("dynamic_events", probe, os.O_APPEND)
        assert (TRACEFS / "dynamic_events").read_text().count("theirs/") == 2
    yield
    if has_probes:
        for name in ("address", "filtered"):
            _write("dynamic_events", f"-:theirs/{name}\n", os.O_APPEND)


def test_the_top_level_is_put_back_exactly(cli, recipe, irreplaceable, unchanged):
    path = recipe(
        "recipe: v1\nname: top\ninstance: top\n"
        "events: [{event: 'sched:sched_switch', filter: 'prev_prio < 200', triggers: ['traceoff:1']}]\n"
        "options: {sym-offset: true}\nclock: mono\nbuffer: {size: 2M, watermark: 0}\n"
        "scope: {cpus: [0], exclude_pids: [1]}\nduration: 100ms\noutputs: [{text: o.txt}]\n"
    )

    done = cli("run", "--allow-shared", str(path))

    assert done.returncode == 0, done.stderr
    assert "the top level is used" in cli("plan", str(path)).stdout


class WatchedTracefs(Tracefs):
    """Keeps what the lists of functions read after every system call that can change them."""

    def __init__(self, seen: dict[str, list[str]]) -> None:
        super().__init__(TRACEFS)
        self.seen = seen

    def _look(self):
        for file in LISTS:
            self.seen[file].append((TRACEFS / file).read_text())

    def write(self, path, text, *, truncate=False):
        if truncate and path in LISTS:  # what a kill between the two calls leaves
            os.close(os.open(TRACEFS / path, os.O_WRONLY | os.O_TRUNC))
            self._look()
        super().write(path, text, truncate=truncate)
        self._look()


def _write(file: str, text: str, flags: int = 0) -> None:
    fd = os.open(TRACEFS / file, os.O_WRONLY | flags)
    os.write(fd, text.encode())
    os.close(fd)


@pytest.fixture
def functions_of_others():
    """Somebody traces some functions at the top level."""
    for file, text in zip(
        LISTS, ("vfs_read\nvfs_open\n", "vfs_fsync\n", "vfs_read\n"), strict=True
    ):
        fd = os.open(TRACEFS / file, os.O_WRONLY | os.O_TRUNC)
        for token in text.splitlines(keepends=True):
            os.write(fd, token.encode())
        os.close(fd)
    _write("current_tracer", "function")
    yield
    _write("current_tracer", "nop")
    for file in LISTS:
        os.close(os.open(TRACEFS / file, os.O_WRONLY | os.O_TRUNC))


def _planned(tracefs: Tracefs):
    loaded = load_recipe("top.yaml", TOP_FUNCTIONS)
    return make_plan(
        resolve(loaded, probe_kernel(tracefs)),
        run_id="top",
        current=tracefs.read,
        instance_exists=lambda name: False,
    )


def test_functions_at_the_top_level_change_without_a_moment_of_all_functions(
    tmp_path, functions_of_others
):
    _expand_the_top_buffer()
    before = snapshot()
    seen: dict[str, list[str]] = {file: [] for file in LISTS}
    tracefs = WatchedTracefs(seen)
    bindings = {RUNNER: (os.getpid(),), COMMAND: ()}

    session = apply(
        _planned(tracefs), tracefs, run_id="top", state_directory=tmp_path, bindings=bindings
    )
    ours = {file: (TRACEFS / file).read_text().split() for file in LISTS}
    session.restore()

    assert {"vfs_write", "vfs_open"} <= {*ours["set_ftrace_filter"]}
    assert "vfs_read" not in ours["set_ftrace_filter"]
    assert (ours["set_ftrace_notrace"], ours["set_graph_function"]) == (
        ["vfs_writev"],
        ["vfs_write"],
    )
    for file in LISTS:
        assert len(set(seen[file])) > 2, file
        assert not [text for text in seen[file] if text.startswith("####")], file
    assert differences(before, snapshot()) == {}
