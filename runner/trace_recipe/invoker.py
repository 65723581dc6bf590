"""Invoker: on whose behalf a root process acts, and acting with no more rights than theirs."""

from __future__ import annotations

import contextlib
import os
import pwd
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trace_recipe.errors import Problem, RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Invoker", "acting_as", "find_invoker", "user_named"]


@dataclass(frozen=True, slots=True)
class Invoker:
    """The user who typed the command: under sudo the one before it."""

    uid: int
    gid: int
    name: str
    home: str
    groups: tuple[int, ...]

    @property
    def is_other(self) -> bool:
        """Whether rights have to be given up to act as this user."""
        return os.geteuid() == 0 and self.uid != 0


def find_invoker(environment: Mapping[str, str]) -> Invoker:
    """Return the invoking user: SUDO_UID counts only for root, who alone can act on it."""
    uid, gid = os.getuid(), os.getgid()
    if os.geteuid() == 0 and (sudo_uid := _number(environment.get("SUDO_UID", ""))) is not None:
        sudo_gid = _number(environment.get("SUDO_GID", ""))
        uid, gid = sudo_uid, gid if sudo_gid is None else sudo_gid
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Invoker(uid, gid, str(uid), "/", (gid,))
    groups = tuple(os.getgrouplist(entry.pw_name, gid))
    if uid == os.geteuid() != 0:  # newgrp and its like give others than those on file
        groups = tuple(dict.fromkeys((*groups, os.getegid(), *os.getgroups())))
    return Invoker(uid, gid, entry.pw_name, entry.pw_dir, groups)


def user_named(name: str) -> Invoker:
    """Return the user of that name; raises RecipeError when there is none."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise RecipeError(
            Problem(
                f"this machine has no user '{name}'",
                why="neither its files nor its directory services know one",
                fix="see `getent passwd`",
                key="--user",
            )
        ) from None
    groups = tuple(os.getgrouplist(name, entry.pw_gid))
    return Invoker(entry.pw_uid, entry.pw_gid, name, entry.pw_dir, groups)


@contextlib.contextmanager
def acting_as(invoker: Invoker) -> Iterator[None]:
    """Use the invoker's file rights inside the block; call it while no other thread runs."""
    if not invoker.is_other:
        yield
        return
    groups = os.getgroups()
    gid = os.getegid()
    os.setgroups(invoker.groups)
    os.setegid(invoker.gid)
    os.seteuid(invoker.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


def _number(text: str) -> int | None:
    """Return the id that sudo has written; None for anything else. The last one means none."""
    is_number = text.isascii() and text.isdigit() and len(text) <= 10
    return int(text) if is_number and int(text) < (1 << 32) - 1 else None
