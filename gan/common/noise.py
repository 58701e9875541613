"""What a generator starts from."""

from __future__ import annotations

from typing import NamedTuple

import torch

import gcnn_kernels as gk


class Noise(NamedTuple):
    """``z`` float32 ``[B, latent_dim]``; ``elements`` int64 ``[B]`` for a fully symmetric generator, else None."""

    z: torch.Tensor
    elements: torch.Tensor | None

    def part(self, which: slice | torch.Tensor, device) -> Noise:
        """The samples of a slice, or at int64 positions, on a device."""
        return Noise(*(None if tensor is None else tensor[which].to(device) for tensor in self))


def draw_noise(generator, batch: int, random: torch.Generator) -> Noise:
    """Noise on the CPU for ``batch`` images of a :class:`gan.networks.Generator`, from a CPU random generator."""
    z = torch.randn(batch, generator.latent_dim, generator=random)
    if generator.symmetry != "full":
        return Noise(z, None)
    return Noise(z, torch.randint(gk.point_group(generator.group).order, (batch,), generator=random))
