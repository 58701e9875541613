"""The order in which training sees the images."""

from __future__ import annotations

import torch

from ..common.randomness import random_generator


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
        return torch.randperm(self.size, generator=random_generator(self.seed, "data order", epoch))
