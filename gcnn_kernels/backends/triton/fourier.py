"""The Fourier algorithm for p4 and p4m: the group convolution as products of Fourier coefficients over the point group.

Along the orbit of one tap t the group convolution is a correlation over H. With Z(g) = x(g, p + g t), W(u) = w[u, u t]
and the coefficients F f = sum over g of f(g) rho(g) of each irrep rho,

    y(h) = sum over g of W(h^-1 g) Z(g)        =>        F y = (F Z) (F W)^T

So each tap takes |H| shifted reads, an |H|-point butterfly, and 6 (p4) or 12 (p4m) matrix products over pixels and
channels instead of 16 or 64. The other two operators have the same form:

    input gradient    Z(h) = g(h, p - h t), W(u) = w[u, t]:    F dx = (F Z) (F W)
    weight gradient   dW(u) = sum over p, h of g(h, p) Z(h u): F dW = (F g)^T (F Z)
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from ..base import NO_EPILOGUE, Epilogue, accumulator
from ..problem import ConvProblem
from ..staged import padded
from .arithmetic import dot_precision
from .cost import choose_tile
from .epilogue import activated, store_statistics
from .index import first_read, moved_tap, pixel, read_position, scaled_strides, tap_shift
from .launch import (
    DTYPES,
    VECTOR,
    aligned_strides,
    alignment,
    dot_dtype,
    empty,
    empty_map,
    jit,
    launch,
    partial_statistics,
    split_sum,
    wide,
)
from .norm import combine_stats
from .transforms import adjoint_transform, read_moved, scaled, transform

# Maps are transformed in the dtype of the products, filters and sums in SUM: additions of 16-bit numbers are two to an
# instruction and need no conversion. What rounding at each stage costs is in docs/gpu.md.


# --- products of coefficients ----------------------------------------------------------------------------------
# The two columns of E are the even and the odd columns of one matrix of twice the width, so that each plane of the map
# is the operand of one product only: Triton computes such an operand in the layout of the product, in registers, and
# takes one of two products through shared memory, with barriers between the planes (benches/sass.py).
@triton.jit
def _add_product(single, double, z, v, w, ORDER: tl.constexpr, PRECISION: tl.constexpr, SUM: tl.constexpr):
    """The sums + z v for every irrep, z ``[M, K]`` and v ``[K, N]``.

    w are the two rows of E, ``[K, 2 N]``; for C4 of the matrix [[re, im], [-im, re]].
    """
    singles, doubles = (), ()
    for e in tl.static_range(ORDER // 2):
        total = tl.dot(z[e], v[e], single[e], input_precision=PRECISION, out_dtype=SUM)
        singles = singles + (total,)
    for i in tl.static_range(ORDER // 4):  # z_i0 w_0 + z_i1 w_1
        a, b = z[ORDER // 2 + i], z[ORDER // 2 + ORDER // 4 + i]
        total = tl.dot(a, w[0], double[i], input_precision=PRECISION, out_dtype=SUM)
        total = tl.dot(b, w[1], total, input_precision=PRECISION, out_dtype=SUM)
        doubles = doubles + (total,)
    return singles, doubles


@triton.jit
def _add_correlation(single, double, g, z, ORDER: tl.constexpr, PRECISION: tl.constexpr, SUM: tl.constexpr):
    """The sums + g^T z for every irrep, g ``[M, K]`` and z ``[K, N]``.

    Of the irreps' blocks g is the transpose; as a matrix over channels and pixels it is transposed already.
    """
    singles, doubles = (), ()
    for e in tl.static_range(ORDER // 2):
        total = tl.dot(g[e], z[e], single[e], input_precision=PRECISION, out_dtype=SUM)
        singles = singles + (total,)
    if ORDER == 4:  # the conjugate of g times z
        rows = (_columns(z[2], z[3]), _columns(z[3], -z[2]))
    else:
        rows = (_columns(z[4], z[6]), _columns(z[5], z[7]))
    for i in tl.static_range(ORDER // 4):  # g_0i z_0 + g_1i z_1
        a, b = g[ORDER // 2 + 2 * i], g[ORDER // 2 + 2 * i + 1]
        total = tl.dot(a, rows[0], double[i], input_precision=PRECISION, out_dtype=SUM)
        total = tl.dot(b, rows[1], total, input_precision=PRECISION, out_dtype=SUM)
        doubles = doubles + (total,)
    return singles, doubles


@triton.jit
def _columns(even, odd):
    """``[K, N]`` twice to ``[K, 2 N]``."""
    return tl.join(even, odd).reshape(even.shape[0], 2 * even.shape[1])


@triton.jit
def _zeros(ORDER: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUM: tl.constexpr):
    """Sums of the one-dimensional irreps, and those of the rows of E."""
    singles, doubles = (), ()
    for _ in tl.static_range(ORDER // 2):
        singles = singles + (tl.zeros((ROWS, COLUMNS), SUM),)
    for _ in tl.static_range(ORDER // 4):
        doubles = doubles + (tl.zeros((ROWS, 2 * COLUMNS), SUM),)
    return singles, doubles


@triton.jit
def _planes(single, double, ORDER: tl.constexpr):
    """All sums in the order of the irreps."""
    rows: tl.constexpr = double[0].shape[0]
    columns: tl.constexpr = double[0].shape[1] // 2
    even, odd = double[0].reshape(rows, columns, 2).split()
    if ORDER == 4:
        return single + (even, odd)
    else:
        even_1, odd_1 = double[1].reshape(rows, columns, 2).split()
        return single + (even, even_1, odd, odd_1)


# --- reads -----------------------------------------------------------------------------------------------------
@triton.jit
def _read_orbit(
    x, at, i, j, tap, inside, strides, sizes, stride, padding, dilation,
    ORDER: tl.constexpr, K: tl.constexpr, ADJOINT: tl.constexpr, WIDE: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """F Z: all slots of x at the pixels (i, j), each read through its own image of the tap, transformed."""
    z = ()
    for e in tl.static_range(ORDER):
        value = read_moved(x, at, i, j, tap, inside, strides, sizes, stride, padding, dilation, e, K, ADJOINT, WIDE)
        z = z + (value.to(DOT),)
    return transform(z, ORDER)


@triton.jit
def _taps_inside(i, j, sizes, stride, padding, dilation, K: tl.constexpr, ADJOINT: tl.constexpr):
    """Of each pixel a number whose bit t says whether what it reads through tap t lies inside the map."""
    BITS: tl.constexpr = tl.int32 if K * K < 32 else tl.int64
    columns = tl.zeros(j.shape, BITS)
    for t in tl.static_range(K):
        _, inside = read_position(j, t * dilation[1], stride[1], padding[1], sizes[1], ADJOINT)
        columns |= inside.to(BITS) << t
    bits = tl.zeros(i.shape, BITS)
    for t in tl.static_range(K):
        _, inside = read_position(i, t * dilation[0], stride[0], padding[0], sizes[0], ADJOINT)
        bits |= tl.where(inside, columns, 0) << (t * K)
    return bits


# --- kernels ---------------------------------------------------------------------------------------------------
@jit
def transform_weight_kernel(
    weight, out, stride_yc, stride_xc, channels, x_channels, row_vectors,
    ORDER: tl.constexpr, K: tl.constexpr, ADJOINT: tl.constexpr, SUM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The coefficients ``out[tap, plane, c of x, c of y]`` by which the products multiply: of W, transposed or not.

    The last four planes are two matrices ``[c of x, c of y, 2]``, the rows of E as ``_add_product`` wants them.
    ``stride_yc`` and ``stride_xc`` are the filters' strides over the channels of y and of x.
    """
    TAPS: tl.constexpr = K * K
    PLANES: tl.constexpr = ORDER // 2 + 4
    row_size = row_vectors * VECTOR
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tap = tl.program_id(1)
    channel, c = at % row_size, at // row_size
    inside = (channel < channels) & (c < x_channels)
    start = channel.to(tl.int64) * stride_yc + c.to(tl.int64) * stride_xc
    f = ()
    for u in tl.static_range(ORDER):
        if ADJOINT:
            entry = u * TAPS + tap
        else:
            row, column = moved_tap(tap // K, tap % K, u, K)
            entry = u * TAPS + row * K + column
        f = f + (tl.load(weight + start + entry, mask=inside, other=0.0).to(SUM),)
    f = scaled(transform(f, ORDER), ORDER)
    size = x_channels.to(tl.int64) * row_size
    plane = out + tap * PLANES * size
    for e in tl.static_range(ORDER // 2):
        tl.store(plane + e * size + at, f[e].to(out.dtype.element_ty), mask=c < x_channels)
    if ORDER == 4 and ADJOINT:
        rows = (f[2], f[3], -f[3], f[2])
    elif ORDER == 4:
        rows = (f[2], -f[3], f[3], f[2])
    elif ADJOINT:
        rows = (f[4], f[6], f[5], f[7])
    else:
        rows = (f[4], f[5], f[6], f[7])
    for r in tl.static_range(2):
        for j in tl.static_range(2):
            place = plane + (ORDER // 2 + 2 * r) * size + 2 * at + j
            tl.store(place, rows[2 * r + j].to(out.dtype.element_ty), mask=c < x_channels)


@jit
def conv_kernel(
    x, coefficients, bias, y, parts,
    stride_xb, stride_xc, stride_xs, stride_xh, stride_xw, stride_yb, stride_yc, stride_ys, stride_yh, stride_yw,
    pixels, height, width, x_height, x_width, aligned_channels, aligned_x_channels, row_vectors,
    stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w,
    K: tl.constexpr, ORDER: tl.constexpr, ADJOINT: tl.constexpr, BIAS: tl.constexpr, WIDE: tl.constexpr,
    SLOPE: tl.constexpr, STATISTICS: tl.constexpr, ALIGN_X: tl.constexpr, ALIGN_Y: tl.constexpr,
    DOT: tl.constexpr, SUM: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """All slots of one tile ``[BLOCK_M pixels, BLOCK_N channels]`` of y.

    Sizes and strides called aligned, and all strides of maps but those of their channels, are in units of ALIGN_X and
    ALIGN_Y numbers (``launch.alignment``); a row of coefficients has ``row_vectors`` times VECTOR.
    ``parts[3, tile of pixels, c]`` are the statistics of the tiles.
    """
    channels, x_channels, row_size = aligned_channels * ALIGN_Y, aligned_x_channels * ALIGN_X, row_vectors * VECTOR
    stride_xb, stride_xs, stride_xh, stride_xw = scaled_strides(stride_xb, stride_xs, stride_xh, stride_xw, ALIGN_X)
    stride_yb, stride_ys, stride_yh, stride_yw = scaled_strides(stride_yb, stride_ys, stride_yh, stride_yw, ALIGN_Y)
    TAPS: tl.constexpr = K * K
    PLANES: tl.constexpr = ORDER // 2 + 4
    column_tiles = tl.cdiv(channels, BLOCK_N)
    m = tl.program_id(0) // column_tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    channel = tl.program_id(0) % column_tiles * BLOCK_N + tl.arange(0, BLOCK_N)
    column = tl.program_id(0) % column_tiles * (2 * BLOCK_N) + tl.arange(0, 2 * BLOCK_N)
    m_in, channel_in = m < pixels, channel < channels
    row_in, column_in = (
        channel < row_size,
        column < 2 * row_size,
    )  # the coefficients' rows are padded: a mask that is constant over whole vectors
    b, i, j = pixel(m, height, width, WIDE)
    # What the addresses of a pixel have in common, so that the loop adds the same number to all of them.
    reads = tl.where(m_in, _taps_inside(i, j, (x_height, x_width), (stride_h, stride_w), (padding_h, padding_w),
                                        (dilation_h, dilation_w), K, ADJOINT), 0)  # fmt: skip
    row, column_0 = first_read(i, stride_h, padding_h, ADJOINT), first_read(j, stride_w, padding_w, ADJOINT)
    if WIDE:
        row = row.to(tl.int64)
    depth = tl.arange(0, BLOCK_K)
    x_at = (b * stride_xb + row * stride_xh + column_0 * stride_xw)[:, None] + depth[None, :] * stride_xc
    single, double = _zeros(ORDER, BLOCK_M, BLOCK_N, SUM)
    if BIAS:  # equal in all slots: a coefficient of the trivial irrep, which is the first
        first = tl.load(bias + channel, mask=channel_in, other=0.0).to(SUM)[None, :] + single[0]
        single = (first,) + single[1:]
    for step in range(TAPS * tl.cdiv(x_channels, BLOCK_K)):
        tap = step % TAPS
        first_c = step // TAPS * BLOCK_K
        c = first_c + depth
        c_in = c < x_channels
        f = ()
        for e in tl.static_range(ORDER):
            tap_row, tap_column = moved_tap(tap // K, tap % K, e, K)
            inside = ((reads >> (tap_row * K + tap_column)) & 1) != 0
            row_shift = tap_shift(tap_row, stride_h, dilation_h, ADJOINT)
            column_shift = tap_shift(tap_column, stride_w, dilation_w, ADJOINT)
            if WIDE:
                row_shift = row_shift.to(tl.int64)
            shift = e * stride_xs + row_shift * stride_xh + column_shift * stride_xw + first_c * stride_xc
            value = tl.load(x + shift + x_at, mask=inside[:, None] & c_in[None, :], other=0.0)
            f = f + (value.to(DOT),)
        z = transform(f, ORDER)
        v, w = (), ()
        plane = tap * PLANES * x_channels
        for e in tl.static_range(ORDER // 2):
            place = (plane + e * x_channels + c[:, None]) * row_size + channel[None, :]
            v = v + (tl.load(coefficients + place, mask=c_in[:, None] & row_in[None, :], other=0.0).to(DOT),)
        for r in tl.static_range(2):
            place = (plane + (ORDER // 2 + 2 * r) * x_channels + 2 * c[:, None]) * row_size + column[None, :]
            w = w + (tl.load(coefficients + place, mask=c_in[:, None] & column_in[None, :], other=0.0).to(DOT),)
        single, double = _add_product(single, double, z, v, w, ORDER, PRECISION, SUM)

    result = adjoint_transform(_planes(single, double, ORDER), ORDER)
    at = (b * stride_yb + i * stride_yh + j * stride_yw)[:, None] + (channel * stride_yc)[None, :]
    written = ()
    for s in tl.static_range(ORDER):
        value = activated(result[s], SLOPE).to(y.dtype.element_ty)
        tl.store(y + at + s * stride_ys, value, mask=m_in[:, None] & channel_in[None, :])
        written = written + (value,)
    if STATISTICS:
        size = tl.num_programs(0) // column_tiles * channels
        part = tl.program_id(0) // column_tiles * channels + channel
        store_statistics(parts, written, m_in, part, size, channel_in, SUM)


@jit
def weight_grad_kernel(
    grad, x, partial,
    stride_gb, stride_gc, stride_gs, stride_gh, stride_gw, stride_xb, stride_xc, stride_xs, stride_xh, stride_xw,
    pixels, height, width, x_height, x_width, aligned_channels, aligned_x_channels,
    stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w, steps_per_split,
    K: tl.constexpr, ORDER: tl.constexpr, WIDE: tl.constexpr, ALIGN_X: tl.constexpr, ALIGN_G: tl.constexpr,
    DOT: tl.constexpr, SUM: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One tile ``[BLOCK_M channels of grad, BLOCK_N channels of x]`` of one tap's coefficients, summed over a part of
    the pixels: ``partial[split, tap, e, c of grad, c of x]``. Alignment as in ``conv_kernel``.
    """
    channels, x_channels = aligned_channels * ALIGN_G, aligned_x_channels * ALIGN_X
    stride_xb, stride_xs, stride_xh, stride_xw = scaled_strides(stride_xb, stride_xs, stride_xh, stride_xw, ALIGN_X)
    stride_gb, stride_gs, stride_gh, stride_gw = scaled_strides(stride_gb, stride_gs, stride_gh, stride_gw, ALIGN_G)
    TAPS: tl.constexpr = K * K
    column_tiles = tl.cdiv(x_channels, BLOCK_N)
    tap = tl.program_id(0) % TAPS
    tile = tl.program_id(0) // TAPS
    m = tile // column_tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    c = tile % column_tiles * BLOCK_N + tl.arange(0, BLOCK_N)
    m_in, c_in = m < channels, c < x_channels
    single, double = _zeros(ORDER, BLOCK_M, BLOCK_N, SUM)
    first = tl.program_id(1) * steps_per_split
    for step in range(first, tl.minimum(first + steps_per_split, tl.cdiv(pixels, BLOCK_K))):
        p = step * BLOCK_K + tl.arange(0, BLOCK_K)
        p_in = p < pixels
        b, i, j = pixel(p, height, width, WIDE)
        g = ()
        for h in tl.static_range(ORDER):
            at = (b * stride_gb + h * stride_gs + i * stride_gh + j * stride_gw)[None, :] + m[:, None] * stride_gc
            g = g + (tl.load(grad + at, mask=m_in[:, None] & p_in[None, :], other=0.0).to(DOT),)
        z = _read_orbit(
            x, b[:, None] * stride_xb + c[None, :] * stride_xc, i[:, None], j[:, None], tap,
            p_in[:, None] & c_in[None, :],
            (stride_xs, stride_xh, stride_xw), (x_height, x_width),
            (stride_h, stride_w), (padding_h, padding_w), (dilation_h, dilation_w),
            ORDER, K, False, WIDE, DOT,
        )  # fmt: skip
        single, double = _add_correlation(single, double, transform(g, ORDER), z, ORDER, PRECISION, SUM)

    total = _planes(single, double, ORDER)
    start = (tl.program_id(1).to(tl.int64) * TAPS + tap) * ORDER
    for e in tl.static_range(ORDER):
        at = ((start + e) * channels + m[:, None]) * x_channels + c[None, :]
        tl.store(partial + at, total[e], mask=m_in[:, None] & c_in[None, :])


@jit
def sum_splits_kernel(partial, weight_grad, pairs, splits, K: tl.constexpr, ORDER: tl.constexpr, BLOCK: tl.constexpr):
    """``partial[split, tap, e, pair of channels]`` summed over the splits, in their order, and transformed back."""
    TAPS: tl.constexpr = K * K
    tap = tl.program_id(1)
    pair = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pair < pairs
    total = ()
    for e in tl.static_range(ORDER):
        at = (tap * ORDER + e).to(tl.int64) * pairs + pair
        value = tl.zeros((BLOCK,), partial.dtype.element_ty)
        for _ in range(splits):
            value += tl.load(partial + at, mask=inside, other=0.0)
            at += TAPS * ORDER * pairs
        total = total + (value,)
    f = adjoint_transform(scaled(total, ORDER), ORDER)
    for u in tl.static_range(ORDER):
        row, column = moved_tap(tap // K, tap % K, u, K)
        at = pair.to(tl.int64) * (ORDER * TAPS) + u * TAPS + row * K + column
        tl.store(weight_grad + at, f[u].to(weight_grad.dtype.element_ty), mask=inside)


# --- launches --------------------------------------------------------------------------------------------------
def _in_whole_vectors(x):
    """x, or if it cannot be read 16 bytes at a time, a copy that can: in channels_last_3d, padded by channels of 0."""
    if alignment(x) * x.element_size() == 16:
        return x
    batch, channels, *size = x.shape
    shape = (batch, padded(channels, x.dtype), *size)
    copy = empty("a copy with aligned channels", shape, x.dtype, x.device, torch.channels_last_3d)
    copy[:, :channels] = x
    copy[:, channels:] = 0
    return copy


def conv(
    problem: ConvProblem, x: Tensor, weight: Tensor, bias: Tensor | None = None, epilogue: Epilogue = NO_EPILOGUE
) -> Tensor:  # fmt: skip
    """The map that ``problem.op`` computes, "conv" or "conv_input_grad", from the map x."""
    y = empty_map("the convolution's input gradient" if problem.adjoint else "the convolution's output",
                  problem.computed_shape, x)  # fmt: skip
    tile = choose_tile(problem, "fourier")
    batch, channels, order, height, width = y.shape
    pixels = batch * height * width
    if pixels == 0:
        return y
    x = _in_whole_vectors(x)
    x_channels, k = x.shape[1], problem.kernel
    more = x_channels - (problem.out_channels if problem.adjoint else problem.in_channels)
    # Filters of 0 for the channels that x was padded by.
    weight = F.pad(weight.contiguous(), (*[0] * (9 if problem.adjoint else 7), more))
    row_size = triton.cdiv(channels, VECTOR.value) * VECTOR.value
    align_x, align_y = alignment(x), alignment(y)
    coefficients = empty("the filters' coefficients", (k * k, order // 2 + 4, x_channels, row_size), x.dtype, x.device)
    strides = (weight.stride(1), weight.stride(0)) if problem.adjoint else (weight.stride(0), weight.stride(1))
    sums = DTYPES[accumulator(x.dtype)]
    launch(
        transform_weight_kernel, (triton.cdiv(x_channels * row_size, 256), k * k),
        weight, coefficients, *strides, channels, x_channels, row_size // VECTOR.value,
        K=k, ORDER=order, ADJOINT=problem.adjoint, SUM=sums, BLOCK=256,
    )  # fmt: skip
    row_tiles = triton.cdiv(pixels, tile.rows)
    parts = partial_statistics(y, row_tiles) if epilogue.wanted else None
    launch(
        conv_kernel, (row_tiles * triton.cdiv(channels, tile.columns),),
        x, coefficients, y if bias is None else bias, y, y if parts is None else parts,
        *aligned_strides(x, align_x), *aligned_strides(y, align_y),
        pixels, height, width, x.shape[3], x.shape[4],
        channels // align_y, x_channels // align_x, row_size // VECTOR.value,
        *problem.stride, *problem.padding, *problem.dilation,
        K=k, ORDER=order, ADJOINT=problem.adjoint, BIAS=bias is not None, WIDE=wide(x, y),
        SLOPE=epilogue.slope, STATISTICS=epilogue.wanted, ALIGN_X=align_x, ALIGN_Y=align_y,
        DOT=dot_dtype(x.dtype), SUM=sums, PRECISION=dot_precision(x.dtype),
        BLOCK_M=tile.rows, BLOCK_N=tile.columns, BLOCK_K=tile.depth,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    if parts is not None:
        epilogue.statistics = combine_stats(parts)
    return y


conv_input_grad = conv


def conv_weight_grad(problem: ConvProblem, grad: Tensor, x: Tensor) -> Tensor:
    tile = choose_tile(problem, "fourier")
    pixels = problem.batch * math.prod(problem.out_size)
    if pixels == 0:
        return torch.zeros(problem.weight_shape, dtype=x.dtype, device=x.device)
    grad, x = _in_whole_vectors(grad), _in_whole_vectors(x)
    _, channels, order, height, width = grad.shape
    x_channels, taps = x.shape[1], problem.kernel**2
    shape = (channels, x_channels, *problem.weight_shape[2:])
    weight_grad = empty("the convolution's weight gradient", shape, x.dtype, x.device)
    pairs, sums = channels * x_channels, accumulator(x.dtype)
    tiles = triton.cdiv(channels, tile.rows) * triton.cdiv(x_channels, tile.columns) * taps
    splits, steps_per_split = split_sum(
        tiles, triton.cdiv(pixels, tile.depth), taps * order * pairs * sums.itemsize, x.device
    )
    align_g, align_x = alignment(grad), alignment(x)
    partial = empty("the weight gradient's partial sums", (splits, taps, order, pairs), sums, x.device)
    launch(
        weight_grad_kernel, (tiles, splits),
        grad, x, partial,
        *aligned_strides(grad, align_g), *aligned_strides(x, align_x),
        pixels, height, width, x.shape[3], x.shape[4], channels // align_g, x_channels // align_x,
        *problem.stride, *problem.padding, *problem.dilation, steps_per_split,
        K=problem.kernel, ORDER=order, WIDE=wide(grad, x), ALIGN_X=align_x, ALIGN_G=align_g,
        DOT=dot_dtype(x.dtype), SUM=DTYPES[sums], PRECISION=dot_precision(x.dtype),
        BLOCK_M=tile.rows, BLOCK_N=tile.columns, BLOCK_K=tile.depth,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    launch(
        sum_splits_kernel,
        (triton.cdiv(pairs, 256), taps),
        partial,
        weight_grad,
        pairs,
        splits,
        K=problem.kernel,
        ORDER=order,
        BLOCK=256,
    )
    return weight_grad[: problem.out_channels, : problem.in_channels].contiguous()
