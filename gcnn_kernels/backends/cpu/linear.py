"""Linear layers over p4 and p4m: tables and calls of the C++ kernels (csrc/cpu/linear.h)."""

from __future__ import annotations

import torch
from torch import Tensor

from ...groups import PointGroup
from .correlations import correlations, has_algorithm


def unsupported(group: PointGroup) -> str | None:
    return None if has_algorithm(group) else f"its linear layers are of p4 and p4m, not {group.name}"


def pays(group: PointGroup, tokens: int, cin: int, cout: int, device: torch.device) -> bool:
    return True


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, group: PointGroup, *, adjoint: bool = False) -> Tensor:
    sources, matrix = _tables(group, x.dtype, adjoint)
    y = x.new_empty(x.shape[0], weight.shape[1 if adjoint else 0], group.order)
    bias = None if bias is None else bias.contiguous()
    torch.ops.gcnn_cpu.linear(x.contiguous(), weight.contiguous()[..., None, None], bias, adjoint, sources, matrix, y)
    return y


def linear_weight_grad(grad: Tensor, x: Tensor, group: PointGroup) -> Tensor:
    weight_grad = x.new_zeros(grad.shape[1], x.shape[1], group.order, 1, 1)
    if len(x):
        torch.ops.gcnn_cpu.linear_weight_grad(
            grad.contiguous(), x.contiguous(), *_tables(group, x.dtype, False), weight_grad
        )
    return weight_grad[..., 0, 0]


def _tables(group, dtype, backward):
    tables = correlations(group, 1, (1, 1), (0, 0), (1, 1), dtype, "gather", backward=backward)
    return tables.sources, tables.matrix
