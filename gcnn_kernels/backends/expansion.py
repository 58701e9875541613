"""The "expand" algorithm: the filter stack in memory, then torch's own convolution.

It needs no kernel but the expansion and its adjoint, so any backend that has these two has all three operators.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .._layout import to_map_format
from .base import ConvKernels, Filters
from .problem import ConvProblem


class Expansion:
    """Convolution and its gradients out of a backend's filter expansion and ``aten.convolution``."""

    def __init__(self, filters: Filters):
        self.filters = filters

    def conv(self, problem: ConvProblem, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        stack = self._stack(problem, weight)
        if bias is not None:
            bias = bias.repeat_interleave(problem.group.order)
        y = F.conv2d(
            _to_planar(problem, x), stack, bias, problem.stride, problem.padding, problem.dilation, problem.groups
        )
        return _from_planar(y, problem.group.order, like=x)

    def conv_input_grad(self, problem: ConvProblem, grad: Tensor, weight: Tensor) -> Tensor:
        stack = self._stack(problem, weight)
        shape = (problem.batch, problem.in_channels * problem.in_slots, *problem.in_size)
        planar_x = grad.new_empty(1).expand(shape)  # its values are not read
        gx, _, _ = _convolution_backward(problem, _to_planar(problem, grad), planar_x, stack, [True, False, False])
        return _from_planar(gx, problem.in_slots, like=grad)

    def conv_weight_grad(self, problem: ConvProblem, grad: Tensor, x: Tensor) -> Tensor:
        k, order = problem.kernel, problem.group.order
        shape = (problem.out_channels * order, problem.in_channels // problem.groups * problem.in_slots, k, k)
        stack = grad.new_empty(1).expand(shape)
        _, gstack, _ = _convolution_backward(
            problem, _to_planar(problem, grad), _to_planar(problem, x), stack, [False, True, False]
        )
        if _is_planar(problem):
            return gstack.contiguous().unsqueeze(2)
        return self.filters.reduce_filters(gstack, problem.group, problem.in_slots)

    def _stack(self, problem, weight):
        return weight.squeeze(2) if _is_planar(problem) else self.filters.expand_filters(weight, problem.group)


class ExpandedConv:
    """The convolutions of a backend that has this algorithm alone."""

    def __init__(self, filters: Filters):
        self.algorithms: dict[str, ConvKernels] = {"expand": Expansion(filters)}
        self.takes_cosets: tuple[str, ...] = ()
        self.folds: tuple[str, ...] = ()

    def unsupported(self, problem: ConvProblem, algorithm: str) -> str | None:
        return None if algorithm in ("auto", "expand") else f"it has the algorithm 'expand' only, not {algorithm!r}"

    def choose_algorithm(self, problem: ConvProblem) -> str:
        return "expand"


def _is_planar(problem):
    return problem.group.order == problem.in_slots == 1


def _convolution_backward(problem, grad, x, stack, mask):
    return torch.ops.aten.convolution_backward(
        grad, x, stack, None, problem.stride, problem.padding, problem.dilation, False, [0, 0], problem.groups, mask
    )


def _to_planar(problem, x):
    """``[B, C, S, H, W]`` -> ``[B, C * S, H, W]``, channels_last where x is channels_last_3d.

    But on a CPU contiguous for grouped convolutions, which are faster so, and where filters are larger than the map:
    their gradient then needs no other format.
    """
    planar = x.flatten(1, 2)
    if x.device.type == "cpu" and (problem.groups > 1 or math.prod(problem.weight_shape) > x.numel()):
        return planar.contiguous()
    if x.stride(1) == 1 and not planar.is_contiguous(memory_format=torch.channels_last):
        planar = planar.contiguous(memory_format=torch.channels_last)
    return planar


def _from_planar(y, slots, like):
    return to_map_format(y.unflatten(1, (-1, slots)), like)
