"""Convolutions of the cpu backend: which algorithm serves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..base import ConvKernels, Filters
from ..by_subgroup import BySubgroup
from ..expansion import Expansion
from ..problem import ConvProblem
from . import cost, depthwise, kernels
from .correlations import has_algorithm
from .cosets import join_cosets, split_cosets


class CpuConv:
    """The group convolution and its two gradients.

    Algorithms: "fourier" for group convolutions of p4 and p4m (csrc/cpu/gather.h, spread.h, planar.h,
    depthwise_fourier.h), "direct" for lifting convolutions (the first two, without a transform, or csrc/cpu/lift.h) and
    for depthwise ones of any group (csrc/cpu/depthwise_direct.h), "expand" for all.
    """

    def __init__(self, filters: Filters):
        expansion = Expansion(filters)
        by_subgroup = BySubgroup(expansion, split_cosets, join_cosets)
        self.algorithms: dict[str, ConvKernels] = {
            "direct": _Chosen(_direct),
            "fourier": _Chosen(_fourier),
            "expand": _Chosen(lambda problem: expansion if problem.cosets == 1 else by_subgroup),
        }
        self.takes_cosets: tuple[str, ...] = tuple(self.algorithms)
        self.folds: tuple[str, ...] = ()

    def unsupported(self, problem: ConvProblem, algorithm: str) -> str | None:
        lifting = problem.in_slots == 1
        if algorithm == "staged":
            return "the algorithm 'staged' is for GPUs; the backend 'reference' has it for any device"
        if algorithm == "fourier":
            if not has_algorithm(problem.group):
                return f"the algorithm 'fourier' exists for p4 and p4m, not {problem.group.name}"
            if lifting:
                return "the algorithm 'fourier' needs a map on the group; a lifting convolution reads an image"
        if algorithm == "direct":
            if problem.group.order == 1:
                return "the algorithm 'direct' exists for groups of order 2, 4 and 8, not p1"
            if problem.groups > 1 and not depthwise.serves(problem):
                return (
                    f"the algorithm 'direct' exists for groups=1 and for depthwise convolutions, not {problem.groups}"
                )
            if not lifting and problem.groups == 1:
                return "the algorithm 'direct' exists for lifting and depthwise convolutions, not for dense group ones"
        return None

    def choose_algorithm(self, problem: ConvProblem) -> str:
        served = (a for a in ("fourier", "direct") if self.unsupported(problem, a) is None)
        return next(served, "expand")


class _Chosen:
    """One algorithm, by the kernels that serve a problem best."""

    def __init__(self, kernels_for: Callable[[ConvProblem], Any]):
        self.kernels_for = kernels_for

    def conv(self, problem: ConvProblem, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return self.kernels_for(problem).conv(problem, x, weight, bias)

    def conv_input_grad(self, problem: ConvProblem, grad: Tensor, weight: Tensor) -> Tensor:
        return self.kernels_for(problem).conv_input_grad(problem, grad, weight)

    def conv_weight_grad(self, problem: ConvProblem, grad: Tensor, x: Tensor) -> Tensor:
        if 0 in grad.shape:
            return x.new_zeros(problem.weight_shape)
        return self.kernels_for(problem).conv_weight_grad(problem, grad, x)


def _direct(problem: ConvProblem) -> Any:
    if problem.groups > 1:
        return depthwise
    return kernels if problem.cosets == 1 else _BY_SUBGROUP


def _fourier(problem: ConvProblem) -> Any:
    return kernels if problem.cosets == 1 or cost.form(problem) in ("planes", "depthwise") else _BY_SUBGROUP


_BY_SUBGROUP = BySubgroup(kernels, split_cosets, join_cosets)
