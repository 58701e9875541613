"""Losses of the joint batch of all ranks."""

from __future__ import annotations

import torch
import torch.distributed as dist


class _AllRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, local):
        ranks = local.new_empty((dist.get_world_size(), *local.shape))
        dist.all_gather_into_tensor(ranks, local.detach().contiguous().unsqueeze(0))
        return ranks.flatten(0, 1)

    @staticmethod
    def backward(ctx, grad):
        ranks = dist.get_world_size()
        return grad.unflatten(0, (ranks, -1))[dist.get_rank()] * ranks


def all_ranks(local: torch.Tensor) -> torch.Tensor:
    """The tensors ``[B, ...]`` of all ranks, one after the other; every rank must give as many rows.

    A loss of the result has the same value on every rank. Its gradient with respect to the rank's own rows comes back
    times the number of ranks, so that the average of the ranks' parameter gradients is the gradient of that loss. No
    second communication is needed for it.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return local
    return _AllRanks.apply(local)
