"""Machines that run side by side: each emulator keeps one CPU busy."""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.vm.kernels import KernelAbsentError, find_kernel
from tests.vm.machine import base_image, missing_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

    import pytest

    from tests.vm.machine import Outcome

__all__ = ["chosen_names", "side_by_side"]


@contextlib.contextmanager
def side_by_side(
    names: Iterable[str], job: Callable[[Path], Outcome]
) -> Iterator[dict[str, Future[Outcome]]]:
    """Start the job on each kernel; those that are not here are left out."""
    if missing_tools():  # each test says what
        yield {}
        return
    base_image()  # made once, before they all want it
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        futures = {}
        for name in names:
            with contextlib.suppress(KernelAbsentError):  # its test says so
                futures[name] = pool.submit(job, find_kernel(name))
        yield futures


def chosen_names(request: pytest.FixtureRequest) -> list[str]:
    """Return the kernels of the chosen tests of the asking module, each once."""
    callspecs = (
        getattr(item, "callspec", None)
        for item in request.session.items
        if item.path == request.path
    )
    return list(dict.fromkeys(spec.params["name"] for spec in callspecs if spec))
