"""Convolutions as sums of correlations on the group: formats, tables and calls of the C++ kernels.

They compute in float32 and float64; half precision is converted.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..._layout import to_map_format
from ..base import accumulator
from ..problem import ConvProblem
from . import cost
from .correlations import correlations, entry_transform, tap_transform


def conv(problem: ConvProblem, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The map that ``problem.op`` computes, "conv" or "conv_input_grad", from the map x; with cosets in planes only."""
    dtype = accumulator(x.dtype)
    form, spread = cost.conv_form(problem, problem.adjoint)
    if form == "parts":
        biases = [None] * problem.groups if bias is None else bias.chunk(problem.groups)
        parts = zip(x.chunk(problem.groups, 1), weight.chunk(problem.groups), biases, strict=True)
        return torch.cat([conv(_part(problem), *part) for part in parts], 1)
    call = _conv_call(problem, dtype, form, spread)
    if bias is not None:
        bias = bias.to(dtype).contiguous()
        if call.bias_copies > 1:
            bias = bias.repeat_interleave(call.bias_copies)
    y = torch.empty(problem.computed_shape, dtype=dtype, device=x.device, memory_format=torch.channels_last_3d)
    compute = getattr(torch.ops.gcnn_cpu, call.operator)
    compute(channels_last(x, dtype), weight.to(dtype).contiguous(), bias, *call.tables, y)
    return to_map_format(y.to(x.dtype), like=x)


conv_input_grad = conv


def conv_weight_grad(problem: ConvProblem, grad: Tensor, x: Tensor) -> Tensor:
    dtype = accumulator(x.dtype)
    # Of the two maps, one is gathered: in the backward correlation that is the output gradient.
    form, backward = cost.weight_grad_form(problem)
    if form == "parts":
        parts = zip(grad.chunk(problem.groups, 1), x.chunk(problem.groups, 1), strict=True)
        return torch.cat([conv_weight_grad(_part(problem), *part) for part in parts])
    call = _weight_grad_call(problem, dtype, form, backward)
    grad, x = channels_last(grad, dtype), channels_last(x, dtype)
    weight_grad = torch.empty(problem.weight_shape, dtype=dtype, device=x.device)
    compute = getattr(torch.ops.gcnn_cpu, call.operator)
    compute(*((x, grad) if call.swapped else (grad, x)), *call.tables, weight_grad)
    return weight_grad.to(problem.dtype)


class _Call(NamedTuple):
    """A call of the binary, but for the problem's own tensors.

    Attributes:
        operator: its name.
        tables: what it takes between these tensors and the result.
        bias_copies: how often each number of the bias is repeated.
        swapped: whether the weight gradient takes the input before the output's gradient.
    """

    operator: str
    tables: tuple[Any, ...]
    bias_copies: int = 1
    swapped: bool = False


@lru_cache(maxsize=1024)
def _conv_call(problem: ConvProblem, dtype: torch.dtype, form: str, spread: bool) -> _Call:
    backward = problem.adjoint
    found = _tables(problem, dtype, form, backward)
    steps = *found.mul, *found.div
    if form == "taps":
        taps = tap_transform(problem.group, problem.kernel, dtype)
        return _Call("lift", (found.shifts, *taps.tables, *found.mul))
    if form == "planes":
        parts = problem.groups, problem.cosets, backward
        tables = *parts, found.shifts, found.sources, found.matrix, *steps
        return _Call("planar", tables, bias_copies=problem.cosets)
    if form == "depthwise":
        transform = entry_transform(problem.group, dtype)
        tables = problem.cosets, backward, found.shifts, found.sources, transform, *steps
        return _Call("depthwise_fourier", tables)
    tables = backward, spread, form == "stack", found.shifts, found.sources, found.matrix, *steps
    return _Call("conv", tables)


@lru_cache(maxsize=1024)
def _weight_grad_call(problem: ConvProblem, dtype: torch.dtype, form: str, backward: bool) -> _Call:
    found = _tables(problem, dtype, form, backward)
    if form == "taps":
        taps = tap_transform(problem.group, problem.kernel, dtype)
        return _Call("lift_weight_grad", (found.shifts, *taps.tables, *found.mul))
    if form == "planes":
        parts = problem.groups, problem.cosets, backward
        tables = *parts, found.shifts, found.sources, found.matrix, *found.mul
        return _Call("planar_weight_grad", tables, swapped=backward)
    if form == "depthwise":
        transform = entry_transform(problem.group, dtype)
        tables = problem.cosets, found.shifts, found.sources, transform, *found.mul
        return _Call("depthwise_fourier_weight_grad", tables)
    steps = *found.mul, *found.div
    tables = backward, form == "stack", found.shifts, found.sources, found.matrix, *steps
    return _Call("conv_weight_grad", tables, swapped=backward)


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
