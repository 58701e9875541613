"""Convolutions of the triton backend: which algorithm serves, and which is expected to be fastest."""

from __future__ import annotations

from typing import Any

from ..expansion import Expansion
from ..problem import ConvProblem
from ..staged import Staged
from . import direct, filters, fourier, staging
from .cost import choose_algorithm, unsupported_algorithm

__all__ = ["algorithms", "choose_algorithm", "folds", "takes_cosets", "unsupported"]

algorithms: dict[str, Any] = {
    "direct": direct,
    "fourier": fourier,
    "staged": Staged(staging),
    "expand": Expansion(filters),
}
takes_cosets: tuple[str, ...] = ()
folds: tuple[str, ...] = ("direct", "fourier", "staged")


def unsupported(problem: ConvProblem, algorithm: str) -> str | None:
    """Why this problem cannot be served with this algorithm, or None."""
    shapes = problem.in_shape, problem.out_shape
    counted = max(max(b * height * width, c * s * height * width) for b, c, s, height, width in shapes)
    if counted >= 2**31:
        return f"it counts the pixels of a batch and the numbers of a sample in int32, here are {counted}"
    return unsupported_algorithm(problem, algorithm)
