"""What the tests of gan share."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def one_thread():
    """As in each of two processes: random orthogonal weights, and sums in float32, depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
