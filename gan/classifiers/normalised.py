"""What every classifier does first: bytes become numbers of mean 0 and standard deviation 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn


class NormalisedClassifier(nn.Module):
    """Keeps mean and standard deviation of the training pixels as buffers, with the weights.

    Args:
        channels: planes of the images.
        mean, std: one number per channel, of pixels in [0, 255]; without them [0, 255] becomes [0, 1].
    """

    def __init__(self, channels: int, mean: Sequence[float] | None, std: Sequence[float] | None):
        super().__init__()
        shape = () if channels == 1 else (channels, 1, 1)
        for name, values, otherwise in (("mean", mean, 0.0), ("std", std, 255.0)):
            values = [otherwise] * channels if values is None else values
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).reshape(shape))

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Pixels ``[B, channels, H, W]`` in [0, 255], of any dtype -> normalised ones, channels_last."""
        x = (images.to(self.mean.dtype) - self.mean) / self.std
        return x.contiguous(memory_format=torch.channels_last)


def pixel_moments(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of uint8 ``[N, H, W, C]``; a constant channel has deviation 1.

    Summed in whole numbers, so that a memory-mapped set is never copied as floats.
    """
    counts = np.zeros((images.shape[3], 256), np.int64)
    for image in images:
        for channel in range(images.shape[3]):
            counts[channel] += np.bincount(image[..., channel].ravel(), minlength=256)
    values, shares = np.arange(256.0), counts / counts.sum(1, keepdims=True)
    mean = shares @ values
    std = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(1))
    return mean.tolist(), np.where(std > 0, std, 1.0).tolist()
