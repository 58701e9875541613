"""Convolutions as sums of correlations on the group: formats, tables and calls of the C++ kernels.

They compute in float32 and float64; half precision is converted.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..._layout import to_map_format
from ..base import accumulator
from ..problem import ConvProblem
from . import cost
from .correlations import correlations, entry_transform, tap_transform


def conv(problem: ConvProblem, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The map that ``problem.op`` computes, "conv" or "conv_input_grad", from the map x; with cosets in planes only."""
    backward = problem.adjoint
    dtype = accumulator(x.dtype)
    form, spread = cost.conv_form(problem, backward)
    if form == "parts":
        biases = [None] * problem.groups if bias is None else bias.chunk(problem.groups)
        parts = zip(x.chunk(problem.groups, 1), weight.chunk(problem.groups), biases, strict=True)
        return torch.cat([conv(_part(problem), *part) for part in parts], 1)
    tables = _tables(problem, dtype, form, backward)
    weight = weight.to(dtype).contiguous()
    if bias is not None:
        bias = bias.to(dtype).contiguous()
    y = torch.empty(problem.computed_shape, dtype=dtype, device=x.device, memory_format=torch.channels_last_3d)
    if form == "taps":
        taps = tap_transform(problem.group, problem.kernel, dtype)
        torch.ops.gcnn_cpu.lift(channels_last(x, dtype), weight, bias, tables.shifts, *taps.tables, *tables.mul, y)
    elif form == "planes":
        if bias is not None and problem.cosets > 1:
            bias = bias.repeat_interleave(problem.cosets)
        torch.ops.gcnn_cpu.planar(
            channels_last(x, dtype), weight, bias, problem.groups, problem.cosets, backward,
            tables.shifts, tables.sources, tables.matrix, *tables.mul, *tables.div, y,
        )  # fmt: skip
    elif form == "depthwise":
        torch.ops.gcnn_cpu.depthwise_fourier(
            channels_last(x, dtype), weight, bias, problem.cosets, backward,
            tables.shifts, tables.sources, entry_transform(problem.group, dtype), *tables.mul, *tables.div, y,
        )  # fmt: skip
    else:
        torch.ops.gcnn_cpu.conv(
            channels_last(x, dtype), weight, bias, backward, spread, form == "stack",
            tables.shifts, tables.sources, tables.matrix, *tables.mul, *tables.div, y,
        )  # fmt: skip
    return to_map_format(y.to(x.dtype), like=x)


conv_input_grad = conv


def conv_weight_grad(problem: ConvProblem, grad: Tensor, x: Tensor) -> Tensor:
    dtype = accumulator(x.dtype)
    # Of the two maps, one is gathered: in the backward correlation that is the output gradient.
    form, backward = cost.weight_grad_form(problem)
    if form == "parts":
        parts = zip(grad.chunk(problem.groups, 1), x.chunk(problem.groups, 1), strict=True)
        return torch.cat([conv_weight_grad(_part(problem), *part) for part in parts])
    tables = _tables(problem, dtype, form, backward)
    grad, x = channels_last(grad, dtype), channels_last(x, dtype)
    weight_grad = torch.empty(problem.weight_shape, dtype=dtype, device=x.device)
    outer, inner = (x, grad) if backward else (grad, x)
    if form == "taps":
        taps = tap_transform(problem.group, problem.kernel, dtype)
        torch.ops.gcnn_cpu.lift_weight_grad(grad, x, tables.shifts, *taps.tables, *tables.mul, weight_grad)
    elif form == "planes":
        torch.ops.gcnn_cpu.planar_weight_grad(
            outer, inner, problem.groups, problem.cosets, backward,
            tables.shifts, tables.sources, tables.matrix, *tables.mul, weight_grad,
        )  # fmt: skip
    elif form == "depthwise":
        torch.ops.gcnn_cpu.depthwise_fourier_weight_grad(
            grad, x, problem.cosets,
            tables.shifts, tables.sources, entry_transform(problem.group, dtype), *tables.mul, weight_grad,
        )  # fmt: skip
    else:
        torch.ops.gcnn_cpu.conv_weight_grad(
            outer, inner, backward, form == "stack",
            tables.shifts, tables.sources, tables.matrix, *tables.mul, *tables.div, weight_grad,
        )  # fmt: skip
    return weight_grad.to(problem.dtype)


def _part(problem):
    n = problem.groups
    return replace(problem, groups=1, in_channels=problem.in_channels // n, out_channels=problem.out_channels // n)


def _tables(problem, dtype, form, backward):
    form = {"planes": "gather", "depthwise": "gather", "taps": "stack"}.get(form, form)
    return correlations(
        problem.group, problem.kernel, problem.stride, problem.padding, problem.dilation, dtype, form, backward=backward
    )


def channels_last(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x in the kernels' dtype and memory format."""
    return x.to(dtype).contiguous(memory_format=torch.channels_last_3d)
