"""What the backends of compiled kernels have in common: allocating outputs, and the memory formats.

Their binaries register operators of the same names and schemas, which fill tensors that are allocated here. An
operation is an object that holds the dispatcher namespace of its binary, ``torch.ops.gcnn_cpu`` or ``gcnn_cuda``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._layout import map_format, plane_format
from ..groups import PointGroup
from .base import Affine, accumulator
from .filter_indices import filter_sources, filter_targets


class CompiledFilters:
    """The filter stack and its adjoint."""

    def __init__(self, kernels: Any):
        self.kernels = kernels

    def expand_filters(self, weight: Tensor, group: PointGroup) -> Tensor:
        cout, cin, slots, k, _ = weight.shape
        sources = filter_sources(group, slots, k, weight.device)
        stack = weight.new_empty((cout * group.order, cin * slots, k, k))
        self.kernels.expand_filters(weight.contiguous(), sources, stack)
        return stack

    def reduce_filters(self, stack: Tensor, group: PointGroup, in_slots: int) -> Tensor:
        k = stack.shape[-1]
        cout, cin = stack.shape[0] // group.order, stack.shape[1] // in_slots
        targets = filter_targets(group, in_slots, k, stack.device)
        weight = stack.new_empty((cout, cin, in_slots, k, k))
        self.kernels.reduce_filters(stack.contiguous(), targets, weight)
        return weight


class CompiledNorm:
    """The four kernels of the norm."""

    def __init__(self, kernels: Any):
        self.kernels = kernels

    def norm_stats(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x, channels_last = dense(x)
        mean = x.new_empty(x.shape[1], dtype=accumulator(x.dtype))
        var = torch.empty_like(mean)
        self.kernels.norm_stats(x, channels_last, mean, var)
        return mean, var

    def norm_apply(self, x: Tensor, mean: Tensor, rstd: Tensor, affine: Affine) -> Tensor:
        weight, bias, slope = affine
        x, channels_last = dense(x)
        y = torch.empty_like(x)
        self.kernels.norm_apply(x, channels_last, *parameters(mean, rstd, weight, bias), slope, y)
        return y

    def norm_backward_sums(
        self, grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, affine: Affine
    ) -> tuple[Tensor, Tensor]:
        weight, bias, slope = affine
        x, channels_last = dense(x)
        sum_g = mean.new_empty(x.shape[:2])
        sum_gx = torch.empty_like(sum_g)
        self.kernels.norm_backward_sums(
            dense_like(grad, x), x, channels_last, *parameters(mean, rstd, weight, bias), slope, sum_g, sum_gx
        )
        return sum_g, sum_gx

    def norm_backward_input(
        self, grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, affine: Affine, mean_g: Tensor, mean_gx: Tensor
    ) -> Tensor:
        weight, bias, slope = affine
        x, channels_last = dense(x)
        gx = torch.empty_like(x)
        self.kernels.norm_backward_input(
            dense_like(grad, x), x, channels_last, *parameters(mean, rstd, weight, bias), slope,
            mean_g.contiguous(), mean_gx.contiguous(), gx,
        )  # fmt: skip
        return gx


class CompiledPool:
    """Maximum over the group."""

    def __init__(self, kernels: Any):
        self.kernels = kernels

    def group_max(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x, channels_last = dense(x)
        value = _empty_plane(x, x)
        index = torch.empty_like(value, dtype=torch.uint8)
        self.kernels.group_max(x, channels_last, value, index)
        return value, index

    def group_max_scatter(self, grad: Tensor, index: Tensor, slots: int) -> Tensor:
        index, channels_last = dense(index.unsqueeze(2))
        shape = (*grad.shape[:2], slots, *grad.shape[2:])
        x = torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=map_format(index))
        self.kernels.group_max_scatter(dense_like(grad.unsqueeze(2), index), index, channels_last, x)
        return x

    def group_max_gather(self, x: Tensor, index: Tensor) -> Tensor:
        index, channels_last = dense(index.unsqueeze(2))
        value = _empty_plane(x, index)
        self.kernels.group_max_gather(dense_like(x, index), index, channels_last, value)
        return value


def dense(x: Tensor) -> tuple[Tensor, bool]:
    """A map without gaps in its memory format, and whether that is channels_last_3d."""
    memory_format = map_format(x)
    return x.contiguous(memory_format=memory_format), memory_format == torch.channels_last_3d


def dense_like(x: Tensor, like: Tensor) -> Tensor:
    return x.contiguous(memory_format=map_format(like))


def parameters(
    mean: Tensor, rstd: Tensor, weight: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Contiguous, and weight and bias in the statistics' dtype."""
    return (
        mean.contiguous(),
        rstd.contiguous(),
        None if weight is None else weight.to(mean.dtype).contiguous(),
        None if bias is None else bias.to(mean.dtype).contiguous(),
    )


def _empty_plane(x, like):
    """``[B, C, H, W]`` for values of a map ``[B, C, S, H, W]``, in the memory format of another."""
    shape = (*x.shape[:2], *x.shape[3:])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=plane_format(like))
