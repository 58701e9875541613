"""Memory that a process keeps."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# In a process of its own: what malloc holds depends on all that was allocated before.
PROGRAM = """
import resource
import torch
from gan.common.memory import freed_memory_kept

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(30_000_000)
        torch.ones(5_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

found = [page_faults()]
with freed_memory_kept():
    page_faults()
    found.append(page_faults())
page_faults()
print(*found, page_faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_pages_are_cleared_once():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    before, within, after = map(int, done.stdout.split())
    assert within < before / 10 < after
