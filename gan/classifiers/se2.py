"""Rotation-invariant classifiers on SE(2) with N orientations, in the shape of Bekkers, Lafarge et al. (2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

import gcnn_kernels as gk

from ..networks.blocks import downsample
from .normalised import NormalisedClassifier

#: number of orientations -> group, maps of every layer on it. The widths give N = 1 ... 16 about as many parameters.
ORIENTATIONS = {1: ("p1", 18), 2: ("c2", 13), 4: ("p4", 9), 8: ("c8", 7), 16: ("c16", 5)}

KERNEL = 5
HIDDEN = 16

#: Layers on planes larger than this keep their size and are followed by 2x2 max pooling.
LARGEST_PLANE = 16


class SE2Classifier(NormalisedClassifier):
    """Lifting, group convolutions, a maximum over the orientations, two 1x1 layers, a mean over the plane.

    All filters of the first two kinds are 5x5; where they rotate by interpolation (N = 8, 16) inside a disk. While the
    plane is larger than 16 pixels a layer keeps it, padded by zeros, and 2x2 max pooling follows; the layers after that
    are not padded, until less than 5 pixels are left. Batch norm and ReLU follow every layer but the last. The number
    of layers and the table of widths are ours: the authors' is not public.

    Args:
        orientations: N, one of 1 (a plain CNN), 2, 4, 8, 16.
        resolution: side of the images, at least 9.
        channels, classes, mean, std: as for :class:`gan.classifiers.planar.PlanarClassifier`.

    From pixels in [0, 255] ``[B, channels, resolution, resolution]``, uint8 or floating point, to logits
    ``[B, classes]``. They do not change under a quarter turn of the input for N = 4, 8, 16 (N = 2: half a turn), and
    little under the other rotations of the group.
    """

    def __init__(
        self,
        orientations: int,
        resolution: int,
        channels: int,
        classes: int,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ):
        super().__init__(channels, mean, std)
        if orientations not in ORIENTATIONS:
            raise ValueError(f"orientations: expected one of {', '.join(map(str, ORIENTATIONS))}, got {orientations!r}")
        if resolution < 2 * KERNEL - 1:
            raise ValueError(f"resolution: expected at least {2 * KERNEL - 1}, got {resolution}")
        group, width = ORIENTATIONS[orientations]
        self.down = downsample("max")
        self.downs = _poolings(resolution)
        self.convs = nn.ModuleList(
            (gk.nn.GroupConv2d if depth else gk.nn.LiftingConv2d)(
                width if depth else channels, width, KERNEL, padding=KERNEL // 2 if down else 0, bias=False, group=group
            )
            for depth, down in enumerate(self.downs)
        )
        self.norms = nn.ModuleList(gk.nn.GroupBatchNorm2d(width, activation="relu") for _ in self.downs)
        self.hidden = nn.Conv2d(width, HIDDEN, 1, bias=False)
        self.hidden_norm = nn.BatchNorm2d(HIDDEN)
        self.top = nn.Conv2d(HIDDEN, classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.normalise(images)
        for conv, norm, down in zip(self.convs, self.norms, self.downs, strict=True):
            x = norm(conv(x))
            x = self.down(x) if down else x
        x = F.relu(self.hidden_norm(self.hidden(gk.group_max_pool(x))))
        return self.top(x).mean((2, 3))


def _poolings(resolution: int) -> list[bool]:
    """Whether a layer keeps the plane and is followed by pooling, for each 5x5 layer."""
    plane, downs = resolution, []
    while plane >= KERNEL:
        downs.append(plane > LARGEST_PLANE)
        plane = plane // 2 if downs[-1] else plane - KERNEL + 1
    return downs
