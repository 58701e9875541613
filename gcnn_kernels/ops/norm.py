"""Batch norm over batch, plane and group, with affine map and activation in the same pass.

Forward and backward are one operator each, made of the backends' four kernels. The forward operator also takes mean and
variance of its map where they are known (folded.py); they stay functions of the map, for all derivatives. The
derivative of the backward operator is taken through the same formulas in plain torch (``_composed_backward``), so it is
exact to any order.
"""

from __future__ import annotations

import torch
import torch.distributed as dist

from .._layout import map_format, sum_per_map
from ..backends import choose
from ..backends.base import Affine, LazyModule, accumulator
from ..backends.norm_formulas import per_map, weighted_totals
from .batching import fold, unfold
from .library import OPS, define

collectives: LazyModule = LazyModule("torch.distributed.nn.functional")  # differentiable ones; few processes need them
_OPTIONS = "float eps, float slope, bool sync, str backend"


def _train(x, weight, bias, eps, slope, sync, backend, mean=None, var=None):
    kernels, affine = choose("norm", x, backend).norm, Affine(weight, bias, slope)
    count = torch.full((), x.numel() // x.shape[1], dtype=accumulator(x.dtype), device=x.device)
    if not sync and mean is None:
        return *kernels.norm_train(x, affine, eps), count
    mean, var = kernels.norm_stats(x) if mean is None else (mean.clone(), var.clone())
    if sync:
        mean, var, count = _combine_ranks(mean, var, count)
    return kernels.norm_eval(x, mean, var, affine, eps), mean, var, count


def _combine_ranks(mean, var, count):
    """Statistics of all ranks' maps together, from each rank's own (Chan, Golub & LeVeque 1979)."""
    ranks = mean.new_empty((dist.get_world_size(), 2 * mean.numel() + 1))
    dist.all_gather_into_tensor(ranks, torch.cat([mean, var, count.view(1)]).unsqueeze(0))
    means, variances, counts = ranks.split([mean.numel(), mean.numel(), 1], dim=1)
    total = counts.sum()
    share = counts / total
    mean = (share * means).sum(0)
    return mean, (share * (variances + (means - mean) ** 2)).sum(0), total


def _train_fake(x, weight, bias, eps, slope, sync, backend, mean=None, var=None):
    stats = x.new_empty(x.shape[1], dtype=accumulator(x.dtype))
    return _like_map(x), stats, torch.empty_like(stats), stats.new_empty(())


def _eval(x, mean, var, weight, bias, eps, slope, backend):
    kernels, dtype = choose("norm", x, backend).norm, accumulator(x.dtype)
    return kernels.norm_eval(x, mean.to(dtype), var.to(dtype), Affine(weight, bias, slope), eps)


def _eval_fake(x, mean, var, weight, bias, eps, slope, backend):
    return _like_map(x)


def _backward(grad, x, mean, var, weight, bias, count, eps, slope, sync, backend):
    kernels, affine = choose("norm", x, backend).norm, Affine(weight, bias, slope)
    dtype = accumulator(x.dtype)
    mean, var = mean.to(dtype), var.to(dtype)
    if not sync:
        here = 0 if count is None else x.numel() // x.shape[1]
        return kernels.norm_backward(grad, x, mean, var, affine, here, eps)
    rstd = (var + eps).rsqrt()
    sums = kernels.norm_backward_sums(grad, x, mean, rstd, affine)
    totals = weighted_totals(*sums, weight)
    dist.all_reduce(totals)
    return kernels.norm_backward_input(grad, x, mean, rstd, affine, *(totals / count)), *sums


def _backward_fake(grad, x, mean, var, weight, bias, count, eps, slope, sync, backend):
    sums = x.new_empty(x.shape[:2], dtype=accumulator(x.dtype))
    return _like_map(x), sums, torch.empty_like(sums)


def _composed_eval(x, mean, var, weight, bias, eps, slope, backend):
    """What ``_eval`` computes, in differentiable torch operators; mean and variance are constants, as torch's are."""
    dtype = accumulator(x.dtype)
    return _composed_map(x, mean.detach().to(dtype), var.detach().to(dtype), weight, bias, eps, slope)


def _composed_train(x, weight, bias, eps, slope, sync, backend, mean=None, var=None):
    """What ``_train`` computes, in differentiable torch operators."""
    mean, var, count = composed_moments(x.to(accumulator(x.dtype)), sync)
    return _composed_map(x, mean, var, weight, bias, eps, slope), mean.detach(), var.detach(), count


def _composed_map(x, mean, var, weight, bias, eps, slope):
    y = _affine(_standardised(x.to(mean.dtype), mean, var, eps), weight, bias)
    return torch.where(y > 0, y, slope * y).to(x.dtype)


def _composed_backward(grad, x, mean, var, weight, bias, count, eps, slope, sync, backend):
    """What ``_backward`` computes, in differentiable torch operators; the statistics are recomputed from x."""
    map_dtype, dtype = x.dtype, accumulator(x.dtype)
    grad, x, mean, var = grad.to(dtype), x.to(dtype), mean.to(dtype), var.to(dtype)
    if count is not None:
        mean, var, _ = composed_moments(x, sync)
    xhat = _standardised(x, mean, var, eps)
    g = torch.where(_affine(xhat, weight, bias) > 0, grad, slope * grad)
    sum_g, sum_gx = g.sum((2, 3, 4)), (g * xhat).sum((2, 3, 4))
    totals = weighted_totals(sum_g, sum_gx, weight)
    if sync:
        totals = _sum_over_ranks(totals)
    mean_g, mean_gx = torch.zeros_like(totals) if count is None else totals / count
    if weight is not None:
        g = g * per_map(weight.to(dtype))
    gx = per_map((var + eps).rsqrt()) * (g - per_map(mean_g) - xhat * per_map(mean_gx))
    return gx.to(map_dtype), sum_g, sum_gx


def composed_moments(x, sync):
    """Mean, variance and number of the values of each map, over all ranks if ``sync``."""
    count = torch.full((), x.numel() // x.shape[1], dtype=x.dtype, device=x.device)
    total = sum_per_map(x, x.dtype)
    if sync:
        *_, count = totals = _sum_over_ranks(torch.cat([total, count.view(1)]))
        total = totals[:-1]
    mean = total / count
    squares = sum_per_map((x - per_map(mean)).square(), x.dtype)
    return mean, (_sum_over_ranks(squares) if sync else squares) / count, count.detach()


def _sum_over_ranks(totals):
    return collectives.all_reduce(totals)


def _standardised(x, mean, var, eps):
    return (x - per_map(mean)) * per_map((var + eps).rsqrt())


def _affine(xhat, weight, bias):
    y = xhat if weight is None else xhat * per_map(weight.to(xhat.dtype))
    return y if bias is None else y + per_map(bias.to(xhat.dtype))


def _like_map(x):
    return torch.empty_like(x, memory_format=torch.contiguous_format).contiguous(memory_format=map_format(x))


def _save_train(ctx, inputs, output):
    x, weight, bias, ctx.eps, ctx.slope, ctx.sync, ctx.backend, *_ = inputs
    _, mean, var, count = output
    ctx.mark_non_differentiable(mean, var, count)
    ctx.save_for_backward(x, mean, var, weight, bias, count)


def _train_backward(ctx, grad, *_):
    x, mean, var, weight, bias, count = ctx.saved_tensors
    gx, sum_g, sum_gx = OPS.batch_norm_backward(
        grad, x, mean, var, weight, bias, count, ctx.eps, ctx.slope, ctx.sync, ctx.backend
    )
    return gx, _like_parameter(sum_gx, weight), _like_parameter(sum_g, bias), *[None] * 6


def _save_eval(ctx, inputs, output):
    x, mean, var, weight, bias, ctx.eps, ctx.slope, ctx.backend = inputs
    ctx.save_for_backward(x, mean, var, weight, bias)


def _eval_backward(ctx, grad):
    x, mean, var, weight, bias = ctx.saved_tensors
    gx, sum_g, sum_gx = OPS.batch_norm_backward(
        grad, x, mean, var, weight, bias, None, ctx.eps, ctx.slope, False, ctx.backend
    )
    return gx, None, None, _like_parameter(sum_gx, weight), _like_parameter(sum_g, bias), None, None, None


def _like_parameter(sums, parameter):
    """Per-sample sums ``[B, C]`` as the gradient of a parameter of shape ``[C]`` or ``[B, C]``."""
    if parameter is None:
        return None
    return (sums.sum(0) if parameter.dim() == 1 else sums).to(parameter.dtype)


def _save_backward(ctx, inputs, output):
    *tensors, ctx.eps, ctx.slope, ctx.sync, ctx.backend = inputs
    ctx.save_for_backward(*tensors)


def _backward_backward(ctx, *grads):
    grad, x, mean, var, weight, bias, count = ctx.saved_tensors
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # Aliases, at which the derivative below stops: in a network with two norms the history of grad leads back to x.
        grad, x, weight, bias = (t if t is None else t.view_as(t) for t in (grad, x, weight, bias))
        outputs = _composed_backward(grad, x, mean, var, weight, bias, count, ctx.eps, ctx.slope, ctx.sync, ctx.backend)
    arguments = (grad, x, None, None, weight, bias, None)
    wanted = [i for i, a in enumerate(arguments) if a is not None and ctx.needs_input_grad[i]]
    # The sum of g is a constant where grad is one.
    outputs, grads = zip(*((o, g) for o, g in zip(outputs, grads, strict=True) if o.requires_grad), strict=True)
    found = torch.autograd.grad(
        outputs,
        [arguments[i] for i in wanted],
        grads,
        create_graph=create_graph,
        allow_unused=True,
    )
    result = [None] * 11
    for i, g in zip(wanted, found, strict=True):
        result[i] = g
    return tuple(result)


# In the batching rules every one of the batch has statistics of its own, so that a batch counts as more channels.


def _train_batched(info, in_dims, x, weight, bias, eps, slope, sync, backend, *_):
    n = info.batch_size
    y, mean, var, count = OPS.batch_norm(*_folded(n, in_dims, x, weight, bias), eps, slope, sync, backend)
    (y, dim), (mean, _), (var, _) = unfold(y, 1, n), unfold(mean, 0, n), unfold(var, 0, n)
    return (y, mean, var, count), (dim, 0, 0, None)


def _eval_batched(info, in_dims, x, mean, var, weight, bias, *options):
    n = info.batch_size
    return unfold(OPS.batch_norm_eval(*_folded(n, in_dims, x, mean, var, weight, bias), *options), 1, n)


def _backward_batched(info, in_dims, grad, x, mean, var, weight, bias, count, *options):
    n = info.batch_size
    if in_dims[6] is not None:
        count = count[0]  # the same for all
    found = OPS.batch_norm_backward(*_folded(n, in_dims, grad, x, mean, var, weight, bias), count, *options)
    return tuple(unfold(t, 1, n)[0] for t in found), (1, 1, 1)


def _folded(n, in_dims, *tensors):
    """Maps ``[B, C, S, H, W]``, statistics and parameters ``[C]`` or ``[B, C]`` with the batch folded into C."""
    for t, dim in zip(tensors, in_dims, strict=False):
        rank = 0 if t is None else t.dim() - (dim is not None)
        yield fold(t, dim, 0 if rank == 1 else 1, n)


define(
    f"batch_norm(Tensor x, Tensor? weight, Tensor? bias, {_OPTIONS}, Tensor? mean=None, Tensor? var=None) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
    _train,
    _train_fake,
    save=_save_train,
    backward=_train_backward,
    composed=_composed_train,
    batched=_train_batched,
)
define(
    "batch_norm_eval(Tensor x, Tensor mean, Tensor var, Tensor? weight, Tensor? bias, "
    "float eps, float slope, str backend) -> Tensor",
    _eval,
    _eval_fake,
    save=_save_eval,
    backward=_eval_backward,
    composed=_composed_eval,
    batched=_eval_batched,
)
define(
    "batch_norm_backward(Tensor grad, Tensor x, Tensor mean, Tensor var, Tensor? weight, Tensor? bias, "
    f"Tensor? count, {_OPTIONS}) -> (Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
    save=_save_backward,
    backward=_backward_backward,
    composed=_composed_backward,
    batched=_backward_batched,
)
