"""Batch norm by its formulas, in the dtype of the statistics."""

from __future__ import annotations

import torch
from torch import Tensor

from ..base import Affine, accumulator
from ..norm_formulas import OneResult, ThreeResults, composed, per_map


def norm_stats(x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.to(accumulator(x.dtype))
    var, mean = torch.var_mean(x, dim=(0, 2, 3, 4), correction=0)
    return mean, var


def norm_apply(x: Tensor, mean: Tensor, rstd: Tensor, affine: Affine) -> Tensor:
    xhat = (x - per_map(mean)) * per_map(rstd)
    y = _transformed(xhat, affine)
    return torch.where(y > 0, y, affine.slope * y).to(x.dtype)


def norm_backward_sums(grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, affine: Affine) -> tuple[Tensor, Tensor]:
    g, xhat = _masked_grad(grad, x, mean, rstd, affine)
    return g.sum((2, 3, 4)), (g * xhat).sum((2, 3, 4))


def norm_backward_input(
    grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, affine: Affine, mean_g: Tensor, mean_gx: Tensor
) -> Tensor:
    g, xhat = _masked_grad(grad, x, mean, rstd, affine)
    if affine.weight is not None:
        g = g * per_map(affine.weight)
    return ((g - per_map(mean_g) - xhat * per_map(mean_gx)) * per_map(rstd)).to(x.dtype)


norm_eval: OneResult
norm_train: ThreeResults
norm_backward: ThreeResults
norm_eval, norm_train, norm_backward = composed(norm_stats, norm_apply, norm_backward_sums, norm_backward_input)


def _transformed(xhat, affine):
    weight, bias, _ = affine
    y = xhat if weight is None else xhat * per_map(weight)
    return y if bias is None else y + per_map(bias)


def _masked_grad(grad, x, mean, rstd, affine):
    xhat = (x.to(mean.dtype) - per_map(mean)) * per_map(rstd)
    y = _transformed(xhat, affine)
    grad = grad.to(mean.dtype)
    return torch.where(y > 0, grad, affine.slope * grad), xhat
