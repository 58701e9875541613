"""The action of a point group on square images."""

from __future__ import annotations

import torch
from torch import nn

import gcnn_kernels as gk


def is_subgroup(small: str, large: str) -> bool:
    """Whether every element of one point group is in another."""
    inner, outer = gk.point_group(small), gk.point_group(large)
    return outer.rotations % inner.rotations == 0 and outer.reflections >= inner.reflections


class GroupAction(nn.Module):
    """Moves each image of a batch by its own element of a group: (g x)(p) = x(g^-1 p).

    Groups on the grid ("p4", "p4m") permute the pixels. Finer ones ("c8", "d8") rotate by bilinear interpolation, and
    everything outside the inscribed disk becomes zero, for the identity too; their cost grows with N^4, so they are for
    small maps.

    Args:
        group: name of the point group.
        size: N, the images' height and width.
    """

    def __init__(self, group: str, size: int):
        super().__init__()
        self.point_group = gk.point_group(group)
        self.size = size
        subgroup = self.point_group.grid_subgroup
        sources = torch.from_numpy(subgroup.tap_action(size)[subgroup.inverse])
        if self.point_group.on_grid:
            self.register_buffer("sources", sources, persistent=False)
        else:
            # Element q*a + j is the subgroup's a after the rotation R^j.
            rotations = torch.from_numpy(self.point_group.filter_rotations(size)).float()
            self.register_buffer("maps", rotations[:, sources].transpose(0, 1).flatten(0, 1), persistent=False)

    def forward(self, images: torch.Tensor, elements: torch.Tensor) -> torch.Tensor:
        """``images`` ``[B, C, N, N]``, ``elements`` int64 ``[B]`` -> ``[B, C, N, N]``, channels_last."""
        batch, channels, height, width = images.shape
        if (height, width) != (self.size, self.size):
            raise ValueError(f"images: expected {self.size} x {self.size}, got {height} x {width}")
        pixels = images.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        if self.point_group.on_grid:
            first = torch.arange(batch, device=images.device).unsqueeze(1) * (height * width)
            rows = (self.sources[elements] + first).flatten()
            pixels = pixels.flatten(0, 1).index_select(0, rows)
        else:
            pixels = self.maps[elements].to(pixels.dtype) @ pixels
        return pixels.view(batch, height, width, channels).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        return f"{self.point_group.name!r}, {self.size}"
