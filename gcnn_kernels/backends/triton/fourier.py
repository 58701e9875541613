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

import triton
import triton.language as tl

from ..base import accumulator
from .arithmetic import dot_precision
from .cost import choose_tile
from .index import moved_tap, pixel
from .launch import DTYPES, dot_dtype, empty, empty_map, launch, split_sum, wide
from .transforms import adjoint_transform, read_moved, scaled, transform


# --- products of coefficients ----------------------------------------------------------------------------------
@triton.jit
def _add_product(total, z, v, ORDER: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr):
    """total + z v for every irrep; z ``[M, K]`` is rounded to the products' dtype here, v ``[K, N]`` has it."""
    result = ()
    for e in tl.static_range(ORDER // 2):
        result = result + (tl.dot(z[e].to(DOT), v[e], total[e], input_precision=PRECISION, out_dtype=total[e].dtype),)
    if ORDER == 4:
        real = tl.dot(z[2].to(DOT), v[2], total[2], input_precision=PRECISION, out_dtype=total[2].dtype)
        imag = tl.dot(z[2].to(DOT), v[3], total[3], input_precision=PRECISION, out_dtype=total[3].dtype)
        real = tl.dot((-z[3]).to(DOT), v[3], real, input_precision=PRECISION, out_dtype=total[2].dtype)
        imag = tl.dot(z[3].to(DOT), v[2], imag, input_precision=PRECISION, out_dtype=total[3].dtype)
        result = result + (real, imag)
    else:
        for j in tl.static_range(2):
            for i in tl.static_range(2):  # z_i0 v_0j + z_i1 v_1j
                t = total[4 + 2 * j + i]
                t = tl.dot(z[4 + i].to(DOT), v[4 + 2 * j], t, input_precision=PRECISION, out_dtype=t.dtype)
                t = tl.dot(z[6 + i].to(DOT), v[5 + 2 * j], t, input_precision=PRECISION, out_dtype=t.dtype)
                result = result + (t,)
    return result


@triton.jit
def _add_correlation(total, g, z, ORDER: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr):
    """total + g^T z for every irrep; g ``[M, K]`` and z ``[K, N]`` are rounded to the products' dtype here.

    Of the irreps' blocks g is the transpose; as a matrix over channels and pixels it is transposed already.
    """
    result = ()
    for e in tl.static_range(ORDER // 2):
        t = tl.dot(g[e].to(DOT), z[e].to(DOT), total[e], input_precision=PRECISION, out_dtype=total[e].dtype)
        result = result + (t,)
    if ORDER == 4:
        real = tl.dot(g[2].to(DOT), z[2].to(DOT), total[2], input_precision=PRECISION, out_dtype=total[2].dtype)
        imag = tl.dot(g[2].to(DOT), z[3].to(DOT), total[3], input_precision=PRECISION, out_dtype=total[3].dtype)
        real = tl.dot(g[3].to(DOT), z[3].to(DOT), real, input_precision=PRECISION, out_dtype=total[2].dtype)
        imag = tl.dot((-g[3]).to(DOT), z[2].to(DOT), imag, input_precision=PRECISION, out_dtype=total[3].dtype)
        result = result + (real, imag)
    else:
        for j in tl.static_range(2):
            for i in tl.static_range(2):  # g_0i z_0j + g_1i z_1j
                t = total[4 + 2 * j + i]
                t = tl.dot(g[4 + 2 * i].to(DOT), z[4 + 2 * j].to(DOT), t, input_precision=PRECISION, out_dtype=t.dtype)
                t = tl.dot(g[5 + 2 * i].to(DOT), z[5 + 2 * j].to(DOT), t, input_precision=PRECISION, out_dtype=t.dtype)
                result = result + (t,)
    return result


@triton.jit
def _zeros(ORDER: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUM: tl.constexpr):
    zeros = ()
    for _ in tl.static_range(ORDER):
        zeros = zeros + (tl.zeros((ROWS, COLUMNS), SUM),)
    return zeros


# --- reads -----------------------------------------------------------------------------------------------------
@triton.jit
def _read_orbit(
    x, at, i, j, tap, inside, strides, sizes, stride, padding, dilation,
    ORDER: tl.constexpr, K: tl.constexpr, ADJOINT: tl.constexpr, WIDE: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """F Z: all slots of x at the pixels (i, j), each read through its own image of the tap, transformed."""
    z = ()
    for e in tl.static_range(ORDER):
        value = read_moved(x, at, i, j, tap, inside, strides, sizes, stride, padding, dilation, e, K, ADJOINT, WIDE)
        z = z + (value.to(SUM),)
    return transform(z, ORDER)


# --- kernels ---------------------------------------------------------------------------------------------------
@triton.jit
def transform_weight_kernel(
    weight, out, stride_yc, stride_xc, channels, x_channels, row_size,
    ORDER: tl.constexpr, K: tl.constexpr, ADJOINT: tl.constexpr, SUM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The coefficients ``out[tap, e, c of x, c of y]`` by which the products multiply: of W, transposed or not.

    ``stride_yc`` and ``stride_xc`` are the filters' strides over the channels of y and of x.
    """
    TAPS: tl.constexpr = K * K
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
    if ADJOINT:
        v = f
    elif ORDER == 4:
        v = (f[0], f[1], f[2], -f[3])
    else:
        v = (f[0], f[1], f[2], f[3], f[4], f[6], f[5], f[7])
    for e in tl.static_range(ORDER):
        place = (tap * ORDER + e).to(tl.int64) * x_channels * row_size + at
        tl.store(out + place, v[e].to(out.dtype.element_ty), mask=c < x_channels)


@triton.jit
def conv_kernel(
    x, coefficients, bias, y,
    stride_xb, stride_xc, stride_xs, stride_xh, stride_xw, stride_yb, stride_yc, stride_ys, stride_yh, stride_yw,
    pixels, height, width, x_height, x_width, channels, x_channels, row_size,
    stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w,
    K: tl.constexpr, ORDER: tl.constexpr, ADJOINT: tl.constexpr, BIAS: tl.constexpr, WIDE: tl.constexpr,
    DOT: tl.constexpr, SUM: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """All slots of one tile ``[BLOCK_M pixels, BLOCK_N channels]`` of y."""
    TAPS: tl.constexpr = K * K
    column_tiles = tl.cdiv(channels, BLOCK_N)
    m = tl.program_id(0) // column_tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    channel = tl.program_id(0) % column_tiles * BLOCK_N + tl.arange(0, BLOCK_N)
    m_in, channel_in = m < pixels, channel < channels
    row_in = channel < row_size  # the coefficients' rows are padded: a mask that is constant over whole vectors
    b, i, j = pixel(m, height, width, WIDE)
    i, j = i[:, None], j[:, None]
    total = _zeros(ORDER, BLOCK_M, BLOCK_N, SUM)
    if BIAS:  # equal in all slots: a coefficient of the trivial irrep, which is the first
        first = tl.load(bias + channel, mask=channel_in, other=0.0).to(SUM)[None, :] + total[0]
        total = (first,) + total[1:]
    for step in range(TAPS * tl.cdiv(x_channels, BLOCK_K)):
        tap = step % TAPS
        c = step // TAPS * BLOCK_K + tl.arange(0, BLOCK_K)
        c_in = c < x_channels
        z = _read_orbit(
            x, b[:, None] * stride_xb + c[None, :] * stride_xc, i, j, tap, m_in[:, None] & c_in[None, :],
            (stride_xs, stride_xh, stride_xw), (x_height, x_width),
            (stride_h, stride_w), (padding_h, padding_w), (dilation_h, dilation_w),
            ORDER, K, ADJOINT, WIDE, SUM,
        )  # fmt: skip
        v = ()
        for e in tl.static_range(ORDER):
            place = ((tap * ORDER + e) * x_channels + c[:, None]) * row_size + channel[None, :]
            v = v + (tl.load(coefficients + place, mask=c_in[:, None] & row_in[None, :], other=0.0).to(DOT),)
        total = _add_product(total, z, v, ORDER, DOT, PRECISION)

    result = adjoint_transform(total, ORDER)
    at = (b[:, None] * stride_yb + i * stride_yh + j * stride_yw) + (channel * stride_yc)[None, :]
    for s in tl.static_range(ORDER):
        tl.store(y + at + s * stride_ys, result[s].to(y.dtype.element_ty), mask=m_in[:, None] & channel_in[None, :])


@triton.jit
def weight_grad_kernel(
    grad, x, partial,
    stride_gb, stride_gc, stride_gs, stride_gh, stride_gw, stride_xb, stride_xc, stride_xs, stride_xh, stride_xw,
    pixels, height, width, x_height, x_width, channels, x_channels,
    stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w, steps_per_split,
    K: tl.constexpr, ORDER: tl.constexpr, WIDE: tl.constexpr,
    DOT: tl.constexpr, SUM: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One tile ``[BLOCK_M channels of grad, BLOCK_N channels of x]`` of one tap's coefficients, summed over a part of
    the pixels: ``partial[split, tap, e, c of grad, c of x]``.
    """
    TAPS: tl.constexpr = K * K
    column_tiles = tl.cdiv(x_channels, BLOCK_N)
    tap = tl.program_id(0) % TAPS
    tile = tl.program_id(0) // TAPS
    m = tile // column_tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    c = tile % column_tiles * BLOCK_N + tl.arange(0, BLOCK_N)
    m_in, c_in = m < channels, c < x_channels
    total = _zeros(ORDER, BLOCK_M, BLOCK_N, SUM)
    first = tl.program_id(1) * steps_per_split
    for step in range(first, tl.minimum(first + steps_per_split, tl.cdiv(pixels, BLOCK_K))):
        p = step * BLOCK_K + tl.arange(0, BLOCK_K)
        p_in = p < pixels
        b, i, j = pixel(p, height, width, WIDE)
        g = ()
        for h in tl.static_range(ORDER):
            at = (b * stride_gb + h * stride_gs + i * stride_gh + j * stride_gw)[None, :] + m[:, None] * stride_gc
            g = g + (tl.load(grad + at, mask=m_in[:, None] & p_in[None, :], other=0.0).to(SUM),)
        z = _read_orbit(
            x, b[:, None] * stride_xb + c[None, :] * stride_xc, i[:, None], j[:, None], tap,
            p_in[:, None] & c_in[None, :],
            (stride_xs, stride_xh, stride_xw), (x_height, x_width),
            (stride_h, stride_w), (padding_h, padding_w), (dilation_h, dilation_w),
            ORDER, K, False, WIDE, SUM,
        )  # fmt: skip
        total = _add_correlation(total, transform(g, ORDER), z, ORDER, DOT, PRECISION)

    start = (tl.program_id(1).to(tl.int64) * TAPS + tap) * ORDER
    for e in tl.static_range(ORDER):
        at = ((start + e) * channels + m[:, None]) * x_channels + c[None, :]
        tl.store(partial + at, total[e], mask=m_in[:, None] & c_in[None, :])


@triton.jit
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
def conv(problem, x, weight, bias=None):
    """The map that ``problem.op`` computes, "conv" or "conv_input_grad", from the map x."""
    y = empty_map("the convolution's input gradient" if problem.adjoint else "the convolution's output",
                  problem.computed_shape, x)  # fmt: skip
    tile = choose_tile(problem, "fourier")
    batch, channels, order, height, width = y.shape
    x_channels, k = x.shape[1], problem.kernel
    pixels = batch * height * width
    if pixels == 0:
        return y
    weight = weight.contiguous()
    row_size = triton.cdiv(channels, 16) * 16  # whole vectors for any number of channels
    coefficients = empty("the filters' coefficients", (k * k, order, x_channels, row_size), x.dtype, x.device)
    strides = (weight.stride(1), weight.stride(0)) if problem.adjoint else (weight.stride(0), weight.stride(1))
    sums = DTYPES[accumulator(x.dtype)]
    launch(
        transform_weight_kernel, (triton.cdiv(x_channels * row_size, 256), k * k),
        weight, coefficients, *strides, channels, x_channels, row_size,
        K=k, ORDER=order, ADJOINT=problem.adjoint, SUM=sums, BLOCK=256,
    )  # fmt: skip
    launch(
        conv_kernel, (triton.cdiv(pixels, tile.rows) * triton.cdiv(channels, tile.columns),),
        x, coefficients, y if bias is None else bias, y,
        *x.stride(), *y.stride(),
        pixels, height, width, x.shape[3], x.shape[4], channels, x_channels, row_size,
        *problem.stride, *problem.padding, *problem.dilation,
        K=k, ORDER=order, ADJOINT=problem.adjoint, BIAS=bias is not None, WIDE=wide(x, y),
        DOT=dot_dtype(x.dtype), SUM=sums, PRECISION=dot_precision(x.dtype),
        BLOCK_M=tile.rows, BLOCK_N=tile.columns, BLOCK_K=tile.depth,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return y


conv_input_grad = conv


def conv_weight_grad(problem, grad, x):
    tile = choose_tile(problem, "fourier")
    batch, channels, order, height, width = grad.shape
    x_channels, taps = x.shape[1], problem.kernel**2
    weight_grad = empty("the convolution's weight gradient", problem.weight_shape, x.dtype, x.device)
    pixels = batch * height * width
    if pixels == 0:
        return weight_grad.zero_()
    pairs, sums = channels * x_channels, accumulator(x.dtype)
    tiles = triton.cdiv(channels, tile.rows) * triton.cdiv(x_channels, tile.columns) * taps
    splits, steps_per_split = split_sum(
        tiles, triton.cdiv(pixels, tile.depth), taps * order * pairs * sums.itemsize, x.device
    )
    partial = empty("the weight gradient's partial sums", (splits, taps, order, pairs), sums, x.device)
    launch(
        weight_grad_kernel, (tiles, splits),
        grad, x, partial,
        *grad.stride(), *x.stride(),
        pixels, height, width, x.shape[3], x.shape[4], channels, x_channels,
        *problem.stride, *problem.padding, *problem.dilation, steps_per_split,
        K=problem.kernel, ORDER=order, WIDE=wide(grad, x),
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
    return weight_grad
