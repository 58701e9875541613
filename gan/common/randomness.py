"""Random numbers that depend on (seed, purpose, counters) only, so that a resumed run repeats an uninterrupted one.

Everything drawn for a batch is drawn for the whole batch on the CPU and then cut for the ranks: the number of processes
and the device do not change what is drawn.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch


def derived_seed(seed: int, purpose: str, *counters: int) -> int:
    """A 63-bit seed; different purposes or counters give independent streams."""
    entropy = [seed, zlib.crc32(purpose.encode()), *counters]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)


def random_generator(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """A CPU generator seeded by :func:`derived_seed`."""
    return torch.Generator().manual_seed(derived_seed(seed, purpose, *counters))
