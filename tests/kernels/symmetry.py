"""How group elements act on images and on feature maps."""

from __future__ import annotations

import torch

import gcnn_kernels as gk


def rotated(x, g, group):
    """The element g applied to an image or to a feature map's plane and slots; g has to permute the pixels."""
    point = gk.point_group(group)
    m, r = divmod(g, point.rotations)
    y = torch.rot90(x, r * 4 // point.rotations, (-2, -1))
    y = y.flip(-2) if m else y
    if x.dim() == 5:  # (g f)(h) = f(g^-1 h)
        y = y[:, :, torch.from_numpy(point.quotient[g])]
    return y


def quarter_turns(group):
    """The elements of a group that permute the pixels of the grid."""
    point = gk.point_group(group)
    return [g for g in range(point.order) if g % point.rotations * 4 % point.rotations == 0]
