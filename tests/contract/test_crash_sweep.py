"""Stop before and after every access of a plan, restore from the journal, compare the whole tree.

Swept twice: for an instance that the plan makes (removing it hides nothing shared), and for one
that was there before with values that somebody else had set.
"""

import os
from functools import partial
from pathlib import Path

import pytest

from tests.tracefs_tree import differences, snapshot
from trace_recipe.executor import apply
from trace_recipe.journal import Journal, journals
from trace_recipe.plan import COMMAND, RUNNER, MakeInstance, Plan, Scope, SetFile
from trace_recipe.restorer import restore
from trace_recipe.tracefs import Tracefs

pytestmark = pytest.mark.tracefs

MOUNT = Path("/sys/kernel/tracing")


class Crash(BaseException):
    """What SIGKILL looks like from inside: nothing is cleaned up."""


class CrashingTracefs(Tracefs):
    """Stops at the n-th system call that changes something, before it or right after it."""

    budget = -1
    is_after = False

    def _at(self, action):
        cls = CrashingTracefs
        cls.budget -= 1
        if cls.budget == 0 and not cls.is_after:
            raise Crash
        result = action()
        if cls.budget == 0:
            raise Crash
        return result

    def instance(self, name):
        return CrashingTracefs(super().instance(name).root)

    def _write_fd(self, fd, path, data):
        while data:
            taken = self._at(partial(os.write, fd, data))
            data = data[taken:]

    def make_instance(self, name):
        self._at(lambda: super(CrashingTracefs, self).make_instance(name))

    def remove_instance(self, name):
        self._at(lambda: super(CrashingTracefs, self).remove_instance(name))


def _plan(instance: str, *, is_new: bool) -> Plan:
    prefix = f"instances/{instance}/"
    sched = "events/sched/sched_switch"

    def put(name, after, *, text=None, truncate=False, also=(), starts=False):
        return SetFile(
            prefix + name, name, None, after, text or after, Scope.PRIVATE, None, "",
            truncate, tuple(prefix + one for one in also), starts,
        )  # fmt: skip

    steps = [
        put("tracing_on", "0"),
        put("buffer_size_kb", "200"),
        put("buffer_percent", "10"),
        put("trace_clock", "mono"),
        put("options/overwrite", "0"),
        put("options/sym-offset", "1"),
        put("tracing_cpumask", "1"),
        put("set_event_pid", "1 2 3", text="1\n2\n3\n", truncate=True),
        put("set_event_notrace_pid", RUNNER, text=f"{RUNNER}\n", truncate=True),
        put(f"{sched}/filter", "prev_prio < 7"),
        put("events/sched/sched_waking/trigger", "stacktrace:count=3", text="stacktrace:3",
            also=("events/sched/sched_waking/enable",)),
        put("events/sched/sched_waking/trigger", "enable_event:sched:sched_wakeup:count=1",
            text="enable_event:sched:sched_wakeup:1",
            also=("events/sched/sched_waking/enable", "events/sched/sched_wakeup/enable")),
        put(f"{sched}/enable", "1"),
        put("tracing_on", "1", starts=True),
    ]  # fmt: skip
    if is_new:
        steps.insert(0, MakeInstance(instance, None))
    return Plan("sweep", "sweep.yaml", "private" if is_new else "named", instance, tuple(steps))


def _write(path: Path, text: str, flags: int = 0) -> None:
    fd = os.open(path, os.O_WRONLY | flags)
    os.write(fd, text.encode())
    os.close(fd)


@pytest.fixture
def messy_instance():
    """An instance as somebody else might have left it."""
    name = f"messy-{os.getpid()}"
    path = MOUNT / "instances" / name
    path.mkdir()
    sched = path / "events/sched"
    _write(sched / "sched_switch/filter", 'prev_prio > 10 && next_comm != "bash"')
    _write(sched / "sched_switch/enable", "1")
    _write(sched / "sched_waking/trigger", "traceoff:5 if prio == 3")
    _write(sched / "sched_waking/trigger", "disable_event:sched:sched_stat_runtime:9")
    _write(sched / "sched_wakeup/enable", "1")
    _write(path / "trace_clock", "boot")
    _write(path / "options/overwrite", "1")
    _write(path / "options/stacktrace", "1")
    _write(path / "buffer_size_kb", "100")
    _write(path / "buffer_percent", "73")
    _write(path / "set_event_pid", "11 12")
    _write(path / "set_event_notrace_pid", "13")
    _write(path / "tracing_cpumask", "2")
    yield name
    path.rmdir()


def _crash_at(plan: Plan, point: int, *, is_after: bool, state: Path) -> bool:
    """Run the plan until the point; return whether it was reached."""
    CrashingTracefs.budget = point
    CrashingTracefs.is_after = is_after
    bindings = {RUNNER: (os.getpid(),), COMMAND: ()}
    tracefs = CrashingTracefs(MOUNT)
    try:
        session = apply(plan, tracefs, run_id=f"r{point}", state_directory=state, bindings=bindings)
        session.start()
        session.restore()
    except Crash:
        return True
    return False


def _recover(state_directory: Path) -> None:
    import gc

    gc.collect()  # a killed process drops its lock; here the journal object has to go
    for state in journals(state_directory):
        restore(state, Tracefs(MOUNT), Journal.adopt(state))


def _sweep(plan_of, tmp_path: Path, is_after: bool) -> int:
    before = snapshot()
    point = 1
    while True:
        state = tmp_path / f"state-{point}"
        reached = _crash_at(plan_of(point), point, is_after=is_after, state=state)
        _drop_locks()
        _recover(state)
        assert differences(before, snapshot()) == {}, f"at point {point}, after={is_after}"
        assert not list(state.glob("*.journal"))
        if not reached:
            return point - 1
        point += 1


def _drop_locks() -> None:
    """Close the journals that the crashed run of this process still holds."""
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.endswith(".journal"):
            os.close(int(link.name))


@pytest.mark.parametrize("is_after", [False, True])
def test_a_crash_at_any_point_of_a_new_instance_is_undone(tmp_path, untouched, is_after):
    def plan_of(point):
        return _plan(f"sweep-{os.getpid()}-{point}", is_new=True)

    assert _sweep(plan_of, tmp_path, is_after) >= 17


@pytest.mark.parametrize("is_after", [False, True])
def test_a_crash_at_any_point_in_somebody_elses_instance_is_undone(
    tmp_path, messy_instance, is_after
):
    def plan_of(point):
        return _plan(messy_instance, is_new=False)

    assert _sweep(plan_of, tmp_path, is_after) >= 25


def test_restoring_twice_is_the_same_as_once(tmp_path, messy_instance):
    before = snapshot()
    state = tmp_path / "state"
    assert _crash_at(_plan(messy_instance, is_new=False), 12, is_after=True, state=state)
    _drop_locks()
    (first,) = journals(state)
    copy = first.path.read_bytes()
    _recover(state)
    first.path.write_bytes(copy)

    _recover(state)

    assert differences(before, snapshot()) == {}


def test_what_somebody_else_changed_meanwhile_is_left_and_reported(tmp_path, messy_instance):
    tracefs = Tracefs(MOUNT)
    session = apply(
        _plan(messy_instance, is_new=False),
        tracefs,
        run_id="foreign",
        state_directory=tmp_path / "state",
        bindings={RUNNER: (os.getpid(),), COMMAND: ()},
    )
    path = MOUNT / "instances" / messy_instance
    _write(path / "buffer_percent", "99")

    receipt = session.restore()

    (foreign,) = [line for line in receipt.lines if line.outcome == "foreign"]
    assert foreign.file.endswith("/buffer_percent")
    assert (path / "buffer_percent").read_text() == "99\n"
    assert (path / "trace_clock").read_text().split("[")[1].startswith("boot]")
