"""The class-conditional generator."""

from __future__ import annotations

import torch
from torch import nn

import gcnn_kernels as gk

from ..common.symmetry import GroupAction
from .blocks import GENERATOR_BLOCKS, Basis, conv
from .tables import GeneratorTable

SYMMETRIES = ("incomplete", "full")


class Generator(nn.Module):
    """From noise and a class to images (Dey et al. 2021, section 2.2 and Tables 5 to 14).

    Noise and class embedding are concatenated to the condition, which is projected to a first map ``[B, C, n, n]`` and
    steers every conditional norm. Blocks, a last convolution, the maximum over the group and tanh follow.

    The projection breaks the symmetry: the generator is Birrell et al.'s "(I)Eqv G". With
    ``symmetry="full"`` each sample's first map is moved by a random element of the group, which is part of the noise
    ("Eqv G"); then the distribution of the images is exactly invariant.

    Attributes:
        latent_dim: length of the noise.
        image_shape: (C, H, W).
        group: name of the point group.
        symmetry: "incomplete" or "full".
    """

    def __init__(self, table: GeneratorTable, group: str, *, scale, image_channels: int, classes: int, symmetry: str):
        super().__init__()
        channels, size = scale(table.projection[0], planar=True), table.projection[1]
        condition = table.latent + table.embedding
        self.group, self.latent_dim, self.symmetry = group, table.latent, symmetry
        self.first_map = (channels, size)
        self.embedding = nn.Embedding(classes, table.embedding)
        bottleneck = table.kind == "bottleneck"
        self.projection = (
            Basis(condition, channels, size) if bottleneck else nn.Linear(condition, channels * size * size)
        )
        self.action = GroupAction(group, size) if symmetry == "full" else None
        self.blocks = nn.ModuleList()
        for index, block in enumerate(table.blocks):
            options = {"norm": block.norm} if table.kind == "conv" else {}
            width = scale(block.width)
            self.blocks.append(
                GENERATOR_BLOCKS[table.kind](
                    channels, width, group, lift=index == 0, resample=block.resample, condition=condition, **options
                )
            )
            channels = width
            size *= 2 if block.resample else 1
        self.norm = gk.nn.GroupBatchNorm2d(channels, activation="relu") if table.kind == "residual" else nn.Identity()
        self.to_image = conv(channels, image_channels, 1 if bottleneck else 3, group)
        self.pool = gk.nn.GroupMaxPool()
        self.image_shape = (image_channels, size, size)

    def embed(self, labels: torch.Tensor) -> torch.Tensor:
        """The embeddings ``[B, E]`` of classes int64 ``[B]``; interpolate between classes linearly in this space."""
        return self.embedding(labels)

    def forward(
        self,
        z: torch.Tensor,
        labels: torch.Tensor | None = None,
        *,
        embedding: torch.Tensor | None = None,
        elements: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Images ``[B, C, H, W]`` in [-1, 1], channels_last.

        Args:
            z: ``[B, latent_dim]``, standard normal.
            labels: int64 ``[B]``; or give ``embedding`` ``[B, E]``.
            elements: int64 ``[B]``, the group elements of a fully symmetric generator; drawn uniformly if not given.

        Raises:
            ValueError: if there are both labels and embedding, or neither, or elements without full symmetry.
        """
        if (labels is None) == (embedding is None):
            raise ValueError("labels, embedding: expected one of the two")
        if elements is not None and self.action is None:
            raise ValueError(f"elements: only for symmetry 'full', and this generator's is {self.symmetry!r}")
        condition = torch.cat([z, self.embed(labels) if embedding is None else embedding.to(z.dtype)], dim=1)
        channels, size = self.first_map
        x = self.projection(condition).view(-1, size, size, channels).permute(0, 3, 1, 2)
        if self.action is not None:
            if elements is None:
                elements = torch.randint(self.action.point_group.order, (len(z),), device=z.device)
            x = self.action(x, elements)
        for block in self.blocks:
            x = block(x, condition)
        return torch.tanh(self.pool(self.to_image(self.norm(x))))
