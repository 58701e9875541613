"""What the tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch


def pytest_addoption(parser):
    help = "compile every program that the networks' layers can select, not only the largest tiles (minutes)"
    parser.addoption("--all-tiles", action="store_true", help=help)


def pytest_configure():
    """The processes of ``pytest -n`` share the cores."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))


@pytest.fixture(scope="session")
def golden():
    """float64 inputs, filters and outputs that fix the convention (tests/data/group_conv.npz)."""
    import numpy as np

    with np.load(Path(__file__).parent / "data" / "group_conv.npz") as archive:
        return dict(archive)


@pytest.fixture
def threads():
    """Sets the number of torch's threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def pytest_collection_modifyitems(items):
    # The longest one begins first, so that the processes of pytest -n end together.
    items.sort(key=lambda item: item.path.name != "test_triton_interpreter.py")
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):  # not item.keywords, which has the names of folders too
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU; torch.cuda.is_available() is False"))
