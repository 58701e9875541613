"""Maximum over the group: the index is kept; backward scatters, double backward gathers."""

from __future__ import annotations

import torch

from .._layout import map_format, plane_format
from ..backends import choose
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


define("group_max(Tensor x, str backend) -> (Tensor, Tensor)", _max, _max_fake)
define("group_max_scatter(Tensor grad, Tensor index, int slots, str backend) -> Tensor", _scatter, _scatter_fake)
define("group_max_gather(Tensor x, Tensor index, str backend) -> Tensor", _gather, _gather_fake)
for _name, _backward, _save in (
    ("group_max", _max_backward, _save_max),
    ("group_max_scatter", _scatter_backward, _save_scatter),
    ("group_max_gather", _gather_backward, _save_gather),
):
    torch.library.register_autograd(f"gcnn_kernels::{_name}", _backward, setup_context=_save)
