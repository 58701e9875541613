"""Images at any angle, in one batch and on their device: for training, and for the score under a full turn."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ..common.randomness import random_generator


def rotate(images: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Each image rotated counter-clockwise about its centre by its own angle, bilinear.

    Beyond the edge the edge's pixels are repeated: tissue has no black corners.

    Args:
        images: ``[B, C, H, W]``, any dtype.
        angles: ``[B]``, radians. A quarter turn is ``torch.rot90`` over rows and columns.

    Returns:
        float32 ``[B, C, H, W]``, within the range of the images.
    """
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    maps = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
    grid = F.affine_grid(maps.to(images.device, torch.float32), list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)


def random_rotations(images: torch.Tensor, seed: int, batch: int) -> torch.Tensor:
    """:func:`rotate` by angles uniform over the circle, which ``seed`` and ``batch`` decide on every device alike."""
    return rotate(images, torch.rand(len(images), generator=random_generator(seed, "rotations", batch)) * (2 * math.pi))
