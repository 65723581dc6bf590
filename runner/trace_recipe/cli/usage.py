"""Mistakes in the words of a command line, told as every other error; `--help` stays typer's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from trace_recipe.errors import Problem, RecipeError
from trace_recipe.suggestions import closest, did_you_mean, either, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Commands", "UsageError", "usage_problem"]

UsageError: Any = typer.BadParameter.__base__
"""What the option parser raises: typer's own class, or click's in older versions of typer."""

_NO_COMMAND_STATUS = 2
_RECIPE_SUFFIXES = (".yaml", ".yml")
_EXTRA_WORDS = re.compile(r"extra arguments? ?(?:\(s\) )?\((.*)\)")
_CHOICE = re.compile(r"(?P<given>'.*'|\".*\") is not one of (?P<known>.*)")


class Commands(TyperGroup):
    """A group of commands that says itself when the command is none, or none of them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Show the help where nothing is asked for."""
        if not args and not ctx.resilient_parsing:
            if text := ctx.get_help():  # empty when rich has printed it already
                print(text)
            ctx.exit(_NO_COMMAND_STATUS)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; raises RecipeError with the ones that it may have been."""
        name = args[0]
        if not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            raise RecipeError(_no_command(name, ctx.command_path, self.list_commands(ctx)))
        return super().resolve_command(ctx, args)


def usage_problem(error: Any, command: Any, words: Sequence[str]) -> Problem:
    """Return what is wrong with `words`, from the UsageError that the parser of `command` raised.

    Typer tells most of it in its message only; the rest is read from the command's parameters.
    """
    path, command, context = _find_command(command, words)
    manual = f"see `{path} --help`"
    option = getattr(error, "option_name", None)
    if option is not None and hasattr(error, "possibilities"):
        return _no_option(option, path, command, context)
    if option is not None:
        return _option_alone(option, path, _parameter(command, option), error.message)
    parameter = getattr(error, "param", None)
    if parameter is None:
        why = f"it is called as: {_usage(path, command)}"
        if extra := _EXTRA_WORDS.search(error.message):
            fix = "take it out, or quote what belongs together"
            return Problem(f"`{path}` takes no more words: {extra[1]}", why=why, fix=fix)
        return Problem(_own_words(error.message), why=why, fix=manual)
    name = _name(parameter)
    if hasattr(error, "param_type"):
        return Problem(
            "the argument is missing",
            why=f"`{path}` needs it: {_own_words(parameter.help or '')}",
            fix=f"write it as: {_usage(path, command)}",
            key=name,
        )
    if choice := _CHOICE.search(error.message):
        given = choice["given"][1:-1]
        known = re.findall(r"'([^']*)'", choice["known"])
        return Problem(
            f"'{given}' is no choice",
            why=f"it is one of {listed(known)}",
            fix=did_you_mean(given, known, otherwise="take one of them"),
            key=name,
        )
    return Problem(_own_words(error.message), why=parameter.help or "", fix=manual, key=name)


def _no_command(name: str, path: str, known: Sequence[str]) -> Problem:
    if name.endswith(_RECIPE_SUFFIXES):
        fix = f"to run a recipe: {path} run {name}"
    else:
        fix = did_you_mean(name, known, otherwise=f"see `{path} --help`")
    return Problem(
        f"`{path}` has no command '{name}'",
        why=f"it has {listed(known, longest=len(known))}",
        fix=fix,
    )


def _no_option(option: str, path: str, command: Any, context: Any) -> Problem:
    names = [name for one in command.get_params(context) for name in one.opts if name[0] == "-"]
    known = {name.lstrip("-"): name for name in names}
    otherwise = f"see `{path} --help`"
    if isinstance(command, TyperGroup):
        otherwise = f"write a command's options after it: {path} COMMAND {option}"
    near = [known[name] for name in closest(option.lstrip("-"), known)]
    return Problem(
        "no such option",
        why=f"`{path}` has {listed([known[name] for name in sorted(known)], longest=len(known))}",
        fix=either(near) or otherwise,
        key=option,
    )


def _option_alone(option: str, path: str, parameter: Any, message: str) -> Problem:
    """Tell that an option lacks its value, or has one that it does not take."""
    manual = f"see `{path} --help`"
    if parameter is None:
        return Problem(_own_words(message), fix=manual, key=option)
    about = _own_words(parameter.help or "")
    if parameter.is_flag:
        return Problem("it takes no value", why=about, fix=f"write {option} alone", key=option)
    return Problem("its value is missing", why=about, fix=f"write {option} VALUE", key=option)


def _find_command(command: Any, words: Sequence[str]) -> tuple[str, Any, Any]:
    """Return the path, the command and the context that the leading words lead to."""
    context = command.context_class(command, info_name=command.name)
    path = command.name
    for word in words:
        below = command.get_command(context, word) if isinstance(command, TyperGroup) else None
        if below is None:
            break
        path = f"{path} {word}"
        command, context = below, below.context_class(below, info_name=word, parent=context)
    return path, command, context


def _parameter(command: Any, option: str) -> Any:
    return next((one for one in command.params if option in one.opts), None)


def _usage(path: str, command: Any) -> str:
    if isinstance(command, TyperGroup):
        return f"{path} COMMAND …"
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    return " ".join([path, *_arguments(arguments)])


def _arguments(arguments: Iterable[Any]) -> list[str]:
    return [_name(one) if one.required else f"[{_name(one)}]" for one in arguments]


def _name(parameter: Any) -> str:
    """Return `RECIPE` for an argument, `--kernel` for an option."""
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper()
    return str(max(parameter.opts, key=len))


def _own_words(text: str) -> str:
    """Return a sentence as part of ours: no capital, no full stop, nothing of pydantic's."""
    text = text.removeprefix("Value error, ").rstrip(".")
    return f"{text[:1].lower()}{text[1:]}"
