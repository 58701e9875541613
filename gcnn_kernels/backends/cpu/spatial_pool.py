"""Maximum over windows of 2 x 2 pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..compiled import dense, dense_like


class CpuSpatialPool:
    """The kernels of csrc/cpu/spatial_pool.cpp."""

    def __init__(self, kernels: Any):
        self.kernels = kernels

    def spatial_max(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x, channels_last = dense(x)
        value = _empty(x, x.dtype, x.shape[3] // 2, x.shape[4] // 2, channels_last)
        index = torch.empty_like(value, dtype=torch.uint8)
        self.kernels.spatial_max(x, channels_last, value, index)
        return value, index

    def spatial_max_scatter(self, grad: Tensor, index: Tensor) -> Tensor:
        index, channels_last = dense(index)
        x = _empty(index, grad.dtype, 2 * index.shape[3], 2 * index.shape[4], channels_last)
        self.kernels.spatial_max_scatter(dense_like(grad, index), index, channels_last, x)
        return x

    def spatial_max_gather(self, x: Tensor, index: Tensor) -> Tensor:
        index, channels_last = dense(index)
        value = torch.empty_like(index, dtype=x.dtype)
        self.kernels.spatial_max_gather(dense_like(x, index), index, channels_last, value)
        return value


def _empty(x, dtype, height, width, channels_last):
    memory_format = torch.channels_last_3d if channels_last else torch.contiguous_format
    return torch.empty((*x.shape[:3], height, width), dtype=dtype, memory_format=memory_format)
