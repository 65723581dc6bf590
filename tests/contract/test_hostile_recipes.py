"""Recipes that mean harm, as root on the running kernel: each is refused before anything is written.

`tests/hostile_recipes/cases.json` has one entry per recipe: the exit status, the first line of every
problem, and where needed --set and --allow arguments and what lies beside the recipe. After a change
of the messages, `TRACE_RECIPE_REGENERATE=1` rewrites the answers; read the difference.
"""

import json
import os
import re
import shutil
import signal
import socket
import stat
import sys
from pathlib import Path

import pytest

from tests.tracefs_tree import differences, snapshot
from trace_recipe import cli

pytestmark = pytest.mark.tracefs

HOSTILE = Path(__file__).parent.parent / "hostile_recipes"
CASES = json.loads((HOSTILE / "cases.json").read_text())
REGENERATES = os.environ.get("TRACE_RECIPE_REGENERATE") == "1"
HEADING = re.compile(r"(?:\S+:\d+:\d+|--set:1:\d+): error: (?P<what>.+)")
LIMIT_S = 120
PARTS = ("why", "fix")
TARGETS = ("/etc/passwd", "/etc/shadow", "/proc/sys/kernel/core_pattern")
FOLDERS = ("/etc/cron.d", "/dev", "/sys/fs/cgroup", "/sys/kernel/tracing/instances")


def make_parts(path):
    """What recipes include."""
    shutil.copytree(HOSTILE / "parts", path)
    for number in range(1, 12):
        (path / f"deep-{number}.yaml").write_text(
            f"recipe: v1\ninclude: [deep-{number + 1}.yaml]\n"
        )
    for number in range(70):
        (path / f"many-{number}.yaml").write_text("recipe: v1\n")
    (path / "large.yaml").write_text("recipe: v1\n# " + "x" * (1 << 20))


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)  # a whole path may be too long for one


def make_full_folder(path):
    path.mkdir()
    (path / "mine.csv").write_text("mine\n")


def make_listed_folder(path):
    path.mkdir()
    (path / ".trace-recipe").symlink_to("../../outside/keep.txt")


MAKERS = {
    "parts": make_parts,
    "link-out": lambda path: path.symlink_to("../outside/secret.yaml"),
    "link-nowhere": lambda path: path.symlink_to("../outside/nothing"),
    "link-to-itself": lambda path: path.symlink_to(path.name),
    "link-to-shadow": lambda path: path.symlink_to("/etc/shadow"),
    "link-to-zero": lambda path: path.symlink_to("/dev/zero"),
    "link-to-mem": lambda path: path.symlink_to("/proc/self/mem"),
    "link-to-tracefs": lambda path: path.symlink_to("/sys/kernel/tracing/tracing_on"),
    "link-to-folder": lambda path: path.symlink_to("../outside"),
    "fifo": os.mkfifo,
    "device": lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5)),
    "block-device": lambda path: os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(7, 0)),
    "socket": make_socket,
    "directory": Path.mkdir,
    "full-folder": make_full_folder,
    "listed-folder": make_listed_folder,
}


def tree(root):
    """Return what identifies every file below a directory, and what it holds."""
    found = {}
    for folder, names, files in os.walk(root):
        for path in (Path(folder, name) for name in (*names, *files)):
            status = path.lstat()
            is_file = stat.S_ISREG(status.st_mode)
            content = (status.st_mtime_ns, path.read_bytes()) if is_file else None
            found[str(path)] = (status.st_ino, status.st_mode, content)
    return found


@pytest.fixture
def answer(monkeypatch, capfd):
    """Run the command line in this process; return its exit status and all that it printed."""

    def hangs(*_):
        pytest.fail(f"it hangs: {sys.argv}")  # no Exception, so that nothing takes it

    before = signal.signal(signal.SIGALRM, hangs)

    def run(words):
        signal.alarm(LIMIT_S)
        monkeypatch.setattr(sys, "argv", ["trace-recipe", *words])
        for name in ("stdout", "stderr"):  # the command line puts its own in their place
            monkeypatch.setattr(sys, name, getattr(sys, name))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        signal.alarm(0)
        sys.stdout.flush()
        sys.stderr.flush()
        printed = capfd.readouterr()
        return int(ended.value.code or 0), printed.out + printed.err

    yield run
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def arguments(case, recipe, state):
    words = ["run", "--state-dir", str(state), recipe]
    for text in case.get("set", ()):
        words += ["--set", text]
    for name in case.get("allow", ()):
        words += ["--allow", name]
    return words


def is_answer(problems, expected):
    """Tell whether they are the same; what ends in '…' goes on as the machine has it."""
    pairs = zip(problems, expected, strict=False)
    return len(problems) == len(expected) and all(
        one.startswith(wanted[:-1]) if wanted.endswith("…") else one == wanted
        for one, wanted in pairs
    )


def faults(message):
    """Yield what a refusal lacks, or has too much."""
    if "Traceback" in message:
        yield "a traceback"
    if not message.endswith("  state: untouched\n"):
        yield "it does not end with its state"
    if any(not char.isprintable() for char in message.replace("\n", "")):
        yield "control characters"
    if "hostile$secret" in message:
        yield "what a file holds that lies outside"
    for block in re.split(r"^(?=\S+:\d+:\d+: error: )", message, flags=re.MULTILINE)[1:]:
        yield from (f"no {part} in: {block}" for part in PARTS if f"\n  {part}: " not in block)


def test_every_recipe_has_a_case_and_every_case_a_recipe():
    found = {str(path.relative_to(HOSTILE).with_suffix("")) for path in HOSTILE.glob("*/*.yaml")}
    assert {name for name in found if not name.startswith("parts/")} == set(CASES)
    assert len(CASES) >= 120


def test_no_hostile_recipe_touches_anything(answer, tmp_path, monkeypatch):
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "outside").mkdir()
    for name in ("secret.yaml", "keep.txt"):
        (tmp_path / "outside" / name).write_text("hostile$secret: [\n")
    before = snapshot()
    targets = {path: Path(path).read_bytes() for path in TARGETS}
    folders = {path: sorted(os.listdir(path)) for path in FOLDERS}
    wrong: dict[str, object] = {}
    for name, case in CASES.items():
        here = tmp_path / name.replace("/", "-")
        here.mkdir()
        monkeypatch.chdir(here)
        recipe = Path(f"{name.partition('/')[2]}.yaml")
        shutil.copy(HOSTILE / f"{name}.yaml", recipe)
        for one in case.get("have", ()):
            MAKERS[one](here / one)
        kept = tree(tmp_path)
        status, message = answer(arguments(case, str(recipe), tmp_path / "state"))
        problems = [match[0] for match in HEADING.finditer(message)]
        if status != case.get("exit") or not is_answer(problems, case["problems"]):
            wrong[f"{name}: another answer"] = (status, problems)
            case.update(exit=status, problems=problems)
        if found := [*faults(message), *([] if problems else ["no problem"])]:
            wrong[name] = (found, message)
        if changed := differences(kept, tree(tmp_path)):
            wrong[f"{name}: files"] = changed
        shutil.rmtree(here)
    if REGENERATES:
        (HOSTILE / "cases.json").write_text(json.dumps(CASES, indent=1, ensure_ascii=False) + "\n")
    assert wrong == {}
    assert {path: Path(path).read_bytes() for path in TARGETS} == targets
    assert {path: sorted(os.listdir(path)) for path in FOLDERS} == folders
    assert differences(before, snapshot()) == {}
