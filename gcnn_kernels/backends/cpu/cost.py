"""Which form of a convolution the cpu backend computes, by counting vector operations.

A convolution that has a fast algorithm ("fourier" for maps on the group, "direct" for lifting) is faster with it than
with the filter stack, at every layer of the paper; "expand" is for the groups that have none. What is chosen here is
the form (see correlations.py): whether shifted inputs are gathered or outputs are spread, whether vectors lie along
channels or along pixels, and, when lifting, whether the slots share their products or are stacked as channels. A
depthwise convolution has kernels of its own. Counted are, in vector operations for one image:

    products     rank x rows of the filter matrix x vectors of its columns, 1 each; 3 for storing a vector of sums
    transforms   loads, additions and stores of one vector of all slots: 16 for C4, 45 for D4, 1.5 per slot for a sum
    spreading    1.5 for each shifted addition of a piece of a pixel's channels (below a vector, of halves or quarters)
    pixels       12 for finding the places of one tap, 4 for each piece that is copied, 4 for a vector of a pixel's
                 channels that goes into planes or comes from them

A vector is one of the instruction set in use: 16, 8 or 4 floats. Constants are fitted to single-threaded times of the
paper's layers with AVX-512; only which of two is smaller matters.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch

from ..base import accumulator
from ..problem import ConvProblem
from .correlations import has_algorithm, tap_transform

_TRANSFORM = {4: 16, 8: 45}
_RANK = {4: 5, 8: 11}
_SUM, _STORE, _PLACES, _COPY, _TRANSPOSE = 1.5, 3, 12, 4, 4
_WIDEST_PART = 32  # channels of a part that does without splitting and joining maps
_MOST_DOTS = (
    256  # products per tap that may lie along pixels; with more, summing over lanes and registers costs too much
)
_WIDEST_IMAGE = 16  # channels; with more, a vector of products is loaded for too few pixels
_WIDEST_SPREAD = 32  # channels; with more, the sums of a few rows do not stay in cache before they are spread


def form(problem: ConvProblem) -> str:
    """The form of the problem's own operation."""
    if problem.op == "conv_weight_grad":
        return weight_grad_form(problem)[0]
    return conv_form(problem, problem.adjoint)[0]


@lru_cache(maxsize=1024)
def conv_form(problem: ConvProblem, backward: bool) -> tuple[str, bool]:
    """The form of the convolution, or of its input gradient, and whether it spreads."""
    if problem.in_slots == 1:
        return _lifting_form(problem, backward)
    if problem.groups > 1:
        return _form_of_parts(problem), False
    cin, cout, in_pixels, out_pixels = _channels_and_pixels(problem, backward)
    order, taps, lanes = problem.group.order, problem.kernel**2, _lanes(problem)
    rank, transform = _RANK[order], _TRANSFORM[order]
    if problem.kernel == 1 and problem.in_size == problem.out_size:  # pixel by pixel, without looking for places
        return "gather", False
    strided = backward and problem.stride != (1, 1)
    if cout > _WIDEST_SPREAD and not strided:  # a strided map would be gathered in vain
        return "gather", False
    depth = rank * taps * cin
    gather = out_pixels * (
        depth * _vectors(cout, lanes) + _gathered(order, taps, cin, transform, lanes) + transform * _pieces(cout, lanes)
    )
    columns = _vectors(taps * cout, lanes)
    spread = in_pixels * (rank * (cin + _STORE) * columns + transform * (cin / lanes + columns))
    spread += out_pixels * order * taps * _SUM * _vectors(cout, lanes)
    planes = (depth * cout + transform * taps * cin) / lanes
    planes += _TRANSPOSE * order * (_vectors(cin, lanes) + _vectors(cout, lanes))
    planes *= _padded_pixels(problem, backward)
    if planes < min(spread, gather) and not strided:
        return "planes", False
    return ("spread", True) if spread < gather else ("gather", False)


@lru_cache(maxsize=1024)
def weight_grad_form(problem: ConvProblem) -> tuple[str, bool]:
    """The form of the weight gradient, and whether it is the backward correlation's, which gathers the gradient."""
    cin, cout, in_pixels, out_pixels = _channels_and_pixels(problem, False)
    if problem.in_slots > 1:
        # The map with fewer channels is gathered; but the backward correlation walks all pixels of a strided input.
        backward = problem.stride == (1, 1) and cout < cin
        if problem.groups > 1:
            return _form_of_parts(problem), backward
        return "planes" if problem.kernel > 1 and cin * cout <= _MOST_DOTS else "gather", backward
    order, taps, lanes = problem.group.order, problem.kernel**2, _lanes(problem)
    products = min(cin * _vectors(cout, lanes), cout * _vectors(cin, lanes))
    lift = in_pixels * taps * (2 * _SUM * order * _pieces(cout, lanes) + products)
    stack = out_pixels * (taps * cin * _vectors(order * cout, lanes) + order * _COPY * _pieces(cout, lanes))
    if _tap_form(problem) < min(stack, lift):
        return "taps", False
    return ("stack", False) if stack < lift else ("lift", True)


def _lifting_form(problem, backward):
    cin, cout, in_pixels, out_pixels = _channels_and_pixels(problem, backward)
    order, taps, lanes = problem.group.order, problem.kernel**2, _lanes(problem)
    if backward:
        lift = out_pixels * taps * (_PLACES + _SUM * order * _pieces(cin, lanes) + _products(cin, cout, lanes))
        stack = in_pixels * order * (cin * _vectors(taps * cout, lanes) + _COPY * _pieces(cin, lanes))
        stack += out_pixels * taps * _SUM * _pieces(cout, lanes)
    else:
        lift = in_pixels * (cin + _STORE) * _vectors(taps * cout, lanes)
        lift += out_pixels * order * taps * _SUM * _pieces(cout, lanes)
        stack = out_pixels * taps * (cin * _vectors(order * cout, lanes) + _COPY)
        stack += out_pixels * order * _COPY * _pieces(cout, lanes)
        if _tap_form(problem) < min(stack, lift):
            return "taps", False
    return ("stack", backward) if stack < lift else ("lift", not backward)


def _tap_form(problem):
    cin, cout, _, out_pixels = _channels_and_pixels(problem, False)
    order, k, lanes = problem.group.order, problem.kernel, _lanes(problem)
    if cin >= _WIDEST_IMAGE or not (k == 1 or has_algorithm(problem.group)):
        return math.inf
    products = len(tap_transform(problem.group, k, torch.float32).inputs)
    output = order * (_SUM if k == 1 else _STORE) * _vectors(cout, lanes)
    return out_pixels * (products * cin * _vectors(cout, lanes) + output + k * k * _COPY * cin / lanes)


def _form_of_parts(problem):
    if problem.depthwise:
        return "depthwise"
    return "planes" if max(problem.in_channels, problem.out_channels) <= _WIDEST_PART * problem.groups else "parts"


def _padded_pixels(problem, backward):
    """Pixels of the map that is written, with what lies between their rows in planes."""
    height, width = problem.in_size if backward else problem.out_size
    return height * (width + (problem.kernel - 1) * problem.dilation[1])


def _channels_and_pixels(problem, backward):
    """Channels and pixels of the map that is read and of the one that is written."""
    pixels = math.prod(problem.in_size), math.prod(problem.out_size)
    channels = problem.in_channels, problem.out_channels
    return (*reversed(channels), *reversed(pixels)) if backward else (*channels, *pixels)


def _lanes(problem):
    """Channels in a vector of the instruction set in use (csrc/cpu/isa.h)."""
    return torch.ops.gcnn_cpu.vector_bytes() // accumulator(problem.dtype).itemsize


def _products(rows, columns, lanes):
    """A panel of a single vector has too few sums side by side for the latency of a multiply-add."""
    return rows * max(_vectors(columns, lanes), 2)


def _vectors(channels, lanes):
    return -(-channels // lanes)


def _pieces(channels, lanes):
    """Vectors, halves, quarters or scalars that cover a row of channels (csrc/cpu/correlation.h, for_channels)."""
    while channels < lanes:
        lanes = lanes // 2 if lanes > 4 else 1
    return -(-channels // lanes)


def _gathered(order, taps, channels, transform, lanes):
    """Gathering and transforming all taps of a pixel."""
    if channels < lanes:
        return taps * (_PLACES + order * _SUM * _pieces(channels, lanes)) + transform * _vectors(taps * channels, lanes)
    return taps * (_PLACES + transform * _pieces(channels, lanes))
