"""list, explain, doctor, catalog, init, schema and completion, as a user calls them."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.requirements import need, need_command

ROOT = Path(__file__).parent.parent.parent
TRACING = Path("/sys/kernel/tracing")
NOBODY = 65534


def call(cli, *words, **more):
    """Run a command; whatever it answers, it is no traceback."""
    done = cli(*words, **more)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def lines(cli, *words):
    done = call(cli, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def data(cli, *words):
    done = call(cli, *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def catalogue(cli):
    """The running kernel in a file."""
    done = call(cli, "catalog", "save", "kernel.json")
    assert done.returncode == 0, done.stderr
    return cli.directory / "kernel.json"


# -- list -------------------------------------------------------------------------------------


@pytest.mark.tracefs
def test_list_events_is_the_tree_below_events(cli):
    events = lines(cli, "list", "events")

    there = {
        f"{path.parent.parent.name}:{path.parent.name}"
        for path in TRACING.glob("events/*/*/format")
    }
    assert set(events) == there
    assert events == sorted(events)


@pytest.mark.tracefs
@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("sched:sched_switch", ["sched:sched_switch"]),
        ("sched:sched_{switch,waking}", ["sched:sched_switch", "sched:sched_waking"]),
        ("*enter_umoun?", ["syscalls:sys_enter_umount"]),
        ("ras:mc_event", ["ras:mc_event"]),
    ],
)
def test_a_pattern_is_a_glob_on_the_whole_name_or_on_a_part(cli, pattern, expected):
    if not (TRACING / "events" / expected[0].replace(":", "/")).exists():
        pytest.skip(f"no event {expected[0]} here")
    assert lines(cli, "list", "events", pattern) == expected


@pytest.mark.tracefs
def test_a_pattern_without_a_match_exits_3_with_a_guess(cli):
    done = call(cli, "list", "events", "shed:sched_switch")

    assert done.returncode == 3
    assert done.stdout == ""
    assert "fix: did you mean 'sched:sched_switch'?" in done.stderr


@pytest.mark.tracefs
def test_a_wrong_pattern_exits_2(cli):
    done = call(cli, "list", "events", "sched:{a")

    assert done.returncode == 2
    assert "error:" in done.stderr


@pytest.mark.tracefs
def test_list_fields_are_those_of_the_format_file(cli):
    fields = data(cli, "list", "fields", "sched:sched_switch", "--json")

    text = (TRACING / "events/sched/sched_switch/format").read_text()
    assert len(fields) == text.count("\tfield:")
    assert {"name", "type", "offset", "size", "signed"} <= fields[0].keys()
    assert any(
        line.startswith("prev_prio ") for line in lines(cli, "list", "fields", "sched_switch")
    )


@pytest.mark.tracefs
def test_list_tracers_and_clocks_are_what_the_kernel_says(cli):
    assert lines(cli, "list", "tracers") == (TRACING / "available_tracers").read_text().split()
    clocks = (TRACING / "trace_clock").read_text().replace("[", "").replace("]", "").split()
    assert data(cli, "list", "clocks", "--json") == clocks


@pytest.mark.tracefs
def test_list_options_shows_the_value_of_each(cli):
    options = {one["name"]: one["value"] for one in data(cli, "list", "options", "--json")}

    assert set(options) == set(os.listdir(TRACING / "options"))
    for name, value in options.items():
        assert (TRACING / "options" / name).read_text().strip() == str(int(value))
    assert f"overwrite {'on' if options['overwrite'] else 'off'}" in [
        " ".join(line.split()) for line in lines(cli, "list", "options")
    ]


@pytest.mark.tracefs
def test_list_functions_lists_them_or_says_why_the_kernel_does_not_let_it(cli):
    done = call(cli, "list", "functions", "vfs_r*")

    try:
        text = (TRACING / "available_filter_functions").read_text()
    except OSError:
        assert done.returncode == 3
        assert done.stdout == ""
        assert "available_filter_functions" in done.stderr
        assert "why:" in done.stderr
        assert "fix:" in done.stderr
    else:
        expected = [line for line in text.splitlines() if line.startswith("vfs_r")]
        assert done.stdout.splitlines() == expected


def test_list_recipes_names_origin_and_description_and_marks_wrong_ones(cli):
    here = cli.directory / "recipes"
    here.mkdir()
    (here / "good.yaml").write_text(
        "recipe: v1\nname: good\ndescription: Fine.\nevents: [sched:sched_switch]\n"
    )
    (here / "bad.yaml").write_text("recipe: v1\nname: bad\nevnts: []\n")
    (here / "open.yaml").write_text(
        "recipe: v1\nname: open\ndescription: Needs one.\nparams: {pid: {type: pid}}\n"
        "events: [sched:sched_switch]\nscope: {pids: ['${pid}']}\n"
    )

    rows = {one["name"]: one for one in data(cli, "list", "recipes", "--json")}
    shown = {line.split()[0]: line for line in lines(cli, "list", "recipes")}

    assert (rows["good"]["origin"], rows["good"]["problems"]) == ("here", [])
    assert rows["mount-audit"]["origin"] == "shipped"
    assert "evnts" in rows["bad"]["problems"][0]["what"]
    assert rows["open"]["problems"] == []
    assert rows["open"]["needs"] == ["pid"]
    assert shown["good"].endswith("here     Fine.")
    assert "(wrong: " in shown["bad"]
    assert "needs --set pid=" in shown["open"]


# -- explain ----------------------------------------------------------------------------------


@pytest.mark.tracefs
def test_explain_shows_fields_print_fmt_a_struct_and_the_trace_cmd_line(cli):
    text = "\n".join(lines(cli, "explain", "sched:sched_switch"))

    format_text = (TRACING / "events/sched/sched_switch/format").read_text()
    assert format_text[format_text.index("print fmt:") :].strip() in text
    assert "struct sched_sched_switch {" in text
    assert "trace-cmd record -e sched:sched_switch" in text
    assert "events: [sched:sched_switch]" in text


@pytest.mark.tracefs
def test_explain_json_agrees_with_the_catalogue_of_the_same_kernel(cli, catalogue):
    live = data(cli, "explain", "sched_switch", "--json")
    saved = data(cli, "explain", "sched:sched_switch", "--kernel", str(catalogue), "--json")

    assert live == saved
    assert live["kernel"] == os.uname().release


@pytest.mark.tracefs
@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("sched:sched_swich", "'sched:sched_switch'"),
        ("shed:sched_switch", "'sched:sched_switch'"),
        ("sched_swich", "'sched:sched_switch'"),
        ("sched", "'sched:*'"),
    ],
)
def test_an_unknown_event_is_answered_with_the_nearest(cli, name, guess):
    done = call(cli, "explain", name)

    assert done.returncode == 3
    assert f"no event '{name}'" in done.stderr
    assert guess in done.stderr


# -- doctor -----------------------------------------------------------------------------------


@pytest.mark.tracefs
def test_doctor_finds_that_recipes_can_run_and_changes_nothing(cli, untouched):
    state = cli.directory / "state"
    report = data(cli, "doctor", "--json", "--state-dir", str(state))

    assert report["ok"] is True
    topics = {one["topic"] for one in report["findings"]}
    assert {"tracefs", "permissions", "lockdown", "works", "state", "memory", "disk"} <= topics
    assert not state.exists()
    for one in report["findings"]:
        assert one["level"] == "ok" or (one["why"] and one["fix"])


@pytest.mark.tracefs
def test_doctor_for_a_recipe_names_its_files_and_whether_they_can_be_used(cli, recipe, untouched):
    path = recipe("recipe: v1\nname: a\nevents: [sched:sched_switch]\n")
    report = data(cli, "doctor", "--for", str(path), "--json", "--state-dir", str(cli.state))

    files = {one["file"]: one for one in report["files"]}
    assert all(one["ok"] for one in files.values())
    enable = next(file for file in files if file.endswith("events/sched/sched_switch/enable"))
    assert enable.startswith("instances/")
    assert files["events/sched/sched_switch/format"]["access"] == "read"
    assert not TRACING.joinpath(enable).exists()


@pytest.mark.tracefs
def test_doctor_for_a_recipe_that_cannot_run_tells_every_problem_and_exits_3(cli, recipe):
    path = recipe("recipe: v1\nname: a\nevents: [sched:sched_swich]\nclock: mno\n")
    done = call(cli, "doctor", "--for", str(path), "--state-dir", str(cli.state))

    assert done.returncode == 3
    assert "bad   recipe: " in done.stdout
    assert "sched:sched_swich" in done.stdout
    assert "'mono'" in done.stdout
    assert done.stdout.rstrip().endswith("cannot run here")


def test_doctor_for_a_recipe_that_is_not_there_exits_2(cli):
    assert call(cli, "doctor", "--for", "no-such-recipe").returncode == 2


@pytest.mark.tracefs
def test_doctor_without_tracefs_does_not_mount_it(cli):
    unshare, shell = need_command("unshare"), need_command("sh")
    command = " ".join(cli.command("doctor", "--state-dir", str(cli.state)))
    script = (
        f"umount {TRACING} && {command}; echo exit $?; grep tracefs /proc/self/mounts || echo none"
    )
    done = subprocess.run(
        [unshare, "--mount", shell, "-c", script],
        env=cli.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )

    need("unshare", is_there="exit" in done.stdout, reason=f"no mount namespace: {done.stderr}")
    assert "warn  tracefs: not mounted" in done.stdout
    assert f"mount -t tracefs nodev {TRACING}" in done.stdout
    assert done.stdout.endswith("exit 0\nnone\n")


@pytest.mark.tracefs
def test_doctor_tells_a_user_without_rights_what_root_can_do(cli):
    # Rights are dropped when a first call has imported all: the interpreter may lie where nobody
    # can read it.
    code = (
        "import os, sys\n"
        "from trace_recipe.cli import main\n"
        "sys.argv = ['trace-recipe', 'doctor', '--json']\n"
        "output = os.dup(1)\n"
        "os.dup2(os.open('/dev/null', os.O_WRONLY), 1)\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        "    os.dup2(output, 1)\n"
        f"os.setgroups([]); os.setresgid(*[{NOBODY}] * 3); os.setresuid(*[{NOBODY}] * 3)\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**cli.environment(), "HOME": "/nonexistent"},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 3, done.stderr
    findings = {one["topic"]: one for one in json.loads(done.stdout)["findings"]}
    assert findings["permissions"]["level"] == "bad"
    assert f"uid {NOBODY}" in findings["permissions"]["why"]
    assert "sudo" in findings["permissions"]["fix"]


# -- catalog ----------------------------------------------------------------------------------


@pytest.mark.tracefs
def test_a_saved_catalogue_holds_every_format_text(cli, catalogue):
    saved = json.loads(catalogue.read_text())

    assert len(saved["formats"]) == len(lines(cli, "list", "events"))
    for name in ("sched:sched_switch", "syscalls:sys_enter_mount"):
        file = TRACING / "events" / name.replace(":", "/") / "format"
        assert saved["formats"][name] == file.read_text()
    assert all(saved["formats"].values())


@pytest.mark.tracefs
@pytest.mark.parametrize("kind", ["link", "directory", "pipe"])
def test_catalog_save_replaces_nothing_but_a_regular_file(cli, kind):
    path = cli.directory / "k.json"
    if kind == "link":
        path.symlink_to(cli.directory / "elsewhere")
    elif kind == "directory":
        path.mkdir()
    else:
        os.mkfifo(path)

    done = call(cli, "catalog", "save", "k.json")

    assert done.returncode == 4
    assert not (cli.directory / "elsewhere").exists()
    assert not stat.S_ISREG(path.lstat().st_mode)


@pytest.mark.tracefs
def test_catalog_show_counts_events_by_system_live_and_saved_alike(cli, catalogue):
    live = data(cli, "catalog", "show", "--json")
    saved = data(cli, "catalog", "show", str(catalogue), "--json")

    assert live == saved
    assert sum(live["systems"].values()) == live["events"]
    assert live["tracers"] == (TRACING / "available_tracers").read_text().split()
    text = lines(cli, "catalog", "show", str(catalogue))
    assert f"{live['systems']['sched']:9}  sched" in text


def test_a_catalogue_that_is_none_exits_6_and_one_that_is_absent_exits_2(cli):
    (cli.directory / "x.json").write_text('{"catalogue": "no"}')

    assert call(cli, "catalog", "show", "x.json").returncode == 6
    assert call(cli, "catalog", "show", "y.json").returncode == 2
    assert call(cli, "list", "events", "--kernel", "y.json").returncode == 2


@pytest.mark.tracefs
def test_text_from_a_catalogue_cannot_drive_the_terminal(cli, catalogue):
    saved = json.loads(catalogue.read_text())
    saved["release"] = "6\x1b[31m"
    saved["formats"]["sched:sched_switch"] = saved["formats"]["sched:sched_switch"].replace(
        "print fmt: ", "print fmt: \x1b]0;x\x07"
    )
    catalogue.write_text(json.dumps(saved))

    shown = call(cli, "catalog", "show", str(catalogue)).stdout
    explained = call(cli, "explain", "sched:sched_switch", "--kernel", str(catalogue)).stdout

    assert "\x1b" not in shown + explained
    assert "\\x1b" in shown
    assert "\\x1b" in explained


# -- init -------------------------------------------------------------------------------------


def test_init_writes_a_recipe_that_validates_and_never_overwrites_it(cli):
    assert lines(cli, "init")[0].startswith("wrote my-recipe.yaml")
    path = cli.directory / "my-recipe.yaml"
    path.write_text(path.read_text() + "# mine\n")

    assert call(cli, "validate", "my-recipe.yaml").returncode == 0
    again = call(cli, "init")
    assert again.returncode == 4
    assert path.read_text().endswith("# mine\n")


@pytest.mark.parametrize(
    "words",
    [
        ("--event", "syscalls:*mount*", "--event", "!syscalls:sys_exit_mount"),
        ("--event", "sched:sched_{switch,waking}"),
        ("--tracer", "function"),
        ("--tracer", "irqsoff", "-e", "irq:*"),
    ],
)
def test_init_takes_events_and_a_tracer_in_any_yaml_form(cli, words):
    text = "\n".join(lines(cli, "init", "-", *words))
    (cli.directory / "made.yaml").write_text(text + "\n")

    assert call(cli, "validate", "made.yaml").returncode == 0
    rich = ROOT / "tests/golden/kernels/rich-6.12.json"
    checked = call(cli, "check", "--kernel", str(rich), "made.yaml")
    assert checked.returncode == 0, checked.stderr
    head = text.splitlines()[0]
    assert head.startswith("# yaml-language-server: $schema=")
    assert head.endswith("recipe.v1.schema.json")
    assert (cli.directory / head.partition("=")[2]).is_file()


@pytest.mark.parametrize(
    "words",
    [
        ("Foo Bar",),
        ("../x",),
        ("x", "-e", "no-colon"),
        ("x", "-e", "a:b\nduration: 1s"),
        ("x", "-t", "a b"),
    ],
)
def test_init_refuses_what_would_make_a_wrong_recipe_and_writes_nothing(cli, words):
    done = call(cli, "init", *words)

    assert done.returncode == 2
    assert "fix:" in done.stderr or "why:" in done.stderr
    assert list(cli.directory.iterdir()) == []


# -- schema -----------------------------------------------------------------------------------


PUBLISHED = sorted((ROOT / "schema").iterdir())


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.name)
def test_schema_prints_the_published_file(cli, path):
    name = path.name.removesuffix(".v1.schema.json")

    assert call(cli, "schema", name).stdout == path.read_text()


def test_schema_write_rewrites_every_file_readable_by_all(cli):
    written = lines(cli, "schema", "--write", ".")

    assert sorted(written) == [path.name for path in PUBLISHED]
    for name in written:
        path = cli.directory / name
        assert path.read_text() == (ROOT / "schema" / name).read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o644


# -- completion -------------------------------------------------------------------------------


def completed(cli, words: list[str], cursor: int) -> list[str]:
    """What bash is offered for the word at the cursor."""
    done = subprocess.run(
        [sys.executable, "-m", "trace_recipe"],
        cwd=cli.directory,
        env={
            **cli.environment(),
            "_TRACE_RECIPE_COMPLETE": "complete_bash",
            "COMP_WORDS": "\n".join(["trace-recipe", *words]),
            "COMP_CWORD": str(cursor),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["expl"], ["explain"]),
        (["list", "op"], ["options"]),
        (["run", "mount-a"], ["mount-audit"]),
        (["doctor", "--for", "mount-a"], ["mount-audit"]),
        (["run", "./so"], ["./some.yaml", "./sonly/"]),
        (["report", "x", "--as", "js"], ["jsonl"]),
        (["schema", "man"], ["manifest"]),
    ],
)
def test_tab_completes_commands_recipes_files_and_forms(cli, words, expected):
    (cli.directory / "some.yaml").write_text("")
    (cli.directory / "some.txt").write_text("")
    (cli.directory / "sonly").mkdir()

    assert completed(cli, words, len(words)) == expected


@pytest.mark.tracefs
def test_tab_completes_systems_then_events(cli):
    assert "sched:" in completed(cli, ["explain", "s"], 2)
    assert "sched:sched_switch" in completed(cli, ["explain", "sched"], 2)
    assert completed(cli, ["explain", "sched:sched_swi"], 2) == ["sched:sched_switch"]
    tracers = (TRACING / "available_tracers").read_text().split()
    assert completed(cli, ["init", "--tracer", "no"], 3) == [
        name for name in tracers if name.startswith("no")
    ]


@pytest.mark.tracefs
def test_tab_completes_an_event_that_bash_has_split_at_its_colon(cli):
    assert completed(cli, ["explain", "sched", ":", "sched_swi"], 4) == ["sched_switch"]
    assert "sched_switch" in completed(cli, ["explain", "sched", ":"], 3)
    assert completed(cli, ["explain", "sched", ":", "sched_switch", "--js"], 5) == ["--json"]


@pytest.mark.tracefs
def test_real_bash_completes_an_event_with_the_script_that_show_completion_prints(cli):
    bash = need_command("bash")
    program = cli.directory / "trace-recipe"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m trace_recipe "$@"\n')
    program.chmod(0o755)
    script = subprocess.run(
        [program, "--show-completion", "bash"],
        env=cli.environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    function = next(line.split("(")[0] for line in script.splitlines() if "() {" in line)
    script += (
        "COMP_WORDS=(trace-recipe explain sched : sched_swi) COMP_CWORD=4\n"
        f'{function} ./trace-recipe; echo "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(
        [bash, "--norc", "-c", script],
        cwd=cli.directory,
        env=cli.environment(),
        capture_output=True,
        text=True,
    )

    assert done.stdout.strip() == "sched_switch", done.stderr


def test_tab_offers_nothing_where_nothing_is_known(cli):
    assert completed(cli, ["explain", "no_such_system:"], 2) == []
    assert completed(cli, ["run", "no-such-recipe-"], 2) == []
