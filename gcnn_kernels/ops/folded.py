"""The convolution with what follows it in the same pass where a kernel can: an activation, or a norm's sums.

Derivatives are those of the two steps: an activation's depends on the sign of the output, which is kept in place of its
input; statistics have none, since whoever takes them (``batch_norm``) differentiates them as functions of the map.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..backends import choose
from ..backends.base import Epilogue, accumulator
from .batching import fold, unfold
from .conv import GEOMETRY, chosen_kernels, conv_batched, conv_fake, known_problem, of_conv
from .library import OPS, define
from .norm import composed_moments


def _run(epilogue, x, weight, bias, group, stride, padding, dilation, algorithm, backend, groups=1):
    problem = known_problem("conv", x, x.shape, weight.shape, group, stride, padding, dilation, groups)
    kernels, folds = chosen_kernels(problem, algorithm, backend)
    if folds and 0 not in problem.out_shape:
        return kernels.conv(problem, x, weight, bias, epilogue)
    y = activate(kernels.conv(problem, x, weight, bias), epilogue.slope, inplace=True)
    if epilogue.wanted:
        epilogue.statistics = choose("norm", y, backend).norm.norm_stats(y)
    return y


def activate(y: torch.Tensor, slope: float, inplace: bool = False) -> torch.Tensor:
    """Negative numbers times the slope; 1 is no activation, 0 is ReLU."""
    return y if slope == 1 else F.leaky_relu(y, slope, inplace) if slope else F.relu(y, inplace)


# --- an activation ------------------------------------------------------------------------------------------------


def _activated(x, weight, bias, *geometry_and_slope):
    *geometry, slope = geometry_and_slope
    return _run(Epilogue(slope), x, weight, bias, *geometry)


def _activated_fake(x, weight, bias, *geometry_and_slope):
    return conv_fake(x, weight, bias, *geometry_and_slope[:-1])


def _composed_activated(x, weight, bias, *geometry_and_slope):
    *geometry, slope = geometry_and_slope
    return activate(OPS.conv(x, weight, bias, *geometry), slope)


def _save_activated(ctx, inputs, output):
    x, weight, _bias, *ctx.options, ctx.slope = inputs
    ctx.save_for_backward(x, weight, output)


def _activated_backward(ctx, grad):
    # A constant, as which the sign is taken: else the second derivative, zero, would be computed and added.
    y = ctx.saved_tensors[2].detach()
    if ctx.slope == 0:
        grad = torch.ops.aten.threshold_backward(grad, y, 0)
    else:
        grad = torch.ops.aten.leaky_relu_backward(grad, y, ctx.slope, True)
    return *of_conv["backward"](ctx, grad), None


def _activated_batched(info, in_dims, x, weight, bias, *geometry_and_slope):
    *geometry, slope = geometry_and_slope
    y, dim = conv_batched(info, in_dims, x, weight, bias, *geometry)
    return activate(y, slope), dim


# --- statistics ---------------------------------------------------------------------------------------------------


def _with_statistics(x, weight, bias, *geometry):
    epilogue = Epilogue(wanted=True)
    y = _run(epilogue, x, weight, bias, *geometry)
    return y, *epilogue.statistics


def _with_statistics_fake(x, weight, bias, *geometry):
    y = conv_fake(x, weight, bias, *geometry)
    mean, var = (y.new_empty(y.shape[1], dtype=accumulator(y.dtype)) for _ in range(2))
    return y, mean, var


def _composed_with_statistics(x, weight, bias, *geometry):
    y = OPS.conv(x, weight, bias, *geometry)
    return y, *_statistics(y.detach())


def _statistics(y):
    mean, var, _ = composed_moments(y.to(accumulator(y.dtype)), sync=False)
    return mean, var


def _save_with_statistics(ctx, inputs, output):
    x, weight, _bias, *ctx.options = inputs
    _, mean, var = output
    ctx.mark_non_differentiable(mean, var)
    ctx.save_for_backward(x, weight)


def _with_statistics_backward(ctx, grad, *_):
    return of_conv["backward"](ctx, grad)


def _with_statistics_batched(info, in_dims, x, weight, bias, *geometry):
    n = info.batch_size
    y, dim = conv_batched(info, in_dims, x, weight, bias, *geometry)
    (mean, _), (var, _) = (unfold(t, 0, n) for t in _statistics(fold(y, dim, 1)))
    return (y, mean, var), (dim, 0, 0)


define(
    f"conv_activated(Tensor x, Tensor weight, Tensor? bias, {GEOMETRY}, float slope) -> Tensor",
    _activated,
    _activated_fake,
    save=_save_activated,
    backward=_activated_backward,
    composed=_composed_activated,
    batched=_activated_batched,
    autocast=True,
)
define(
    f"conv_with_statistics(Tensor x, Tensor weight, Tensor? bias, {GEOMETRY}=1) -> (Tensor, Tensor, Tensor)",
    _with_statistics,
    _with_statistics_fake,
    save=_save_with_statistics,
    backward=_with_statistics_backward,
    composed=_composed_with_statistics,
    batched=_with_statistics_batched,
    autocast=True,
)
