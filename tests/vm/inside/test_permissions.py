"""Dangerous things that are allowed in both places, on kernels that can do them."""

from pathlib import Path

import pytest

from tests.tracefs_tree import differences, snapshot

pytestmark = pytest.mark.tracefs

TRACEFS = Path("/sys/kernel/tracing")
ONLINE = Path("/sys/devices/system/cpu/online")
EVERY_FUNCTION = """
recipe: v1
name: every-function
allow: [function-all]
tracer: function
scope: {pids: [command]}
run: {command: [/bin/true]}
outputs: [{text: functions.txt}]
"""
MMIO = """
recipe: v1
name: mmio
allow: [mmiotrace]
instance: top
tracer: mmiotrace
duration: 300ms
outputs: [{text: mmio.txt}]
"""
LATENCY = """
recipe: v1
name: latency
allow: {allow}
tracer: irqsoff
options: {{sym-offset: false{option}}}
run: {{command: [wc, -l, /sys/kernel/tracing/enabled_functions]}}
outputs: [{{text: latency.txt}}]
"""


def _needs(tracer):
    if tracer not in (TRACEFS / "available_tracers").read_text().split():
        pytest.skip(f"this kernel has no tracer {tracer}")


def test_every_function_is_traced_when_both_allow_it(cli, recipe, untouched):
    _needs("function")
    path = str(recipe(EVERY_FUNCTION))
    refused = cli("run", path)
    done = cli("run", path, "--allow", "function-all")

    assert refused.returncode == 2
    assert refused.stderr.endswith("  state: untouched\n")
    assert "say --allow function-all" in refused.stderr
    assert done.returncode == 0, done.stderr
    functions = {
        line.rpartition(": ")[2].partition(" <-")[0]
        for line in (cli.directory / "functions.txt").read_text().splitlines()
        if " <-" in line
    }
    assert len(functions) > 100


def test_a_latency_tracer_records_no_function_or_all_with_both_words(cli, recipe, untouched):
    _needs("irqsoff")
    texts = (
        LATENCY.format(allow="[function-all]", option=""),
        LATENCY.format(allow="[]", option=", function-trace: false"),
    )
    all_, none = (str(recipe(text, f"{number}.yaml")) for number, text in enumerate(texts))
    refused = cli("run", all_)
    done = [cli("run", all_, "--allow", "function-all"), cli("run", none)]

    assert refused.returncode == 2
    assert "0.yaml:5:9: error: tracer: every function of the kernel would be traced" in (
        refused.stderr
    )
    assert "the tracer 'irqsoff' records every function that is called" in refused.stderr
    assert "fix: write options: {function-trace: false}, or say --allow function-all" in (
        refused.stderr
    )
    assert [one.returncode for one in done] == [0, 0], done
    many, few = (int(one.stdout.split()[0]) for one in done)
    assert many > 10_000
    assert few < 100


def test_mmiotrace_gives_the_cpus_back(cli, recipe):
    _needs("mmiotrace")
    before = snapshot()
    online = ONLINE.read_text()
    done = cli("run", str(recipe(MMIO)), "--allow", "mmiotrace", "--allow-shared")

    assert done.returncode == 0, done.stderr
    assert (cli.directory / "mmio.txt").exists()
    assert ONLINE.read_text() == online
    assert (TRACEFS / "current_tracer").read_text() == "nop\n"
    # The first tracer expands the top level's buffer for good, as the receipt says.
    changed = differences(before, snapshot())
    assert {name.rpartition("/")[2] for name in changed} <= {
        "buffer_size_kb",
        "buffer_total_size_kb",
    }


def test_the_policy_of_the_machine_binds_every_function(cli, recipe, untouched):
    _needs("function")
    policy = Path("/etc/trace-recipe/policy.yaml")
    path = str(recipe(EVERY_FUNCTION))
    policy.parent.mkdir(mode=0o755)
    try:
        policy.write_text("policy: v1\nrules: [{forbid: [function-all]}]\n")
        refused = cli("run", path, "--allow", "function-all")
        policy.chmod(0o666)
        doubted = cli("run", path, "--allow", "function-all")
    finally:
        policy.unlink()
        policy.parent.rmdir()

    assert (refused.returncode, doubted.returncode) == (3, 3)
    assert f"{policy}:2:19: the policy of this machine forbids 'function-all'" in refused.stderr
    assert f"cannot trust '{policy}': others than its owner" in doubted.stderr
