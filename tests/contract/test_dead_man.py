"""The kernel's own dead-man's switch: recording stops when the runner dies, before anybody acts."""

import json
import os
import time
from pathlib import Path

import pytest

from tests.tracefs_tree import is_recording
from trace_recipe.errors import ApplyError, State
from trace_recipe.executor import apply
from trace_recipe.plan import HoldFile, MakeInstance, Plan, Scope, SetFile
from trace_recipe.tracefs import Tracefs

pytestmark = pytest.mark.tracefs

MOUNT = Path("/sys/kernel/tracing")
INSTANCES = MOUNT / "instances"
RECIPE = """
recipe: v1
name: held
{instance}
events: ["sched:sched_switch"]
buffer: {{size: 2M, disable_on_free: {held}}}
duration: {duration}
outputs: [{{jsonl: o.jsonl}}]
"""


def _recipe(*, held: str = "true", duration: str = "60s", instance: str = "") -> str:
    return RECIPE.format(held=held, duration=duration, instance=instance)


def _start(cli, path: Path) -> Path:
    running = cli.start("run", str(path))
    ends_at = time.monotonic() + 90  # an emulated machine loads Python slowly
    while time.monotonic() < ends_at:
        for instance in INSTANCES.glob("trace-recipe-held-*"):
            if is_recording(instance):
                return instance
        assert running.poll() is None, running.communicate()
        time.sleep(0.02)
    raise AssertionError("no instance appeared")


@pytest.mark.parametrize(("held", "is_on"), [("true", "0\n"), ("false", "1\n")])
def test_when_runner_and_guardian_are_killed_the_kernel_has_stopped_recording(
    cli, recipe, untouched, held, is_on
):
    instance = _start(cli, recipe(_recipe(held=held)))

    cli.kill(cli.started[0], with_guardian=True)

    assert (instance / "tracing_on").read_text() == is_on
    size_kb = int((instance / "buffer_size_kb").read_text())
    assert size_kb < 20 if held == "true" else size_kb >= 2048
    assert cli("recover").returncode == 0
    assert not instance.exists()


def test_the_guardian_removes_an_instance_that_was_held(cli, recipe, untouched):
    instance = _start(cli, recipe(_recipe()))

    cli.kill(cli.started[0])

    assert not instance.exists()
    assert "held: killed; restored" in cli("recover").stdout


def test_nobody_can_remove_an_instance_that_is_held(cli, recipe, untouched):
    instance = _start(cli, recipe(_recipe()))

    with pytest.raises(OSError, match="Device or resource busy"):
        instance.rmdir()
    cli.kill(cli.started[0])


def test_a_run_that_ends_by_itself_lets_go_after_all_is_read(cli, recipe, untouched):
    done = cli("run", str(recipe(_recipe(duration="300ms"))), "--recording", "R")

    assert done.returncode == 0, done.stderr
    manifest = json.loads((cli.directory / "R/manifest.json").read_text())
    records = map(json.loads, (cli.directory / "o.jsonl").read_text().splitlines())
    assert sum("event" in one for one in records) == manifest["events"] > 0


def test_the_plan_shows_what_is_held(cli, recipe):
    path = recipe(_recipe())

    steps = json.loads(cli("plan", str(path), "--json").stdout)["steps"]

    (hold,) = [step for step in steps if step["kind"] == "hold"]
    assert hold["file"] == "instances/trace-recipe-held-RUN/free_buffer"
    assert hold["position"]["key"] == "buffer.disable_on_free"
    files = [step["file"].rpartition("/")[2] for step in steps]
    assert files.index("disable_on_free") < files.index("free_buffer")
    assert "hold    instances/trace-recipe-held-RUN/free_buffer  [private]" in (
        cli("plan", str(path)).stdout
    )


def test_a_buffer_of_somebody_else_is_not_held(cli, recipe, untouched):
    name = f"tr-test-held-{os.getpid()}"
    (INSTANCES / name).mkdir()
    size = (INSTANCES / name / "buffer_size_kb").read_text()
    try:
        done = cli("run", str(recipe(_recipe(instance=f"instance: {name}"))))
        assert done.returncode == 3, done.stderr
        assert f"recipe.yaml:6:37: error: buffer.disable_on_free: instance '{name}'" in done.stderr
        assert (INSTANCES / name / "buffer_size_kb").read_text() == size
    finally:
        (INSTANCES / name).rmdir()


def test_try_does_not_hold_what_it_leaves(cli, recipe, untouched):
    done = cli("try", str(recipe(_recipe())))

    assert done.returncode == 2, done.stderr
    assert "is to stop recording when the runner is gone" in done.stderr


def test_a_step_that_fails_while_the_buffer_is_held_is_undone(tmp_path, untouched):
    name = f"tr-test-held-{os.getpid()}"
    wrong = SetFile(
        f"instances/{name}/trace_clock", "trace_clock", None, "nope", "nope", Scope.PRIVATE, None,
        "",
    )  # fmt: skip
    hold = HoldFile(f"instances/{name}/free_buffer", "free_buffer", None, "")
    plan = Plan("held", "h.yaml", "private", name, (MakeInstance(name, None), hold, wrong))

    with pytest.raises(ApplyError) as caught:
        apply(plan, Tracefs(MOUNT), run_id="held", state_directory=tmp_path, bindings={})

    assert caught.value.state is State.RESTORED
    assert not (INSTANCES / name).exists()
