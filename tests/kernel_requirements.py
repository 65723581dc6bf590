"""Kernels a test needs: see tests/requirements.py for when it is skipped and when it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.requirements import need
from tests.vm.kernels import KernelAbsentError, find_kernel
from tests.vm.machine import missing_tools

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["need_kernel"]


def need_kernel(name: str) -> Path:
    """Return the image of a kernel of tests/vm/kernels.py that the running test needs."""
    reason = missing_tools()
    need(name, is_there=not reason, reason=reason)
    try:
        return find_kernel(name)
    except KernelAbsentError as error:
        need(name, is_there=False, reason=f"no kernel {name!r}: {error}")
        raise
