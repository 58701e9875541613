"""Maximum over windows of 2 x 2 pixels, its scatter and its gather."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._layout import map_format


def spatial_max(x: Tensor) -> tuple[Tensor, Tensor]:
    planes = map_format(x)
    value, place = F.max_pool2d(x.flatten(1, 2), 2, return_indices=True)
    row, column = place // x.shape[4] % 2, place % 2
    value, index = value.unflatten(1, x.shape[1:3]), (2 * row + column).unflatten(1, x.shape[1:3])
    return value.contiguous(memory_format=planes), index.to(torch.uint8, memory_format=planes)


def spatial_max_scatter(grad: Tensor, index: Tensor) -> Tensor:
    corner = torch.arange(4, device=grad.device).view(2, 1, 2)
    corners = torch.where(index[..., None, :, None] == corner, grad[..., None, :, None], 0)  # [..., H, 2, W, 2]
    return corners.flatten(-2).flatten(3, 4).contiguous(memory_format=map_format(index))


def spatial_max_gather(x: Tensor, index: Tensor) -> Tensor:
    windows = x.unflatten(4, (-1, 2)).unflatten(3, (-1, 2)).transpose(4, 5).flatten(5)  # [..., H, W, 4]
    value = windows.gather(5, index.unsqueeze(5).long()).squeeze(5)
    return value.contiguous(memory_format=map_format(index))
