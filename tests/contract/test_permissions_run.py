"""What takes a permission is refused before anything is touched, and done when it is allowed."""

import pytest

pytestmark = pytest.mark.tracefs

RECIPE = """
recipe: v1
name: permitted
{allow}
events: [sched:sched_process_exec]
duration: 100ms
outputs: [{{text: {output}}}]
"""


def _refused(done):
    assert done.returncode == 2
    assert "permission 'outputs-elsewhere' in the recipe and on the command line" in done.stderr
    assert done.stderr.endswith("  state: untouched\n")


def test_an_output_elsewhere_takes_both_words(cli, recipe, untouched, tmp_path_factory):
    output = tmp_path_factory.mktemp("elsewhere") / "o.txt"
    silent = str(recipe(RECIPE.format(allow="", output=output), "silent.yaml"))
    allow = "allow: [outputs-elsewhere]"
    path = str(recipe(RECIPE.format(allow=allow, output=output)))

    _refused(cli("run", silent))
    _refused(cli("run", silent, "--allow", "outputs-elsewhere"))
    _refused(cli("run", path))
    assert not output.exists()
    done = cli("run", path, "--allow", "outputs-elsewhere")
    assert done.returncode == 0, done.stderr
    assert output.exists()
    assert "run it with --allow outputs-elsewhere" in cli("check", path).stdout
    assert "run it with --allow outputs-elsewhere" in cli("plan", path).stdout


@pytest.mark.parametrize("output", ["link/o.txt", ".profile"])
def test_a_link_or_a_hidden_name_is_no_way_around(cli, recipe, untouched, tmp_path_factory, output):
    (cli.directory / "link").symlink_to(tmp_path_factory.mktemp("elsewhere"))

    _refused(cli("run", str(recipe(RECIPE.format(allow="", output=output)))))


def test_a_path_that_comes_back_or_is_absolute_here_is_no_other_place(cli, recipe, untouched):
    (cli.directory / "sub").mkdir()
    for output in ("sub/../one.txt", cli.directory / "sub" / "two.txt"):
        done = cli("run", str(recipe(RECIPE.format(allow="", output=output))))
        assert done.returncode == 0, done.stderr


def test_a_word_that_is_no_permission_is_told(cli, recipe, untouched):
    done = cli("run", str(recipe(RECIPE.format(allow="", output="o"))), "--allow", "everything")

    assert done.returncode == 2
    assert "it is one of function-all, stack-all" in done.stderr


def test_try_asks_for_permissions_too(cli, recipe, untouched):
    done = cli("try", str(recipe(RECIPE.format(allow="", output="../o"))))

    _refused(done)
