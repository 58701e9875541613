"""The group convolution and its two partial derivatives (derivatives.py); a lifting convolution has one input slot.

Maps over a group finer than the grid have the group's slots, ``[B, C, |H|, H, W]``; their filters are those of its
``grid_subgroup`` K, which ``coset_filters`` makes: ``[Cout*q, Cin/groups*q, |K|, k, k]`` for q cosets.
"""

from __future__ import annotations

from functools import lru_cache

from .._layout import map_format, sum_per_map
from ..backends import ConvProblem, choose_for_conv
from ..backends.base import accumulator
from ..backends.by_subgroup import BySubgroup
from ..backends.problem import joined_shape
from ..groups import point_group
from .batching import fold, unfold
from .derivatives import bilinear
from .library import OPS, define

# What follows x, weight and bias, or their like, in all operators.
GEOMETRY = "str group, int[2] stride, int[2] padding, int[2] dilation, str algorithm, str backend, int groups"


def _conv(x, weight, bias, group, stride, padding, dilation, algorithm, backend, groups=1):
    problem = known_problem("conv", x, x.shape, weight.shape, group, stride, padding, dilation, groups)
    return _kernels(problem, algorithm, backend).conv(problem, x, weight, bias)


def conv_fake(x, weight, bias, group, stride, padding, dilation, algorithm, backend, groups=1):
    problem = _problem("conv", x.dtype, x.device, x.shape, weight.shape, group, stride, padding, dilation, groups)
    return x.new_empty(joined_shape(problem.out_shape, problem.cosets)).contiguous(memory_format=map_format(x))


def _conv_input_grad(grad, weight, size, group, stride, padding, dilation, algorithm, backend, groups=1):
    shape = _input_shape(grad, weight, size, group, groups)
    problem = known_problem("conv_input_grad", grad, shape, weight.shape, group, stride, padding, dilation, groups)
    _check_grad(grad, problem)
    return _kernels(problem, algorithm, backend).conv_input_grad(problem, grad, weight)


def _conv_input_grad_fake(grad, weight, size, group, stride, padding, dilation, algorithm, backend, groups=1):
    shape = _input_shape(grad, weight, size, group, groups)
    return grad.new_empty(shape).contiguous(memory_format=map_format(grad))


def _conv_weight_grad(grad, x, kernel, group, stride, padding, dilation, algorithm, backend, groups=1):
    shape = _filter_shape(grad, x, kernel, group, groups)
    problem = known_problem("conv_weight_grad", grad, x.shape, shape, group, stride, padding, dilation, groups)
    _check_grad(grad, problem)
    return _kernels(problem, algorithm, backend).conv_weight_grad(problem, grad, x)


def _conv_weight_grad_fake(grad, x, kernel, group, stride, padding, dilation, algorithm, backend, groups=1):
    return grad.new_empty(_filter_shape(grad, x, kernel, group, groups))


def _problem(op, dtype, device, x_shape, weight_shape, group, stride, padding, dilation, groups):
    point = point_group(group)
    if point.cosets > 1 and x_shape[2] > 1:
        if point.grid_subgroup.order == 1:
            raise ValueError(f"group: a map over {group} has to be given as one over p1, with cosets as channels")
        batch, channels, slots, *size = x_shape
        x_shape = (batch, channels * point.cosets, slots // point.cosets, *size)
    return ConvProblem.of(
        op, x_shape, weight_shape, group=point.grid_subgroup, stride=stride, padding=padding, dilation=dilation,
        dtype=dtype, device=device, groups=groups, cosets=point.cosets,
    )  # fmt: skip


_kept_problem = lru_cache(maxsize=1024)(_problem)


def known_problem(op, like, x_shape, weight_shape, group, stride, padding, dilation, groups):
    """``_problem``, kept; sizes are numbers where kernels run, not symbols."""
    geometry = tuple(stride), tuple(padding), tuple(dilation)
    return _kept_problem(op, like.dtype, like.device, tuple(x_shape), tuple(weight_shape), group, *geometry, groups)


def _input_shape(grad, weight, size, group, groups):
    shape = (grad.shape[0], weight.shape[1] * groups, weight.shape[2], *size)
    return shape if weight.shape[2] == 1 else joined_shape(shape, point_group(group).cosets)


def _filter_shape(grad, x, kernel, group, groups):
    cosets = point_group(group).cosets
    rows, columns, slots = grad.shape[1] * cosets, x.shape[1] // groups, x.shape[2]
    if slots > 1:
        columns, slots = columns * cosets, slots // cosets
    return (rows, columns, slots, kernel, kernel)


def _kernels(problem, algorithm, backend):
    return chosen_kernels(problem, algorithm, backend)[0]


def chosen_kernels(problem, algorithm, backend):
    """The kernels for a problem, and whether they are ``FoldingKernels``."""
    chosen, algorithm = choose_for_conv(problem, algorithm, backend)
    kernels = chosen.conv.algorithms[algorithm]
    if problem.cosets == 1 or algorithm in chosen.conv.takes_cosets:
        return kernels, algorithm in chosen.conv.folds
    return BySubgroup(kernels), False


def _check_grad(grad, problem):
    if grad.shape != (expected := joined_shape(problem.out_shape, problem.cosets)):
        raise ValueError(f"grad: expected {expected}, got {tuple(grad.shape)}")


def _bias_grad(grad):
    return sum_per_map(grad, accumulator(grad.dtype)).to(grad.dtype)


# In the batching rules, a batch of maps is more samples, and a batch of filters more channels; where both come in
# batches, or the channels fall into groups, it is a convolution of as many more groups.


def conv_batched(info, in_dims, x, weight, bias, *geometry):
    n, (x_dim, weight_dim, bias_dim, *_) = info.batch_size, in_dims
    if weight_dim is None and bias_dim is None:
        return unfold(OPS.conv(fold(x, x_dim, 0), weight, bias, *geometry), 0, n)
    weight, bias = fold(weight, weight_dim, 0, n), fold(bias, bias_dim, 0, n)
    if x_dim is None and _groups(geometry) == 1:
        return unfold(OPS.conv(x, weight, bias, *geometry), 1, n)
    return unfold(OPS.conv(fold(x, x_dim, 1, n), weight, bias, *_in_more_groups(geometry, n)), 1, n)


def _conv_input_grad_batched(info, in_dims, grad, weight, size, *geometry):
    n, (grad_dim, weight_dim, *_) = info.batch_size, in_dims
    if weight_dim is None:
        return unfold(OPS.conv_input_grad(fold(grad, grad_dim, 0), weight, size, *geometry), 0, n)
    if grad_dim is None and _groups(geometry) == 1:
        return unfold(OPS.conv_input_grad(grad, fold(weight, weight_dim, 1), size, *geometry), 1, n)
    grad, weight = fold(grad, grad_dim, 1, n), fold(weight, weight_dim, 0)
    return unfold(OPS.conv_input_grad(grad, weight, size, *_in_more_groups(geometry, n)), 1, n)


def _conv_weight_grad_batched(info, in_dims, grad, x, kernel, *geometry):
    n, (grad_dim, x_dim, *_) = info.batch_size, in_dims
    if x_dim is None and _groups(geometry) == 1:
        return unfold(OPS.conv_weight_grad(fold(grad, grad_dim, 1), x, kernel, *geometry), 0, n)
    if grad_dim is None and _groups(geometry) == 1:
        return unfold(OPS.conv_weight_grad(grad, fold(x, x_dim, 1), kernel, *geometry), 1, n)
    grad, x = fold(grad, grad_dim, 1, n), fold(x, x_dim, 1, n)
    return unfold(OPS.conv_weight_grad(grad, x, kernel, *_in_more_groups(geometry, n)), 0, n)


def _groups(geometry):
    return geometry[6] if len(geometry) > 6 else 1


def _in_more_groups(geometry, n):
    """What was asked for as an algorithm need not serve groups."""
    return *geometry[:4], "auto", geometry[5], n * _groups(geometry)


of_conv, _of_input_grad, _of_weight_grad = bilinear(
    "conv", after_channels=3, bias_grad=_bias_grad,
    input_sizes=(lambda x: x.shape[3:],), filter_sizes=(lambda weight: weight.shape[3],),
)  # fmt: skip
define(
    f"conv(Tensor x, Tensor weight, Tensor? bias, {GEOMETRY}=1) -> Tensor",
    _conv,
    conv_fake,
    **of_conv,
    batched=conv_batched,
    autocast=True,
)
define(
    f"conv_input_grad(Tensor grad, Tensor weight, SymInt[2] size, {GEOMETRY}=1) -> Tensor",
    _conv_input_grad,
    _conv_input_grad_fake,
    **_of_input_grad,
    batched=_conv_input_grad_batched,
    autocast=True,
)
define(
    f"conv_weight_grad(Tensor grad, Tensor x, SymInt kernel, {GEOMETRY}=1) -> Tensor",
    _conv_weight_grad,
    _conv_weight_grad_fake,
    **_of_weight_grad,
    batched=_conv_weight_grad_batched,
    autocast=True,
)
