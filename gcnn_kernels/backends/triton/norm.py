"""Batch norm over batch, plane and group: statistics, application, and both steps of the backward pass.

Both memory formats are read as dense matrices. In channels_last_3d a row holds all channels of a pixel; several pixels
are taken into one row until rows begin at multiples of 16 numbers, so 181 or 11 channels load in whole vectors too.
In the contiguous format each (sample, channel) plane is a stack of rows of its own.

All sums are taken per column and chunk of rows first and are then combined in a fixed order: results do not vary from
run to run.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..._layout import map_format, to_map_format
from ..base import Affine, accumulator
from ..norm_formulas import OneResult, ThreeResults, composed
from .launch import DTYPES, empty, empty_map, jit, launch, multiprocessors

ALIGNMENT = 16  # numbers; Triton knows of a stride's divisibility by 16 only
TILE = 4096  # numbers per tile
WARPS = 4


@triton.jit
def _program(outer, row_size, LAST: tl.constexpr, BLOCK_L: tl.constexpr):
    """The matrix, the chunk of its rows, the number of chunks, and the columns ``[1, BLOCK_L]`` of this program."""
    if LAST:
        tiles = tl.cdiv(row_size, BLOCK_L)
    else:
        tiles = 1
    rest = tl.program_id(0) // tiles
    col = (tl.program_id(0) % tiles * BLOCK_L + tl.arange(0, BLOCK_L))[None, :]
    return (rest % outer).to(tl.int64), rest // outer, tl.num_programs(0) // tiles // outer, col


@triton.jit
def _tile_offsets(first_row, rows, row_size, size, col, BLOCK_R: tl.constexpr):
    """Rows ``[BLOCK_R, 1]`` from ``first_row`` on, offsets of the tile and the mask of what is inside."""
    row = first_row + tl.arange(0, BLOCK_R)[:, None]
    at = row.to(tl.int64) * row_size + col
    return at, (row < rows) & (col < row_size) & (at < size)


@jit
def stats_kernel(
    x, mean, square, count,
    outer, rows, row_size, size, rows_per_chunk,
    LAST: tl.constexpr, SUM: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_L: tl.constexpr,
):  # fmt: skip
    """Mean, sum of squared deviations and count of a chunk of rows.

    LAST: of each column, ``[chunk, row_size]`` (the batch is one matrix); else of all columns, ``[outer, chunk]``.
    """
    plane, chunk, chunks, col = _program(outer, row_size, LAST, BLOCK_L)
    x += plane * size
    # Welford's recurrence for every place of the tile; the places are combined once, at the end.
    m = tl.zeros((BLOCK_R, BLOCK_L), SUM)
    s = tl.zeros((BLOCK_R, BLOCK_L), SUM)
    if LAST:
        n = tl.zeros((BLOCK_R, 1), SUM)
    else:
        n = tl.zeros((BLOCK_R, BLOCK_L), SUM)
    for step in range(rows_per_chunk // BLOCK_R):
        first_row = chunk * rows_per_chunk + step * BLOCK_R
        at, inside = _tile_offsets(first_row, rows, row_size, size, col, BLOCK_R)
        value = tl.load(x + at, mask=inside, other=0.0).to(SUM)
        if LAST:
            counted = first_row + tl.arange(0, BLOCK_R)[:, None] < rows
        else:
            counted = inside
        n += counted.to(SUM)
        delta = tl.where(inside, value - m, 0.0)
        m += delta * (1.0 / tl.maximum(n, 1.0))
        s += tl.where(inside, delta * (value - m), 0.0)
    if LAST:
        total = tl.sum(n, 0)[None, :]
        chunk_mean = tl.sum(n * m, 0)[None, :] / tl.maximum(total, 1.0)
        difference = m - chunk_mean
        chunk_square = tl.sum(s + n * difference * difference, 0)[None, :]
        at = chunk * row_size + col
        stored = col < row_size
        tl.store(mean + at, chunk_mean, mask=stored)
        tl.store(square + at, chunk_square, mask=stored)
        tl.store(count + at, total + tl.zeros((1, BLOCK_L), SUM), mask=stored)
    else:
        total = tl.sum(n)
        chunk_mean = tl.sum(n * m) / tl.maximum(total, 1.0)
        difference = m - chunk_mean
        at = plane * chunks + chunk
        tl.store(mean + at, chunk_mean)
        tl.store(square + at, tl.sum(s + n * difference * difference))
        tl.store(count + at, total)


@triton.jit
def _part_offsets(first, outer, inner, outer_stride, inner_stride, BLOCK: tl.constexpr):
    """Offsets of BLOCK of the parts (outer, inner) from the first on, and the mask."""
    part = first + tl.arange(0, BLOCK)
    return part // inner * outer_stride + part % inner * inner_stride, part < outer * inner


@jit
def combine_stats_kernel(
    mean, square, count, out_mean, out_var,
    outer, inner, outer_stride, inner_stride, channel_stride, BLOCK: tl.constexpr,
):  # fmt: skip
    """Mean and biased variance of one channel from its parts (Chan, Golub & LeVeque 1979); parts are (outer, inner)."""
    channel = tl.program_id(0)
    mean += channel * channel_stride
    square += channel * channel_stride
    count += channel * channel_stride
    SUM: tl.constexpr = mean.dtype.element_ty
    weighted = tl.zeros((BLOCK,), SUM)
    number = tl.zeros((BLOCK,), SUM)
    for first in range(0, outer * inner, BLOCK):
        at, inside = _part_offsets(first, outer, inner, outer_stride, inner_stride, BLOCK)
        n = tl.load(count + at, mask=inside, other=0.0)
        weighted += n * tl.load(mean + at, mask=inside, other=0.0)
        number += n
    total = tl.sum(number)
    centre = tl.sum(weighted) / total
    deviation = tl.zeros((BLOCK,), SUM)
    for first in range(0, outer * inner, BLOCK):
        at, inside = _part_offsets(first, outer, inner, outer_stride, inner_stride, BLOCK)
        n = tl.load(count + at, mask=inside, other=0.0)
        difference = tl.load(mean + at, mask=inside, other=0.0) - centre
        deviation += tl.load(square + at, mask=inside, other=0.0) + n * difference * difference
    tl.store(out_mean + channel, centre)
    tl.store(out_var + channel, tl.sum(deviation) / total)


@triton.jit
def _parameter(parameter, channel, sample, channels, KIND: tl.constexpr, SUM: tl.constexpr, DEFAULT: tl.constexpr):
    """A parameter ``[C]`` (KIND 1), ``[B, C]`` (KIND 2) or none (KIND 0), at the channels of a tile's columns."""
    if KIND == 0:
        return tl.full((1, 1), DEFAULT, SUM)
    elif KIND == 1:
        return tl.load(parameter + channel).to(SUM)
    else:
        return tl.load(parameter + sample * channels + channel).to(SUM)


@triton.jit
def _constants(
    mean, rstd, weight, bias, plane, col, channels,
    WEIGHT: tl.constexpr, BIAS: tl.constexpr, LAST: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """The channels of a tile's columns, and there mean, rstd, weight and bias."""
    if LAST:
        channel, sample = col % channels, plane
    else:
        channel, sample = plane % channels, plane // channels
    scale = _parameter(weight, channel, sample, channels, WEIGHT, SUM, 1.0)
    shift = _parameter(bias, channel, sample, channels, BIAS, SUM, 0.0)
    return channel, tl.load(mean + channel), tl.load(rstd + channel), scale, shift


@triton.jit
def _normalised(x, at, inside, centre, inverse, SUM: tl.constexpr):
    return (tl.load(x + at, mask=inside, other=0.0).to(SUM) - centre) * inverse


@triton.jit
def _masked_grad(grad, at, inside, xhat, scale, shift, SLOPE: tl.constexpr, SUM: tl.constexpr):
    """The gradient before the activation, whose sign is recomputed as ``apply_kernel`` has it."""
    g = tl.load(grad + at, mask=inside, other=0.0).to(SUM)
    return tl.where(xhat * scale + shift > 0, g, g * SLOPE)


@jit
def apply_kernel(
    x, mean, rstd, weight, bias, y,
    channels, outer, rows, row_size, size, rows_per_chunk,
    WEIGHT: tl.constexpr, BIAS: tl.constexpr, SLOPE: tl.constexpr, LAST: tl.constexpr, SUM: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_L: tl.constexpr,
):  # fmt: skip
    plane, chunk, _, col = _program(outer, row_size, LAST, BLOCK_L)
    _, centre, inverse, scale, shift = _constants(
        mean, rstd, weight, bias, plane, col, channels, WEIGHT, BIAS, LAST, SUM
    )
    x += plane * size
    y += plane * size
    for step in range(rows_per_chunk // BLOCK_R):
        first_row = chunk * rows_per_chunk + step * BLOCK_R
        at, inside = _tile_offsets(first_row, rows, row_size, size, col, BLOCK_R)
        value = _normalised(x, at, inside, centre, inverse, SUM) * scale + shift
        value = tl.where(value > 0, value, value * SLOPE)
        tl.store(y + at, value.to(y.dtype.element_ty), mask=inside)


@jit
def backward_sums_kernel(
    grad, x, mean, rstd, weight, bias, sum_g, sum_gx,
    channels, outer, rows, row_size, size, rows_per_chunk,
    WEIGHT: tl.constexpr, BIAS: tl.constexpr, SLOPE: tl.constexpr, LAST: tl.constexpr, SUM: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_L: tl.constexpr,
):  # fmt: skip
    """Sums of g and of g * xhat over a chunk of rows: ``[sample, chunk, row_size]`` (LAST), else ``[plane, chunk]``."""
    plane, chunk, chunks, col = _program(outer, row_size, LAST, BLOCK_L)
    _, centre, inverse, scale, shift = _constants(
        mean, rstd, weight, bias, plane, col, channels, WEIGHT, BIAS, LAST, SUM
    )
    x += plane * size
    grad += plane * size
    total_g = tl.zeros((BLOCK_R, BLOCK_L), SUM)
    total_gx = tl.zeros((BLOCK_R, BLOCK_L), SUM)
    for step in range(rows_per_chunk // BLOCK_R):
        first_row = chunk * rows_per_chunk + step * BLOCK_R
        at, inside = _tile_offsets(first_row, rows, row_size, size, col, BLOCK_R)
        xhat = _normalised(x, at, inside, centre, inverse, SUM)
        g = _masked_grad(grad, at, inside, xhat, scale, shift, SLOPE, SUM)
        total_g += g
        total_gx += g * xhat
    if LAST:
        at = (plane * chunks + chunk) * row_size + col
        tl.store(sum_g + at, tl.sum(total_g, 0)[None, :], mask=col < row_size)
        tl.store(sum_gx + at, tl.sum(total_gx, 0)[None, :], mask=col < row_size)
    else:
        tl.store(sum_g + plane * chunks + chunk, tl.sum(total_g))
        tl.store(sum_gx + plane * chunks + chunk, tl.sum(total_gx))


@jit
def combine_sums_kernel(
    sum_g, sum_gx, out_g, out_gx,
    channels, outer, inner, sample_stride, outer_stride, inner_stride, channel_stride, BLOCK: tl.constexpr,
):  # fmt: skip
    """The sums of one (sample, channel) from its parts (outer, inner)."""
    sample = (tl.program_id(0) // channels).to(tl.int64)
    start = sample * sample_stride + tl.program_id(0) % channels * channel_stride
    sum_g += start
    sum_gx += start
    total_g = tl.zeros((BLOCK,), sum_g.dtype.element_ty)
    total_gx = tl.zeros((BLOCK,), sum_g.dtype.element_ty)
    for first in range(0, outer * inner, BLOCK):
        at, inside = _part_offsets(first, outer, inner, outer_stride, inner_stride, BLOCK)
        total_g += tl.load(sum_g + at, mask=inside, other=0.0)
        total_gx += tl.load(sum_gx + at, mask=inside, other=0.0)
    tl.store(out_g + tl.program_id(0), tl.sum(total_g))
    tl.store(out_gx + tl.program_id(0), tl.sum(total_gx))


@jit
def backward_input_kernel(
    grad, x, mean, rstd, weight, bias, mean_g, mean_gx, dx,
    channels, outer, rows, row_size, size, rows_per_chunk,
    WEIGHT: tl.constexpr, BIAS: tl.constexpr, SLOPE: tl.constexpr, LAST: tl.constexpr, SUM: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_L: tl.constexpr,
):  # fmt: skip
    plane, chunk, _, col = _program(outer, row_size, LAST, BLOCK_L)
    channel, centre, inverse, scale, shift = _constants(
        mean, rstd, weight, bias, plane, col, channels, WEIGHT, BIAS, LAST, SUM
    )
    average = tl.load(mean_g + channel)
    slant = tl.load(mean_gx + channel)
    x += plane * size
    grad += plane * size
    dx += plane * size
    for step in range(rows_per_chunk // BLOCK_R):
        first_row = chunk * rows_per_chunk + step * BLOCK_R
        at, inside = _tile_offsets(first_row, rows, row_size, size, col, BLOCK_R)
        xhat = _normalised(x, at, inside, centre, inverse, SUM)
        g = _masked_grad(grad, at, inside, xhat, scale, shift, SLOPE, SUM)
        value = (scale * g - average - xhat * slant) * inverse
        tl.store(dx + at, value.to(dx.dtype.element_ty), mask=inside)


@dataclass(frozen=True, slots=True)
class _Matrix:
    """A map as ``outer`` dense matrices ``[rows, row_size]``, the last row perhaps not full, and their tiles."""

    channels: int
    last: bool  # channels_last_3d: the channel is column % channels; else the matrix' number % channels
    outer: int
    rows: int
    row_size: int
    size: int
    block_r: int
    block_l: int
    rows_per_chunk: int

    @property
    def chunks(self) -> int:
        return triton.cdiv(self.rows, self.rows_per_chunk)

    @property
    def grid(self) -> tuple[int]:
        columns = triton.cdiv(self.row_size, self.block_l) if self.last else 1
        return (self.outer * self.chunks * columns,)

    def meta(self) -> dict:
        return {"LAST": self.last, "BLOCK_R": self.block_r, "BLOCK_L": self.block_l, "num_warps": WARPS}


def _matrix(x, *, per_sample) -> _Matrix:
    batch, channels = x.shape[:2]
    per_map = x.shape[2] * x.shape[3] * x.shape[4]
    last = map_format(x) == torch.channels_last_3d
    if last:
        outer, pixels = (batch, per_map) if per_sample else (1, batch * per_map)
        together = gcd(pixels, ALIGNMENT // gcd(channels, ALIGNMENT))
        row_size, rows = channels * together, pixels // together
        block_l = max(
            (32, 64, 128, 256, 512), key=lambda block: (row_size / triton.cdiv(row_size, block) / block, block)
        )
    else:
        outer, row_size = batch * channels, 1024
        rows = triton.cdiv(per_map, row_size)
        block_l = 1024
    block_r = min(TILE // block_l, triton.next_power_of_2(rows))
    tiles = triton.cdiv(rows, block_r)
    programs = outer * (triton.cdiv(row_size, block_l) if last else 1)
    chunks = max(1, min(tiles, 8 * multiprocessors(x.device) // programs))
    size = rows * row_size if last else per_map
    return _Matrix(channels, last, outer, rows, row_size, size, block_r, block_l, triton.cdiv(tiles, chunks) * block_r)


def _dense(x):
    """x without gaps, in its memory format."""
    return to_map_format(x, x)


def norm_stats(x: Tensor) -> tuple[Tensor, Tensor]:
    x, sums = _dense(x), accumulator(x.dtype)
    if x.numel() == 0:
        return torch.full((2, x.shape[1]), torch.nan, dtype=sums, device=x.device).unbind()
    view = _matrix(x, per_sample=False)
    parts = empty("the norm's partial statistics", (3, view.outer * view.chunks, view.row_size if view.last else 1),
                  sums, x.device)  # fmt: skip
    launch(
        stats_kernel, view.grid,
        x, *parts, view.outer, view.rows, view.row_size, view.size, view.rows_per_chunk, SUM=DTYPES[sums],
        **view.meta(),
    )  # fmt: skip
    return _combined(parts, view.channels, *_parts(view))


def combine_stats(parts: Tensor) -> tuple[Tensor, Tensor]:
    """``[3, parts, C]``, each part's mean, sum of squared deviations and count, to mean and biased variance."""
    _, number, channels = parts.shape
    return _combined(parts, channels, number, 1, channels, 0, 1)


def _combined(parts, channels, *layout):
    moments = empty("the norm's statistics", (2, channels), parts.dtype, parts.device)
    launch(combine_stats_kernel, (channels,), *parts, *moments, *layout, BLOCK=256)
    return moments[0], moments[1]


def _parts(view):
    """How the parts of one channel lie in the workspace: their numbers (outer, inner), and the strides."""
    if view.last:
        return view.chunks, view.row_size // view.channels, view.row_size, view.channels, 1
    samples = view.outer // view.channels
    return samples, view.chunks, view.channels * view.chunks, 1, view.chunks


def norm_apply(x: Tensor, mean: Tensor, rstd: Tensor, affine: Affine) -> Tensor:
    x = _dense(x)
    y = empty_map("the norm's output", x.shape, x)
    if x.numel():
        view = _matrix(x, per_sample=True)
        launch(
            apply_kernel, view.grid,
            x, mean, rstd, *_parameters(x, affine), y, *_sizes(view),
            **_kinds(affine, mean), **view.meta(),
        )  # fmt: skip
    return y


def norm_backward_sums(grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, affine: Affine) -> tuple[Tensor, Tensor]:
    x = _dense(x)
    grad = to_map_format(grad, x)
    batch, channels = x.shape[:2]
    out = empty("the norm's gradient sums", (2, batch, channels), mean.dtype, x.device)
    if x.numel() == 0:
        return out[0].zero_(), out[1].zero_()
    view = _matrix(x, per_sample=True)
    parts = empty("the norm's partial gradient sums", (2, view.outer, view.chunks, view.row_size if view.last else 1),
                  mean.dtype, x.device)  # fmt: skip
    launch(
        backward_sums_kernel, view.grid,
        grad, x, mean, rstd, *_parameters(x, affine), *parts, *_sizes(view),
        **_kinds(affine, mean), **view.meta(),
    )  # fmt: skip
    if view.last:
        layout = (view.chunks, view.row_size // channels, view.chunks * view.row_size, view.row_size, channels, 1)
    else:
        layout = (1, view.chunks, channels * view.chunks, 0, 1, view.chunks)
    launch(combine_sums_kernel, (batch * channels,), *parts, *out, channels, *layout, BLOCK=64)
    return out[0], out[1]


def norm_backward_input(
    grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, affine: Affine, mean_g: Tensor, mean_gx: Tensor
) -> Tensor:
    x = _dense(x)
    grad = to_map_format(grad, x)
    dx = empty_map("the norm's input gradient", x.shape, x)
    if x.numel():
        view = _matrix(x, per_sample=True)
        launch(
            backward_input_kernel, view.grid,
            grad, x, mean, rstd, *_parameters(x, affine), mean_g, mean_gx, dx, *_sizes(view),
            **_kinds(affine, mean), **view.meta(),
        )  # fmt: skip
    return dx


norm_eval: OneResult
norm_train: ThreeResults
norm_backward: ThreeResults
norm_eval, norm_train, norm_backward = composed(norm_stats, norm_apply, norm_backward_sums, norm_backward_input)


def _sizes(view):
    return view.channels, view.outer, view.rows, view.row_size, view.size, view.rows_per_chunk


def _parameters(x, affine):
    """A parameter that is None is not read, but a kernel needs a pointer."""
    return tuple(x if p is None else p.contiguous() for p in (affine.weight, affine.bias))


def _kinds(affine, mean):
    weight_kind, bias_kind = (0 if p is None else p.dim() for p in (affine.weight, affine.bias))
    # The slope is a constant because Triton takes numbers for float32: 0.2 would be another one in float64.
    return {"WEIGHT": weight_kind, "BIAS": bias_kind, "SLOPE": affine.slope, "SUM": DTYPES[mean.dtype]}
