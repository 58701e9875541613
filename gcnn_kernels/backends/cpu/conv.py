"""Convolutions of the cpu backend: which algorithm serves."""

from __future__ import annotations

from ..base import Filters
from ..expansion import Expansion
from . import kernels
from .correlations import has_algorithm


class CpuConv:
    """The group convolution and its two gradients.

    Algorithms: "fourier" for group convolutions of p4 and p4m (csrc/cpu/gather.h, spread.h), "direct" for lifting
    convolutions (the same kernels, without a transform, or csrc/cpu/lift.h), "expand" for all.
    """

    def __init__(self, filters: Filters):
        self.algorithms = {"direct": kernels, "fourier": kernels, "expand": Expansion(filters)}

    def unsupported(self, problem, algorithm):
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
            if not lifting:
                return "the algorithm 'direct' exists for lifting convolutions, not for maps on the group"
        return None

    def choose_algorithm(self, problem):
        fast = "direct" if problem.in_slots == 1 else "fourier"
        return "expand" if self.unsupported(problem, fast) else fast
