"""The group linear layer and its two partial derivatives (derivatives.py)."""

from __future__ import annotations

import torch

from .._constants import constant
from ..backends import choose_for_linear
from ..backends.base import accumulator
from ..groups import point_group
from .batching import fold, unfold
from .derivatives import bilinear
from .library import OPS, define


def _linear(x, weight, bias, group):
    tokens, weight = _computed(x).reshape(-1, *x.shape[-2:]), _computed(weight)
    kernels, point = _kernels(tokens, group)
    y = kernels.linear(tokens, weight, bias if bias is None else _computed(bias), point, adjoint=False)
    return y.to(x.dtype).view(*x.shape[:-2], *y.shape[1:])


def _linear_fake(x, weight, bias, group):
    return x.new_empty((*x.shape[:-2], weight.shape[0], x.shape[-1]))


def _linear_input_grad(grad, weight, group):
    tokens = _computed(grad).reshape(-1, *grad.shape[-2:])
    kernels, point = _kernels(tokens, group)
    gx = kernels.linear(tokens, _computed(weight), None, point, adjoint=True)
    return gx.to(grad.dtype).view(*grad.shape[:-2], *gx.shape[1:])


def _linear_input_grad_fake(grad, weight, group):
    return grad.new_empty((*grad.shape[:-2], weight.shape[1], grad.shape[-1]))


def _linear_weight_grad(grad, x, group):
    tokens = [_computed(t).reshape(-1, *t.shape[-2:]) for t in (grad, x)]
    kernels, point = _kernels(tokens[0], group)
    return kernels.linear_weight_grad(*tokens, point).to(x.dtype)


def _linear_weight_grad_fake(grad, x, group):
    return x.new_empty((grad.shape[-2], *x.shape[-2:]))


def _kernels(tokens, group):
    point = point_group(group)
    return choose_for_linear(point, tokens.device, tokens.dtype).linear, point


def _computed(x):
    """x in the dtype of the arithmetic: CPUs multiply matrices of half precision slowly or not at all."""
    return x.to(accumulator(x.dtype)) if x.device.type == "cpu" else x


def _bias_grad(grad):
    return grad.sum((*range(grad.dim() - 2), -1))


# In the batching rules, a batch of maps is more tokens, and a batch of filters more channels; where both come in
# batches the matrices of all of it are written out.


def _linear_batched(info, in_dims, x, weight, bias, group):
    n, (x_dim, weight_dim, bias_dim, _) = info.batch_size, in_dims
    if weight_dim is None and bias_dim is None:
        return OPS.linear(x.movedim(x_dim, 0), weight, bias, group), 0
    if x_dim is None:
        y = OPS.linear(x, fold(weight, weight_dim, 0, n), fold(bias, bias_dim, 0, n), group)
        return unfold(y, y.dim() - 2, n)
    x, matrix = x.movedim(x_dim, 0), _matrix(_batch(weight, weight_dim, n), group)
    y = torch.einsum("n...is,noihs->n...oh", x, matrix)
    if bias is not None:
        bias = _batch(bias, bias_dim, n)
        y = y + bias.view(n, *[1] * (y.dim() - 3), -1, 1)
    return y, 0


def _linear_input_grad_batched(info, in_dims, grad, weight, group):
    n, (grad_dim, weight_dim, _) = info.batch_size, in_dims
    if weight_dim is None:
        return OPS.linear_input_grad(grad.movedim(grad_dim, 0), weight, group), 0
    if grad_dim is None:
        gx = OPS.linear_input_grad(grad, fold(weight, weight_dim, 1), group)
        return unfold(gx, gx.dim() - 2, n)
    matrix = _matrix(weight.movedim(weight_dim, 0), group)
    return torch.einsum("n...oh,noihs->n...is", grad.movedim(grad_dim, 0), matrix), 0


def _linear_weight_grad_batched(info, in_dims, grad, x, group):
    n, (grad_dim, x_dim, _) = info.batch_size, in_dims
    if x_dim is None:
        return unfold(OPS.linear_weight_grad(fold(grad, grad_dim, x.dim() - 2), x, group), 0, n)
    if grad_dim is None:
        return unfold(OPS.linear_weight_grad(grad, fold(x, x_dim, grad.dim() - 2), group), 1, n)
    pairs = torch.einsum("n...oh,n...is->noihs", grad.movedim(grad_dim, 0), x.movedim(x_dim, 0))
    products = constant(point_group(group).cayley, grad.device)  # h u, of h and u
    return pairs.gather(4, products.expand_as(pairs)).sum(3), 0


def _batch(t, batch_dim, n):
    return t.expand(n, *t.shape) if batch_dim is None else t.movedim(batch_dim, 0)


def _matrix(weight, group):
    """``[n, Cout, Cin, order]`` -> ``[n, Cout, Cin, order, order]``: w(h^-1 s) of h and s."""
    return weight[..., constant(point_group(group).quotient, weight.device)]


_of_linear, _of_input_grad, _of_weight_grad = bilinear("linear", after_channels=1, bias_grad=_bias_grad)
define(
    "linear(Tensor x, Tensor weight, Tensor? bias, str group) -> Tensor",
    _linear,
    _linear_fake,
    **_of_linear,
    batched=_linear_batched,
    autocast=True,
)
define(
    "linear_input_grad(Tensor grad, Tensor weight, str group) -> Tensor",
    _linear_input_grad,
    _linear_input_grad_fake,
    **_of_input_grad,
    batched=_linear_input_grad_batched,
    autocast=True,
)
define(
    "linear_weight_grad(Tensor grad, Tensor x, str group) -> Tensor",
    _linear_weight_grad,
    _linear_weight_grad_fake,
    **_of_weight_grad,
    batched=_linear_weight_grad_batched,
    autocast=True,
)
