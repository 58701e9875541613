"""The Fourier transform over the point groups C4 and D4, and the reads that it starts from.

Coefficients are kept in the order of ``PointGroup.irreps``: for C4 A, B, Re E, Im E; for D4 A1, A2, B1, B2 and E's
entries 00, 10, 01, 11. F is not normalised: its entries are 0 and +-1, and F^T inverts it after scaling by
dim(rho) / |H|.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .index import moved_tap, read_position


@triton.jit
def _rotations(f0, f1, f2, f3):
    even, odd = f0 + f2, f1 + f3
    return even + odd, even - odd, f0 - f2, f1 - f3


@triton.jit
def _rotations_adjoint(a, b, u, v):
    plus, minus = a + b, a - b
    return plus + u, minus + v, plus - u, minus - v


@triton.jit
def transform(f, ORDER: tl.constexpr):
    """F f of a function on C4 or D4: ORDER values of any one shape."""
    a, b, u, v = _rotations(f[0], f[1], f[2], f[3])
    if ORDER == 4:
        return a, b, u, v
    else:
        c, d, s, t = _rotations(f[4], f[5], f[6], f[7])
        return a + c, a - c, b + d, b - d, u - s, v + t, t - v, u + s


@triton.jit
def adjoint_transform(p, ORDER: tl.constexpr):
    """F^T p."""
    if ORDER == 4:
        return _rotations_adjoint(p[0], p[1], p[2], p[3])
    else:
        f0, f1, f2, f3 = _rotations_adjoint(p[0] + p[1], p[2] + p[3], p[4] + p[7], p[5] - p[6])
        f4, f5, f6, f7 = _rotations_adjoint(p[0] - p[1], p[2] - p[3], p[7] - p[4], p[5] + p[6])
        return f0, f1, f2, f3, f4, f5, f6, f7


@triton.jit
def scaled(p, ORDER: tl.constexpr):
    """p times dim(rho) / ORDER."""
    scaled = ()
    for e in tl.static_range(ORDER):
        if 2 * e < ORDER:
            scaled = scaled + (p[e] * (1.0 / ORDER),)
        else:
            scaled = scaled + (p[e] * (2.0 / ORDER),)
    return scaled


@triton.jit
def read_moved(
    x, at, i, j, tap, inside, strides, sizes, stride, padding, dilation,
    ELEMENT: tl.constexpr, K: tl.constexpr, ADJOINT: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Z(ELEMENT): the slot of a group element, read through the tap to which the element moves the tap.

    ``strides`` are x's over (slot, row, column), the other tuples (row, column) pairs.
    """
    tap_row, tap_column = moved_tap(tap // K, tap % K, ELEMENT, K)
    row, row_in = read_position(i, tap_row * dilation[0], stride[0], padding[0], sizes[0], ADJOINT)
    column, column_in = read_position(j, tap_column * dilation[1], stride[1], padding[1], sizes[1], ADJOINT)
    if WIDE:
        row = row.to(tl.int64)
    at = at + (ELEMENT * strides[0] + row * strides[1] + column * strides[2])
    return tl.load(x + at, mask=inside & row_in & column_in, other=0.0)
