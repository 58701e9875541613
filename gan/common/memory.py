"""Memory of long computations on a CPU."""

from __future__ import annotations

import ctypes
import platform
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # parameters of glibc's mallopt, as in malloc.h


@contextmanager
def freed_memory_kept():
    """Within this context the process keeps the memory that it frees, if its C library is glibc.

    glibc returns large blocks to the system, which then clears every page of the next tensor. Training, which asks for
    the same tensors in every iteration, is faster without (docs/environment.md).
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    library = ctypes.CDLL(None)
    library.mallopt(_TRIM_THRESHOLD, -1)  # never
    library.mallopt(_MMAP_MAX, 0)
    try:
        yield
    finally:
        library.mallopt(_TRIM_THRESHOLD, 64 << 20)  # where glibc's own adaptation ends
        library.mallopt(_MMAP_MAX, 1 << 16)  # the default
        library.malloc_trim(0)
