"""The RotMNIST classifiers of Cohen & Welling (2016), section 8.1: the planar Z2CNN and the p4-CNN."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

import gcnn_kernels as gk

from ..networks.blocks import plane_wise

#: group and number of maps per layer; half as many maps on p4, each with four slots, take about as many parameters
MODELS = {"p4cnn": ("p4", 10), "z2cnn": ("p1", 20)}


class PlanarClassifier(nn.Module):
    """Convolutions without padding, one 2x2 max pooling after the second, a maximum over group and plane at the top.

    On 28x28 images these are the paper's seven layers: six of 3x3 and, on the 4x4 plane that they leave, one of 4x4.
    For other sizes there are fewer or more 3x3 layers. Batch norm and ReLU follow every layer but the top.

    Args:
        model: "p4cnn" or "z2cnn".
        resolution: side of the images, a multiple of 4 from 12 on (28: seven layers; 16: four).
        channels: planes of the images.
        classes: number of classes, which is the number of maps of the top layer.
        mean, std: of the training pixels in [0, 255]; buffers, kept with the weights.

    From uint8 ``[B, channels, resolution, resolution]`` to logits ``[B, classes]``, which on p4 do not change when the
    input makes a quarter turn.
    """

    def __init__(self, model: str, resolution: int, channels: int, classes: int, mean: float = 0.0, std: float = 255.0):
        super().__init__()
        if model not in MODELS:
            raise ValueError(f"model: expected one of {', '.join(MODELS)}, got {model!r}")
        if resolution < 12 or resolution % 4:
            raise ValueError(f"resolution: expected a multiple of 4, at least 12, got {resolution}")
        group, width = MODELS[model]
        plane = (resolution - 4) // 2
        inner = 1 + (plane - 4) // 2
        self.lift = gk.nn.LiftingConv2d(channels, width, 3, group=group)
        self.convs = nn.ModuleList(gk.nn.GroupConv2d(width, width, 3, group=group) for _ in range(inner))
        self.norms = nn.ModuleList(gk.nn.GroupBatchNorm2d(width, activation="relu") for _ in range(1 + inner))
        self.top = gk.nn.GroupConv2d(width, classes, 4, group=group)
        self.register_buffer("mean", torch.tensor(float(mean)))
        self.register_buffer("std", torch.tensor(float(std)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = (images.to(self.mean.dtype) - self.mean) / self.std
        x = self.norms[0](self.lift(x.contiguous(memory_format=torch.channels_last)))
        for depth, (conv, norm) in enumerate(zip(self.convs, self.norms[1:], strict=True)):
            x = norm(conv(x))
            if depth == 0:
                x = plane_wise(lambda planes: F.max_pool2d(planes, 2), x)
        return self.top(x).amax((2, 3, 4))
