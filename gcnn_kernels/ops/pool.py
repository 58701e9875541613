"""Maxima over the group and over 2 x 2 pixels: the index is kept; backward scatters, double backward gathers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._layout import map_format, plane_format
from ..backends import choose
from .batching import fold, unfold
from .library import OPS, define


def _define(
    name: str,
    component: str,
    pooled: Callable[[Tensor], Tensor],
    unpooled: Callable[..., Tensor],
    size: Callable[[Tensor], tuple[int, ...]],
    size_schema: str,
) -> None:
    """Three operators, each a derivative of another.

        name(x, backend)                            the maxima and their index
        name_scatter(grad, index, *size, backend)   grad at the index, zero elsewhere
        name_gather(x, index, backend)              the values at the index

    Args:
        component: of a backend, that with kernels of these names.
        pooled: from a map, an empty tensor for its maxima.
        unpooled: from gradient, index and ``*size``, an empty map.
        size, size_schema: what of a map's size the pooled one does not tell.
    """
    scatter_name, gather_name = f"{name}_scatter", f"{name}_gather"

    def op(which):
        return getattr(OPS, which)

    def kernel(which, tensors, backend, *size):
        return getattr(getattr(choose(component, tensors[0], backend), component), which)(*tensors, *size)

    def maximum(x, backend):
        return kernel(name, (x,), backend)

    def maximum_fake(x, backend):
        value = pooled(x)
        return value, torch.empty_like(value, dtype=torch.uint8)

    def scatter(grad, index, *options):
        return kernel(scatter_name, (grad, index), options[-1], *options[:-1])

    def scatter_fake(grad, index, *options):
        return unpooled(grad, index, *options[:-1])

    def gather(x, index, backend):
        return kernel(gather_name, (x, index), backend)

    def gather_fake(x, index, backend):
        return torch.empty_like(index, dtype=x.dtype)

    def save_maximum(ctx: Any, inputs, output):
        x, backend = inputs
        ctx.options = *size(x), backend
        ctx.save_for_backward(output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)  # they would be zeros for the index

    def maximum_backward(ctx: Any, grad, _):
        if grad is None:
            return None, None
        return op(scatter_name)(grad, *ctx.saved_tensors, *ctx.options), None

    def save_scatter(ctx: Any, inputs, output):
        _, index, *ctx.options = inputs
        ctx.save_for_backward(index)

    def scatter_backward(ctx: Any, grad):
        return op(gather_name)(grad, *ctx.saved_tensors, ctx.options[-1]), None, *[None] * len(ctx.options)

    def save_gather(ctx: Any, inputs, output):
        x, index, backend = inputs
        ctx.options = *size(x), backend
        ctx.save_for_backward(index)

    def gather_backward(ctx: Any, grad):
        return op(scatter_name)(grad, *ctx.saved_tensors, *ctx.options), None, None

    def maximum_jvp(arguments, tangents, output):
        return op(gather_name)(tangents[0], output[1], arguments[1])

    def maximum_batched(info, in_dims, x, backend):
        n = info.batch_size
        (value, dim), (index, _) = (unfold(y, 0, n) for y in op(name)(fold(x, in_dims[0], 0), backend))
        return (value, index), (dim, dim)

    def batched(which):
        def rule(info, in_dims, x, index, *options):
            n = info.batch_size
            return unfold(op(which)(fold(x, in_dims[0], 0, n), fold(index, in_dims[1], 0, n), *options), 0, n)

        return rule

    define(
        f"{name}(Tensor x, str backend) -> (Tensor, Tensor)", maximum, maximum_fake,
        save=save_maximum, backward=maximum_backward, jvp=maximum_jvp, batched=maximum_batched,
    )  # fmt: skip
    define(
        f"{scatter_name}(Tensor grad, Tensor index, {size_schema}str backend) -> Tensor", scatter, scatter_fake,
        save=save_scatter, backward=scatter_backward, linear=1, batched=batched(scatter_name),
    )  # fmt: skip
    define(
        f"{gather_name}(Tensor x, Tensor index, str backend) -> Tensor", gather, gather_fake,
        save=save_gather, backward=gather_backward, linear=1, batched=batched(gather_name),
    )  # fmt: skip


def _group_pooled(x):
    return x.new_empty((*x.shape[:2], *x.shape[3:])).contiguous(memory_format=plane_format(x))


def _group_unpooled(grad, index, slots):
    shape = (*grad.shape[:2], slots, *grad.shape[2:])
    return grad.new_empty(shape).contiguous(memory_format=map_format(index.unsqueeze(2)))


def _spatially_pooled(x):
    height, width = x.shape[3:]
    return x.new_empty((*x.shape[:3], height // 2, width // 2)).contiguous(memory_format=map_format(x))


def _spatially_unpooled(grad, index):
    height, width = grad.shape[3:]
    return grad.new_empty((*grad.shape[:3], 2 * height, 2 * width)).contiguous(memory_format=map_format(index))


_define("group_max", "pool", _group_pooled, _group_unpooled, lambda x: (x.shape[2],), "int slots, ")
_define("spatial_max", "spatial_pool", _spatially_pooled, _spatially_unpooled, lambda x: (), "")
