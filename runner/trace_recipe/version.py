"""Version: which trace-recipe this is."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

__all__ = ["tool_version"]


@cache
def tool_version() -> str:
    """Return `trace-recipe X.Y.Z`."""
    try:
        return f"trace-recipe {version('trace-recipe')}"
    except PackageNotFoundError:
        return "trace-recipe (not installed)"
