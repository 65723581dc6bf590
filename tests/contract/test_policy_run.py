"""A policy of the machine binds whoever runs a recipe, before anything is touched."""

import json
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from trace_recipe import cli, policy
from trace_recipe.plan import plan_schema
from trace_recipe.policy import load_policy

pytestmark = pytest.mark.tracefs

RECIPE = """
recipe: v1
name: policed
allow: [outputs-elsewhere]
events: [sched:sched_process_exec]
duration: 100ms
outputs: [{text: ../policed.txt}]
"""
FORBIDS_OUTPUT = "policy: v1\nrules:\n- forbid: [outputs-elsewhere]\n"


@pytest.fixture
def call(monkeypatch, capfd, tmp_path, recipe):
    """Run a command on the recipe under a policy, in this process: its path is a parameter."""
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    path, file = recipe(RECIPE), tmp_path / "policy.yaml"
    monkeypatch.setattr(policy, "load_policy", lambda invoker: load_policy(invoker, file))

    def call(text, *words, uid=None):
        file.write_text(text)
        if uid is not None:
            for one in (tmp_path, *tmp_path.parents[:2]):
                one.chmod(0o755)
            monkeypatch.setenv("SUDO_UID", str(uid))
        state = ["--state-dir", str(tmp_path / "state")] if words[0] in {"run", "try"} else []
        arguments = [str(path)] if words[0] != "doctor" else []
        monkeypatch.setattr(sys, "argv", ["trace-recipe", *words, *state, *arguments])
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, getattr(sys, name))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capfd.readouterr()
        return ended.value.code, printed.out, printed.err

    return call


@pytest.mark.parametrize("command", ["run", "try"])
def test_what_the_policy_forbids_no_word_allows(untouched, call, tmp_path, command):
    status, _, err = call(FORBIDS_OUTPUT, command, "--allow", "outputs-elsewhere")

    assert status == 3
    assert f"{tmp_path}/policy.yaml:3:12: the policy of this machine forbids" in err
    assert "--allow" not in err
    assert err.endswith("  state: untouched\n")
    assert not (tmp_path / "policed.txt").exists()


@pytest.mark.parametrize("command", ["run", "try"])
def test_who_may_not_run_is_refused_by_the_user_that_called_sudo(untouched, call, command):
    text = "policy: v1\nrules: [{forbid: [run], users: [nobody]}]\n"
    status, _, err = call(text, command, "--allow", "outputs-elsewhere", uid=65534)

    assert status == 3
    assert "error: nobody may not run recipes on this machine" in err
    assert err.endswith("  state: untouched\n")


def test_an_allow_of_the_policy_still_takes_the_word_on_the_command_line(untouched, call, tmp_path):
    text = "policy: v1\ndefault: forbid\nrules: [{allow: [run, outputs-elsewhere]}]\n"

    status, _, err = call(text, "run")
    assert status == 2
    assert "say --allow outputs-elsewhere" in err
    status, _, err = call(text, "run", "--allow", "outputs-elsewhere")
    assert status == 0, err
    assert (tmp_path / "policed.txt").exists()


@pytest.mark.parametrize("command", ["run", "try", "check", "plan"])
def test_a_faulty_policy_is_never_ignored(untouched, call, tmp_path, command):
    status, _, err = call("policy: v1\nrule: []\n", command)

    assert status == 3
    assert f"{tmp_path}/policy.yaml:2:1: error: rule: unknown key 'rule'" in err
    assert "fix: did you mean 'rules'?" in err
    assert err.endswith("  state: untouched\n")


def test_check_plan_and_doctor_tell_what_it_forbids(untouched, call, tmp_path):
    line = f"root may not run it here: {tmp_path}/policy.yaml:3:12 forbids 'outputs-elsewhere'"

    for command in ("check", "plan"):
        status, out, _ = call(FORBIDS_OUTPUT, command)
        assert status == 0
        assert f"      {line} to everybody\n" in out
        answer = json.loads(call(FORBIDS_OUTPUT, command, "--json")[1])
        assert answer["permissions"] == ["outputs-elsewhere"]
        assert answer["policy"] == [f"{line} to everybody"]
        if command == "plan":
            Draft202012Validator(plan_schema()).validate(answer)
    findings = json.loads(call(FORBIDS_OUTPUT, "doctor", "--json")[1])["findings"]
    [finding] = [one for one in findings if one["topic"] == "policy"]
    assert finding["why"] == "not outputs-elsewhere (line 3)"
    findings = json.loads(call("policy: v2\n", "doctor", "--json")[1])["findings"]
    [finding] = [one for one in findings if one["topic"] == "policy"]
    assert finding["level"] == "bad"
    assert finding["what"] == f"{tmp_path}/policy.yaml:1:9: policy: must be 'v1', not 'v2'"


def test_another_machines_kernel_has_another_machines_policy(call):
    kernel = Path(__file__).parents[1] / "golden" / "kernels" / "rich-6.12.json"
    status, out, _ = call(FORBIDS_OUTPUT, "check", "--kernel", str(kernel))

    assert status == 0
    assert "policy.yaml" not in out
