"""The RotMNIST classifiers of Cohen & Welling (2016), section 8.1: Z2CNN, p4-CNN, p4-CNN with rotation pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

import gcnn_kernels as gk

from ..networks.blocks import downsample
from .normalised import NormalisedClassifier


class Architecture(NamedTuple):
    """Group and number of maps of every layer, and whether each layer ends in a maximum over the rotations."""

    group: str
    width: int
    pooled: bool = False


#: Half as many maps on p4, each with four slots, take about as many parameters as the plane's. Pooled layers see and
#: give planar maps, so that each of them lifts, with exactly the plane's parameters.
MODELS = {
    "z2cnn": Architecture("p1", 20),
    "p4cnn": Architecture("p4", 10),
    "p4cnn-pooled": Architecture("p4", 20, pooled=True),
}

#: Planes larger than this are pooled before more 3x3 layers follow.
LARGEST_PLANE = 16


class PlanarClassifier(NormalisedClassifier):
    """Convolutions without padding, some followed by 2x2 max pooling, and a maximum over group and plane at the top.

    On 28x28 images these are the paper's seven layers: two of 3x3, pooling, four of 3x3 and, on the 4x4 plane that they
    leave, one of 4x4. Images of other sizes have fewer or more 3x3 layers; above 36x36 also more poolings, one after
    every second layer while the plane is larger than 16. An odd plane is pooled 3x3 with stride 2. Batch norm and ReLU
    follow every layer but the top.

    Args:
        model: "p4cnn", "z2cnn" or "p4cnn-pooled".
        resolution: side of the images, at least 12 (16: four layers; 28: seven; 96: nine).
        channels: planes of the images.
        classes: number of classes, which is the number of maps of the top layer.
        mean, std: one number per channel, of the training pixels in [0, 255].

    From pixels in [0, 255] ``[B, channels, resolution, resolution]``, uint8 or floating point, to logits
    ``[B, classes]``, which on p4 do not change when the input makes a quarter turn.
    """

    def __init__(
        self,
        model: str,
        resolution: int,
        channels: int,
        classes: int,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ):
        super().__init__(channels, mean, std)
        if model not in MODELS:
            raise ValueError(f"model: expected one of {', '.join(MODELS)}, got {model!r}")
        if resolution < 12:
            raise ValueError(f"resolution: expected at least 12, got {resolution}")
        group, width, self.pooled = MODELS[model]
        kind = gk.nn.LiftingConv2d if self.pooled else gk.nn.GroupConv2d
        self.down = downsample("max")
        self.downs = _poolings(resolution)
        self.lift = gk.nn.LiftingConv2d(channels, width, 3, group=group)
        self.convs = nn.ModuleList(kind(width, width, 3, group=group) for _ in self.downs[1:])
        self.norms = nn.ModuleList(gk.nn.GroupBatchNorm2d(width, activation="relu") for _ in self.downs)
        self.top = kind(width, classes, 4, group=group)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.normalise(images)
        for conv, norm, down in zip((self.lift, *self.convs), self.norms, self.downs, strict=True):
            x = conv(x)
            x = norm(gk.group_max_pool(x) if self.pooled else x)
            x = self.down(x) if down else x
        return self.top(x).amax((2, 3, 4))


def _poolings(resolution: int) -> list[bool]:
    """Whether pooling follows, for each 3x3 layer from the image down to the 4 or 5 pixels that the top layer takes."""
    plane, downs = resolution, []
    while plane > 5:
        plane -= 2
        pools = len(downs) % 2 == 1 and (len(downs) == 1 or plane > LARGEST_PLANE)
        downs.append(pools)
        plane = plane // 2 if pools else plane
    return downs
