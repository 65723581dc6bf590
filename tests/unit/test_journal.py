import contextlib
import itertools
import json
import os
import subprocess
import sys

import pytest

from tests.crash_points import refuse_at, stop_at
from trace_recipe.errors import InstanceBusyError, KernelLacksError
from trace_recipe.journal import Intent, Journal, journals, new_run_id, read_journal


def _begin(directory, run_id="run1", **changes):
    values = {
        "run_id": run_id,
        "recipe": "name",
        "recipe_path": "name.yaml",
        "mount": "/mnt",
        "instance": "i",
        "makes_instance": True,
        "inode": None,
        "before": {"tracing_on": "1\n"},
        **changes,
    }
    return Journal.begin(directory, Intent(**values))


def test_the_pre_image_is_on_disk_before_begin_returns(tmp_path):
    journal = _begin(tmp_path / "state")

    state = read_journal(journal.path)

    assert state.before == {"tracing_on": "1\n"}
    assert state.intended == frozenset()
    assert state.is_this_boot
    assert state.pid == os.getpid()
    journal.discard()


@pytest.mark.parametrize("when", ["before", "after", "torn", "refused"])
def test_a_journal_that_is_not_whole_has_no_name(tmp_path, when):
    stops = []
    for number in itertools.count(1):
        directory = tmp_path / str(number)

        def begin(directory=directory):
            with contextlib.suppress(KernelLacksError):
                _begin(directory)

        stop = stop_at(number, when, begin) if when != "refused" else refuse_at(number, begin)
        if stop is None:
            break
        stops.append(stop.call.split()[0])
        found = [read_journal(path) for path in directory.glob("*")]
        assert None not in found
    assert stops == ["mkdir", "append", "link"]


def test_what_was_intended_and_applied_is_read_back(tmp_path):
    journal = _begin(tmp_path)
    journal.making()
    journal.made(77)
    journal.intend("tracing_on")
    journal.applied("tracing_on", "0\n")
    journal.intend("trace_clock")

    state = read_journal(journal.path)

    assert state.inode == 77
    assert state.is_making
    assert state.intended == {"tracing_on", "trace_clock"}
    assert state.applied == {"tracing_on": "0\n"}
    journal.discard()


def test_a_torn_last_line_is_ignored(tmp_path):
    journal = _begin(tmp_path)
    journal.intend("tracing_on")
    journal.close()
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole + b'{"intend":"trace_cl')

    assert read_journal(journal.path).intended == {"tracing_on"}


def test_a_journal_whose_first_line_is_torn_describes_nothing(tmp_path):
    journal = _begin(tmp_path)
    journal.close()
    journal.path.write_bytes(journal.path.read_bytes()[:-1])

    assert read_journal(journal.path) is None
    assert list(journals(tmp_path)) == []


def test_an_open_journal_is_live_and_cannot_be_adopted(tmp_path):
    journal = _begin(tmp_path)
    state = read_journal(journal.path)

    assert state is not None
    assert state.is_live
    with pytest.raises(InstanceBusyError, match="still alive"):
        Journal.adopt(state)
    journal.close()
    assert not read_journal(journal.path).is_live
    (state,) = journals(tmp_path)
    Journal.adopt(state).discard()
    assert list(tmp_path.iterdir()) == []


def test_the_lock_goes_with_a_killed_process(tmp_path):
    code = (
        "import os, sys, signal; from pathlib import Path; from trace_recipe.journal import Intent, Journal\n"
        "j = Journal.begin(Path(sys.argv[1]), Intent(run_id='dead', recipe='r', recipe_path='r', "
        "mount='/', instance='', makes_instance=False, inode=None, before={}))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment)

    assert done.returncode == -9
    (state,) = journals(tmp_path)
    assert state.run_id == "dead"
    assert not state.is_live


def test_a_state_directory_that_others_can_write_is_refused(tmp_path):
    directory = tmp_path / "open"
    directory.mkdir()
    directory.chmod(0o777)

    with pytest.raises(KernelLacksError, match="not safe to use"):
        _begin(directory)
    assert list(directory.iterdir()) == []


def test_a_state_directory_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")

    with pytest.raises(KernelLacksError, match="not safe to use"):
        _begin(tmp_path / "link")


def test_a_journal_of_another_boot_says_so(tmp_path):
    journal = _begin(tmp_path)
    journal.close()
    head, rest = journal.path.read_text().split("\n", 1)
    entry = {**json.loads(head), "boot_id": "another"}
    journal.path.write_text(json.dumps(entry) + "\n" + rest)

    assert not read_journal(journal.path).is_this_boot


@pytest.mark.skipif(os.geteuid() != 0, reason="root makes what the other may not read")
def test_a_directory_that_may_not_be_read_is_not_taken_for_an_empty_one(tmp_path):
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    os.chmod(tmp_path, 0o755)
    for parent in tmp_path.parents[:-2]:
        os.chmod(parent, 0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(KernelLacksError, match="cannot read the state directory"):
            list(journals(directory))
    finally:
        os.seteuid(0)


def test_run_ids_differ():
    assert len({new_run_id() for _ in range(100)}) == 100


def test_a_second_write_to_a_file_counts_as_cut_short_until_it_is_read_back(tmp_path):
    journal = _begin(tmp_path)
    journal.intend("events/a/b/trigger")
    journal.applied("events/a/b/trigger", "stacktrace:unlimited\n")
    journal.intend("events/a/b/trigger")

    state = read_journal(journal.path)

    assert state.intended == {"events/a/b/trigger"}
    assert state.applied == {}
    journal.discard()


def test_a_run_reads_its_journal_when_its_name_is_gone(tmp_path):
    journal = _begin(tmp_path)
    journal.intend("tracing_on")
    journal.path.unlink()

    assert journal.state().intended == {"tracing_on"}
    journal.discard()


def test_a_journal_that_somebody_else_has_finished_is_told(tmp_path):
    journal = _begin(tmp_path)
    journal.close()
    (state,) = journals(tmp_path)
    journal.path.unlink()

    with pytest.raises(KernelLacksError, match="is gone"):
        Journal.adopt(state)


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o1777])
def test_what_others_can_write_is_not_believed(tmp_path, mode):
    _begin(tmp_path / "state").close()
    (tmp_path / "state").chmod(mode)

    with pytest.raises(KernelLacksError, match="is not safe to use"):
        list(journals(tmp_path / "state"))


def test_a_link_to_a_state_directory_is_not_followed(tmp_path):
    _begin(tmp_path / "state").close()
    (tmp_path / "link").symlink_to("state")

    with pytest.raises(KernelLacksError, match="is not safe to use"):
        list(journals(tmp_path / "link"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_journal_of_somebody_else_is_none(tmp_path):
    journal = _begin(tmp_path / "state")
    journal.close()
    os.chown(journal.path, 65534, 65534)

    assert list(journals(tmp_path / "state")) == []
