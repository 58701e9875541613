"""The blocks of the networks, and what they are made of.

A block takes an image-like map ``[B, C, H, W]`` if it lifts, else a map on the group ``[B, C, order, H, W]``, and gives
a map on the group. Generator blocks also take the condition ``[B, D]`` of their norms.
"""

from __future__ import annotations

import math

import torch
from torch import nn

import gcnn_kernels as gk

#: of R3GAN
BLOCKS_PER_STAGE = 2


def conv(
    cin: int, cout: int, k: int, group: str, *, lift: bool = False, bias: bool = False, groups: int = 1,
    activation: str | None = None,
) -> nn.Module:  # fmt: skip
    """A convolution that keeps the size; k = 3 becomes 5 for groups whose filters rotate by interpolation.

    (Birrell et al. 2022 take 5 x 5 for c8 and d8; a rotated 3 x 3 filter has too few taps.)
    """
    if k == 3 and not gk.point_group(group).on_grid:
        k = 5
    kind = gk.nn.LiftingConv2d if lift else gk.nn.GroupConv2d
    return kind(cin, cout, k, padding="same", bias=bias, group=group, groups=groups, activation=activation)


def upsample() -> nn.Module:
    """Nearest neighbour, twice the size."""
    return gk.nn.SpatialUpsample(2)


def downsample(kind: str) -> nn.Module:
    """Half the size by "average" or "max" pooling, 2 x 2, and 3 x 3 where a side is odd; or by "blur", (1 3 3 1).

    (A 2 x 2 window would leave out the last row of an odd plane, and another row of the rotated image: a discriminator
    with 7 x 7 maps would not be invariant.)
    """
    if kind == "blur":
        return gk.nn.SpatialBlurPool2d()
    return {"average": gk.nn.SpatialAvgPool2d, "max": gk.nn.SpatialMaxPool2d}[kind](2)


class ConvBlockG(nn.Module):
    """3 x 3 convolution, class-conditional batch norm, ReLU, upsampling. A convolution without norm has a bias."""

    def __init__(self, cin, cout, group, *, lift, resample, norm, condition):
        super().__init__()
        self.conv = conv(cin, cout, 3, group, lift=lift, bias=not norm, activation=None if norm else "relu")
        self.norm = _conditional_norm(cout, condition) if norm else None
        self.up = upsample() if resample else nn.Identity()

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        y = self.conv(x) if self.norm is None else gk.nn.conv_batch_norm(self.conv, self.norm, x, condition)
        return self.up(y)


class ResBlockG(nn.Module):
    """Pre-activation residual block (Dey et al. 2021, Figure 13, left). The skip upsamples after its convolution."""

    def __init__(self, cin, cout, group, *, lift, resample, condition):
        super().__init__()
        self.norm1 = _conditional_norm(cin, condition)
        self.conv1 = conv(cin, cout, 3, group, lift=lift)
        self.norm2 = _conditional_norm(cout, condition)
        self.conv2 = conv(cout, cout, 3, group)
        self.skip = conv(cin, cout, 1, group, lift=lift)
        self.up = upsample() if resample else nn.Identity()

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        y = gk.nn.conv_batch_norm(self.conv1, self.norm2, self.up(self.norm1(x, condition)), condition)
        return self.conv2(y) + self.up(self.skip(x))


class ConvBlockD(nn.Sequential):
    """3 x 3 convolution, LeakyReLU, pooling."""

    def __init__(self, cin, cout, group, *, lift, resample, pool):
        super().__init__()
        self.conv = conv(cin, cout, 3, group, lift=lift, bias=True, activation="leaky_relu")
        self.down = downsample(pool) if resample else nn.Identity()


class ResBlockD(nn.Module):
    """Pre-activation residual block (Dey et al. 2021, Figure 13, right).

    The skip's 1 x 1 convolution commutes with average pooling and then comes after it; with max pooling it does not.
    """

    def __init__(self, cin, cout, group, *, lift, resample, pool):
        super().__init__()
        down = downsample(pool) if resample else nn.Identity()
        self.activation1 = nn.ReLU()
        self.conv1 = conv(cin, cout, 3, group, lift=lift, bias=True, activation="relu")
        self.conv2 = conv(cout, cout, 3, group, bias=True)
        self.down = down
        shortcut = conv(cin, cout, 1, group, lift=lift, bias=True)
        self.skip = nn.Sequential(down, shortcut) if pool == "average" else nn.Sequential(shortcut, down)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv2(self._first(self.activation1(x)))
        return self.down(y) + self.skip(x)

    def _first(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv1(x)


class ResBlockDBN(ResBlockD):
    """ResBlockD with batch norm before each ReLU; the norm's shift is the first convolution's bias."""

    def __init__(self, cin, cout, group, *, lift, resample, pool):
        super().__init__(cin, cout, group, lift=lift, resample=resample, pool=pool)
        self.activation1 = gk.nn.GroupBatchNorm2d(cin, activation="relu")
        self.conv1 = conv(cin, cout, 3, group, lift=lift)
        self.activation2 = gk.nn.GroupBatchNorm2d(cout, activation="relu")

    def _first(self, x: torch.Tensor) -> torch.Tensor:
        return gk.nn.conv_batch_norm(self.conv1, self.activation2, x)


class Bottleneck(nn.Module):
    """Residual block without norm (Huang et al. 2024): 1 x 1 to twice the channels, grouped 3 x 3, 1 x 1 back.

    Biases and leaky ReLUs follow the first two convolutions. The groups have 16 channels in a CNN, and over a point
    group of order n floor(16 / sqrt(n)) maps; the block has as many channels inside as fill whole groups.
    """

    def __init__(self, channels: int, group: str):
        super().__init__()
        inside = 2 * channels
        width = min(inside, max(1, int(16 / math.sqrt(gk.point_group(group).order))))
        groups = inside // width
        with_activation = {"bias": True, "activation": "leaky_relu"}
        self.conv1 = conv(channels, groups * width, 1, group, **with_activation)
        self.conv2 = conv(groups * width, groups * width, 3, group, groups=groups, **with_activation)
        self.conv3 = conv(groups * width, channels, 1, group)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv3(self.conv2(self.conv1(x)))


class BottleneckStageG(nn.Module):
    """A resolution of R3GAN's generator: 1 x 1 convolution if the width changes, bilinear upsampling, two blocks.

    The first one lifts, by 3 x 3: after a 1 x 1 lifting all slots would be equal until the blocks are trained.
    """

    def __init__(self, cin, cout, group, *, lift, resample, condition):
        super().__init__()
        self.enter = _entrance(cin, cout, group, lift)
        self.up = gk.nn.SpatialUpsample(2, "bilinear") if resample else nn.Identity()
        self.blocks = nn.Sequential(*(Bottleneck(cout, group) for _ in range(BLOCKS_PER_STAGE)))

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.up(self.enter(x)))


class BottleneckStageD(nn.Sequential):
    """The generator's stage mirrored: downsampling, 1 x 1 convolution if the width changes, two blocks."""

    def __init__(self, cin, cout, group, *, lift, resample, pool):
        super().__init__()
        self.down = downsample(pool) if resample else nn.Identity()
        self.enter = _entrance(cin, cout, group, lift)
        self.blocks = nn.Sequential(*(Bottleneck(cout, group) for _ in range(BLOCKS_PER_STAGE)))


class Basis(nn.Module):
    """From a vector to a planar map: each channel is a learned picture times a linear function of the vector.

    ``[B, D]`` -> ``[B, size^2 * channels]``, channels last, as R3GAN's generator begins.
    """

    def __init__(self, condition: int, channels: int, size: int):
        super().__init__()
        self.linear = nn.Linear(condition, channels, bias=False)
        self.pictures = nn.Parameter(torch.randn(size * size, channels))

    def forward(self, condition: torch.Tensor) -> torch.Tensor:
        return (self.linear(condition).unsqueeze(1) * self.pictures).flatten(1)


def _entrance(cin, cout, group, lift):
    if lift:
        return conv(cin, cout, 3, group, lift=True)
    return conv(cin, cout, 1, group) if cin != cout else nn.Identity()


GENERATOR_BLOCKS = {"conv": ConvBlockG, "residual": ResBlockG, "bottleneck": BottleneckStageG}
DISCRIMINATOR_BLOCKS = {
    "conv": ConvBlockD, "residual": ResBlockD, "residual-bn": ResBlockDBN, "bottleneck": BottleneckStageD,
}  # fmt: skip


def _conditional_norm(channels, condition):
    return gk.nn.ConditionalGroupBatchNorm2d(channels, condition, activation="relu")
