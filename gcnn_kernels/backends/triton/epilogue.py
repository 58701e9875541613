"""What the convolution kernels do with a map before they write it: an activation, and sums for a norm's statistics."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def activated(value, SLOPE: tl.constexpr):
    """Negative numbers times SLOPE; 1 is no activation, 0 is ReLU."""
    if SLOPE == 1:
        return value
    elif SLOPE == 0:
        return tl.where(value < 0, 0.0, value)
    else:
        return tl.where(value < 0, value * SLOPE, value)


@triton.jit
def store_statistics(parts, values, rows, at, size, stored, SUM: tl.constexpr):
    """Of the columns of tiles ``[M, N]``: the mean, the sum of squared deviations from it, the number of values.

    Of the rows where ``rows``; to ``at``, ``at + size`` and ``at + 2 * size`` of ``parts``, where ``stored``.
    """
    inside = rows[:, None]
    total = tl.where(inside, values[0].to(SUM), 0.0)
    for e in tl.static_range(1, len(values)):
        total += tl.where(inside, values[e].to(SUM), 0.0)
    number = tl.sum(rows.to(SUM), 0) * len(values)
    mean = tl.sum(total, 0) / number
    deviation = tl.zeros(total.shape, SUM)
    for e in tl.static_range(len(values)):
        difference = tl.where(inside, values[e].to(SUM) - mean[None, :], 0.0)
        deviation += difference * difference
    tl.store(parts + at, mean, mask=stored)
    tl.store(parts + at + size, tl.sum(deviation, 0), mask=stored)
    tl.store(parts + at + 2 * size, number + tl.zeros(mean.shape, SUM), mask=stored)
