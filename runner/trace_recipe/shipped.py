"""Shipped: the data that comes with the code: recipes, schemas, units."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

__all__ = ["shipped_data"]


def shipped_data(kind: str) -> Path:
    """Return the directory of shipped `recipes` or `schema`: in the wheel, or in a checkout."""
    package = Path(str(resources.files("trace_recipe")))
    packed = package / "_data" / kind
    return packed if packed.is_dir() else package.parent.parent / kind
