"""The blocks of the networks, and what they are made of.

A block takes an image-like map ``[B, C, H, W]`` if it lifts, else a map on the group ``[B, C, order, H, W]``, and gives
a map on the group. Generator blocks also take the condition ``[B, D]`` of their norms.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

import gcnn_kernels as gk


def conv(cin: int, cout: int, k: int, group: str, *, lift: bool = False, bias: bool = False) -> nn.Module:
    """A convolution that keeps the size; k = 3 becomes 5 for groups whose filters rotate by interpolation.

    (Birrell et al. 2022 take 5 x 5 for c8 and d8; a rotated 3 x 3 filter has too few taps.)
    """
    if k == 3 and not gk.point_group(group).on_grid:
        k = 5
    kind = gk.nn.LiftingConv2d if lift else gk.nn.GroupConv2d
    return kind(cin, cout, k, padding="same", bias=bias, group=group)


def upsample() -> nn.Module:
    """Nearest neighbour, twice the size."""
    return gk.nn.SpatialUpsample(2)


def downsample(kind: str) -> nn.Module:
    """Half the size, rounded down, by "average" or "max" pooling: 2 x 2, and 3 x 3 where a side is odd.

    (A 2 x 2 window would leave out the last row of an odd plane, and another row of the rotated image: a discriminator
    with 7 x 7 maps would not be invariant.)
    """
    return {"average": gk.nn.SpatialAvgPool2d, "max": gk.nn.SpatialMaxPool2d}[kind](2)


class ConvBlockG(nn.Module):
    """3 x 3 convolution, class-conditional batch norm, ReLU, upsampling. A convolution without norm has a bias."""

    def __init__(self, cin, cout, group, *, lift, resample, norm, condition):
        super().__init__()
        self.conv = conv(cin, cout, 3, group, lift=lift, bias=not norm)
        self.norm = _conditional_norm(cout, condition) if norm else None
        self.up = upsample() if resample else nn.Identity()

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return self.up(F.relu(x) if self.norm is None else self.norm(x, condition))


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
        y = self.conv1(self.up(self.norm1(x, condition)))
        y = self.conv2(self.norm2(y, condition))
        return y + self.up(self.skip(x))


class ConvBlockD(nn.Sequential):
    """3 x 3 convolution, LeakyReLU, pooling."""

    def __init__(self, cin, cout, group, *, lift, resample, pool):
        super().__init__()
        self.conv = conv(cin, cout, 3, group, lift=lift, bias=True)
        self.activation = nn.LeakyReLU(0.2)
        self.down = downsample(pool) if resample else nn.Identity()


class ResBlockD(nn.Module):
    """Pre-activation residual block (Dey et al. 2021, Figure 13, right).

    The skip's 1 x 1 convolution commutes with average pooling and then comes after it; with max pooling it does not.
    """

    def __init__(self, cin, cout, group, *, lift, resample, pool):
        super().__init__()
        down = downsample(pool) if resample else nn.Identity()
        self.activation1 = nn.ReLU()
        self.conv1 = conv(cin, cout, 3, group, lift=lift, bias=True)
        self.activation2 = nn.ReLU()
        self.conv2 = conv(cout, cout, 3, group, bias=True)
        self.down = down
        shortcut = conv(cin, cout, 1, group, lift=lift, bias=True)
        self.skip = nn.Sequential(down, shortcut) if pool == "average" else nn.Sequential(shortcut, down)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(self.activation1(x))
        return self.down(self.conv2(self.activation2(y))) + self.skip(x)


class ResBlockDBN(ResBlockD):
    """ResBlockD with batch norm before each ReLU; the norm's shift is the first convolution's bias."""

    def __init__(self, cin, cout, group, *, lift, resample, pool):
        super().__init__(cin, cout, group, lift=lift, resample=resample, pool=pool)
        self.activation1 = gk.nn.GroupBatchNorm2d(cin, activation="relu")
        self.conv1 = conv(cin, cout, 3, group, lift=lift)
        self.activation2 = gk.nn.GroupBatchNorm2d(cout, activation="relu")


GENERATOR_BLOCKS = {"conv": ConvBlockG, "residual": ResBlockG}
DISCRIMINATOR_BLOCKS = {"conv": ConvBlockD, "residual": ResBlockD, "residual-bn": ResBlockDBN}


def _conditional_norm(channels, condition):
    return gk.nn.ConditionalGroupBatchNorm2d(channels, condition, activation="relu")
