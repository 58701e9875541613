"""The statistics of batch norm for evaluation."""

from __future__ import annotations

import torch
from torch import nn

import gcnn_kernels as gk

from ..common.distributed import World
from ..common.noise import draw_noise
from ..common.randomness import random_generator

#: batches whose statistics are averaged
BATCHES = 32

_NORMS = (gk.nn.GroupBatchNorm2d, gk.nn.ConditionalGroupBatchNorm2d)


@torch.no_grad()
def estimate_statistics(generator: nn.Module, labels: torch.Tensor, batch_size: int, seed: int, world: World) -> None:
    """Set a generator's running statistics to the mean of those of ``BATCHES`` seeded batches; then evaluation mode.

    The running statistics of training belong to other weights than the averaged ones. Spectral norm stays as it is.

    Args:
        generator: its norms, and nothing else of it, are put into training mode meanwhile.
        labels: int64 ``[N]`` on the CPU, those of the training images; each sample's is drawn from them.
        batch_size: over all ranks, as in training.
    """
    norms = [module for module in generator.eval().modules() if isinstance(module, _NORMS)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.training = True  # of the norm alone: its linear maps are spectrally normalised
    mine = world.share(batch_size)
    for batch in range(BATCHES):
        random = random_generator(seed, "moments", batch)
        noise = draw_noise(generator, batch_size, random)
        drawn = labels[torch.randint(len(labels), (batch_size,), generator=random)]
        z, elements = noise.part(mine, world.device)
        generator(z, drawn[mine].to(world.device), elements=elements)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.training = False
