"""The direct algorithm: an implicit matrix product that finds each filter's pose while loading the base filter.

Rows of the product are pixels, columns are (slot, channel) pairs of the map computed, and the sum runs over (slot, tap,
channel) of the map read. A table of the group tells which entry (slot, tap) of the base filter stands there in the pose
at hand, so no filter stack exists. The gradient with respect to the input is the same product with the roles of the two
maps and of the table's axes exchanged.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..base import NO_EPILOGUE, Epilogue, accumulator
from ..filter_indices import filter_sources, filter_targets
from ..problem import ConvProblem
from .arithmetic import dot_precision
from .cost import choose_tile
from .epilogue import activated, store_statistics
from .index import pixel, read_position, scaled_strides
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

NARROW = 16  # channels below which several entries of the filter share one step of the sum


@jit
def conv_kernel(
    x, weight, table, bias, y, parts,
    stride_xb, stride_xc, stride_xs, stride_xh, stride_xw, stride_yb, stride_yc, stride_ys, stride_yh, stride_yw,
    pixels, height, width, x_height, x_width,
    aligned_channels, aligned_x_channels, row_vectors,
    stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w,
    K: tl.constexpr, SLOTS: tl.constexpr, X_SLOTS: tl.constexpr, ADJOINT: tl.constexpr, FLAT: tl.constexpr,
    BIAS: tl.constexpr, WIDE: tl.constexpr, DOT: tl.constexpr, SUM: tl.constexpr, PRECISION: tl.constexpr,
    SLOPE: tl.constexpr, STATISTICS: tl.constexpr, ALIGN_X: tl.constexpr, ALIGN_Y: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One tile ``[BLOCK_M pixels, BLOCK_S slots * BLOCK_C channels]`` of the map y.

    ``weight[entry, c of x, c of y]`` are the entries of the base filter, ``table[slot of y, slot of x, tap]`` says
    which one to take. What is called aligned, and the strides of the maps but those of their channels, are in units of
    ALIGN_X and ALIGN_Y numbers (``launch.alignment``); a row of weights has ``row_vectors`` times VECTOR.
    ``parts[3, tile of pixels, slot, c]`` are the statistics of the tiles' columns.
    """
    channels, x_channels, stride_row = aligned_channels * ALIGN_Y, aligned_x_channels * ALIGN_X, row_vectors * VECTOR
    stride_xb, stride_xs, stride_xh, stride_xw = scaled_strides(stride_xb, stride_xs, stride_xh, stride_xw, ALIGN_X)
    stride_yb, stride_ys, stride_yh, stride_yw = scaled_strides(stride_yb, stride_ys, stride_yh, stride_yw, ALIGN_Y)
    stride_entry = x_channels * stride_row
    TAPS: tl.constexpr = K * K
    ENTRIES: tl.constexpr = X_SLOTS * TAPS
    channel_tiles = tl.cdiv(channels, BLOCK_C)
    column_tiles = channel_tiles * (SLOTS // BLOCK_S)
    tile_m = tl.program_id(0) // column_tiles
    tile_n = tl.program_id(0) % column_tiles

    n = tl.arange(0, BLOCK_S * BLOCK_C)
    channel = (tile_n % channel_tiles) * BLOCK_C + n % BLOCK_C
    slot = (tile_n // channel_tiles) * BLOCK_S + n // BLOCK_C
    channel_in = channel < channels
    weight_in = channel < stride_row  # the packed rows are padded: a mask that is constant over whole vectors
    m = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    m_in = m < pixels
    b, i, j = pixel(m, height, width, WIDE)
    i, j = i[:, None], j[:, None]

    total = tl.zeros((BLOCK_M, BLOCK_S * BLOCK_C), SUM)
    if BIAS:  # before the sum, since the stores want all registers
        total += tl.load(bias + channel, mask=channel_in, other=0.0).to(SUM)[None, :]
    if FLAT:
        steps = tl.cdiv(ENTRIES * x_channels, BLOCK_K)
    else:
        steps = ENTRIES * tl.cdiv(x_channels, BLOCK_K)
    for step in range(steps):
        k = tl.arange(0, BLOCK_K)
        if FLAT:
            k += step * BLOCK_K
            c = k % x_channels
            k_in = k < ENTRIES * x_channels
            entries = tl.minimum(k // x_channels, ENTRIES - 1)
            entry = entries[None, :]
            place = slot[None, :] * ENTRIES + entries[:, None]
        else:
            entry = step % ENTRIES
            c = step // ENTRIES * BLOCK_K + k
            k_in = c < x_channels
            place = (slot * ENTRIES + entry)[None, :]
        tap = entry % TAPS
        row, row_in = read_position(i, tap // K * dilation_h, stride_h, padding_h, x_height, ADJOINT)
        column, column_in = read_position(j, tap % K * dilation_w, stride_w, padding_w, x_width, ADJOINT)
        if WIDE:
            row = row.to(tl.int64)
        x_at = (
            b[:, None] * stride_xb
            + (entry // TAPS) * stride_xs
            + row * stride_xh
            + column * stride_xw
            + c[None, :] * stride_xc
        )
        xs = tl.load(x + x_at, mask=row_in & column_in & m_in[:, None] & k_in[None, :], other=0.0)
        source = tl.load(table + place)
        w_at = source * stride_entry + c[:, None] * stride_row + channel[None, :]
        ws = tl.load(weight + w_at, mask=k_in[:, None] & weight_in[None, :], other=0.0)
        total = tl.dot(xs.to(DOT), ws.to(DOT), total, input_precision=PRECISION, out_dtype=SUM)

    y_at = (b[:, None] * stride_yb + i * stride_yh + j * stride_yw) + (slot * stride_ys + channel * stride_yc)[None, :]
    value = activated(total, SLOPE).to(y.dtype.element_ty)
    tl.store(y + y_at, value, mask=m_in[:, None] & channel_in[None, :])
    if STATISTICS:
        size = tl.num_programs(0) // column_tiles * SLOTS * channels
        part = (tile_m * SLOTS + slot) * channels + channel
        store_statistics(parts, (value,), m_in, part, size, channel_in, SUM)


@jit
def weight_grad_kernel(
    grad, x, table, partial,
    stride_gb, stride_gc, stride_gs, stride_gh, stride_gw, stride_xb, stride_xc, stride_xs, stride_xh, stride_xw,
    pixels, height, width, x_height, x_width, aligned_channels, aligned_x_channels,
    stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w, steps_per_split,
    K: tl.constexpr, ORDER: tl.constexpr, X_SLOTS: tl.constexpr, ALIGN_X: tl.constexpr, ALIGN_G: tl.constexpr,
    WIDE: tl.constexpr, DOT: tl.constexpr, SUM: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One tile ``[BLOCK_M channels of grad, BLOCK_E entries * BLOCK_C channels of x]`` of the filters' gradient, summed
    over one part of the (slot, pixel) pairs of grad: ``partial[split, entry, c of grad, c of x]``.

    ``table[slot of grad, entry]`` is the place (slot of x, tap) to which an entry of the base filter goes in that pose.
    Alignment as in ``conv_kernel``.
    """
    channels, x_channels = aligned_channels * ALIGN_G, aligned_x_channels * ALIGN_X
    stride_xb, stride_xs, stride_xh, stride_xw = scaled_strides(stride_xb, stride_xs, stride_xh, stride_xw, ALIGN_X)
    stride_gb, stride_gs, stride_gh, stride_gw = scaled_strides(stride_gb, stride_gs, stride_gh, stride_gw, ALIGN_G)
    TAPS: tl.constexpr = K * K
    ENTRIES: tl.constexpr = X_SLOTS * TAPS
    channel_tiles = tl.cdiv(x_channels, BLOCK_C)
    column_tiles = channel_tiles * tl.cdiv(ENTRIES, BLOCK_E)
    tile_m = tl.program_id(0) // column_tiles
    tile_n = tl.program_id(0) % column_tiles
    split = tl.program_id(1)

    m = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.arange(0, BLOCK_E * BLOCK_C)
    c = (tile_n % channel_tiles) * BLOCK_C + n % BLOCK_C
    entry = (tile_n // channel_tiles) * BLOCK_E + n // BLOCK_C
    m_in = m < channels
    n_in = (c < x_channels) & (entry < ENTRIES)
    entry = tl.minimum(entry, ENTRIES - 1)

    total = tl.zeros((BLOCK_M, BLOCK_E * BLOCK_C), SUM)
    first = split * steps_per_split
    last = tl.minimum(first + steps_per_split, tl.cdiv(pixels, BLOCK_K) * ORDER)
    for step in range(first, last):
        slot = step % ORDER
        p = step // ORDER * BLOCK_K + tl.arange(0, BLOCK_K)
        p_in = p < pixels
        b, i, j = pixel(p, height, width, WIDE)
        grad_at = (b * stride_gb + slot * stride_gs + i * stride_gh + j * stride_gw)[None, :] + m[:, None] * stride_gc
        gs = tl.load(grad + grad_at, mask=m_in[:, None] & p_in[None, :], other=0.0)
        place = tl.load(table + slot * ENTRIES + entry)[None, :]
        tap = place % TAPS
        row, row_in = read_position(i[:, None], tap // K * dilation_h, stride_h, padding_h, x_height, False)
        column, column_in = read_position(j[:, None], tap % K * dilation_w, stride_w, padding_w, x_width, False)
        if WIDE:
            row = row.to(tl.int64)
        x_at = (
            b[:, None] * stride_xb
            + place // TAPS * stride_xs
            + row * stride_xh
            + column * stride_xw
            + c[None, :] * stride_xc
        )
        xs = tl.load(x + x_at, mask=row_in & column_in & p_in[:, None] & n_in[None, :], other=0.0)
        total = tl.dot(gs.to(DOT), xs.to(DOT), total, input_precision=PRECISION, out_dtype=SUM)

    split = split.to(tl.int64)
    at = ((split * ENTRIES + entry[None, :]) * channels + m[:, None]) * x_channels + c[None, :]
    tl.store(partial + at, total, mask=m_in[:, None] & n_in[None, :])


@jit
def sum_splits_kernel(
    partial, weight_grad, pairs, splits, ENTRIES: tl.constexpr, BLOCK: tl.constexpr, BLOCK_E: tl.constexpr
):
    """``weight_grad[pair, entry]``: the sum over the splits of ``partial[split, entry, pair]``, in their order."""
    pair_tiles = tl.cdiv(pairs, BLOCK)
    pair = tl.program_id(0) % pair_tiles * BLOCK + tl.arange(0, BLOCK)[None, :]
    entry = tl.program_id(0) // pair_tiles * BLOCK_E + tl.arange(0, BLOCK_E)[:, None]
    inside = (pair < pairs) & (entry < ENTRIES)
    at = entry.to(tl.int64) * pairs + pair
    total = tl.zeros((BLOCK_E, BLOCK), partial.dtype.element_ty)
    for _ in range(splits):
        total += tl.load(partial + at, mask=inside, other=0.0)
        at += pairs * ENTRIES
    tl.store(weight_grad + pair.to(tl.int64) * ENTRIES + entry, total.to(weight_grad.dtype.element_ty), mask=inside)


@lru_cache(maxsize=256)
def _table(group, in_slots, k, device, op):
    """int32 tables of the kernels above, for each operator with the slots of the map computed first."""
    if op == "conv_weight_grad":
        return filter_targets(group, in_slots, k, device).to(torch.int32).contiguous()
    sources = filter_sources(group, in_slots, k, device).view(group.order, in_slots, k * k)
    if op == "conv_input_grad":
        sources = sources.transpose(0, 1)
    return sources.to(torch.int32).contiguous()


def packed_weight(weight: Tensor, adjoint: bool) -> Tensor:
    """``[Cout, Cin, S, k, k]`` -> ``[S*k*k, Cin, Cout]`` (adjoint: ``[S*k*k, Cout, Cin]``), rows padded.

    A copy of the weights' own size; the padding lets rows of any width load in whole vectors.
    """
    entries = weight.flatten(2).permute(2, 0, 1) if adjoint else weight.flatten(2).permute(2, 1, 0)
    row = triton.cdiv(entries.shape[2], VECTOR.value) * VECTOR.value
    packed = empty("the packed filters", (entries.shape[0], entries.shape[1], row), weight.dtype, weight.device)
    packed[:, :, : entries.shape[2]] = entries
    return packed


def conv(
    problem: ConvProblem, x: Tensor, weight: Tensor, bias: Tensor | None = None, epilogue: Epilogue = NO_EPILOGUE
) -> Tensor:  # fmt: skip
    """The map that ``problem.op`` computes, "conv" or "conv_input_grad", from the map x."""
    y = empty_map("the convolution's input gradient" if problem.adjoint else "the convolution's output",
                  problem.computed_shape, x)  # fmt: skip
    tile, packed = choose_tile(problem, "direct"), packed_weight(weight, problem.adjoint)
    batch, channels, slots, height, width = y.shape
    pixels = batch * height * width
    if pixels == 0:
        return y
    table = _table(problem.group, problem.in_slots, problem.kernel, x.device, problem.op)
    block_s = min(tile.slots, slots)
    align_x, align_y = alignment(x), alignment(y)
    row_tiles = triton.cdiv(pixels, tile.rows)
    parts = partial_statistics(y, row_tiles * slots) if epilogue.wanted else None
    launch(
        conv_kernel, (row_tiles * triton.cdiv(channels, tile.columns) * (slots // block_s),),
        x, packed, table, y if bias is None else bias, y, y if parts is None else parts,
        *aligned_strides(x, align_x), *aligned_strides(y, align_y),
        pixels, height, width, x.shape[3], x.shape[4],
        channels // align_y, x.shape[1] // align_x, packed.shape[2] // VECTOR.value,
        *problem.stride, *problem.padding, *problem.dilation,
        K=problem.kernel, SLOTS=slots, X_SLOTS=x.shape[2], ADJOINT=problem.adjoint, FLAT=x.shape[1] < NARROW,
        BIAS=bias is not None, WIDE=wide(x, y), DOT=dot_dtype(x.dtype), SUM=DTYPES[accumulator(x.dtype)],
        PRECISION=dot_precision(x.dtype), SLOPE=epilogue.slope, STATISTICS=epilogue.wanted,
        ALIGN_X=align_x, ALIGN_Y=align_y,
        BLOCK_M=tile.rows, BLOCK_C=tile.columns, BLOCK_S=block_s, BLOCK_K=tile.depth,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    if parts is not None:
        epilogue.statistics = combine_stats(parts)
    return y


conv_input_grad = conv


def conv_weight_grad(problem: ConvProblem, grad: Tensor, x: Tensor) -> Tensor:
    tile = choose_tile(problem, "direct")
    batch, channels, order, height, width = grad.shape
    x_channels, x_slots = x.shape[1:3]
    k, entries = problem.kernel, x_slots * problem.kernel**2
    weight_grad = empty("the convolution's weight gradient", problem.weight_shape, x.dtype, x.device)
    pixels = batch * height * width
    if pixels == 0:
        return weight_grad.zero_()
    table = _table(problem.group, x_slots, k, x.device, problem.op)
    tiles = triton.cdiv(channels, tile.rows) * triton.cdiv(x_channels, tile.columns) * triton.cdiv(entries, tile.slots)
    steps = triton.cdiv(pixels, tile.depth) * order
    sums = accumulator(x.dtype)
    splits, steps_per_split = split_sum(tiles, steps, entries * channels * x_channels * sums.itemsize, x.device)
    align_g, align_x = alignment(grad), alignment(x)
    partial = empty("the weight gradient's partial sums", (splits, entries, channels, x_channels), sums, x.device)
    launch(
        weight_grad_kernel, (tiles, splits),
        grad, x, table, partial,
        *aligned_strides(grad, align_g), *aligned_strides(x, align_x),
        pixels, height, width, x.shape[3], x.shape[4], channels // align_g, x_channels // align_x,
        *problem.stride, *problem.padding, *problem.dilation, steps_per_split,
        K=k, ORDER=order, X_SLOTS=x_slots, WIDE=wide(grad, x), DOT=dot_dtype(x.dtype), SUM=DTYPES[sums],
        PRECISION=dot_precision(x.dtype), ALIGN_X=align_x, ALIGN_G=align_g,
        BLOCK_M=tile.rows, BLOCK_C=tile.columns, BLOCK_E=tile.slots, BLOCK_K=tile.depth,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    pairs = channels * x_channels
    launch(
        sum_splits_kernel,
        (triton.cdiv(pairs, 128) * triton.cdiv(entries, 8),),
        partial,
        weight_grad,
        pairs,
        splits,
        ENTRIES=entries,
        BLOCK=128,
        BLOCK_E=8,
    )
    return weight_grad
