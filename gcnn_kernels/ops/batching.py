"""What the batching rules of ``torch.vmap`` share: a batch dimension is merged into an existing one.

A rule takes the size of the batch, the place of its dimension in each argument (None where it has none), and the
arguments; it returns the result and the place of the batch dimension in it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from .library import OPS


def fold(x: torch.Tensor | None, batch_dim: int | None, into: int, size: int | None = None) -> torch.Tensor | None:
    """x with its batch dimension folded into the dimension ``into`` (counted without it), outermost.

    Without a batch dimension x is repeated ``size`` times, or left as it is if that is None.
    """
    if x is None:
        return None
    if batch_dim is None:
        if size is None:
            return x
        x = x.unsqueeze(into).expand(*x.shape[:into], size, *x.shape[into:])
    else:
        x = x.movedim(batch_dim, into)
    return x.flatten(into, into + 1)


def unfold(y: torch.Tensor, dim: int, size: int) -> tuple[torch.Tensor, int]:
    """The result y, in whose dimension ``dim`` the batch was folded, and the place of its batch dimension."""
    return y.unflatten(dim, (size, -1)), dim


def folded_into(dim: int, name: str) -> Callable:
    """The rule of an operator of one tensor, whose batch is folded into dimension ``dim`` of it and of the result."""

    def rule(info, in_dims, x, *options):
        return unfold(getattr(OPS, name)(fold(x, in_dims[0], dim), *options), dim, info.batch_size)

    return rule
