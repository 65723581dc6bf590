"""Where recipes are: a path, or a name in ./recipes, the user's, the system's, the shipped."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trace_recipe.errors import Problem, RecipeError, errno_text
from trace_recipe.held_files import hold_file
from trace_recipe.invoker import Invoker, acting_as, find_invoker
from trace_recipe.recipe.load import LoadedRecipe, load_recipe
from trace_recipe.recipe.yaml_reader import decode_text
from trace_recipe.shipped import shipped_data
from trace_recipe.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["FoundRecipe", "find_recipe", "list_recipes", "open_recipe"]

_MAX_BYTES = 1 << 20
_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class FoundRecipe:
    """A recipe file and the place that it was found in."""

    name: str
    path: Path
    origin: str


def search_path(environment: Mapping[str, str]) -> tuple[tuple[str, Path], ...]:
    """Return (origin, directory) in the order in which names are looked up."""
    home = environment.get("HOME", "/")
    config = environment.get("XDG_CONFIG_HOME") or str(Path(home) / ".config")
    return (
        ("here", Path("recipes")),
        ("user", Path(config) / "trace-recipe" / "recipes"),
        ("system", Path("/etc/trace-recipe/recipes")),
        ("shipped", shipped_data("recipes")),
    )


def list_recipes(environment: Mapping[str, str]) -> Iterator[FoundRecipe]:
    """Yield every recipe that can be called by name, the first of equal names only."""
    seen: set[str] = set()
    for origin, directory in search_path(environment):
        if not directory.is_dir():
            continue
        for path in sorted(directory.iterdir()):
            if path.suffix in _SUFFIXES and path.is_file() and path.stem not in seen:
                seen.add(path.stem)
                yield FoundRecipe(path.stem, path, origin)


def find_recipe(name: str, environment: Mapping[str, str]) -> Path:
    """Return the file for a path or a name; raises RecipeError with what was looked at."""
    path = Path(name)
    try:
        with acting_as(find_invoker(environment)):  # root's eyes would tell what is where
            is_file, is_there = path.is_file(), path.exists()
    except OSError as error:
        raise RecipeError(_unreadable(name, errno_text(error.errno or 0))) from error
    if is_file:
        return path
    if os.sep in name or is_there:
        raise RecipeError(_unreadable(name, "it is not a file" if is_there else ""))
    found = {one.name: one.path for one in list_recipes(environment)}
    stem = path.stem if path.suffix in _SUFFIXES else name
    if stem in found:
        return found[stem]
    raise RecipeError(
        Problem(
            f"no recipe '{name}'",
            why="there is no such file, and no recipe of that name in "
            + ", ".join(str(directory) for _, directory in search_path(environment)),
            fix=did_you_mean(stem, found, otherwise="see `trace-recipe list recipes`"),
        )
    )


def open_recipe(
    name: str, environment: Mapping[str, str], overrides: Mapping[str, str]
) -> LoadedRecipe:
    """Find, read and load a recipe; raises RecipeError with all its problems.

    Files are read with the invoking user's rights: an error shows lines of what it read.
    """
    path = find_recipe(name, environment)
    invoker = find_invoker(environment)
    root = path.parent.resolve()

    def read(other: str) -> str:
        # Includes may not leave the recipe's directory, through links neither.
        target = Path(os.path.realpath(other))  # resolve() raises RuntimeError for a loop
        if not target.is_relative_to(root):
            raise PermissionError(1, "outside the recipe's directory")
        return _read(target, invoker)

    try:
        text = _read(path, invoker)
    except OSError as error:
        raise RecipeError(_unreadable(str(path), errno_text(error.errno or 0))) from error
    return load_recipe(str(path), text, overrides=overrides, read=read)


def _read(path: Path, invoker: Invoker) -> str:
    with acting_as(invoker):
        held = hold_file(path)
    return decode_text(str(path), held.read(_MAX_BYTES + 1))


def _unreadable(name: str, why: str) -> Problem:
    return Problem(
        f"cannot read recipe '{name}'",
        why=why or "there is no such file",
        fix="check the path, or see `trace-recipe list recipes`",
    )
