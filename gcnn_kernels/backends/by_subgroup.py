"""Convolutions over groups finer than the grid, by kernels that know the grid's groups only (_interpolation.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from .._interpolation import coset_of, join_cosets, split_cosets, stack_cosets
from .base import ConvKernels
from .problem import ConvProblem

#: From a map and its number of cosets to the same map, with the cosets elsewhere.
Interleaving = Callable[[Tensor, int], Tensor]


class BySubgroup:
    """Maps whose cosets are slots to maps whose cosets are channels, and back.

    An image has no cosets, so a lifting convolution goes coset by coset: whole planes are put together then, instead of
    the channels of each pixel.
    """

    def __init__(
        self,
        kernels: ConvKernels,
        split: Interleaving = split_cosets,
        join: Interleaving = join_cosets,
    ):
        self.kernels: ConvKernels = kernels
        self.split: Interleaving = split
        self.join: Interleaving = join

    def conv(self, problem: ConvProblem, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        q = problem.cosets
        if problem.in_slots == 1:
            part = _one_coset(problem)
            return stack_cosets([self.kernels.conv(part, x, filters, bias) for filters in _by_coset(weight, q)])
        if bias is not None:
            bias = bias.repeat_interleave(q)
        return self.join(self.kernels.conv(_all_cosets(problem), self.split(x, q), weight, bias), q)

    def conv_input_grad(self, problem: ConvProblem, grad: Tensor, weight: Tensor) -> Tensor:
        q = problem.cosets
        if problem.in_slots == 1:
            part = _one_coset(problem)
            first, *others = (
                self.kernels.conv_input_grad(part, coset_of(grad, c, q), filters)
                for c, filters in enumerate(_by_coset(weight, q))
            )
            return sum(others, first)
        return self.join(self.kernels.conv_input_grad(_all_cosets(problem), self.split(grad, q), weight), q)

    def conv_weight_grad(self, problem: ConvProblem, grad: Tensor, x: Tensor) -> Tensor:
        q = problem.cosets
        if problem.in_slots == 1:
            part = _one_coset(problem)
            filters = [self.kernels.conv_weight_grad(part, coset_of(grad, c, q), x) for c in range(q)]
            return torch.stack(filters, 1).flatten(0, 1)
        return self.kernels.conv_weight_grad(_all_cosets(problem), self.split(grad, q), self.split(x, q))


def _by_coset(weight, cosets):
    """Lifting filters ``[C*q, ...]`` -> q of ``[C, ...]``."""
    return [filters.contiguous() for filters in weight.unflatten(0, (-1, cosets)).unbind(1)]


def _one_coset(problem):
    return replace(problem, out_channels=problem.out_channels // problem.cosets, cosets=1)


def _all_cosets(problem):
    return replace(problem, cosets=1)
