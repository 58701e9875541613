"""Index arithmetic that the convolution kernels share."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def pixel(index, height, width, WIDE: tl.constexpr):
    """Sample, row and column of a pixel counted through the batch; WIDE: the sample in int64, as offsets then are."""
    sample = index // (height * width)
    if WIDE:
        sample = sample.to(tl.int64)
    return sample, index // width % height, index % width


@triton.jit
def scaled_strides(b, s, h, w, ALIGN: tl.constexpr):
    """Strides of a map over (sample, slot, row, column) that come in units of ALIGN numbers (``launch.alignment``)."""
    return b * ALIGN, s * ALIGN, h * ALIGN, w * ALIGN


@triton.jit
def read_position(position, shift, stride, padding, size, ADJOINT: tl.constexpr):
    """Where along one axis a pixel at ``position`` reads a map of that size through a tap, and whether that is inside.

    ``shift`` is dilation times the tap's coordinate. The adjoint looks for the outputs that read ``position``.
    """
    if ADJOINT:
        distance = position + padding - shift
        found = distance // stride
        return found, (distance >= 0) & (distance - found * stride == 0) & (found < size)
    else:
        found = position * stride - padding + shift
        return found, (found >= 0) & (found < size)


@triton.jit
def first_read(position, stride, padding, ADJOINT: tl.constexpr):
    """Where along one axis a pixel at ``position`` reads a map through tap 0, if that is inside; maybe outside.

    Through another tap it reads ``tap_shift`` further on, wherever ``read_position`` says that it reads at all.
    """
    if ADJOINT:
        return (position + padding) // stride
    else:
        return position * stride - padding


@triton.jit
def tap_shift(tap, stride, dilation, ADJOINT: tl.constexpr):
    if ADJOINT:
        return -(tap * dilation // stride)
    else:
        return tap * dilation


@triton.jit
def moved_tap(row, column, ELEMENT: tl.constexpr, K: tl.constexpr):
    """The tap to which an element of C4 or D4 moves a tap of a K x K filter (``PointGroup.tap_action``)."""
    last: tl.constexpr = K - 1
    if ELEMENT % 4 == 1:
        row, column = last - column, row
    elif ELEMENT % 4 == 2:
        row, column = last - row, last - column
    elif ELEMENT % 4 == 3:
        row, column = column, last - row
    if ELEMENT >= 4:
        row = last - row
    return row, column
