"""Names that somebody else has chosen: a terminal shows them, and does not obey them."""

import json
import os
import subprocess
import sys

import pytest

from trace_recipe import cli
from trace_recipe.invoker import find_invoker
from trace_recipe.journal import Intent, Journal
from trace_recipe.restorer import _holders

NAME = "a\x1b[2J\x1b]0;owned\x07\u202e"
RECIPE = "recipe: v1\nname: mine\nevents: ['sched:sched_switch']\n"
COMM = rb"\x1b[2J\xff\n\xc3"
HOLDER = f"""
import ctypes, sys
ctypes.CDLL(None).prctl(15, b"{COMM.decode()}", 0, 0, 0)
held = open(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def shown(monkeypatch, capfd):
    """Run the command line in this process; return what it printed."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["trace-recipe", *map(str, words)])
        for name in ("stdout", "stderr"):  # the command line puts its own in their place
            monkeypatch.setattr(sys, name, getattr(sys, name))
        with pytest.raises(SystemExit):
            cli.main()
        sys.stdout.flush()
        sys.stderr.flush()
        printed = capfd.readouterr()
        return printed.out + printed.err

    return run


def is_harmless(text):
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize("words", [("validate",), ("validate", "--kernel", "CATALOGUE")])
def test_the_name_of_a_recipe_file(shown, tmp_path, words, request):
    path = tmp_path / f"{NAME}.yaml"
    path.write_text(RECIPE)
    catalogue = request.path.parent.parent / "golden" / "kernels" / "rich-6.12.json"

    text = shown(*(str(catalogue) if one == "CATALOGUE" else one for one in words), path)

    assert "\\x1b[2J" in text
    assert ": ok" in text
    assert is_harmless(text)


def test_who_pins_an_instance_in_the_status(shown, tmp_path):
    intent = Intent(
        run_id="run1",
        recipe="mine",
        recipe_path=f"{NAME}.yaml",
        mount="/mnt",
        instance="i",
        makes_instance=True,
        inode=None,
        before={},
    )
    journal = Journal.begin(tmp_path / "state", intent)
    journal.pinned(f"{NAME} (pid 1)")
    journal.close()

    text = shown("status", "--state-dir", tmp_path / "state")

    assert "pinned: a\\x1b[2J" in text
    assert is_harmless(text)


def test_a_process_whose_name_is_no_text_is_found_among_those_that_hold_a_file(tmp_path):
    (tmp_path / "file").touch()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "file")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        found = _holders(str(tmp_path))
    finally:
        holder.communicate()

    assert f"(pid {holder.pid})" in found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can read more than its invoker")
def test_under_sudo_a_catalogue_is_read_with_the_invoking_users_rights(
    shown, tmp_path, monkeypatch
):
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"password": "hunter2"}))
    secret.chmod(0o600)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    for parent in (tmp_path, *tmp_path.parents[:-2]):
        parent.chmod(0o755)
    monkeypatch.setenv("SUDO_UID", "65534")
    monkeypatch.setenv("SUDO_GID", "65534")

    text = shown("check", "--kernel", secret, recipe)

    assert "Permission denied" in text
    assert "password" not in text


@pytest.mark.parametrize(
    "words", [("plan", "--kernel", "CATALOGUE", "RECIPE"), ("init", "new"), ("validate", "RECIPE")]
)
def test_a_current_directory_that_is_gone_is_told(shown, tmp_path, monkeypatch, request, words):
    recipe, gone = tmp_path / "recipe.yaml", tmp_path / "gone"
    recipe.write_text(RECIPE + "outputs: [{text: out.txt}]\n")
    kernels = request.path.parent.parent / "golden" / "kernels"
    paths = {"RECIPE": recipe, "CATALOGUE": kernels / "rich-6.12.json"}
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        text = shown(*(paths.get(word, word) for word in words))
    finally:
        monkeypatch.undo()  # the next test starts where there is a directory

    assert (": ok" if "validate" in words else "the current directory cannot be used") in text


@pytest.mark.parametrize("uid", ["4294967295", "4294967296", "9" * 50, "\u00b2", "-1", "1 2", ""])
def test_what_is_no_user_id_is_nobodys(uid):
    assert find_invoker({"SUDO_UID": uid}).uid == os.getuid()
