"""Policy: what users of this machine may do with trace-recipe, by a file that only root can write.

A rule that forbids wins over all that allow; `default` speaks where no rule does. What is allowed
still takes the word in the recipe and the one on the command line.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from trace_recipe.errors import Place, PolicyError, Problem, RecipeError, errno_text
from trace_recipe.recipe.kinds import Line, PolicyName, shown
from trace_recipe.recipe.marks import Marks
from trace_recipe.recipe.params import key_text
from trace_recipe.recipe.parts.rules import Many, Model, Rule
from trace_recipe.recipe.yaml_reader import MAX_BYTES, Document, decode_text, parse_yaml
from trace_recipe.suggestions import did_you_mean, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from trace_recipe.invoker import Invoker

__all__ = ["POLICY_FILE", "RUN", "Policy", "Verdict", "load_policy", "policy_schema"]

POLICY_FILE = Path("/etc/trace-recipe/policy.yaml")
RUN = "run"
_OTHERS_WRITE = 0o022
_DOCUMENT = Document("policy", "policies", "start it with 'policy: v1' and 'default: allow'")
_Word = Literal["allow", "forbid"]


class PolicyRule(Model):
    """What some users may or may not do; without users and groups it is for everybody."""

    allow: Many[PolicyName] | None = Field(
        default=None,
        min_length=1,
        description="What they may do, if no rule forbids it: permissions they may give with"
        " --allow, and 'run'.",
        examples=[["function-all"]],
    )
    forbid: Many[PolicyName] | None = Field(
        default=None,
        min_length=1,
        description="What they may not do, whatever else allows it.",
        examples=[["mmiotrace", "command-as-root"]],
    )
    users: Many[Line] | None = Field(
        default=None,
        min_length=1,
        description="Users by name: under sudo who called it; a user without a name by number.",
        examples=[["alice"]],
    )
    groups: Many[Line] | None = Field(
        default=None,
        min_length=1,
        description="Groups by name: everybody in one of them.",
        examples=[["kernel-team"]],
    )

    rules = (
        Rule(
            "one_meaning",
            "a rule either allows or forbids",
            lambda r: () if (r.allow is None) == (r.forbid is None) else None,
            fix="write 'allow: [...]' or 'forbid: [...]', one of the two",
            schema={"oneOf": [{"required": ["allow"]}, {"required": ["forbid"]}]},
        ),
    )


class PolicyText(Model):
    """A policy file of trace-recipe, version 1: who may run recipes, and give which permissions."""

    policy: Literal["v1"] = Field(description="Format version.", examples=["v1"])
    default: _Word = Field(
        default="allow",
        description="What holds for a user and a name ('run' too) that no rule speaks of.",
        examples=["forbid"],
    )
    rules_: Many[PolicyRule] = Field(
        default=(),
        alias="rules",
        description="Who may do what; one that forbids wins over all that allow.",
        examples=[[{"forbid": ["mmiotrace"]}]],
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one user may do one thing, where the policy says so, and in which words."""

    is_allowed: bool
    place: Place | None = None
    words: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy of this machine as it is for one user; `file` None: there is none."""

    user: str
    groups: tuple[str, ...]
    file: Path | None = None
    text: PolicyText | None = None
    marks: Marks | None = None

    def verdict(self, name: str) -> Verdict:
        """Say whether the user may do `name`: give a permission, or 'run'."""
        if self.text is None or self.marks is None:
            return Verdict(is_allowed=True)
        for word in ("forbid", "allow"):
            for number, rule in enumerate(self.text.rules_):
                names = getattr(rule, word) or ()
                whom = self._whom(rule)
                if name in names and whom:
                    place = self.marks.place(("rules", number, word, names.index(name)))
                    words = f"{_VERBS[word]} '{name}' to {whom}"
                    return Verdict(word == "allow", place, words)
        place = self.marks.place(("default",))
        words = f"{_VERBS[self.text.default]} '{name}' by default: no rule speaks of it"
        return Verdict(self.text.default == "allow", place, words)

    def refuse_run(self) -> None:
        """Raise PolicyError when the user may not run recipes."""
        verdict = self.verdict(RUN)
        if not verdict.is_allowed:
            raise PolicyError(
                Problem(
                    f"{self.user} may not run recipes on this machine",
                    why=f"the policy {verdict.words}",
                    fix=f"ask who keeps {self.file}; `check` and `plan` change nothing, and work",
                    place=verdict.place,
                )
            )

    def unknown_names(self) -> list[str]:
        """Return the users and groups of the policy that this machine does not know."""
        found: dict[str, None] = {}
        for rule in self.text.rules_ if self.text else ():
            found |= {f"user '{name}'": None for name in rule.users or () if not _is_user(name)}
            found |= {f"group '{name}'": None for name in rule.groups or () if not _is_group(name)}
        return list(found)

    def _whom(self, rule: PolicyRule) -> str:
        """Return by what the user is meant, "" when not."""
        if rule.users is None and rule.groups is None:
            return "everybody"
        if self.user in (rule.users or ()):
            return f"user '{self.user}'"
        common = [name for name in rule.groups or () if name in self.groups]
        return f"group '{common[0]}'" if common else ""


_VERBS = {"allow": "allows", "forbid": "forbids"}


def load_policy(invoker: Invoker, path: Path = POLICY_FILE, *, owner_uid: int = 0) -> Policy:
    """Read the policy as it is for the invoking user; one without rules when there is no file.

    Raises PolicyError with every problem when the file is faulty: it is never ignored.
    """
    user, groups = invoker.name, tuple(map(_group_name, invoker.groups))
    try:
        data = _read(path, owner_uid)
        if data is None:
            return Policy(user, groups)
        marks = Marks(parse_yaml(str(path), decode_text(str(path), data, _DOCUMENT), _DOCUMENT))
    except RecipeError as error:
        raise PolicyError(*map(_as_policy_problem, error.problems)) from error
    try:
        text = PolicyText.model_validate_json(json.dumps(marks.root.plain()))
    except ValidationError as error:
        details = error.errors(include_url=False)
        found = [one for detail in details for one in _problems(detail, marks)]
        found.sort(key=lambda one: (one.place.line, one.place.column) if one.place else (0, 0))
        raise PolicyError(*map(_as_policy_problem, found)) from error
    return Policy(user, groups, path, text, marks)


def policy_schema() -> dict[str, Any]:
    """Return the JSON Schema published as schema/policy.v1.schema.json."""
    generated = PolicyText.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://trace-recipe.dev/schema/policy.v1.schema.json",
        **generated,
        "title": "trace-recipe policy, version 1",
    }


def _read(path: Path, owner_uid: int) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        is_link = path.is_symlink()
        reason = "it is a symbolic link" if is_link else errno_text(error.errno or 0)
        fix = "put the file itself there" if is_link else f"as root: chmod 0644 {path}"
        raise RecipeError(_unreadable(path, reason, fix)) from error
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise RecipeError(_unreadable(path, "it is not a file", "put a file there"))
        _refuse_unsafe(path, found, owner_uid)
        directory = path.parent.lstat()
        if not stat.S_ISDIR(directory.st_mode):
            reason, fix = "it is a symbolic link", "put the directory itself there"
            raise RecipeError(_unreadable(path.parent, reason, fix))
        _refuse_unsafe(path.parent, directory, owner_uid)
        with open(fd, "rb", closefd=False) as stream:
            return stream.read(MAX_BYTES + 1)
    finally:
        os.close(fd)


def _refuse_unsafe(path: Path, found: os.stat_result, owner_uid: int) -> None:
    """Raise RecipeError when somebody else than root could have written or replaced it."""
    if found.st_uid != owner_uid:
        reason = f"it belongs to uid {found.st_uid}, not to root"
        raise RecipeError(_unreadable(path, reason, f"see what it says, then: chown root {path}"))
    if found.st_mode & _OTHERS_WRITE:
        reason = f"others than its owner may write to it (mode {stat.S_IMODE(found.st_mode):04o})"
        raise RecipeError(_unreadable(path, reason, f"see what it says, then: chmod go-w {path}"))


def _unreadable(path: Path, reason: str, fix: str) -> Problem:
    return Problem(f"cannot trust '{path}': {reason}", fix=fix)


def _as_policy_problem(problem: Problem) -> Problem:
    why = "no recipe runs while the policy of this machine is in doubt"
    why = f"{problem.why}; {why}" if problem.why else why
    return Problem(problem.what, why, problem.fix, problem.key, problem.place)


def _problems(detail: Mapping[str, Any], marks: Marks) -> Iterator[Problem]:
    """Yield what pydantic finds wrong with a policy, in our words."""
    path: tuple[str | int, ...] = tuple(detail["loc"])
    value, context = detail["input"], detail.get("ctx", {})
    place = marks.place(path)
    match detail["type"]:
        case "rules":
            for one in context["broken"]:
                yield Problem(one.what, one.why, one.fix, key_text(path), place)
        case "extra_forbidden":
            model = PolicyText if len(path) == 1 else PolicyRule
            known = [field.alias or name for name, field in model.model_fields.items()]
            name = str(path[-1])
            what, why = f"unknown key {shown(name)}", f"known here: {listed(sorted(known))}"
            fix = did_you_mean(name, known, otherwise="take it out")
            yield Problem(what, why, fix, key_text(path), marks.key_place(path))
        case "missing":
            what = f"the key '{path[-1]}' is missing"
            yield Problem(what, fix=_DOCUMENT.start, key=key_text(path[:-1]), place=place)
        case "literal_error":
            what = f"must be {context['expected']}, not {shown(value)}"
            yield Problem(what, fix=f"write {context['expected']}", key=key_text(path), place=place)
        case "no_value":
            for name in (name for name, given in value.items() if given is None):
                fix = "give it one, or take the key out"
                below = (*path, name)
                yield Problem(
                    "the key has no value", "", fix, key_text(below), marks.key_place(below)
                )
        case "too_short" if value:
            return  # its entries are wrong, which is told of each
        case "too_short":
            why = "it would be for nobody, or for everybody"
            fix = "add an entry, or take the rule out"
            yield Problem("the list is empty", why, fix, key_text(path), place)
        case "tuple_type":
            fix = "write it as a list: [...]"
            yield Problem(f"must be a list, not {shown(value)}", "", fix, key_text(path), place)
        case "model_type":
            fix = "write it as in {forbid: [mmiotrace]}"
            yield Problem(f"must be a mapping, not {shown(value)}", "", fix, key_text(path), place)
        case _:
            what = context.get("what", f"the models refuse it: {detail['msg'].lower()}")
            why, fix = context.get("why", ""), context.get("fix", "")
            yield Problem(what, why, fix, key_text(path), place)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return name.isdigit()
    return True


def _is_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return name.isdigit()
    return True
