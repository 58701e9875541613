"""Grouped convolutions, one part of the channels after the other."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..problem import ConvProblem
from . import kernels


def conv(problem: ConvProblem, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The map that ``problem.op`` computes, "conv" or "conv_input_grad", from the map x."""
    n = problem.groups
    parts = zip(x.chunk(n, 1), weight.chunk(n), [None] * n if bias is None else bias.chunk(n), strict=True)
    return torch.cat([kernels.conv(_part(problem), *part) for part in parts], 1)


conv_input_grad = conv


def conv_weight_grad(problem: ConvProblem, grad: Tensor, x: Tensor) -> Tensor:
    parts = zip(grad.chunk(problem.groups, 1), x.chunk(problem.groups, 1), strict=True)
    return torch.cat([kernels.conv_weight_grad(_part(problem), *part) for part in parts])


def _part(problem):
    n = problem.groups
    return replace(problem, groups=1, in_channels=problem.in_channels // n, out_channels=problem.out_channels // n)
