"""What the next command does about a run that nobody could put back: after a reboot, on a terminal."""

import json
import os
import pty
import select
import time
from pathlib import Path

import pytest

from tests.tracefs_tree import differences, is_recording, snapshot

pytestmark = pytest.mark.tracefs

INSTANCES = Path("/sys/kernel/tracing/instances")
CRASHED = """
recipe: v1
name: crashed
events: [sched:sched_process_exec]
duration: 60s
outputs: [{text: crashed.txt}]
"""
NEXT = CRASHED.replace("crashed", "next").replace("60s", "50ms")


@pytest.fixture
def crashed(cli, recipe, untouched):
    """Kill a run and its guardian; return the instance that they leave."""
    running = cli.start("run", str(recipe(CRASHED, "crashed.yaml")))
    ends_at = time.monotonic() + 60
    while not any(map(is_recording, INSTANCES.glob("*crashed*"))):
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < ends_at
        time.sleep(0.01)
    cli.kill(running, with_guardian=True)
    (instance,) = INSTANCES.glob("*crashed*")
    yield instance
    cli("recover", "--all")


def _rewrite(journal: Path, boot_id: str) -> str:
    """Let a journal be of another boot; return which one it was of."""
    head, rest = journal.read_text().split("\n", 1)
    entry = json.loads(head)
    was, entry["boot_id"] = entry["boot_id"], boot_id
    journal.write_text(json.dumps(entry) + "\n" + rest)
    return str(was)


def test_after_a_reboot_a_journal_is_archived_and_nothing_is_done(cli, recipe, crashed):
    (journal,) = cli.state.glob("*.journal")
    boot_id = _rewrite(journal, "0b07-of-before")
    before = snapshot()

    other = cli("run", str(recipe(NEXT)))
    done = cli("recover", "--all")
    kept = [path.suffix for path in cli.state.glob(f"{journal.stem}.*")]
    after = snapshot()
    (archived,) = cli.state.glob("*.archived")
    archived.rename(journal)
    _rewrite(journal, boot_id)

    assert other.returncode == 0, other.stderr
    assert journal.stem not in other.stderr
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{journal.stem}: the machine was rebooted since; nothing to put back" in done.stdout
    assert kept == [".archived"]
    assert crashed.exists()
    assert differences(before, after) == {}


def _on_a_terminal(cli, words: list[str], answer: bytes) -> tuple[int, str]:
    """Run on a terminal, and answer the question; return the status and what was shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cli.directory)
        os.execve(words[0], words, cli.environment())
    shown = b""
    ends_at = time.monotonic() + 60
    while time.monotonic() < ends_at:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
        if answer and b"[Y/n] " in shown:
            os.write(terminal, answer)
            answer = b""
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


def test_the_next_run_on_a_terminal_offers_to_put_a_killed_one_back(cli, recipe, crashed):
    (journal,) = cli.state.glob("*.journal")
    words = cli.command("run", str(recipe(NEXT)))

    refused = _on_a_terminal(cli, words, b"n\n")
    is_left = crashed.exists()
    done = _on_a_terminal(cli, words, b"\n")

    question = f"run {journal.stem} of 'crashed' was killed and is not put back; do it now? [Y/n]"
    assert refused[0] == done[0] == 0, (refused, done)
    assert question in refused[1]
    assert f"trace-recipe recover {journal.stem} --state-dir {cli.state}" in refused[1]
    assert is_left
    assert question in done[1]
    assert not crashed.exists()
    assert not journal.exists()
