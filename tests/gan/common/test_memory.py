"""Memory that a process keeps."""

from __future__ import annotations

import platform
import resource

import pytest
import torch

from gan.common.memory import freed_memory_kept


def page_faults() -> int:
    """Of making two large tensors again and again."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(10_000_000)
        torch.ones(5_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_pages_are_cleared_once():
    outside = page_faults()
    with freed_memory_kept():
        page_faults()
        assert page_faults() < outside / 10
    page_faults()
    assert page_faults() > outside / 10
