"""Convolutions of the cpu backend: formats, tables and calls of the C++ kernels."""

from __future__ import annotations

import torch

from ..._layout import to_map_format
from ..base import accumulator
from ..expansion import ExpansionMixin
from . import cost
from .correlations import correlations, has_algorithm, tap_transform


class CpuConvolution(ExpansionMixin):
    """The group convolution and its two gradients.

    Algorithms: "fourier" for group convolutions of p4 and p4m (csrc/cpu/gather.h, spread.h), "direct" for lifting
    convolutions (the same kernels, without a transform, or csrc/cpu/lift.h), "expand" for all.
    They compute in float32 and float64; half precision is converted.
    """

    def refuses_algorithm(self, problem, algorithm):
        """Why this algorithm cannot serve the problem, or None."""
        lifting = problem.in_slots == 1
        if algorithm == "fourier":
            if not has_algorithm(problem.group):
                return f"the algorithm 'fourier' exists for p4 and p4m, not {problem.group.name}"
            if lifting:
                return "the algorithm 'fourier' needs a map on the group; a lifting convolution reads an image"
        if algorithm == "direct":
            if problem.group.order == 1:
                return "the algorithm 'direct' exists for groups of order 2, 4 and 8, not p1"
            if not lifting:
                return "the algorithm 'direct' exists for lifting convolutions, not for maps on the group"
        return None

    def choose_algorithm(self, problem):
        fast = "direct" if problem.in_slots == 1 else "fourier"
        return "expand" if self.refuses_algorithm(problem, fast) else fast

    def conv(self, problem, algorithm, x, weight, bias):
        if algorithm == "expand":
            return self.expanded_conv(problem, x, weight, bias)
        return _conv(problem, x, weight, bias, problem.out_shape, backward=False)

    def conv_input_grad(self, problem, algorithm, grad, weight):
        if algorithm == "expand":
            return self.expanded_conv_input_grad(problem, grad, weight)
        return _conv(problem, grad, weight, None, problem.in_shape, backward=True)

    def conv_weight_grad(self, problem, algorithm, grad, x):
        if algorithm == "expand":
            return self.expanded_conv_weight_grad(problem, grad, x)
        if 0 in grad.shape:
            return x.new_zeros(problem.weight_shape)
        dtype = accumulator(x.dtype)
        # Of the two maps, one is gathered: in the backward correlation that is the output gradient.
        form, backward = cost.weight_grad_form(problem)
        tables = _tables(problem, dtype, form, backward)
        grad, x = _fast(grad, dtype), _fast(x, dtype)
        weight_grad = torch.empty(problem.weight_shape, dtype=dtype)
        torch.ops.gcnn_cpu.conv_weight_grad(
            *((x, grad) if backward else (grad, x)), backward, form == "stack",
            tables.shifts, tables.sources, tables.matrix, *tables.mul, *tables.div, weight_grad,
        )  # fmt: skip
        return weight_grad.to(problem.dtype)


def _conv(problem, x, weight, bias, shape, *, backward):
    dtype = accumulator(x.dtype)
    form, spread = cost.conv_form(problem, backward)
    tables = _tables(problem, dtype, "stack" if form == "taps" else form, backward)
    weight = weight.to(dtype).contiguous()
    if bias is not None:
        bias = bias.to(dtype).contiguous()
    y = torch.empty(shape, dtype=dtype, memory_format=torch.channels_last_3d)
    if form == "taps":
        taps = tap_transform(problem.group, problem.kernel, dtype)
        torch.ops.gcnn_cpu.lift(
            _fast(x, dtype), weight, bias,
            tables.shifts, taps.basis, taps.starts, taps.inputs, taps.taps, taps.matrix, *tables.mul, y,
        )  # fmt: skip
    else:
        torch.ops.gcnn_cpu.conv(
            _fast(x, dtype), weight, bias, backward, spread, form == "stack",
            tables.shifts, tables.sources, tables.matrix, *tables.mul, *tables.div, y,
        )  # fmt: skip
    return to_map_format(y.to(x.dtype), like=x)


def _tables(problem, dtype, form, backward):
    return correlations(
        problem.group, problem.kernel, problem.stride, problem.padding, problem.dilation, dtype, form, backward=backward
    )


def _fast(x, dtype):
    """x in the kernels' dtype and memory format."""
    return x.to(dtype).contiguous(memory_format=torch.channels_last_3d)
