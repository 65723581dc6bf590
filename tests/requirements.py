"""What a test needs of the machine: missing, it is skipped; required by name, it fails.

TRACE_RECIPE_REQUIRE holds names separated by commas, or "all".
"""

from __future__ import annotations

import os
import shutil

import pytest

__all__ = ["need", "need_command", "need_two_cpus"]


def need(name: str, *, is_there: bool, reason: str) -> None:
    """Skip the running test with `reason` when `name` is not there; fail it when it is required."""
    if is_there:
        return
    required = {one.strip() for one in os.environ.get("TRACE_RECIPE_REQUIRE", "").split(",")}
    if required & {name, "all"}:
        pytest.fail(f"{reason}, but TRACE_RECIPE_REQUIRE asks for {name!r}")
    pytest.skip(reason)


def need_command(name: str) -> str:
    """Return the path of a program that the running test needs."""
    path = shutil.which(name)
    need(name, is_there=path is not None, reason=f"no program {name!r} on this machine")
    assert path is not None
    return path


def need_two_cpus() -> None:
    """Require CPUs 0 and 1, on which the running test works."""
    is_there = {0, 1} <= os.sched_getaffinity(0)
    need("two-cpus", is_there=is_there, reason="CPUs 0 and 1 are not both ours")
