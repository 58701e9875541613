"""Convolutions of the cpu backend: which algorithm serves."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..base import ConvKernels, Filters
from ..expansion import Expansion
from ..problem import ConvProblem
from . import cost, depthwise, kernels, parts
from .correlations import has_algorithm


class CpuConv:
    """The group convolution and its two gradients.

    Algorithms: "fourier" for group convolutions of p4 and p4m (csrc/cpu/gather.h, spread.h), "direct" for lifting
    convolutions (the same kernels, without a transform, or csrc/cpu/lift.h) and for depthwise ones
    (csrc/cpu/depthwise.cpp), "expand" for all.
    """

    def __init__(self, filters: Filters):
        self.algorithms: dict[str, ConvKernels] = {
            "direct": _ByGroups(kernels, depthwise),
            "fourier": _ByGroups(kernels, parts),
            "expand": Expansion(filters),
        }

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
        if problem.groups > 1:
            if self.unsupported(problem, "direct") is None:
                return "direct" if cost.depthwise_pays(problem) else "expand"
            if self.unsupported(problem, "fourier") is None and cost.parts_pay(problem):
                return "fourier"
            return "expand"
        fast = "direct" if problem.in_slots == 1 else "fourier"
        return "expand" if self.unsupported(problem, fast) else fast


class _ByGroups:
    """One algorithm, by different modules for ``groups`` = 1 and more."""

    def __init__(self, one: Any, more: Any):
        self.one, self.more = one, more

    def conv(self, problem: ConvProblem, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return (self.one if problem.groups == 1 else self.more).conv(problem, x, weight, bias)

    def conv_input_grad(self, problem: ConvProblem, grad: Tensor, weight: Tensor) -> Tensor:
        return (self.one if problem.groups == 1 else self.more).conv_input_grad(problem, grad, weight)

    def conv_weight_grad(self, problem: ConvProblem, grad: Tensor, x: Tensor) -> Tensor:
        return (self.one if problem.groups == 1 else self.more).conv_weight_grad(problem, grad, x)
