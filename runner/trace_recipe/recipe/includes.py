"""`include`: other recipe files merged underneath, read through a function that the caller gives.

Names are checked here; whether a link leads out of the directory is for the reader to know.
"""

from __future__ import annotations

import errno
import posixpath
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from trace_recipe.errors import Place, Problem, RecipeError
from trace_recipe.recipe.kinds import INCLUDE_PATH, shown
from trace_recipe.recipe.quantities import RefusedValue
from trace_recipe.recipe.yaml_reader import parse_yaml

if TYPE_CHECKING:
    from collections.abc import Callable

    from trace_recipe.recipe.marks import Located

__all__ = ["MAX_INCLUDE_DEPTH", "Included", "merge_includes"]

MAX_INCLUDE_DEPTH = 8
MAX_INCLUDED_FILES = 64

_JOINED_REQUIRES = ("events", "tracers", "options", "clocks", "triggers", "files")
_JOINED = {("events",), ("tags",), ("links",), *(("requires", key) for key in _JOINED_REQUIRES)}


@dataclass(frozen=True, slots=True)
class Included:
    """A recipe with everything it includes: the merged tree, and each file read, in order."""

    root: Located
    files: tuple[tuple[str, str], ...] = field(default=())


def merge_includes(path: str, root: Located, read: Callable[[str], str] | None) -> Included:
    """Merge what a parsed recipe includes underneath it; raises RecipeError with all problems.

    The including file wins; mappings merge, `events`, `tags`, `links` and the lists of `requires`
    are joined (the included first), other lists are replaced. A file is merged once.
    """
    merger = _Merger(path, read)
    merged = merger.merge(root, (posixpath.basename(path),))
    if merger.problems:
        raise RecipeError(*merger.problems)
    return Included(merged, tuple(merger.files))


class _Merger:
    def __init__(self, top: str, read: Callable[[str], str] | None) -> None:
        self._directory = posixpath.dirname(top)
        self._read = read
        self._done: set[str] = set()
        self.files: list[tuple[str, str]] = []
        self.problems: list[Problem] = []

    def merge(self, root: Located, stack: tuple[str, ...]) -> Located:
        """Return a recipe with its own includes underneath.

        `stack` has the files that include each other down to it, relative to the top directory.
        """
        include = root.value.get("include")
        below: Located | None = None
        for item in self._items(include):
            target = self._target(item, stack)
            if target is None or target in self._done:
                continue
            self._done.add(target)
            child = self._load(target, item)
            if child is not None:
                child = self.merge(child, (*stack, target))
                below = child if below is None else _merged(child, below, ())
        if below is None:
            return root
        kept = {key: value for key, value in below.value.items() if key != "include"}
        return _merged(root, replace(below, value=kept), ())

    def _items(self, include: Located | None) -> list[Located]:
        """Return the entries of an `include` list; a wrong list is for the schema to refuse."""
        return include.value if include is not None and isinstance(include.value, list) else []

    def _target(self, item: Located, stack: tuple[str, ...]) -> str | None:
        """Return which file an entry names, or report why it cannot be read."""
        place = item.place()
        try:
            name = INCLUDE_PATH.parse(item.value)
        except RefusedValue as refused:
            # The top file's own entries are checked by the schema as well.
            if len(stack) > 1:
                self._report(place, refused.what, refused.why, refused.fix)
            return None
        if "${" in name:
            self._report(
                place,
                "a parameter in an included file's name",
                "files are joined before parameters are put in",
                "write the name out",
            )
            return None
        target = posixpath.normpath(posixpath.join(posixpath.dirname(stack[-1]), name))
        if target == ".." or target.startswith("../"):
            self._report(
                place,
                f"{shown(name)} lies outside the recipe's directory",
                "a recipe includes files from its own directory and below",
                "move the file next to the recipe",
            )
            return None
        if target in stack:
            chain = " includes ".join((*stack, target))
            self._report(place, "the files include each other", chain, "take one include out")
            return None
        if len(stack) > MAX_INCLUDE_DEPTH:
            self._report(
                place,
                "files are included too deeply",
                f"{MAX_INCLUDE_DEPTH} levels are the most",
                "join some of the files",
            )
            return None
        if len(self._done) >= MAX_INCLUDED_FILES and target not in self._done:
            self._report(
                place,
                "too many files are included",
                f"{MAX_INCLUDED_FILES} are the most",
                "join some of the files",
            )
            return None
        return target

    def _load(self, name: str, item: Located) -> Located | None:
        place = item.place()
        target = posixpath.join(self._directory, name)
        if self._read is None:
            self._report(
                place,
                "files cannot be included here",
                "the recipe does not come from a directory",
                "save it as a file, or write the keys out",
            )
            return None
        try:
            text = self._read(target)
            root = parse_yaml(target, text)
        except OSError as error:
            reason = error.strerror or "it is not there"
            is_outside = error.errno == errno.EPERM  # see recipe_files.open_recipe
            fix = "move the file next to the recipe" if is_outside else "is the name right?"
            why = "an include is a file in the recipe's directory or below"
            self._report(place, f"cannot read {target!r}: {reason}", why, fix)
            return None
        except UnicodeError:
            what = f"cannot read {target!r}: it is not UTF-8"
            self._report(place, what, "a recipe is UTF-8", "convert it")
            return None
        except RecipeError as error:
            self.problems += error.problems
            return None
        self.files.append((target, text))
        version = root.value.get("recipe")
        if version is not None and version.value != "v1":
            self._report(
                version.place(),
                f"an included file is {shown(version.value)}, not 'v1'",
                "all files of a recipe have the same language version",
                "write 'recipe: v1'",
            )
        return root

    def _report(self, place: Place, what: str, why: str = "", fix: str = "") -> None:
        self.problems.append(Problem(what, why, fix, key="include", place=place))


def _merged(over: Located, under: Located, path: tuple[str, ...]) -> Located:
    """Return one tree of two; `over` wins, and keeps its places."""
    if isinstance(over.value, dict) and isinstance(under.value, dict):
        children = dict(under.value)
        for key, child in over.value.items():
            below = children.get(key)
            children[key] = child if below is None else _merged(child, below, (*path, key))
        return replace(over, value=children)
    if path in _JOINED:
        if isinstance(over.value, list) and isinstance(under.value, list):
            return replace(over, value=under.value + over.value)
        return over if isinstance(under.value, list) else under  # the schema refuses the wrong one
    return over
