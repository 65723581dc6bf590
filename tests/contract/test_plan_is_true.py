"""What a plan says that files will read is what they read; what it takes is put back exactly."""

import os
from pathlib import Path

import pytest

from tests.requirements import need_two_cpus
from tests.tracefs_tree import differences, snapshot
from trace_recipe.executor import apply
from trace_recipe.plan import COMMAND, RUNNER, SetFile
from trace_recipe.planner import make_plan
from trace_recipe.prober import probe_kernel
from trace_recipe.recipe.load import load_recipe
from trace_recipe.resolver import resolve
from trace_recipe.tracefs import Tracefs

pytestmark = pytest.mark.tracefs

NAME = f"tr-test-plan-{os.getpid()}"
EVENT = "recipe: v1\nname: plan\nevents: [sched:sched_kthread_stop]\n"
MOUNT = Path("/sys/kernel/tracing")
SUBBUF = MOUNT / "buffer_subbuf_size_kb"


@pytest.fixture
def applied(tmp_path):
    """Return a plan of a recipe that is applied here, and its session."""
    sessions = []

    def apply_recipe(body):
        tracefs = Tracefs(MOUNT)
        resolved = resolve(load_recipe("plan.yaml", EVENT + body), probe_kernel(tracefs))
        plan = make_plan(
            resolved,
            run_id=str(os.getpid()),
            current=lambda file: tracefs.read(file) if tracefs.exists(file) else None,
            instance_exists=lambda name: tracefs.exists(f"instances/{name}"),
        )
        bindings = {RUNNER: (os.getpid(),), COMMAND: ()}
        state = tmp_path / "state"
        session = apply(
            plan, tracefs, run_id=str(os.getpid()), state_directory=state, bindings=bindings
        )
        sessions.append(session)
        return plan, session

    yield apply_recipe
    for session in sessions:
        if session.receipt is None:
            session.restore()


@pytest.fixture
def instance():
    """An instance of somebody else's, whose CPUs have buffers of different sizes."""
    need_two_cpus()
    path = MOUNT / "instances" / NAME
    path.mkdir()
    for file, text in (
        ("buffer_size_kb", "100"),
        ("per_cpu/cpu0/buffer_size_kb", "300"),
        ("trace_clock", "mono"),
    ):
        fd = os.open(path / file, os.O_WRONLY)
        os.write(fd, text.encode())
        os.close(fd)
    yield path
    path.rmdir()


def shown(file):
    text = (MOUNT / file).read_text().rstrip("\n")
    return text[text.index("[") + 1 : text.index("]")] if file.endswith("trace_clock") else text


@pytest.mark.parametrize(
    "body",
    [
        "",
        "buffer: {size: 1K, watermark: 0}\nclock: mono\n",
        "buffer: {size: 100K}\nscope: {cpus: [0]}\n",
        "buffer: {size: 3M, mode: discard}\noptions: {sym-offset: true, print-parent: true}\n",
        "buffer: {subbuf: 5K}\n",
        "buffer: {subbuf: 64K, size: 1M}\n",
        "buffer: {subbuf: 100K, size: 1K}\n",
    ],
)
def test_every_file_reads_what_the_plan_says(applied, body):
    if "subbuf" in body and not SUBBUF.exists():
        pytest.skip("sub-buffers of one page only")
    plan, _ = applied(body)

    last = {one.file: one for one in plan.steps if isinstance(one, SetFile) and not one.starts}
    planned = {file: one.after for file, one in last.items() if RUNNER not in one.after}
    assert len(planned) > 3
    assert {file: shown(file) for file in planned} == planned


@pytest.mark.parametrize("size", ["size: 1M", "subbuf: 16K", "subbuf: 16K, size: 1M"])
def test_sizes_of_each_cpu_come_back(applied, instance, size):
    if "subbuf" in size and not SUBBUF.exists():
        pytest.skip("sub-buffers of one page only")
    before = snapshot()
    assert before[f"instances/{NAME}/buffer_size_kb"] == "X\n"

    _, session = applied(f"instance: {NAME}\nbuffer: {{{size}}}\n")
    assert differences(before, snapshot()) != {}

    assert session.restore().is_clean
    assert differences(before, snapshot()) == {}


def test_a_buffer_of_one_size_comes_back_from_other_sub_buffers(applied, instance):
    if not SUBBUF.exists():
        pytest.skip("sub-buffers of one page only")
    fd = os.open(instance / "buffer_size_kb", os.O_WRONLY)
    os.write(fd, b"1410")
    os.close(fd)
    before = snapshot()

    _, session = applied(f"instance: {NAME}\nbuffer: {{subbuf: 64K}}\n")

    assert session.restore().is_clean
    assert differences(before, snapshot()) == {}


class WithoutInstances(Tracefs):
    """A mount that shows no instance."""

    def list(self, path=""):
        return () if path == "instances" else super().list(path)


def test_an_instance_lists_the_tracers_that_were_known_without_one(instance):
    known = probe_kernel(WithoutInstances(MOUNT), with_symbols=True).instance_tracers

    assert known is not None
    assert sorted(known) == sorted((instance / "available_tracers").read_text().split())
