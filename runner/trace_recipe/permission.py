"""Permission: the name of something dangerous, which takes two people to allow, or one twice."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Permission"]


class Permission(StrEnum):
    """What a recipe must ask for under `allow`, and the command line grant with `--allow`."""

    FUNCTION_ALL = "function-all"
    STACK_ALL = "stack-all"
    MMIOTRACE = "mmiotrace"
    BIG_BUFFER = "big-buffer"
    OUTPUTS_ELSEWHERE = "outputs-elsewhere"
    COMMAND_AS_ROOT = "command-as-root"
