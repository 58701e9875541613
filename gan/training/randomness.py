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


def generator(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """A CPU generator seeded by :func:`derived_seed`."""
    return torch.Generator().manual_seed(derived_seed(seed, purpose, *counters))


class DataOrder:
    """An endless sequence of batches: one seeded permutation of the data after another, cut into batches.

    Args:
        size: number of images.
        batch_size: images per batch; may exceed ``size``.
        seed: of the permutations.
    """

    def __init__(self, size: int, batch_size: int, seed: int):
        if size < 1:
            raise ValueError(f"size: expected at least one image, got {size}")
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self._epochs: dict[int, torch.Tensor] = {}

    def __getitem__(self, batch: int) -> torch.Tensor:
        """Indices of batch number ``batch``, int64 ``[batch_size]``."""
        positions = torch.arange(batch * self.batch_size, (batch + 1) * self.batch_size)
        epochs = positions // self.size
        first, last = int(epochs[0]), int(epochs[-1])
        self._epochs = {epoch: self._permutation(epoch) for epoch in range(first, last + 1)}
        orders = torch.stack([self._epochs[epoch] for epoch in range(first, last + 1)])
        return orders[epochs - first, positions % self.size]

    def _permutation(self, epoch):
        if epoch in self._epochs:
            return self._epochs[epoch]
        return torch.randperm(self.size, generator=generator(self.seed, "data order", epoch))
