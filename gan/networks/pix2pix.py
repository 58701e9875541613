"""The networks of Tables 15 and 16 of Dey et al. 2021: pix2pix (Isola et al. 2017) with resizing 3 x 3 convolutions.

Two departures from the printed tables. The innermost map is 1 x 1, so at batch 1 there is nothing to normalise over:
that block has no norm, as in Isola et al. And the discriminator ends in logits, not in tanh, for a cross-entropy.

The norms take the statistics of the batch at hand in evaluation too. At batch 1, at which these networks are trained,
they are instance norms, so images are to be translated one at a time.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

import gcnn_kernels as gk

from .blocks import conv, downsample, upsample
from .tables import PatchTable, TranslatorTable

BatchNorm = partial(gk.nn.GroupBatchNorm2d, activation="leaky_relu", track_running_stats=False)


class DownBlock(nn.Sequential):
    """3 x 3 convolution, average pooling, batch norm, LeakyReLU."""

    def __init__(self, cin, cout, group, *, lift=False, resample=True, norm=True):
        super().__init__(
            conv(cin, cout, 3, group, lift=lift, bias=not norm),
            downsample("average") if resample else nn.Identity(),
            BatchNorm(cout) if norm else nn.LeakyReLU(0.2),
        )


class UpBlock(nn.Sequential):
    """Upsampling, 3 x 3 convolution, batch norm, LeakyReLU."""

    def __init__(self, cin, cout, group):
        super().__init__(upsample(), conv(cin, cout, 3, group), BatchNorm(cout))


class Translator(nn.Module):
    """A U-Net from images to images.

    Attributes:
        image_shape: (C, H, W) of its images, of the input as of the output; other multiples of H and W serve too.
        group: name of the point group. The mean over the group makes the network equivariant.
    """

    def __init__(self, table: TranslatorTable, group: str, *, scale, image_channels: int):
        super().__init__()
        self.group = group
        self.image_shape = (image_channels, 2 ** len(table.down), 2 ** len(table.down))
        down, up = [scale(w) for w in table.down], [scale(w) for w in table.up]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for index, (cin, cout) in enumerate(zip([image_channels, *down], down, strict=False)):
            self.down.append(DownBlock(cin, cout, group, lift=index == 0, norm=index < len(down) - 1))
        cin = down[-1]
        for cout, skip in zip(up, reversed(down[:-1]), strict=True):
            self.up.append(UpBlock(cin, cout, group))
            cin = cout + skip
        self.to_image = nn.Sequential(upsample(), conv(cin, image_channels, 3, group, bias=True))
        self.pool = gk.nn.GroupAvgPool()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """``[B, C, H, W]`` in [-1, 1] -> the same, H and W multiples of those in ``image_shape``."""
        x, maps = images.contiguous(memory_format=torch.channels_last), []
        for block in self.down:
            x = block(x)
            maps.append(x)
        maps.pop()
        for block in self.up:
            x = torch.cat([block(x), maps.pop()], dim=1)
        return torch.tanh(self.pool(self.to_image(x)))

    @torch.no_grad()
    def translate(self, images: torch.Tensor) -> torch.Tensor:
        """As :meth:`forward`, one image at a time: each is normalised by its own statistics (Isola et al. 3.3)."""
        return torch.cat([self(image.unsqueeze(0)) for image in images])


class PatchDiscriminator(nn.Module):
    """Judges patches of a pair of images. Attribute ``group``: name of the point group."""

    def __init__(self, table: PatchTable, group: str, *, scale, image_channels: int):
        super().__init__()
        self.group = group
        self.blocks = nn.Sequential()
        cin = 2 * image_channels
        for block in table.blocks:
            cout = scale(block.width)
            self.blocks.append(DownBlock(cin, cout, group, lift=len(self.blocks) == 0, resample=block.resample))
            cin = cout
        self.blocks.append(conv(cin, 1, 3, group, bias=True))
        self.pool = gk.nn.GroupAvgPool()

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Logits ``[B, H/8, W/8]`` of pairs of images ``[B, C, H, W]``; they turn with the pair."""
        pair = torch.cat([source, target], dim=1).contiguous(memory_format=torch.channels_last)
        return self.pool(self.blocks(pair)).squeeze(1)
