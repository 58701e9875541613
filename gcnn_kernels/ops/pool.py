"""Maximum over the group: the index is kept; backward scatters, double backward gathers."""

from __future__ import annotations

import torch

from .._layout import map_format, plane_format
from ..backends import choose
from .batching import fold, unfold
from .library import OPS, define


def _max(x, backend):
    return choose("pool", x, backend).pool.group_max(x)


def _max_fake(x, backend):
    shape = (*x.shape[:2], *x.shape[3:])
    value = x.new_empty(shape).contiguous(memory_format=plane_format(x))
    return value, torch.empty_like(value, dtype=torch.uint8)


def _scatter(grad, index, slots, backend):
    return choose("pool", grad, backend).pool.group_max_scatter(grad, index, slots)


def _scatter_fake(grad, index, slots, backend):
    shape = (*grad.shape[:2], slots, *grad.shape[2:])
    return grad.new_empty(shape).contiguous(memory_format=map_format(index.unsqueeze(2)))


def _gather(x, index, backend):
    return choose("pool", x, backend).pool.group_max_gather(x, index)


def _gather_fake(x, index, backend):
    return torch.empty_like(index, dtype=x.dtype)


def _save_max(ctx, inputs, output):
    x, ctx.backend = inputs
    ctx.slots = x.shape[2]
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])


def _max_backward(ctx, grad, _):
    (index,) = ctx.saved_tensors
    return OPS.group_max_scatter(grad, index, ctx.slots, ctx.backend), None


def _save_scatter(ctx, inputs, output):
    _, index, _, ctx.backend = inputs
    ctx.save_for_backward(index)


def _scatter_backward(ctx, grad):
    (index,) = ctx.saved_tensors
    return OPS.group_max_gather(grad, index, ctx.backend), None, None, None


def _save_gather(ctx, inputs, output):
    x, index, ctx.backend = inputs
    ctx.slots = x.shape[2]
    ctx.save_for_backward(index)


def _gather_backward(ctx, grad):
    (index,) = ctx.saved_tensors
    return OPS.group_max_scatter(grad, index, ctx.slots, ctx.backend), None, None


def _max_jvp(arguments, tangents, output):
    return OPS.group_max_gather(tangents[0], output[1], arguments[1])


def _max_batched(info, in_dims, x, backend):
    n = info.batch_size
    (value, dim), (index, _) = (unfold(y, 0, n) for y in OPS.group_max(fold(x, in_dims[0], 0), backend))
    return (value, index), (dim, dim)


def _scatter_batched(info, in_dims, grad, index, *options):
    n = info.batch_size
    return unfold(OPS.group_max_scatter(fold(grad, in_dims[0], 0, n), fold(index, in_dims[1], 0, n), *options), 0, n)


def _gather_batched(info, in_dims, x, index, backend):
    n = info.batch_size
    return unfold(OPS.group_max_gather(fold(x, in_dims[0], 0, n), fold(index, in_dims[1], 0, n), backend), 0, n)


define(
    "group_max(Tensor x, str backend) -> (Tensor, Tensor)",
    _max,
    _max_fake,
    save=_save_max,
    backward=_max_backward,
    jvp=_max_jvp,
    batched=_max_batched,
)
define(
    "group_max_scatter(Tensor grad, Tensor index, int slots, str backend) -> Tensor",
    _scatter,
    _scatter_fake,
    save=_save_scatter,
    backward=_scatter_backward,
    linear=1,
    batched=_scatter_batched,
)
define(
    "group_max_gather(Tensor x, Tensor index, str backend) -> Tensor",
    _gather,
    _gather_fake,
    save=_save_gather,
    backward=_gather_backward,
    linear=1,
    batched=_gather_batched,
)
