"""Pooling over the group."""

from __future__ import annotations

import torch
from torch import nn

from ..functional import group_avg_pool, group_max_pool


class GroupMaxPool(nn.Module):
    """Maximum over the group, ``[B, C, order, H, W]`` -> ``[B, C, H, W]``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return group_max_pool(x)


class GroupAvgPool(nn.Module):
    """Mean over the group, ``[B, C, order, H, W]`` -> ``[B, C, H, W]``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return group_avg_pool(x)
