"""`run` from its recipe to its outputs on the real tracefs, ended in every way there is."""

import csv
import json
import os
import random
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import jsonschema
import pytest

from tests.conftest import ROOT
from tests.tracefs_tree import differences, is_recording, snapshot
from trace_recipe.processes import process

pytestmark = pytest.mark.tracefs

INSTANCES = Path("/sys/kernel/tracing/instances")
QUICK = """
recipe: v1
name: quick
events:
  - event: raw_syscalls:sys_enter
    filter: id == 39
scope: {pids: [command], follow: true}
run: {command: [/bin/sh, -c, "for i in 1 2 3; do /bin/true; done; sleep 0.05"]}
outputs:
  - jsonl: events.jsonl
  - text: events.txt
  - csv: events.csv
  - trace-dat: events.dat
"""
SCHED = """
recipe: v1
name: sched
events: ["sched:sched_switch", "sched:sched_waking"]
duration: 300ms
outputs: [{text: out.txt}]
"""
ENDLESS = """
recipe: v1
name: endless
events: ["sched:sched_switch"]
duration: 60s
outputs: [{text: out.txt}]
"""


def _wait_for_instance(name: str, running: subprocess.Popen[str] | None = None) -> Path:
    ends_at = time.monotonic() + 30
    while time.monotonic() < ends_at:
        for path in INSTANCES.iterdir():
            if name in path.name and is_recording(path):
                return path
        if running is not None and running.poll() is not None:
            raise AssertionError(f"it ended: {running.communicate()}")
        time.sleep(0.005)
    raise AssertionError("no instance appeared")


def _records(text: str):
    """Return the objects of JSON lines: events, and what was lost where others keep a CPU busy."""
    return [json.loads(line) for line in text.splitlines()]


def test_a_run_writes_all_four_outputs_with_the_same_events(cli, recipe, untouched):
    path = recipe(
        SCHED.replace(
            "[{text: out.txt}]",
            "[{text: o.txt}, {jsonl: o.jsonl}, {csv: o.csv},"
            " {trace-dat: {path: o.dat, readable_by: everyone}}]",
        )
    )

    done = cli("run", str(path))

    assert done.returncode == 0, done.stderr
    assert "(duration)" in done.stderr
    texts = [
        line
        for line in (cli.directory / "o.txt").read_text().split("\n")
        if line and not line.startswith("#")
    ]
    with (cli.directory / "o.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    records = _records((cli.directory / "o.jsonl").read_text())
    count = sum("event" in one for one in records)
    assert count > 0
    assert len(records) == len(texts) == len(rows)
    told = re.match(rf"sched: {count} events in (\d+\.\d\d) s", done.stderr)
    assert told and float(told[1]) >= 0.3
    assert (cli.directory / "o.dat").read_bytes()[3:10] == b"tracing"
    assert (cli.directory / "o.txt").stat().st_mode & 0o777 == 0o600
    assert (cli.directory / "o.dat").stat().st_mode & 0o777 == 0o644


def test_the_runner_is_not_in_its_own_trace(cli, recipe, untouched):
    path = recipe(SCHED.replace('"sched:sched_switch", "sched:sched_waking"', "raw_syscalls:*"))
    running = cli.start("run", str(path), "--recording", "r.rec")
    while running.poll() is None:
        time.sleep(0.01)  # a system call for the trace
    _, err = running.communicate(timeout=60)

    assert running.returncode == 0, err
    report = cli("report", "r.rec", "--as", "jsonl").stdout
    pids = {one["pid"] for one in _records(report) if "event" in one}
    assert pids
    assert running.pid not in pids


def test_a_command_is_traced_alone_and_its_end_ends_the_run(cli, recipe, untouched):
    path = recipe(
        "recipe: v1\nname: cmd\nevents: ['sched:sched_process_exec']\n"
        "scope: {pids: [command], follow: true}\n"
        "run: {command: [/bin/sh, -c, '/bin/true; /bin/true'], environment: {ANSWER: '42'}}\n"
        "outputs: [{jsonl: o.jsonl}]\n"
    )

    done = cli("run", str(path))

    assert done.returncode == 0, done.stderr
    assert "command ended with status 0" in done.stderr
    records = _records((cli.directory / "o.jsonl").read_text())
    names = [one["fields"]["filename"] for one in records]
    assert names == ["/bin/sh", "/bin/true", "/bin/true"]


TALKING = """
recipe: v1
name: talking
events: ["sched:sched_process_exec"]
scope: {pids: [command]}
run: {command: [/bin/sh, -c, 'echo said; exec /bin/true']}
outputs: [%s]
"""


def test_what_a_command_prints_does_not_get_among_the_results(cli, recipe, untouched):
    done = cli("run", str(recipe(TALKING % '{jsonl: "-"}')))
    assert [one["pid"] for one in _records(done.stdout)]
    assert done.stderr.splitlines()[0] == "said"

    done = cli("run", str(recipe(TALKING % "{jsonl: o.jsonl}")), "--json")
    assert json.loads(done.stdout)["ok"]
    assert done.stderr == "said\n"

    done = cli("run", str(recipe(TALKING % "{jsonl: o.jsonl}")))
    assert done.stdout == "said\n"


def test_a_command_that_takes_too_long_ends_with_all_that_it_has_started(cli, recipe, untouched):
    path = recipe(
        "recipe: v1\nname: late\nevents: ['sched:sched_process_exec']\n"
        "run:\n  command: [/bin/sh, -c, '(sleep 1000 & echo $! > pid); sleep 1000']\n"
        "  timeout: 2s\noutputs: [{jsonl: o.jsonl}]\n"
    )

    done = cli("run", str(path))

    assert done.returncode == 0, done.stderr
    assert "command timed out" in done.stderr
    assert process(int((cli.directory / "pid").read_text())) is None


def test_a_command_that_does_not_exist_is_explained_and_everything_restored(cli, recipe, untouched):
    path = recipe(
        "recipe: v1\nname: cmd\nevents: ['sched:sched_switch']\n"
        "run: {command: [/no/such/program]}\noutputs: [{jsonl: o.jsonl}]\n"
    )

    done = cli("run", str(path))

    assert done.returncode == 2
    assert "cannot run '/no/such/program': No such file or directory (ENOENT)" in done.stderr
    assert "state: restored" in done.stderr
    assert not (cli.directory / "o.jsonl").exists()


@pytest.mark.parametrize(
    ("signal_number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGHUP, 130)]
)
def test_a_signal_ends_the_recording_early_with_outputs_and_restore(
    cli, recipe, untouched, signal_number, status
):
    running = cli.start("run", str(recipe(ENDLESS)))
    _wait_for_instance("endless", running)
    time.sleep(0.2)
    running.send_signal(signal_number)
    _, err = running.communicate(timeout=60)

    assert running.returncode == status, err
    assert f"interrupted by {signal.Signals(signal_number).name}" in err
    assert (cli.directory / "out.txt").read_text().count("sched_switch:") > 0


# Ctrl-C is the interpreter's own affair while it starts: what a .pth file imports may swallow it.
FROM_THE_FIRST_LINE_OF_OURS = """
import signal
signal.signal(signal.SIGINT, signal.SIG_DFL)
print("started", flush=True)
from trace_recipe.__main__ import main
main()
"""


def test_ctrl_c_at_a_random_moment_leaves_nothing_behind(cli, recipe, untouched):
    path = recipe(ENDLESS)
    generator = random.Random(20261122)
    for _ in range(12):
        running = cli.start("run", str(path), "-q", program=FROM_THE_FIRST_LINE_OF_OURS)
        assert running.stdout is not None
        assert running.stdout.readline() == "started\n"
        time.sleep(generator.uniform(0, 1.2))
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)

        assert running.returncode in {130, -2}, err
        assert "Traceback" not in err
        assert not list(INSTANCES.glob("*endless*"))


def test_a_second_ctrl_c_skips_the_outputs_but_never_the_restore(cli, recipe, untouched):
    running = cli.start("run", str(recipe(ENDLESS)))
    _wait_for_instance("endless", running)
    running.send_signal(signal.SIGSTOP)
    running.send_signal(signal.SIGINT)
    running.send_signal(signal.SIGTERM)
    running.send_signal(signal.SIGCONT)
    _, err = running.communicate(timeout=60)

    assert running.returncode == 130, err
    assert "outputs were skipped" in err
    assert not (cli.directory / "out.txt").exists()


def test_without_a_guardian_kill_9_leaves_a_journal_that_recover_finishes(cli, recipe, untouched):
    running = cli.start("run", str(recipe(ENDLESS)))
    path = _wait_for_instance("endless", running)
    status_live = cli("status", "--json")
    cli.kill(running, with_guardian=True)

    assert path.exists()
    assert json.loads(status_live.stdout)[0]["state"] == "live"
    assert json.loads(cli("status", "--json").stdout)[0]["state"] == "dead"
    done = cli("recover")
    assert done.returncode == 0, done.stderr
    assert "restored" in done.stdout
    assert not path.exists()
    assert cli("recover").stdout == "nothing to recover\n"


@pytest.mark.parametrize("with_guardian", [False, True])
def test_kill_9_at_random_moments_can_always_be_recovered(cli, recipe, untouched, with_guardian):
    path = recipe(ENDLESS)
    generator = random.Random(1)
    for _ in range(6):
        running = cli.start("run", str(path), "-q")
        time.sleep(generator.uniform(0.1, 1.0))
        cli.kill(running, with_guardian=with_guardian)
        done = cli("recover")
        assert done.returncode == 0, done.stderr
        assert not list(INSTANCES.glob("*endless*"))


def test_restore_ends_a_living_run(cli, recipe, untouched):
    running = cli.start("run", str(recipe(ENDLESS)))
    _wait_for_instance("endless", running)
    run_id = json.loads(cli("status", "--json").stdout)[0]["run_id"]

    done = cli("restore", run_id)

    assert done.returncode == 0, done.stderr
    assert "ended and restored" in done.stdout
    running.communicate(timeout=60)
    assert running.returncode == 130


def test_a_named_instance_that_was_there_is_put_back_exactly(cli, recipe):
    name = f"tr-test-{os.getpid()}"
    instance = INSTANCES / name
    instance.mkdir()
    try:
        _mess_up(instance)
        before = snapshot()
        path = recipe(
            f"recipe: v1\nname: named\ninstance: {name}\n"
            "events:\n"
            "  - {event: 'sched:sched_switch', filter: 'prev_prio < 100'}\n"
            "  - {event: 'sched:sched_waking', triggers: ['stacktrace:3']}\n"
            "clock: mono\noptions: {stacktrace: true}\nbuffer: {size: 1M, watermark: 10}\n"
            "scope: {cpus: [0]}\nduration: 200ms\noutputs: [{text: o.txt}]\n"
        )

        done = cli("run", str(path))

        assert done.returncode == 0, done.stderr
        assert differences(before, snapshot()) == {}
    finally:
        instance.rmdir()


def _mess_up(instance: Path) -> None:
    """Set what somebody else might have set."""

    def write(file: str, text: str) -> None:
        fd = os.open(instance / file, os.O_WRONLY)
        os.write(fd, text.encode())
        os.close(fd)

    write("events/sched/sched_switch/filter", 'prev_prio > 10 && next_comm != "bash"')
    write("events/sched/sched_switch/enable", "1")
    write("events/sched/sched_waking/trigger", "traceoff:5 if pid < 0")
    write("events/sched/sched_waking/filter", "prio < 200")
    write("trace_clock", "boot")
    write("options/sym-offset", "1")
    write("options/overwrite", "0")
    write("buffer_size_kb", "100")
    write("buffer_percent", "73")
    write("set_event_notrace_pid", "1 2 4711")
    write("tracing_cpumask", "2")
    write("tracing_on", "0")


def test_the_receipt_and_the_manifest_are_in_the_recording(cli, recipe, untouched):
    done = cli("run", str(recipe(SCHED)), "--recording", "kept.rec")

    assert done.returncode == 0, done.stderr
    manifest = json.loads((cli.directory / "kept.rec/manifest.json").read_text())
    schema = json.loads((ROOT / "schema/manifest.v1.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(manifest)
    assert manifest["exit_reason"] == "duration"
    assert {line["outcome"] for line in manifest["receipt"]} == {"restored"}
    records = _records(cli("report", "kept.rec", "--as", "jsonl").stdout)
    assert manifest["events"] == sum("event" in one for one in records)


def test_real_event_records_fit_their_schema(cli, recipe, untouched):
    cli("run", str(recipe(SCHED)), "--recording", "kept.rec")
    lines = cli("report", "kept.rec", "--as", "jsonl").stdout.splitlines()
    schema = json.loads((ROOT / "schema/event.v1.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)

    assert len(lines) > 0
    for line in lines[:200]:
        validator.validate(json.loads(line))


def test_lost_events_are_told_and_can_fail_the_run(cli, recipe, untouched):
    path = recipe(
        "recipe: v1\nname: lossy\nevents: ['raw_syscalls:*']\n"
        "buffer: {size: 8K, watermark: 100}\n"
        "run: {command: [/usr/bin/dd, if=/dev/zero, of=/dev/null, bs=1, count=400000]}\n"
        "loss: {max: 0, action: fail}\noutputs: [{jsonl: o.jsonl}]\n"
    )

    done = cli("run", str(path))

    assert done.returncode == 7, done.stderr
    assert "events were lost, 0 are tolerated" in done.stderr
    assert "state: restored" in done.stderr
    records = _records((cli.directory / "o.jsonl").read_text())
    gaps = [record for record in records if "event" not in record]
    assert len(gaps) > 0


def test_a_counted_trigger_keeps_its_count_for_the_recording(cli, recipe, untouched):
    path = recipe(
        SCHED.replace(
            '["sched:sched_switch", "sched:sched_waking"]',
            "[{event: 'sched:sched_switch', triggers: ['stacktrace:3']}]",
        )
    )

    done = cli("run", str(path))

    assert done.returncode == 0, done.stderr
    assert (cli.directory / "out.txt").read_text().count("<stack trace>") == 3


def test_an_event_that_a_trigger_switches_on_is_decoded_by_its_name(cli, recipe, untouched):
    trigger = "enable_event:sched:sched_wakeup:1"
    path = recipe(
        SCHED.replace(
            '["sched:sched_switch", "sched:sched_waking"]',
            f"[{{event: 'sched:sched_switch', triggers: ['{trigger}']}}]",
        )
    )

    done = cli("run", str(path))

    assert done.returncode == 0, done.stderr
    text = (cli.directory / "out.txt").read_text()
    assert " sched_wakeup: comm=" in text
    assert "unknown" not in text


@pytest.mark.parametrize("is_killed", [False, True], ids=["ended", "killed"])
def test_an_event_that_a_trigger_has_switched_on_is_off_again(cli, recipe, is_killed):
    instance = INSTANCES / f"tr-test-{os.getpid()}"
    trigger = "enable_event:sched:sched_wakeup:1"
    path = recipe(
        f"recipe: v1\nname: switched\ninstance: {instance.name}\nduration: 60s\n"
        f"events: [{{event: 'sched:sched_switch', triggers: ['{trigger}']}}]\n"
        "outputs: [{text: o.txt}]\n"
    )
    instance.mkdir()
    try:
        before = snapshot()
        running = cli.start("run", str(path), "--allow-shared")
        _wait_for_instance(instance.name, running)
        while not (instance / "events/sched/sched_wakeup/enable").read_text().startswith("1"):
            assert running.poll() is None
        if is_killed:
            cli.kill(running, with_guardian=True)
            done = cli("recover")
            assert done.returncode == 0, done.stderr
        else:
            running.send_signal(signal.SIGINT)
            _, err = running.communicate(timeout=60)
            assert running.returncode == 130, err
            assert "left because" not in err
        assert differences(before, snapshot()) == {}
    finally:
        instance.rmdir()


def test_stop_after_events_and_after_bytes(cli, recipe, untouched):
    by_events = recipe(SCHED.replace("duration: 300ms", "stop: {events: 50}"), "a.yaml")
    by_bytes = recipe(
        SCHED.replace("duration: 300ms", "stop: {bytes: 4K}\nbuffer: {watermark: 0}"), "b.yaml"
    )

    assert "50 events recorded" in cli("run", str(by_events)).stderr
    assert "4096 bytes recorded" in cli("run", str(by_bytes)).stderr


def test_an_unwritable_output_fails_before_anything_is_touched(cli, recipe, untouched):
    path = recipe(SCHED.replace("out.txt", "nothing/out.txt"))

    done = cli("run", str(path))

    assert done.returncode == 4
    assert "cannot open output 'nothing/out.txt'" in done.stderr
    assert "state: untouched" in done.stderr
    assert list(cli.state.iterdir()) == []


def test_a_disk_that_is_mounted_below_dev_too_still_takes_outputs(cli, recipe, untouched):
    (cli.directory / "mounted").mkdir()
    mount = 'mount --bind "$0" /dev/pts && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", mount, str(cli.directory / "mounted")]

    done = subprocess.run(
        [*words, *cli.command("run", str(recipe(SCHED)))],
        cwd=cli.directory, env=cli.environment(), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert (cli.directory / "out.txt").stat().st_size > 0


def test_an_output_never_follows_a_link(cli, recipe, untouched):
    victim = cli.directory / "victim"
    victim.write_text("precious")
    (cli.directory / "out.txt").symlink_to(victim)

    done = cli("run", str(recipe(SCHED)))

    assert done.returncode == 4
    assert "is a symbolic link" in done.stderr
    assert victim.read_text() == "precious"


def test_a_full_disk_stops_the_recording_restores_and_says_so(cli, recipe, untouched):
    disk = cli.directory / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", disk], check=True)
    try:
        path = recipe(
            "recipe: v1\nname: full\nevents: ['raw_syscalls:*']\n"
            "run: {command: [/usr/bin/dd, if=/dev/zero, of=/dev/null, bs=1, count=2000000]}\n"
            "outputs: [{csv: o.csv}]\n"
        )
        done = cli("run", str(path), "--recording", str(disk / "rec"))

        assert done.returncode == 4, done.stderr
        assert "broke off: No space left on device (ENOSPC)" in done.stderr
        assert "restored" in done.stderr
        assert len((cli.directory / "o.csv").read_text().splitlines()) > 1000
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_user_without_rights_is_told_what_to_do(cli, recipe, untouched):
    path = recipe(SCHED)
    # Nobody may write the coverage of this run.
    environment = {
        key: value for key, value in cli.environment().items() if not key.startswith("COVERAGE")
    }
    nobody = ["setpriv", "--reuid", "65534", "--clear-groups", "--regid", "65534"]
    unreadable = subprocess.run(
        [*nobody, *cli.command("run", str(path))],
        cwd="/", env=environment, capture_output=True, text=True,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        readable = Path(directory) / "recipe.yaml"
        readable.write_text(SCHED)
        done = subprocess.run(
            [*nobody, *cli.command("run", str(readable))],
            cwd=directory, env=environment, capture_output=True, text=True,
        )  # fmt: skip

    assert unreadable.returncode == 2, unreadable.stderr
    assert "cannot read recipe" in unreadable.stderr
    assert done.returncode == 3, done.stderr
    assert "Permission denied" in done.stderr
    assert "sudo" in done.stderr
    assert "Traceback" not in done.stderr + unreadable.stderr


def test_what_a_kernel_lacks_is_exit_3_with_nothing_written(cli, recipe, untouched):
    path = recipe(
        "recipe: v1\nname: lacks\ntracer: function\nfunctions: {only: [vfs_read]}\n"
        "duration: 1s\noutputs: [{text: o.txt}]\n"
    )

    done = cli("run", str(path))

    assert done.returncode == 3
    assert "EPERM" in done.stderr
    assert "state: untouched" in done.stderr
    assert not (cli.directory / "o.txt").exists()
