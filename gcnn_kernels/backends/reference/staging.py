"""The two kernels of the "staged" algorithm in plain PyTorch, for any device and floating dtype."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..._constants import constant
from ..base import accumulator

if TYPE_CHECKING:
    from ..staged import Coefficients, Windows


def gather(x: Tensor, windows: Windows, first: int, out: Coefficients) -> None:
    group, kernel = out.group, windows.kernel
    batch, channels = x.shape[:2]
    dtype = accumulator(x.dtype)
    count = max(0, min(out.rows, batch * windows.size[0] * windows.size[1] - first))
    b, i, j = _pixels(first, count, windows.size, x.device)
    taps, slots = _moved_taps(group, kernel), list(range(group.order))
    if windows.filters and windows.adjoint:
        taps, slots = taps[:1].expand_as(taps), group.inverse.tolist()
    values = []
    for slot, (tap_row, tap_column) in zip(slots, taps.to(x.device), strict=True):
        row, row_in = _read_positions(i, tap_row, windows, 0, x.shape[3])
        column, column_in = _read_positions(j, tap_column, windows, 1, x.shape[4])
        value = x[:, :, slot].permute(0, 2, 3, 1)[b[:, None], row, column]  # [rows, taps, channels]
        values.append(torch.where((row_in & column_in)[..., None], value, 0).to(dtype))
    planes = torch.tensordot(_transform(group, dtype, x.device), torch.stack(values), 1)
    half = group.order // 2
    if group.reflections:
        double = planes[half:].unflatten(0, (2, 2)).movedim(1, 0)  # E's entries are stored column by column
    elif windows.filters:
        real, imaginary = planes[half:]
        double = torch.stack([torch.stack([real, imaginary]), torch.stack([-imaginary, real])])
    else:
        double = planes[half:][None]
    out.single.zero_()
    out.double.zero_()
    out.single.unflatten(2, (kernel**2, -1))[:, :count, :, :channels] = planes[:half].to(out.single.dtype)
    out.double.unflatten(3, (kernel**2, -1))[:, :count, ..., :channels] = double.movedim(1, 2).to(out.double.dtype)


def scatter(
    coefficients: Coefficients, kernel: int, bias: Tensor | None, y: Tensor, first: int,
    slope: float = 1.0, statistics: bool = False,
) -> Tensor | None:  # fmt: skip
    group, double = coefficients.group, coefficients.double
    batch, channels, _, height, width = y.shape
    size = height - kernel + 1, width - kernel + 1
    if group.reflections:
        double = double.movedim(2, 1).transpose(0, 1).flatten(0, 1)  # [4, rows, columns]
    elif double.shape[0] == 2:  # all products of the parts of a* b
        double = torch.stack([double[0, :, 0] + double[1, :, 1], double[0, :, 1] - double[1, :, 0]])
    else:
        double = double[0].movedim(1, 0)
    planes = torch.cat([coefficients.single, double])
    count = min(coefficients.rows, batch * size[0] * size[1] - first)
    inverse = _inverse_transform(group, planes.dtype, y.device)
    values = torch.tensordot(inverse, planes[:, :count], 1).unflatten(2, (kernel**2, -1))[..., :channels]
    if bias is not None:
        values = values + bias.to(values.dtype)
    values = torch.where(values < 0, slope * values if slope else 0, values).to(y.dtype)
    b, i, j = _pixels(first, count, size, y.device)
    for slot, (tap_row, tap_column) in enumerate(_moved_taps(group, kernel).to(y.device)):
        target = y[:, :, slot].permute(0, 2, 3, 1)
        target[b[:, None], i[:, None] + tap_row, j[:, None] + tap_column] = values[slot]
    if not statistics:
        return None
    values = values.to(planes.dtype).flatten(0, 2)
    var, mean = torch.var_mean(values, 0, correction=0)
    number = torch.full_like(mean, len(values))
    return torch.stack([mean, var * number, number]).unsqueeze(1)


def combine(parts: Tensor) -> tuple[Tensor, Tensor]:
    mean, square, number = parts
    total = number.sum(0)
    centre = (number * mean).sum(0) / total
    return centre, (square + number * (mean - centre) ** 2).sum(0) / total


def _pixels(first, count, size, device):
    """Sample, row and column of pixels counted through the batch."""
    index = torch.arange(first, first + count, device=device)
    return index // (size[0] * size[1]), index // size[1] % size[0], index % size[1]


def _read_positions(position, tap, windows, axis, size):
    """``[rows, taps]``: where along one axis to read a map of that size, kept inside, and whether it was inside."""
    stride, padding = windows.stride[axis], windows.padding[axis]
    shift = tap * windows.dilation[axis]
    if windows.adjoint and not windows.filters:
        distance = position[:, None] + padding - shift
        found, inside = distance // stride, (distance >= 0) & (distance % stride == 0)
    else:
        found = position[:, None] * stride - padding + shift
        inside = found >= 0
    inside = inside & (found < size)
    return torch.where(inside, found, 0), inside


@lru_cache(maxsize=64)
def _moved_taps(group, kernel):
    """``[order, 2, taps]``: row and column of the tap to which each element moves each tap; the first moves none."""
    return constant(np.stack(np.divmod(group.tap_action(kernel), kernel), 1), torch.device("cpu"))


@lru_cache(maxsize=64)
def _transform(group, dtype, device):
    """F, ``[order, order]``: its entries are those of the irreps' matrices, 0 and +-1."""
    return constant(np.rint(group.fourier / _norms(group)[:, None]), device, dtype)


@lru_cache(maxsize=64)
def _inverse_transform(group, dtype, device):
    return constant((group.fourier * _norms(group)[:, None]).T, device, dtype)


def _norms(group):
    """The norms of F's rows are the inverses of these, sqrt(dim / order)."""
    return np.sqrt(np.array([irrep.dim for irrep in group.irreps for _ in range(irrep.dim * irrep.multiplicity)])
                   / group.order)  # fmt: skip
