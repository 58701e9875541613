"""Convolutions of the reference backend: the formula itself, and on request the staged algorithm in plain PyTorch."""

from __future__ import annotations

from ..base import ConvKernels
from ..expansion import Expansion
from ..problem import ConvProblem
from ..staged import Staged, unsupported_group
from . import filters, staging

algorithms: dict[str, ConvKernels] = {"expand": Expansion(filters), "staged": Staged(staging)}
takes_cosets: tuple[str, ...] = ()
folds: tuple[str, ...] = ("staged",)


def unsupported(problem: ConvProblem, algorithm: str) -> str | None:
    if algorithm == "staged":
        return unsupported_group(problem, algorithm)
    if algorithm not in ("auto", "expand"):
        return f"it has the algorithms 'expand' and 'staged', not {algorithm!r}"
    return None


def choose_algorithm(problem: ConvProblem) -> str:
    return "expand"
