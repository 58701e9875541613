"""Maximum over the group, its scatter and its gather."""

from __future__ import annotations

import torch
from torch import Tensor

from ..._layout import plane_format, to_map_format


def group_max(x: Tensor) -> tuple[Tensor, Tensor]:
    value, index = x.max(dim=2)
    planes = plane_format(x)
    return value.contiguous(memory_format=planes), index.to(torch.uint8, memory_format=planes)


def group_max_scatter(grad: Tensor, index: Tensor, slots: int) -> Tensor:
    slot = torch.arange(slots, device=grad.device).view(1, 1, -1, 1, 1)
    scattered = torch.where(index.unsqueeze(2) == slot, grad.unsqueeze(2), 0)
    return to_map_format(scattered, like=index.unsqueeze(2))


def group_max_gather(x: Tensor, index: Tensor) -> Tensor:
    index = index.unsqueeze(2)
    return to_map_format(x.gather(2, index.long()), like=index).squeeze(2)
