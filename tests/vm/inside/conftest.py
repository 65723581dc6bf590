"""Tests here are collected inside a test machine only, and are all tracefs tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.vm.machine import IN_VM

collect_ignore_glob = [] if os.environ.get(IN_VM) else ["test_*.py"]


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.tracefs)
