"""Maximum over windows of 2 x 2 pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._layout import map_format
from ..compiled import dense, dense_like


class CpuSpatialPool:
    """The kernels of csrc/cpu/spatial_pool.cpp."""

    def __init__(self, kernels: Any):
        self.kernels = kernels

    def spatial_max(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x, channels_last = dense(x)
        value = _empty_like(x, x.dtype, x.shape[3] // 2, x.shape[4] // 2)
        index = torch.empty_like(value, dtype=torch.uint8)
        self.kernels.spatial_max(x, channels_last, value, index)
        return value, index

    def spatial_max_scatter(self, grad: Tensor, index: Tensor) -> Tensor:
        index, channels_last = dense(index)
        x = _empty_like(index, grad.dtype, 2 * index.shape[3], 2 * index.shape[4])
        self.kernels.spatial_max_scatter(dense_like(grad, index), index, channels_last, x)
        return x

    def spatial_max_gather(self, x: Tensor, index: Tensor) -> Tensor:
        index, channels_last = dense(index)
        value = torch.empty_like(index, dtype=x.dtype)
        self.kernels.spatial_max_gather(dense_like(x, index), index, channels_last, value)
        return value


def _empty_like(x, dtype, height, width):
    return torch.empty((*x.shape[:3], height, width), dtype=dtype, device=x.device, memory_format=map_format(x))
