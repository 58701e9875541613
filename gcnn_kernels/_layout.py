"""Memory formats of feature maps."""

from __future__ import annotations

import torch


def map_format(x: torch.Tensor) -> torch.memory_format:
    """The memory format of a feature map ``[B, C, S, H, W]``, and so of the maps computed from it.

    Where a map fits both formats (one channel, one pixel) it counts as channels_last_3d, the fast one.
    """
    if x.is_contiguous(memory_format=torch.channels_last_3d) or x.stride(1) == 1:
        return torch.channels_last_3d
    return torch.contiguous_format


def plane_format(x: torch.Tensor) -> torch.memory_format:
    """The memory format of the planes ``[B, C, H, W]`` computed from a feature map."""
    return torch.channels_last if map_format(x) == torch.channels_last_3d else torch.contiguous_format


def to_map_format(y: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """y in the memory format of ``like``; no copy where it is so already."""
    return y.contiguous(memory_format=map_format(like))
