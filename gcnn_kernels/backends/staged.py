"""The "staged" algorithm for p4 and p4m: Fourier coefficients in memory, and plain matrix products between them.

Along the orbit of one tap t the group convolution is a correlation over the point group H, and a product of Fourier
coefficients for each irrep (docs/fourier.md): with Z_t(g) = x(g, p + g t), W_t(u) = w[u, u t] and F f = sum over g of
f(g) rho(g),

    F y = sum over t of (F Z_t) (F W_t)^T                                          the convolution
    F dx = sum over t of (F Z_t) (F W_t),  Z_t(h) = dy(h, p - h t), W_t(u) = w[u, t]     its input gradient
    F dW_t = sum over p of (F dy)^T (F Z_t)                                        its weight gradient

The sums over taps and channels (over pixels) are left to the library's matrix product, on operands that two kernels
make and read, ``gather`` and ``scatter`` (:class:`Staging`): all coefficients of a chunk of pixels are gathered once,
multiplied, and the results transformed back. Filters are maps too, of one sample per output channel, so that the same
kernels serve them. A backend brings the two kernels; everything else is here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .._layout import map_format
from ..groups import PointGroup
from .base import NO_EPILOGUE, Epilogue, accumulator
from .problem import ConvProblem

WORKSPACE = 64 * 2**20  # bytes that the coefficients of a chunk of pixels may take
_ROWS = 128  # a chunk has a multiple of this many pixels, whole tiles of any matrix product


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Fourier coefficients of ``rows x columns`` functions on C4 or D4, as operands of matrix products.

    Attributes:
        group: p4 or p4m.
        single: ``[order / 2, rows, columns]``, the one-dimensional irreps in the order of ``PointGroup.irreps``.
        double: ``[n, rows, 2, columns]``, the irrep E, which is one matrix of ``n rows`` times ``2 columns``. For D4
            n is 2 and entry (i, j) of E is ``double[i, :, j]``. For C4 n is 1 and holds the real and the imaginary
            part; or n is 2 and ``double`` the matrix ``[[re, im], [-im, re]]`` of a filter, or all products of two
            such parts.
    """

    group: PointGroup
    single: Tensor
    double: Tensor

    @classmethod
    def of(cls, memory: Tensor, group: PointGroup, n: int, rows: int, columns: int) -> Coefficients:
        """Views of the first numbers of ``memory``."""
        singles = group.order // 2 * rows * columns
        double = memory[singles : singles + 2 * n * rows * columns]
        return cls(group, memory[:singles].view(group.order // 2, rows, columns), double.view(n, rows, 2, columns))

    @property
    def rows(self) -> int:
        return self.single.shape[1]

    @property
    def columns(self) -> int:
        return self.single.shape[2]

    def matrices(self) -> tuple[Tensor, Tensor]:
        """The operands of the two batched products."""
        return self.single, self.double.view(1, -1, 2 * self.columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Which values of a map the rows of coefficients are made of: row p, tap t and slot g read x(g, p + g t).

    Attributes:
        kernel: the taps are those of a kernel x kernel filter.
        size: the plane (height, width) over which the rows run, sample by sample.
        stride, padding, dilation: as in a convolution, (height, width).
        adjoint: read x(g, p - g t) instead, as the input gradient does.
        filters: the map is a bank of filters ``[rows, C, S, k, k]``, and the slots' matrices are wanted whole
            (``Coefficients.double`` with n = 2); ``adjoint`` then makes their transposes, of x(g, t) with taps unmoved.
    """

    kernel: int
    size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    adjoint: bool = False
    filters: bool = False


class Staging(Protocol):
    """The kernels of a backend."""

    def gather(self, x: Tensor, windows: Windows, first: int, out: Coefficients) -> None:
        """Writes the coefficients of the rows from ``first`` on; columns are (tap, channel), channels padded by zeros.

        x is ``[B, C, S, H, W]`` with any strides. Rows beyond the last one are zero.
        """

    def scatter(
        self, coefficients: Coefficients, kernel: int, bias: Tensor | None, y: Tensor, first: int,
        slope: float = 1.0, statistics: bool = False,
    ) -> Tensor | None:  # fmt: skip
        """Transforms back and writes y: ``[B, C, S, H, W]``, row p and tap t of slot g to y(g, p + g t), plus bias.

        Then the activation of that slope; and on request of what was written the statistics ``[3, parts, C]``, of as
        many parts of the rows as the kernel likes: mean, sum of squared deviations from it, number of values.
        """

    def combine(self, parts: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance ``[C]`` of all parts together."""


class Staged:
    """The convolution and its gradients out of a backend's kernels and ``torch.bmm``."""

    def __init__(self, staging: Staging):
        self.staging = staging

    def conv(
        self,
        problem: ConvProblem,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        epilogue: Epilogue = NO_EPILOGUE,
    ) -> Tensor:
        """The map that ``problem.op`` computes, "conv" or "conv_input_grad", from the map x."""
        y = torch.empty(problem.computed_shape, dtype=x.dtype, device=x.device, memory_format=map_format(x))
        group, k = problem.group, problem.kernel
        channels, size = y.shape[1], tuple(y.shape[3:])
        pixels = y.shape[0] * math.prod(size)
        if pixels == 0:
            return y
        depth, columns = k * k * padded(x.shape[1], x.dtype), padded(channels, x.dtype)
        bank = weight.transpose(0, 1) if problem.adjoint else weight
        filters = _empty(group, 2, columns, depth, x.dtype, x.device)
        windows = Windows(kernel=k, size=(1, 1), adjoint=problem.adjoint, filters=True)
        self.staging.gather(bank, windows, 0, filters)

        windows = _windows(problem, size)
        sums = accumulator(x.dtype)
        rows = chunk(pixels, group.order * (depth * x.dtype.itemsize + columns * sums.itemsize))
        inputs = torch.empty(group.order * rows * depth, dtype=x.dtype, device=x.device)
        outputs = torch.empty(group.order * rows * columns, dtype=sums, device=x.device)
        parts: list[Tensor] = []
        for first in range(0, pixels, rows):
            shape = group, group.order // 4, min(rows, pixels - first)
            z = Coefficients.of(inputs, *shape, depth)
            products = Coefficients.of(outputs, *shape, columns)
            self.staging.gather(x, windows, first, z)
            for total, a, b in zip(products.matrices(), z.matrices(), filters.matrices(), strict=True):
                _multiply(total, a, b.mT)
            part = self.staging.scatter(products, 1, bias, y, first, epilogue.slope, epilogue.wanted)
            if part is not None:
                parts.append(part)
        if parts:
            epilogue.statistics = self.staging.combine(parts[0] if len(parts) == 1 else torch.cat(parts, 1))
        return y

    conv_input_grad = conv

    def conv_weight_grad(self, problem: ConvProblem, grad: Tensor, x: Tensor) -> Tensor:
        weight_grad = torch.empty(problem.weight_shape, dtype=x.dtype, device=x.device)
        group, size = problem.group, problem.out_size
        pixels = problem.batch * math.prod(size)
        if pixels == 0:
            return weight_grad.zero_()
        depth = problem.kernel**2 * padded(problem.in_channels, x.dtype)
        columns = padded(problem.out_channels, x.dtype)
        rows = chunk(pixels, group.order * (depth + columns) * x.dtype.itemsize)
        inputs = torch.empty(group.order * rows * depth, dtype=x.dtype, device=x.device)
        grads = torch.empty(group.order * rows * columns, dtype=x.dtype, device=x.device)
        totals = _empty(group, 2, columns, depth, accumulator(x.dtype), x.device)
        one = Windows(kernel=1, size=size)
        windows = _windows(problem, size)
        for first in range(0, pixels, rows):
            shape = group, group.order // 4, min(rows, pixels - first)
            z, g = Coefficients.of(inputs, *shape, depth), Coefficients.of(grads, *shape, columns)
            self.staging.gather(x, windows, first, z)
            self.staging.gather(grad, one, first, g)
            for total, a, b in zip(totals.matrices(), g.matrices(), z.matrices(), strict=True):
                # The rows of a matrix of two rows per channel: (i, channel), as they are in ``totals.double``.
                _multiply(total, a.mT, b, add=first > 0)
        self.staging.scatter(totals, problem.kernel, None, weight_grad, 0)
        return weight_grad


def unsupported_group(problem: ConvProblem, algorithm: str) -> str | None:
    """Why the group's Fourier transform cannot serve a problem, or None; ``algorithm`` is the name for the message."""
    if problem.group.rotations != 4:
        return f"the algorithm {algorithm!r} serves p4 and p4m, not {problem.group.name}"
    if problem.in_slots == 1:
        return f"the algorithm {algorithm!r} serves group convolutions, not lifting convolutions"
    if problem.groups > 1:
        return f"the algorithm {algorithm!r} is for groups=1, not {problem.groups}"
    return None


def padded(channels: int, dtype: torch.dtype) -> int:
    """Channels rounded up to whole vectors of 16 bytes."""
    vector = 16 // dtype.itemsize
    return -(-channels // vector) * vector


def chunk(pixels: int, bytes_per_pixel: int) -> int:
    """Pixels per chunk: as few chunks as ``WORKSPACE`` allows (but ``_ROWS`` pixels at least), all of one size."""
    most = max(1, WORKSPACE // (bytes_per_pixel * _ROWS)) * _ROWS
    chunks = -(-pixels // most)
    return min(pixels, -(-pixels // (chunks * _ROWS)) * _ROWS)


def _windows(problem, size):
    geometry = {"stride": problem.stride, "padding": problem.padding, "dilation": problem.dilation}
    return Windows(kernel=problem.kernel, size=size, adjoint=problem.adjoint, **geometry)


def _empty(group, n, rows, columns, dtype, device):
    memory = torch.empty((group.order // 2 + 2 * n) * rows * columns, dtype=dtype, device=device)
    return Coefficients.of(memory, group, n, rows, columns)


def _multiply(total, a, b, add=False):
    """``total = a @ b`` or ``total += a @ b``, of batches, with sums and results in the dtype of ``total``."""
    wider = {} if a.dtype == total.dtype else {"out_dtype": total.dtype}
    if wider and not a.is_cuda:  # only CUDA has products of 16-bit numbers with a wider result
        a, b, wider = a.to(total.dtype), b.to(total.dtype), {}
    if add:
        torch.baddbmm(total, a, b, **wider, out=total)
    else:
        torch.bmm(a, b, **wider, out=total)
