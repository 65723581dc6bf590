"""Leftovers: what a killed run leaves outside of tracefs: raw pages, and outputs without a name."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from trace_recipe.invoker import Invoker, acting_as
from trace_recipe.spool import RESERVE_FILE, give_away

if TYPE_CHECKING:
    from trace_recipe.journal import Leftovers

__all__ = ["clear_leftovers"]


def clear_leftovers(leftovers: Leftovers) -> Path | None:
    """Remove what nobody can use; return the directory of raw pages if there are any.

    The pages go to who started the run, as they would have at its end.
    """
    invoker = Invoker(leftovers.uid, leftovers.gid, "", "", leftovers.groups)
    with acting_as(invoker):
        for part in leftovers.parts:
            with contextlib.suppress(OSError):
                Path(part).unlink()
    if not leftovers.spool:
        return None
    spool = Path(leftovers.spool)
    try:
        fd = os.open(spool, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _settle(spool, fd, invoker)
    finally:
        os.close(fd)


def _settle(spool: Path, fd: int, invoker: Invoker) -> Path | None:
    if os.fstat(fd).st_uid != os.geteuid():  # given away already, or somebody else's of that name
        return None
    inside = Path(f"/proc/self/fd/{fd}")
    (inside / RESERVE_FILE).unlink(missing_ok=True)
    if not any(path.stat().st_size for path in inside.glob("cpu*.raw")):
        shutil.rmtree(spool, ignore_errors=True)
        return None
    give_away(fd, invoker)
    return spool
