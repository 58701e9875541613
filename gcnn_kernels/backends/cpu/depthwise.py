"""Depthwise convolutions without a transform: formats, tables, calls of the C++ kernels (csrc/cpu/depthwise_direct.h).

They compute in float32 and float64; half precision is converted.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..._constants import constant
from ..._layout import to_map_format
from ..base import accumulator
from ..filter_indices import filter_sources
from ..problem import ConvProblem
from .kernels import channels_last


def serves(problem: ConvProblem) -> bool:
    """Whether it is depthwise, with as many slots as the kernels take together."""
    slots = problem.group.order * problem.cosets
    return problem.depthwise and (slots <= 2 or slots % 4 == 0)


def conv(problem: ConvProblem, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The map that ``problem.op`` computes, "conv" or "conv_input_grad", from the map x."""
    dtype = accumulator(x.dtype)
    filters = weight.to(dtype).reshape(problem.groups, -1).T.contiguous()
    if bias is not None:
        bias = bias.to(dtype).contiguous()
    y = torch.empty(problem.computed_shape, dtype=dtype, memory_format=torch.channels_last_3d)
    mul, div = ((1, 1), problem.stride) if problem.adjoint else (problem.stride, (1, 1))
    if 0 not in y.shape:
        torch.ops.gcnn_cpu.depthwise(channels_last(x, dtype), filters, bias, *_tables(problem), *mul, *div, y)
    return to_map_format(y.to(x.dtype), like=x)


conv_input_grad = conv


def conv_weight_grad(problem: ConvProblem, grad: Tensor, x: Tensor) -> Tensor:
    dtype = accumulator(x.dtype)
    entries = math.prod(problem.weight_shape) // problem.groups
    filters_grad = torch.empty(entries, problem.groups, dtype=dtype)
    torch.ops.gcnn_cpu.depthwise_weight_grad(
        channels_last(grad, dtype), channels_last(x, dtype), *_tables(problem), *problem.stride, filters_grad
    )
    return filters_grad.T.reshape(problem.weight_shape).to(problem.dtype).contiguous()


def _tables(problem):
    geometry = problem.padding, problem.dilation
    return _cached_tables(problem.group, problem.cosets, problem.in_slots, problem.kernel, *geometry, problem.adjoint)


@lru_cache(maxsize=256)
def _cached_tables(group, cosets, in_slots, k, padding, dilation, adjoint):
    """``table[h, s * taps + t]``, the entry of the filter between two slots at a tap, and each tap's shift.

    h are slots of the map computed and s of the map read: of the input's gradient and of the output's, if ``adjoint``.
    A filter's entries are (coset of the output, coset of the input, slot, tap); slots of maps are (slot, coset).
    """
    table = filter_sources(group, in_slots, k, torch.device("cpu")).view(group.order, 1, in_slots, 1, k * k)
    size, read = in_slots * k * k, 1 if in_slots == 1 else cosets
    filters = torch.arange(cosets * read, dtype=table.dtype).view(1, cosets, 1, read, 1)
    table = (table + size * filters).view(group.order * cosets, in_slots * read, k * k)
    if adjoint:
        table = table.transpose(0, 1)
    row, column = np.divmod(np.arange(k * k), k)
    shifts = np.stack([row * dilation[0] - padding[0], column * dilation[1] - padding[1]], -1)
    shifts = constant(-shifts if adjoint else shifts, table.device, torch.int32)
    return table.to(torch.int32).contiguous(), shifts
