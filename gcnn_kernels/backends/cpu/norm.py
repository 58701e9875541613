"""Norms of the cpu backend: one call of the C++ kernels for each direction."""

from __future__ import annotations

import torch
from torch import Tensor

from ..base import Affine, accumulator
from ..compiled import CompiledNorm, dense, dense_like, parameters


class CpuNorm(CompiledNorm):
    """The four kernels, and fused ones for what they compose to."""

    def norm_eval(self, x: Tensor, mean: Tensor, var: Tensor, affine: Affine, eps: float) -> Tensor:
        weight, bias, slope = affine
        x, channels_last = dense(x)
        y = torch.empty_like(x)
        self.kernels.norm_eval(x, channels_last, *parameters(mean, var, weight, bias), eps, slope, y)
        return y

    def norm_train(self, x: Tensor, affine: Affine, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        weight, bias, slope = affine
        x, channels_last = dense(x)
        mean = x.new_empty(x.shape[1], dtype=accumulator(x.dtype))
        mean, var, weight, bias = parameters(mean, torch.empty_like(mean), weight, bias)
        y = torch.empty_like(x)
        self.kernels.norm_train(x, channels_last, weight, bias, eps, slope, mean, var, y)
        return y, mean, var

    def norm_backward(
        self, grad: Tensor, x: Tensor, mean: Tensor, var: Tensor, affine: Affine, count: int, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        weight, bias, slope = affine
        x, channels_last = dense(x)
        gx = torch.empty_like(x)
        sum_g = mean.new_empty(x.shape[:2])
        sum_gx = torch.empty_like(sum_g)
        moments_and_affine = parameters(mean, var, weight, bias)
        self.kernels.norm_backward(
            dense_like(grad, x), x, channels_last, *moments_and_affine, count, eps, slope, gx, sum_g, sum_gx
        )
        return gx, sum_g, sum_gx
