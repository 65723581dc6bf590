"""The policy of a machine: who may do what, and a faulty file that stops everything."""

import os
from pathlib import Path

import pytest

from trace_recipe.doctor import Level, can_run, examine_policy
from trace_recipe.errors import PolicyError
from trace_recipe.invoker import Invoker
from trace_recipe.permission import Permission
from trace_recipe.permission_checks import find_needs_without_kernel, forbidden
from trace_recipe.policy import load_policy
from trace_recipe.recipe.load import load_recipe

HEAD = "policy: v1\n"
ROOT = Invoker(0, 0, "root", "/root", (0,))
NOBODY = Invoker(65534, 65534, "nobody", "/", (65534,))


@pytest.fixture
def policy(tmp_path):
    """Write a policy and return it as it is for a user."""

    def load(body, invoker=ROOT, head=HEAD):
        path = tmp_path / "policy.yaml"
        path.write_text(head + body)
        return load_policy(invoker, path, owner_uid=os.geteuid())

    return load


def make_fifo(path):
    os.mkfifo(path)


def place(verdict):
    return f"{verdict.place.line}:{verdict.place.column}"


def problems(load):
    with pytest.raises(PolicyError) as refused:
        load()
    assert refused.value.exit_status == 3
    for one in refused.value.problems:
        assert "no recipe runs while the policy of this machine is in doubt" in one.why
        assert one.fix
    return refused.value.problems


def test_without_a_file_everything_is_allowed(tmp_path):
    found = load_policy(ROOT, tmp_path / "none" / "policy.yaml")

    found.refuse_run()
    assert all(found.verdict(name).is_allowed for name in Permission)
    [finding] = examine_policy(found)
    assert finding.level is Level.OK
    assert finding.what.endswith(f"root may give every permission ({', '.join(Permission)})")


@pytest.mark.parametrize("default", ["allow", "forbid"])
def test_what_no_rule_speaks_of_is_as_the_default_says(policy, default):
    found = policy(f"default: {default}\nrules: [{{{default}: [mmiotrace]}}]\n")
    verdict = found.verdict("stack-all")

    assert verdict.is_allowed is (default == "allow")
    assert place(verdict) == "2:10"
    assert verdict.words == f"{default}s 'stack-all' by default: no rule speaks of it"


@pytest.mark.parametrize("order", [("allow", "forbid"), ("forbid", "allow")])
def test_a_rule_that_forbids_wins_wherever_it_stands(policy, order):
    lines = [f"- {word}: [run, mmiotrace]\n" for word in order]
    verdict = policy("rules:\n" + "".join(lines)).verdict("mmiotrace")

    assert not verdict.is_allowed
    assert place(verdict) == f"{3 + order.index('forbid')}:17"
    assert verdict.words == "forbids 'mmiotrace' to everybody"


@pytest.mark.parametrize(
    ("whom", "user", "words"),
    [
        ("users: [root]", ROOT, "user 'root'"),
        ("users: [alice, nobody]", NOBODY, "user 'nobody'"),
        ("groups: [root]", ROOT, "group 'root'"),
        ("users: [alice], groups: [nogroup]", NOBODY, "group 'nogroup'"),
        ("users: ['4711']", Invoker(4711, 4711, "4711", "/", (4711,)), "user '4711'"),
        ("groups: ['4711']", Invoker(4711, 4711, "4711", "/", (4711,)), "group '4711'"),
    ],
)
def test_a_rule_names_users_and_groups(policy, whom, user, words):
    body = f"default: forbid\nrules: [{{allow: [run], {whom}}}]\n"

    verdict = policy(body, user).verdict("run")
    assert verdict.is_allowed
    assert verdict.words == f"allows 'run' to {words}"
    other = Invoker(1, 1, "daemon", "/", (1,))
    assert not policy(body, other).verdict("run").is_allowed


def test_who_may_not_run_is_told_by_which_line(policy):
    found = policy("rules:\n- forbid: [run]\n  groups: [nogroup]\n", NOBODY)

    with pytest.raises(PolicyError) as refused:
        found.refuse_run()
    [problem] = refused.value.problems
    assert problem.what == "nobody may not run recipes on this machine"
    assert f"{problem.place.line}:{problem.place.column}" == "3:12"
    assert problem.why == "the policy forbids 'run' to group 'nogroup'"
    policy("rules:\n- forbid: [run]\n  groups: [nogroup]\n", ROOT).refuse_run()


def test_a_need_that_is_forbidden_names_the_line_of_the_policy(policy, tmp_path):
    recipe = load_recipe("p.yaml", "recipe: v1\nname: p\ntracer: function\n")
    needs = find_needs_without_kernel(recipe)

    [problem] = forbidden(needs, policy("rules: [{forbid: [function-all]}]\n")).values()
    assert str(problem.place) == "p.yaml:3:9"
    path = tmp_path / "policy.yaml"
    assert f"{path}:2:19: the policy of this machine forbids 'function-all'" in problem.why
    assert f"ask who keeps {path}" in problem.fix
    assert forbidden(needs, policy("rules: [{forbid: [mmiotrace]}]\n")) == {}


@pytest.mark.parametrize(
    ("text", "where", "what", "fix"),
    [
        ("", "1:1", "the file is empty", "start it with 'policy: v1'"),
        ("- policy\n", "1:1", "a policy is a mapping of keys", "start it with 'policy: v1'"),
        ("a: [\n", "2:1", "this does not fit", ""),
        ("default: allow\n", "1:1", "the key 'policy' is missing", "start it with 'policy: v1'"),
        ("policy: v2\n", "1:9", "must be 'v1', not 'v2'", "write 'v1'"),
        (HEAD + "def-ault: allow\n", "2:1", "unknown key 'def-ault'", "did you mean 'default'?"),
        (HEAD + "rules: [{forbid: [run], user: [a]}]\n", "2:25", "unknown key 'user'", "'users'?"),
        (HEAD + "default: no\n", "2:10", "must be 'allow' or 'forbid', not 'no'", "write 'allow'"),
        (HEAD + "rules: [{forbid: [runs]}]\n", "2:19", "'runs' is not the name of", "'run'?"),
        (HEAD + "rules: [{forbid: run}]\n", "2:18", "must be a list, not 'run'", "[...]"),
        (HEAD + "rules: [{forbid: [run], users: []}]\n", "2:32", "the list is empty", "add an"),
        (HEAD + "rules: [{forbid: [run], users: [7]}]\n", "2:33", "must be one line", '"7"'),
        (HEAD + "rules: [{users: [a]}]\n", "2:9", "a rule either allows or forbids", "write 'all"),
        (HEAD + "rules: [{allow: [run], forbid: [run]}]\n", "2:9", "either allows or", "of the two"),
        (HEAD + "rules: [run]\n", "2:9", "must be a mapping, not 'run'", "{forbid: [mmiotrace]}"),
        (HEAD + "rules:\n", "2:1", "the key has no value", "take the key out"),
        (HEAD + "rules: [{forbid: &a [run]}]\n", "2:18", "an anchor", "write the value out"),
    ],
)  # fmt: skip
def test_a_faulty_policy_is_told_with_its_place_and_a_fix(policy, text, where, what, fix):
    [problem] = problems(lambda: policy(text, head=""))

    assert f"{problem.place.line}:{problem.place.column}" == where
    assert what in problem.what
    assert fix in problem.fix


def test_all_faults_of_a_policy_are_told_in_their_order(policy):
    body = "rules: [{forbid: [runs], groups: [a]}, {allow: [run], forbid: [run]}]\ndefault: no\n"
    found = problems(lambda: policy(body))

    assert [one.key for one in found] == ["rules[0].forbid[0]", "rules[1]", "default"]


@pytest.mark.parametrize(
    ("spoil", "what", "fix"),
    [
        (lambda path: path.chmod(0o664), "others than its owner may write to it", "chmod go-w"),
        (lambda path: path.chmod(0o646), "others than its owner may write to it", "chmod go-w"),
        (lambda path: path.parent.chmod(0o777), "others than its owner", "chmod go-w"),
        (lambda path: (path.unlink(), path.mkdir()), "it is not a file", "put a file"),
        (lambda path: (path.unlink(), make_fifo(path)), "it is not a file", "put a file"),
        (
            lambda path: (path.rename(path.parent / "p"), path.symlink_to(path.parent / "p")),
            "it is a symbolic link",
            "put the file itself there",
        ),
        (lambda path: (path.unlink(), path.symlink_to("gone")), "it is a symbolic link", "put"),
        (
            lambda path: (
                path.parent.rename(f"{path.parent}-moved"),
                path.parent.symlink_to(f"{path.parent}-moved"),
            ),
            "it is a symbolic link",
            "put the directory itself there",
        ),
    ],
)
def test_a_policy_that_somebody_else_could_have_written_is_not_trusted(
    policy, tmp_path, spoil, what, fix
):
    policy("")
    path = tmp_path / "policy.yaml"
    spoil(path)

    [problem] = problems(lambda: load_policy(ROOT, path, owner_uid=os.geteuid()))
    assert problem.what.startswith(f"cannot trust '{tmp_path}")
    assert what in problem.what
    assert fix in problem.fix


def test_a_policy_of_another_owner_is_not_trusted(policy, tmp_path):
    policy("")

    [problem] = problems(
        lambda: load_policy(ROOT, tmp_path / "policy.yaml", owner_uid=os.geteuid() + 1)
    )
    assert f"it belongs to uid {os.geteuid()}, not to root" in problem.what


def test_a_policy_below_what_is_no_directory_is_not_taken_for_none(tmp_path):
    (tmp_path / "file").write_text("")

    [problem] = problems(lambda: load_policy(ROOT, tmp_path / "file" / "policy.yaml"))
    assert "Not a directory (ENOTDIR)" in problem.what


def test_the_doctor_tells_what_a_user_may_and_by_which_lines_not(policy, tmp_path):
    body = "rules:\n- forbid: [mmiotrace, stack-all]\n- forbid: [run]\n  users: [nobody, alcie]\n"
    path = tmp_path / "policy.yaml"

    findings = examine_policy(policy(body))
    assert [one.level for one in findings] == [Level.OK, Level.WARN]
    kept = [name for name in Permission if name not in {"mmiotrace", "stack-all"}]
    assert findings[0].what == f"{path}: root may give {', '.join(kept)}"
    assert findings[0].why == "not stack-all (line 3), mmiotrace (line 3)"
    assert findings[1].what == "this machine does not know user 'alcie'"
    findings = examine_policy(policy(body, NOBODY))
    assert findings[0].what == "nobody may not run recipes"
    assert not can_run(findings)


def test_no_environment_variable_names_the_policy():
    source = Path(__file__).parents[2] / "runner/trace_recipe/policy.py"

    assert "environ" not in source.read_text()
