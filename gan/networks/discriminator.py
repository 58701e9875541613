"""The projection discriminator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

import gcnn_kernels as gk

from ..common.symmetry import is_subgroup
from .blocks import DISCRIMINATOR_BLOCKS
from .tables import DiscriminatorTable


class Discriminator(nn.Module):
    """From images and classes to logits (Dey et al. 2021, Tables 5 to 14; Miyato & Koyama 2018 for the projection).

    Attributes:
        group: name of the point group.
        invariance: name of the group that can move an image without a change of its features and logits: that part
            of ``group`` which permutes the pixels; "p1" where planar blocks follow the maximum over the group.
    """

    def __init__(
        self,
        table: DiscriminatorTable,
        group: str,
        *,
        scale,
        image_channels: int,
        classes: int,
        auxiliary_rotations: bool,
    ):
        super().__init__()
        self.group = group
        planar_end = any(block.planar for block in table.blocks)
        self.invariance = "p1" if planar_end else gk.point_group(group).grid_subgroup.name
        if auxiliary_rotations and is_subgroup("p4", self.invariance):
            raise ValueError(
                "auxiliary_rotations: expected a discriminator that can see them, but the features of this one, with "
                f"group {group!r} up to the end, are the same for all four rotations of an image"
            )
        self.stages = nn.Sequential()
        channels = image_channels
        for planar in (False, True):
            stage = nn.Sequential()  # over one group, from a lifting block to the maximum over the group
            for block in (b for b in table.blocks if b.planar is planar):
                kind, width = DISCRIMINATOR_BLOCKS[table.kind], scale(block.width, planar=planar)
                place = {"group": "p1" if planar else group, "lift": len(stage) == 0}
                stage.append(kind(channels, width, **place, resample=block.resample, pool=table.pool))
                channels = width
            if len(stage):
                if table.readout == "basis":
                    stage.append(gk.nn.GroupConv2d(channels, channels, 4, bias=False, group=group, groups=channels))
                self.stages.append(stage.append(gk.nn.GroupMaxPool()))
        self.preactivated = table.kind.startswith("residual")
        self.readout = table.readout
        self.linear = nn.Linear(channels, 1)
        self.embedding = nn.Embedding(classes, channels)
        self.rotation_head = nn.Linear(channels, 4) if auxiliary_rotations else None

    @property
    def invariant(self) -> bool:
        """Whether any element of the group but the identity leaves the logits of every image unchanged."""
        return self.invariance != "p1"

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """f ``[B, F]`` of images ``[B, C, H, W]``: what the projection reads."""
        x = self.stages(images.contiguous(memory_format=torch.channels_last))
        if self.preactivated:
            x = F.relu(x)
        return x.sum((2, 3)) if self.readout == "sum" else x.mean((2, 3))

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logits ``[B]`` of images ``[B, C, H, W]`` in [-1, 1] and classes int64 ``[B]``."""
        f = self.features(images)
        return self.linear(f).squeeze(1) + (self.embedding(labels) * f).sum(1)

    def rotation_logits(self, images: torch.Tensor) -> torch.Tensor:
        """``[B, 4]``: by how many quarter turns each image was moved (Chen et al. 2019)."""
        if self.rotation_head is None:
            raise RuntimeError("this discriminator was built without auxiliary_rotations")
        return self.rotation_head(self.features(images))
