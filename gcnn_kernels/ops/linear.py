"""The group linear layer and its two partial derivatives: a family closed under differentiation, as in conv.py."""

from __future__ import annotations

import torch

from .. import _irreps
from ..backends.base import accumulator
from ..groups import point_group
from .conv import weight_gradients_skipped
from .library import OPS, define


def _linear(x, weight, bias, group):
    tokens, weight = _computed(x).reshape(-1, *x.shape[-2:]), _computed(weight)
    y = _irreps.linear(tokens, weight, bias if bias is None else _computed(bias), point_group(group))
    return y.to(x.dtype).view(*x.shape[:-2], *y.shape[1:])


def _linear_fake(x, weight, bias, group):
    return x.new_empty((*x.shape[:-2], weight.shape[0], x.shape[-1]))


def _linear_input_grad(grad, weight, group):
    tokens = _computed(grad).reshape(-1, *grad.shape[-2:])
    gx = _irreps.linear(tokens, _computed(weight), None, point_group(group), adjoint=True)
    return gx.to(grad.dtype).view(*grad.shape[:-2], *gx.shape[1:])


def _linear_input_grad_fake(grad, weight, group):
    return grad.new_empty((*grad.shape[:-2], weight.shape[1], grad.shape[-1]))


def _linear_weight_grad(grad, x, group):
    tokens = [_computed(t).reshape(-1, *t.shape[-2:]) for t in (grad, x)]
    return _irreps.linear_weight_grad(*tokens, point_group(group)).to(x.dtype)


def _linear_weight_grad_fake(grad, x, group):
    return x.new_empty((grad.shape[-2], *x.shape[-2:]))


def _computed(x):
    """x in the dtype of the arithmetic: CPUs multiply matrices of half precision slowly or not at all."""
    return x.to(accumulator(x.dtype)) if x.device.type == "cpu" else x


def _save_linear(ctx, inputs, output):
    x, weight, _bias, ctx.group = inputs
    ctx.save_for_backward(x, weight)


def _linear_backward(ctx, grad):
    x, weight = ctx.saved_tensors
    need_x, need_weight, need_bias = ctx.needs_input_grad[:3]
    gx = gweight = gbias = None
    if need_x:
        gx = OPS.linear_input_grad(grad, weight, ctx.group)
    if not weight_gradients_skipped():
        if need_weight:
            gweight = OPS.linear_weight_grad(grad, x, ctx.group)
        if need_bias:
            gbias = grad.sum(-1).flatten(0, -2).sum(0)
    return gx, gweight, gbias, None


def _save_linear_input_grad(ctx, inputs, output):
    grad, weight, ctx.group = inputs
    ctx.save_for_backward(grad, weight)


def _linear_input_grad_backward(ctx, gx_grad):
    grad, weight = ctx.saved_tensors
    need_grad, need_weight = ctx.needs_input_grad[:2]
    ggrad = OPS.linear(gx_grad, weight, None, ctx.group) if need_grad else None
    gweight = None
    if need_weight and not weight_gradients_skipped():
        gweight = OPS.linear_weight_grad(grad, gx_grad, ctx.group)
    return ggrad, gweight, None


def _save_linear_weight_grad(ctx, inputs, output):
    grad, x, ctx.group = inputs
    ctx.save_for_backward(grad, x)


def _linear_weight_grad_backward(ctx, gweight_grad):
    grad, x = ctx.saved_tensors
    need_grad, need_x = ctx.needs_input_grad[:2]
    ggrad = OPS.linear(x, gweight_grad, None, ctx.group) if need_grad else None
    gx = OPS.linear_input_grad(grad, gweight_grad, ctx.group) if need_x else None
    return ggrad, gx, None


define("linear(Tensor x, Tensor weight, Tensor? bias, str group) -> Tensor", _linear, _linear_fake, autocast=True)
define(
    "linear_input_grad(Tensor grad, Tensor weight, str group) -> Tensor",
    _linear_input_grad,
    _linear_input_grad_fake,
    autocast=True,
)
define(
    "linear_weight_grad(Tensor grad, Tensor x, str group) -> Tensor",
    _linear_weight_grad,
    _linear_weight_grad_fake,
    autocast=True,
)
for _name, _backward, _save in (
    ("linear", _linear_backward, _save_linear),
    ("linear_input_grad", _linear_input_grad_backward, _save_linear_input_grad),
    ("linear_weight_grad", _linear_weight_grad_backward, _save_linear_weight_grad),
):
    torch.library.register_autograd(f"gcnn_kernels::{_name}", _backward, setup_context=_save)
