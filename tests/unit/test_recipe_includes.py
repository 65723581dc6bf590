"""Included files: merged underneath, kept inside the directory, and marked where they stand."""

import pytest

from trace_recipe.errors import RecipeError
from trace_recipe.recipe.load import load_recipe

HEAD = "recipe: v1\nname: x\n"


def load(text, files, path="d/top.yaml"):
    def read(name):
        if name not in files:
            raise FileNotFoundError(2, "No such file or directory", name)
        return files[name]

    return load_recipe(path, HEAD + text, read=read)


def problems(text, files, path="d/top.yaml"):
    with pytest.raises(RecipeError) as caught:
        load(text, files, path)
    return [(str(p.place), p.what) for p in caught.value.problems]


def test_the_including_file_wins_and_mappings_merge_deeply():
    files = {"d/b.yaml": "name: b\nevents: [a:b]\nbuffer: {size: 1M, subbuf: 8K}\nclock: boot\n"}
    loaded = load("include: [b.yaml]\nbuffer: {size: 2M}\n", files)

    assert loaded.recipe.name == "x"
    assert loaded.recipe.clock == "boot"
    assert (loaded.recipe.buffer.size, loaded.recipe.buffer.subbuf) == (2 << 20, 8 << 10)
    assert loaded.recipe.include == ("b.yaml",)
    assert loaded.included == (("d/b.yaml", files["d/b.yaml"]),)


def test_events_tags_links_and_requirements_are_joined_and_other_lists_replaced():
    files = {
        "d/b.yaml": "events: [a:*]\ntags: [b]\nlinks: ['http://b']\n"
        "requires: {tracers: [t1]}\noutputs: [{text: b.txt}]\n"
    }
    text = (
        "include: [b.yaml]\nevents: ['!a:c']\ntags: [t]\nlinks: ['http://t']\n"
        "requires: {tracers: [t2]}\noutputs: [{text: t.txt}]\n"
    )
    recipe = load(text, files).recipe

    assert [event.event for event in recipe.events] == ["a:*", "!a:c"]
    assert recipe.tags == ("b", "t")
    assert recipe.links == ("http://b", "http://t")
    assert recipe.requires.tracers == ("t1", "t2")
    assert [output.spec.path for output in recipe.outputs] == ["t.txt"]


def test_a_later_include_wins_over_an_earlier_one_and_both_keep_their_order():
    files = {"d/a.yaml": "events: [a:a]\nclock: boot\n", "d/b.yaml": "events: [b:b]\nclock: mono\n"}
    recipe = load("include: [a.yaml, b.yaml]\n", files).recipe

    assert [event.event for event in recipe.events] == ["a:a", "b:b"]
    assert recipe.clock == "mono"


def test_files_included_twice_are_merged_once():
    files = {
        "d/a.yaml": "include: [c.yaml]\n",
        "d/b.yaml": "include: [c.yaml]\n",
        "d/c.yaml": "events: [c:c]\n",
    }
    loaded = load("include: [a.yaml, b.yaml]\n", files)

    assert [event.event for event in loaded.recipe.events] == ["c:c"]
    assert [name for name, _ in loaded.included] == ["d/a.yaml", "d/c.yaml", "d/b.yaml"]


def test_names_are_relative_to_the_including_file():
    files = {"d/s/b.yaml": "include: [../c.yaml]\n", "d/c.yaml": "events: [c:c]\n"}

    assert load("include: [s/b.yaml]\n", files).recipe.events[0].event == "c:c"


@pytest.mark.parametrize("path", ["d/top.yaml", "top.yaml", "../../d/top.yaml", "/d/top.yaml"])
@pytest.mark.parametrize("name", ["../e.yaml", "s/../../e.yaml", "../../../e.yaml", ".."])
def test_no_file_outside_the_directory_is_read(path, name):
    (found,) = problems(f"include: ['{name}']\nevents: [a:b]\n", {}, path)

    assert found == (f"{path}:3:11", f"'{name}' lies outside the recipe's directory")


@pytest.mark.parametrize(
    ("include", "files", "place", "what"),
    [
        ("[b.yaml]", {}, "d/top.yaml:3:11", "cannot read 'd/b.yaml': No such file or directory"),
        ("[top.yaml]", {}, "d/top.yaml:3:11", "the files include each other"),
        (
            "[b.yaml]",
            {"d/b.yaml": "include: [b.yaml]\n"},
            "d/b.yaml:1:11",
            "the files include each other",
        ),
        (
            "[b.yaml]",
            {"d/b.yaml": "include: [./top.yaml]\n"},
            "d/b.yaml:1:11",
            "the files include each other",
        ),
        ("[b.yaml]", {"d/b.yaml": "a: 1\na: 2\n"}, "d/b.yaml:2:1", "the key 'a' stands here twice"),
        ("[b.yaml]", {"d/b.yaml": "- a\n"}, "d/b.yaml:1:1", "a recipe is a mapping of keys"),
        (
            "[b.yaml]",
            {"d/b.yaml": "recipe: v2\n"},
            "d/b.yaml:1:9",
            "an included file is 'v2', not 'v1'",
        ),
        (
            "[b.yaml]",
            {"d/b.yaml": "include: [/etc/x]\n"},
            "d/b.yaml:1:11",
            "'/etc/x' is not the path of a recipe to include",
        ),
        (
            "[/etc/passwd]",
            {},
            "d/top.yaml:3:11",
            "'/etc/passwd' is not the path of a recipe to include",
        ),
        ("b.yaml", {}, "d/top.yaml:3:10", "must be a list, not 'b.yaml'"),
        ("[5]", {}, "d/top.yaml:3:11", "must be the path of a recipe to include, not the number 5"),
        ("['${x}']", {}, "d/top.yaml:3:11", "a parameter in an included file's name"),
        ("[b.yaml]", {"d/b.yaml": "clok: boot\n"}, "d/b.yaml:1:1", "unknown key 'clok'"),
        ("[b.yaml]", {"d/b.yaml": "buffer: {size: x}\n"}, "d/b.yaml:1:16", "'x' is not a size"),
        ("[b.yaml]", {"d/b.yaml": "events: x\n"}, "d/b.yaml:1:9", "must be a list, not 'x'"),
    ],
)
def test_what_is_wrong_with_an_include_is_told_where_it_stands(include, files, place, what):
    assert problems(f"include: {include}\nevents: [a:b]\n", files) == [(place, what)]


def test_depth_has_a_limit():
    files = {f"d/{i}.yaml": f"include: [{i + 1}.yaml]\n" for i in range(20)}

    assert problems("include: [0.yaml]\n", files) == [
        ("d/7.yaml:1:11", "files are included too deeply")
    ]


def test_without_a_reader_nothing_is_included():
    with pytest.raises(RecipeError, match="files cannot be included here"):
        load_recipe("-", HEAD + "include: [b.yaml]\nevents: [a:b]\n")


def test_text_that_is_not_utf8_is_a_problem():
    def read(name):
        return b"\xff".decode()

    with pytest.raises(RecipeError, match="it is not UTF-8"):
        load_recipe("t.yaml", HEAD + "include: [b.yaml]\n", read=read)


def test_marks_lead_into_the_file_a_value_came_from():
    files = {"d/b.yaml": "events: [a:a]\nbuffer: {size: 1M}\n"}
    marks = load("include: [b.yaml]\nevents: [b:b]\nbuffer: {subbuf: 8K}\n", files).marks

    assert str(marks.place(("events", 0), offset=2)) == "d/b.yaml:1:12"
    assert str(marks.place(("events", 1))) == "d/top.yaml:4:10"
    assert str(marks.place(("buffer", "size"))) == "d/b.yaml:2:16"
    assert str(marks.key_place(("buffer", "size"))) == "d/b.yaml:2:10"
    assert str(marks.place(("buffer",))) == "d/top.yaml:5:9"


def test_the_hash_covers_every_text_and_override():
    def sha(top="events: [a:b]\n", below="clock: boot\n", **overrides):
        text = f"{HEAD}include: [b.yaml]\nparams: {{p: {{type: string, default: x}}}}\n{top}"
        read = {"b.yaml": below}.__getitem__
        return load_recipe("t.yaml", text, overrides=overrides, read=read).sha256

    assert sha() == sha()
    assert len({sha(), sha(top="events: [a:c]\n"), sha(below="clock: mono\n"), sha(p="x")}) == 4
