"""The two kernels of the "staged" algorithm: maps to Fourier coefficients in memory, and back (``backends.staged``).

Both move vectors of 16 bytes on the side of the coefficients, whose rows are padded for that, and on the side of the
maps as many bytes as the maps' channels allow (``launch.alignment``).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import triton
import triton.language as tl
from torch import Tensor

from ..base import accumulator
from .cost import piece
from .epilogue import activated, store_statistics
from .index import moved_tap, pixel
from .launch import DTYPES, aligned_strides, alignment, jit, launch, partial_statistics, wide
from .norm import combine_stats as combine
from .transforms import adjoint_transform, read_moved, scaled, transform

__all__ = ["combine", "gather", "scatter"]

if TYPE_CHECKING:
    from ..staged import Coefficients, Windows

_NUMBERS = 1024  # of one slot per program; a thread of the four warps holds eight of each slot
_CHANNELS = 128


@jit
def coefficient_places(row, c, tap, rows, depth, TAPS: tl.constexpr, WIDE: tl.constexpr):
    """Where coefficients of one tap lie, for rows ``[M, 1]`` and channels ``[1, C]``.

    The rows, in 64 bits if offsets are; the place within a row; the sizes of a row and of a plane.
    """
    columns = TAPS * depth
    if WIDE:
        row = row.to(tl.int64)
        plane = rows.to(tl.int64) * columns
    else:
        plane = rows * columns
    return row, tap * depth + c, columns, plane


@jit
def gather_kernel(
    x, single, double, stride_xb, stride_xc, stride_xs, stride_xh, stride_xw,
    first, pixels, rows, height, width, x_height, x_width, aligned_channels, vectors,
    stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w,
    K: tl.constexpr, ORDER: tl.constexpr, ADJOINT: tl.constexpr, FILTERS: tl.constexpr,
    ALIGN: tl.constexpr, VECTOR: tl.constexpr, WIDE: tl.constexpr, SUM: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """All coefficients of one tile ``[BLOCK_M rows, BLOCK_C channels]`` and one tap.

    x's strides but ``stride_xc`` are given in units of ALIGN numbers, a row of coefficients per tap in vectors.
    """
    TAPS: tl.constexpr = K * K
    depth = vectors * VECTOR
    channel_tiles = tl.cdiv(depth, BLOCK_C)
    tap = tl.program_id(0) % TAPS
    tile = tl.program_id(0) // TAPS
    row = tile // channel_tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    c = tile % channel_tiles * BLOCK_C + tl.arange(0, BLOCK_C)
    b, i, j = pixel(first + row, height, width, WIDE)
    i, j = i[:, None], j[:, None]
    inside = ((row < rows) & (first + row < pixels))[:, None] & (c < aligned_channels * ALIGN)[None, :]
    at = b[:, None] * (stride_xb * ALIGN) + c[None, :] * stride_xc
    f = ()
    for e in tl.static_range(ORDER):
        if FILTERS and ADJOINT:  # W(e^-1), at the tap itself
            slot = e if e >= 4 else (4 - e) % 4
            place = slot * stride_xs * ALIGN + tap // K * stride_xh * ALIGN + tap % K * stride_xw * ALIGN
            value = tl.load(x + (at + place), mask=inside, other=0.0)
        else:
            value = read_moved(
                x, at, i, j, tap, inside,
                (stride_xs * ALIGN, stride_xh * ALIGN, stride_xw * ALIGN), (x_height, x_width),
                (stride_h, stride_w), (padding_h, padding_w), (dilation_h, dilation_w),
                e, K, ADJOINT, WIDE,
            )  # fmt: skip
        f = f + (value.to(SUM),)
    z = transform(f, ORDER)

    to, place, columns, plane = coefficient_places(row[:, None], c[None, :], tap, rows, depth, TAPS, WIDE)
    written = (row < rows)[:, None] & (c < depth)[None, :]
    for e in tl.static_range(ORDER // 2):
        tl.store(single + e * plane + to * columns + place, z[e].to(single.dtype.element_ty), mask=written)
    if ORDER == 8:  # entry (n, r) of E
        entries = (z[4], z[6], z[5], z[7])
    elif FILTERS:  # [[re, im], [-im, re]]
        entries = (z[2], z[3], -z[3], z[2])
    else:
        entries = (z[2], z[3])
    for n in tl.static_range(len(entries) // 2):
        for r in tl.static_range(2):
            pointers = double + 2 * n * plane + (2 * to + r) * columns + place
            tl.store(pointers, entries[2 * n + r].to(double.dtype.element_ty), mask=written)


@jit
def scatter_kernel(
    single, double, bias, y, parts, stride_yb, stride_yc, stride_ys, stride_yh, stride_yw,
    first, pixels, rows, height, width, aligned_channels, vectors,
    K: tl.constexpr, ORDER: tl.constexpr, PARTS: tl.constexpr, BIAS: tl.constexpr,
    SLOPE: tl.constexpr, STATISTICS: tl.constexpr,
    ALIGN: tl.constexpr, VECTOR: tl.constexpr, WIDE: tl.constexpr, SUM: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """All slots of one tile ``[BLOCK_M rows, BLOCK_C channels]`` and one tap; strides as in ``gather_kernel``.

    ``parts[3, tile of rows, c]`` are the statistics of the tiles.
    """
    TAPS: tl.constexpr = K * K
    depth = vectors * VECTOR
    channel_tiles = tl.cdiv(aligned_channels * ALIGN, BLOCK_C)
    tap = tl.program_id(0) % TAPS
    tile = tl.program_id(0) // TAPS
    row = tile // channel_tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    c = tile % channel_tiles * BLOCK_C + tl.arange(0, BLOCK_C)
    b, i, j = pixel(first + row, height, width, WIDE)
    row_in = ((row < rows) & (first + row < pixels))[:, None]
    channel_in = c < aligned_channels * ALIGN
    read = row_in & (c < depth)[None, :]

    of, place, columns, plane = coefficient_places(row[:, None], c[None, :], tap, rows, depth, TAPS, WIDE)
    z = ()
    for e in tl.static_range(ORDER // 2):
        z = z + (tl.load(single + e * plane + of * columns + place, mask=read, other=0.0).to(SUM),)
    entries = ()
    for n in tl.static_range(PARTS):
        for r in tl.static_range(2):
            pointers = double + 2 * n * plane + (2 * of + r) * columns + place
            entries = entries + (tl.load(pointers, mask=read, other=0.0).to(SUM),)
    if ORDER == 8:
        z = z + (entries[0], entries[2], entries[1], entries[3])
    elif PARTS == 2:  # all products of the parts of a* b
        z = z + (entries[0] + entries[3], entries[1] - entries[2])
    else:
        z = z + entries
    values = adjoint_transform(scaled(z, ORDER), ORDER)
    if BIAS:
        shift = tl.load(bias + c, mask=channel_in, other=0.0).to(SUM)[None, :]

    at = b[:, None] * (stride_yb * ALIGN) + c[None, :] * stride_yc
    written = ()
    for e in tl.static_range(ORDER):
        tap_row, tap_column = moved_tap(tap // K, tap % K, e, K)
        to_row, to_column = (i + tap_row)[:, None], (j + tap_column)[:, None]
        if WIDE:
            to_row = to_row.to(tl.int64)
        to = at + (e * stride_ys * ALIGN + to_row * (stride_yh * ALIGN) + to_column * (stride_yw * ALIGN))
        value = values[e]
        if BIAS:
            value += shift
        value = activated(value, SLOPE).to(y.dtype.element_ty)
        tl.store(y + to, value, mask=row_in & channel_in[None, :])
        written = written + (value,)
    if STATISTICS:
        channels = aligned_channels * ALIGN
        size = tl.num_programs(0) // (TAPS * channel_tiles) * channels
        store_statistics(
            parts, written, (row < rows) & (first + row < pixels), tile // channel_tiles * channels + c, size,
            channel_in, SUM,
        )  # fmt: skip


def gather(x: Tensor, windows: Windows, first: int, out: Coefficients) -> None:
    batch, channels, _, height, width = x.shape
    vector, align = 16 // out.single.element_size(), alignment(x)
    padded = out.columns // windows.kernel**2
    block_c = piece(padded, vector, _CHANNELS)
    block_m = _NUMBERS // block_c
    tiles = triton.cdiv(out.rows, block_m) * triton.cdiv(padded, block_c) * windows.kernel**2
    launch(
        gather_kernel, (tiles,),
        x, out.single, out.double, *aligned_strides(x, align),
        first, batch * math.prod(windows.size), out.rows, *windows.size, height, width,
        channels // align, padded // vector,
        *windows.stride, *windows.padding, *windows.dilation,
        K=windows.kernel, ORDER=out.group.order, ADJOINT=windows.adjoint, FILTERS=windows.filters,
        ALIGN=align, VECTOR=vector, WIDE=wide(x, out.single, out.double), SUM=DTYPES[accumulator(x.dtype)],
        BLOCK_M=block_m, BLOCK_C=block_c, num_warps=4,
    )  # fmt: skip


def scatter(
    coefficients: Coefficients, kernel: int, bias: Tensor | None, y: Tensor, first: int,
    slope: float = 1.0, statistics: bool = False,
) -> Tensor | None:  # fmt: skip
    batch, channels, _, height, width = y.shape
    size = height - kernel + 1, width - kernel + 1
    # The coefficients of a map are padded for its dtype, which may be narrower than theirs.
    vector, align = 16 // y.element_size(), alignment(y)
    padded = coefficients.columns // kernel**2
    block_c = piece(padded, vector, _CHANNELS)
    block_m = _NUMBERS // block_c
    row_tiles = triton.cdiv(coefficients.rows, block_m)
    single, double = coefficients.single, coefficients.double
    parts = partial_statistics(y, row_tiles) if statistics else None
    unread = single  # a kernel needs a pointer
    launch(
        scatter_kernel, (row_tiles * triton.cdiv(channels, block_c) * kernel**2,),
        single, double, unread if bias is None else bias, y, unread if parts is None else parts,
        *aligned_strides(y, align),
        first, batch * math.prod(size), coefficients.rows, *size, channels // align, padded // vector,
        K=kernel, ORDER=coefficients.group.order, PARTS=double.shape[0], BIAS=bias is not None,
        SLOPE=slope, STATISTICS=statistics,
        ALIGN=align, VECTOR=vector, WIDE=wide(single, double, y), SUM=DTYPES[single.dtype],
        BLOCK_M=block_m, BLOCK_C=block_c, num_warps=4,
    )  # fmt: skip
    return parts
