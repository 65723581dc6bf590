import os

import pytest

from trace_recipe.errors import RecipeError
from trace_recipe.recipe_files import find_recipe, list_recipes, open_recipe

RECIPE = "recipe: v1\nname: mine\nevents: ['sched:sched_switch']\n"


def test_a_name_is_found_here_before_it_is_found_shipped(tmp_path, monkeypatch):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "exec-snoop.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    environment = {"HOME": str(tmp_path)}

    assert find_recipe("exec-snoop", environment).parts[0] == "recipes"
    origins = {one.name: one.origin for one in list_recipes(environment)}
    assert origins["exec-snoop"] == "here"
    assert origins["mount-audit"] == "shipped"


def test_an_unknown_name_is_answered_with_a_near_one():
    with pytest.raises(RecipeError) as caught:
        find_recipe("mount-audi", {})

    assert "mount-audit" in caught.value.problems[0].fix


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can read more than its invoker")
def test_under_sudo_a_recipe_is_read_with_the_invoking_users_rights(tmp_path):
    secret = tmp_path / "secret.yaml"
    secret.write_text("root:x:secret\n")
    secret.chmod(0o600)

    with pytest.raises(RecipeError) as caught:
        open_recipe(str(secret), {"SUDO_UID": "65534", "SUDO_GID": "65534"}, {})

    assert "Permission denied" in str(caught.value)
    assert "secret\n" not in str(caught.value)
    assert os.geteuid() == 0


def test_an_include_may_not_leave_the_directory_through_a_link(tmp_path):
    (tmp_path / "outside.yaml").write_text(RECIPE)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    top = inside / "top.yaml"
    top.write_text("recipe: v1\nname: top\ninclude: [link.yaml]\nevents: ['sched:sched_switch']\n")

    with pytest.raises(RecipeError, match=r"link\.yaml"):
        open_recipe(str(top), {}, {})


def loop(path):
    path.symlink_to(path.name)


@pytest.mark.parametrize(("make", "why"), [(os.mkfifo, "not a regular file"), (loop, "symbolic")])
def test_an_include_that_is_no_file_is_told_and_not_waited_for(tmp_path, make, why):
    make(tmp_path / "part.yaml")
    top = tmp_path / "top.yaml"
    top.write_text("recipe: v1\nname: top\ninclude: [part.yaml]\nevents: ['sched:sched_switch']\n")

    with pytest.raises(RecipeError, match=why):
        open_recipe(str(top), {}, {})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can see more than its invoker")
def test_under_sudo_nobody_learns_what_files_there_are(tmp_path):
    tmp_path.chmod(0o700)
    (tmp_path / "there.yaml").write_text(RECIPE)

    answers = set()
    for name in ("there", "missing"):
        with pytest.raises(RecipeError) as caught:
            find_recipe(str(tmp_path / f"{name}.yaml"), {"SUDO_UID": "65534", "SUDO_GID": "65534"})
        answers.add(str(caught.value).replace(name, "NAME"))

    assert len(answers) == 1
