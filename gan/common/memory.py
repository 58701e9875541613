"""Memory of long computations on a CPU."""

from __future__ import annotations

import ctypes
import platform
from contextlib import contextmanager

# Parameters of glibc's mallopt (malloc.h), and the largest values that it takes
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_TRIM, _LARGEST_MMAP = 2**31 - 1, 32 << 20


@contextmanager
def freed_memory_kept():
    """Within this context the process keeps the memory that it frees, if its C library is glibc.

    glibc returns large blocks to the system, which then clears every page of the next tensor. Training asks for the same
    tensors in every iteration and is 1.1 to 1.2 times faster without (docs/environment.md).
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    library = ctypes.CDLL(None)
    library.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP)
    library.mallopt(_TRIM_THRESHOLD, _LARGEST_TRIM)
    try:
        yield
    finally:
        library.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_MMAP)  # where glibc's own adaptation ends
        library.malloc_trim(0)
