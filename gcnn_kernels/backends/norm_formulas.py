"""What a norm is composed of, and the compositions for backends that have not fused them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

OneResult = Callable[..., Tensor]
ThreeResults = Callable[..., tuple[Tensor, Tensor, Tensor]]


def composed(
    norm_stats: Callable[..., tuple[Tensor, Tensor]],
    norm_apply: Callable[..., Tensor],
    norm_backward_sums: Callable[..., tuple[Tensor, Tensor]],
    norm_backward_input: Callable[..., Tensor],
) -> tuple[OneResult, ThreeResults, ThreeResults]:
    """``norm_eval``, ``norm_train`` and ``norm_backward`` of ``base.Norm`` out of its four kernels."""

    def norm_eval(x, mean, var, affine, eps):
        return norm_apply(x, mean, (var + eps).rsqrt(), affine)

    def norm_train(x, affine, eps):
        mean, var = norm_stats(x)
        return norm_eval(x, mean, var, affine, eps), mean, var

    def norm_backward(grad, x, mean, var, affine, count, eps):
        rstd = (var + eps).rsqrt()
        sums = norm_backward_sums(grad, x, mean, rstd, affine)
        totals = weighted_totals(*sums, affine.weight)
        means = totals / count if count else torch.zeros_like(totals)
        return norm_backward_input(grad, x, mean, rstd, affine, *means), *sums

    return norm_eval, norm_train, norm_backward


def weighted_totals(sum_g: Tensor, sum_gx: Tensor, weight: Tensor | None) -> Tensor:
    """``[2, C]``: the totals over the batch of weight * g and weight * g * xhat, from the sums ``[B, C]``."""
    sums = torch.stack([sum_g, sum_gx])
    return (sums if weight is None else sums * weight.to(sums.dtype)).sum(1)


def per_map(t: Tensor) -> Tensor:
    """``[C]`` or ``[B, C]`` -> broadcastable to ``[B, C, S, H, W]``."""
    return t[..., None, None, None]
