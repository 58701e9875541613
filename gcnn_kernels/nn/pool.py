"""Pooling over the group."""

from __future__ import annotations

import torch

from ..functional import group_avg_pool, group_max_pool
from .layer import Layer


class GroupMaxPool(Layer):
    """Maximum over the group, ``[B, C, order, H, W]`` -> ``[B, C, H, W]``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return group_max_pool(x)


class GroupAvgPool(Layer):
    """Mean over the group, ``[B, C, order, H, W]`` -> ``[B, C, H, W]``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return group_avg_pool(x)
