"""What takes a kernel with every tracer: files that all instances share, and a busy top level."""

import os
import time
from pathlib import Path

import pytest

from tests.tracefs_tree import differences, snapshot

TRACEFS = Path("/sys/kernel/tracing")
SPARED = """
recipe: v1
name: spared
events: [sched:sched_switch]
duration: 600s
outputs: [{text: spared.txt}]
"""
GRAPH = """
recipe: v1
name: {name}
instance: {instance}
tracer: {{name: function_graph, graph_functions: [vfs_read], max_graph_depth: {depth}}}
duration: {duration}
outputs: [{{text: {name}.txt}}]
"""


def _read(name: str) -> str:
    return (TRACEFS / name).read_text()


def _write(name: str, text: str) -> None:
    fd = os.open(TRACEFS / name, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _wait_for(condition, running) -> None:
    ends_at = time.monotonic() + 120
    while not condition():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < ends_at, "it did not happen"
        time.sleep(0.05)


@pytest.fixture
def unchanged():
    before = snapshot()
    yield
    assert differences(before, snapshot()) == {}


def _takes_graph_in_an_instance() -> bool:
    (TRACEFS / "instances/probe").mkdir()
    try:
        return "function_graph" in _read("instances/probe/available_tracers").split()
    finally:
        (TRACEFS / "instances/probe").rmdir()


def test_two_runs_with_one_wish_share_a_file_and_the_last_puts_it_back(cli, recipe, unchanged):
    if not _takes_graph_in_an_instance():
        pytest.skip("function_graph runs at the top level only")
    _write("max_graph_depth", "9")
    try:
        running = []
        for name in ("first", "second"):
            text = GRAPH.format(name=name, instance="private", depth=3, duration="600s")
            one = cli.start("run", str(recipe(text, f"{name}.yaml")))
            tracer = f"instances/trace-recipe-{name}-*/current_tracer"
            _wait_for(
                lambda: [p for p in TRACEFS.glob(tracer) if "graph" in p.read_text()],  # noqa: B023
                one,
            )
            running.append(one)
        other = GRAPH.format(name="other", instance="private", depth=4, duration="1s")
        refused = cli("run", str(recipe(other, "other.yaml")))
        assert refused.returncode == 3, refused.stderr
        assert "'max_graph_depth' is in use by run" in refused.stderr
        assert _read("max_graph_depth") == "3\n"

        cli.kill(running[0])
        assert _read("max_graph_depth") == "3\n"
        running[1].send_signal(2)
        _, err = running[1].communicate(timeout=120)
        assert running[1].returncode == 130, err
        assert "drift" not in err
        assert _read("max_graph_depth") == "9\n"
    finally:
        _write("max_graph_depth", "0")


def test_the_guardian_is_spared_by_the_out_of_memory_killer(cli, recipe, unchanged):
    running = cli.start("run", str(recipe(SPARED)))
    _wait_for(cli.guardians, running)
    _wait_for(lambda: list(TRACEFS.glob("instances/*spared*")), running)
    (guardian,) = cli.guardians()

    assert Path(f"/proc/{guardian}/oom_score_adj").read_text() == "-1000\n"
    running.send_signal(2)
    running.communicate(timeout=120)
    assert cli.guardians() == []


def test_a_top_level_that_somebody_uses_takes_consent(cli, recipe):
    text = (
        "recipe: v1\nname: top\ninstance: top\nevents: [sched:sched_process_exec]\n"
        "duration: 100ms\noutputs: [{text: o.txt}]\n"
    )
    path = str(recipe(text))
    _write("events/sched/sched_process_fork/enable", "1")
    try:
        refused = cli("run", path)
        allowed = cli("run", "--allow-shared", path)
        still = _read("events/sched/sched_process_fork/enable")
    finally:
        _write("events/sched/sched_process_fork/enable", "0")

    assert refused.returncode == 3, refused.stderr
    assert "the top level is in use: 1 event enabled" in refused.stderr
    assert "--allow-shared" in refused.stderr
    assert allowed.returncode == 0, allowed.stderr
    assert still == "1\n"


def test_what_all_instances_share_takes_consent_while_a_tracer_looks_at_it(cli, recipe):
    text = (
        "recipe: v1\nname: stacks\ntracer: {name: function, options: {func_stack_trace: true}}\n"
        "functions: {only: [vfs_fallocate]}\nduration: 100ms\noutputs: [{text: o.txt}]\n"
    )
    path = str(recipe(text))
    _write("set_ftrace_filter", "vfs_fsync\n")
    _write("current_tracer", "function")
    try:
        refused = cli("run", path)
        allowed = cli("run", "--allow-shared", path)
    finally:
        _write("current_tracer", "nop")
        os.close(os.open(TRACEFS / "set_ftrace_filter", os.O_WRONLY | os.O_TRUNC))

    assert refused.returncode == 3, refused.stderr
    assert (
        "what this recipe changes for all instances is in use: tracer 'function' of the top level"
        " looks at options/func_stack_trace" in refused.stderr
    )
    assert refused.stderr.endswith("  state: untouched\n")
    assert allowed.returncode == 0, allowed.stderr
    assert _read("options/func_stack_trace") == "0\n"
