"""Maximum over the group, its scatter and its gather: one read and one write each."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..._layout import map_format, to_map_format
from .launch import empty, empty_map, launch

BLOCK = 1024


@triton.jit
def _places(inner, total, slots, BLOCK: tl.constexpr):
    """Offsets into a map without slots, offsets of its slot 0 in the map with slots, and the mask."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    return at, at // inner * (inner * slots) + at % inner, at < total


@triton.jit
def _comparable(x):
    """In float32 where the dtype is narrower: exact, and the interpreter has no bfloat16 comparison."""
    return x.to(tl.float32) if x.dtype.primitive_bitwidth < 32 else x


@triton.jit
def max_kernel(x, value, index, inner, total, SLOTS: tl.constexpr, BLOCK: tl.constexpr):
    at, first, inside = _places(inner, total, SLOTS, BLOCK)
    best = _comparable(tl.load(x + first, mask=inside, other=0.0))
    slot = tl.zeros((BLOCK,), tl.int32)
    for s in range(1, SLOTS):
        candidate = _comparable(tl.load(x + first + s * inner, mask=inside, other=0.0))
        # NaN is greater than every number, and of equals the first is kept
        better = (candidate > best) | ((candidate != candidate) & (best == best))
        best = tl.where(better, candidate, best)
        slot = tl.where(better, s, slot)
    tl.store(value + at, best.to(value.dtype.element_ty), mask=inside)
    tl.store(index + at, slot.to(tl.uint8), mask=inside)


@triton.jit
def scatter_kernel(grad, index, out, inner, total, SLOTS: tl.constexpr, BLOCK: tl.constexpr):
    at, first, inside = _places(inner, total, SLOTS, BLOCK)
    g = tl.load(grad + at, mask=inside, other=0.0)
    slot = tl.load(index + at, mask=inside, other=0).to(tl.int32)
    nothing = tl.zeros((BLOCK,), grad.dtype.element_ty)
    for s in range(SLOTS):
        tl.store(out + first + s * inner, tl.where(slot == s, g, nothing), mask=inside)


@triton.jit
def gather_kernel(x, index, out, inner, total, SLOTS: tl.constexpr, BLOCK: tl.constexpr):
    at, first, inside = _places(inner, total, SLOTS, BLOCK)
    slot = tl.load(index + at, mask=inside, other=0).to(tl.int64)
    tl.store(out + at, tl.load(x + first + slot * inner, mask=inside, other=0.0), mask=inside)


def _inner(x):
    """How many numbers of a dense map ``[B, C, S, H, W]`` lie between a slot and the next."""
    plane = x.shape[3] * x.shape[4]
    return plane * x.shape[1] if map_format(x) == torch.channels_last_3d else plane


def _launch(kernel, tensors, x, slots, total):
    if total:
        launch(kernel, (triton.cdiv(total, BLOCK),), *tensors, _inner(x), total, SLOTS=slots, BLOCK=BLOCK)


def group_max(x: Tensor) -> tuple[Tensor, Tensor]:
    x = to_map_format(x, x)
    shape = (*x.shape[:2], 1, *x.shape[3:])
    value = empty_map("the maximum over the group", shape, x)
    index = empty("the maximum's slots", shape, torch.uint8, x.device, map_format(x))
    _launch(max_kernel, (x, value, index), x, x.shape[2], value.numel())
    return value.squeeze(2), index.squeeze(2)


def group_max_scatter(grad: Tensor, index: Tensor, slots: int) -> Tensor:
    index = _dense_slots(index)
    grad = to_map_format(grad.unsqueeze(2), index)
    shape = (*grad.shape[:2], slots, *grad.shape[3:])
    out = empty("the gradient of the maximum", shape, grad.dtype, grad.device, map_format(index))
    _launch(scatter_kernel, (grad, index, out), out, slots, grad.numel())
    return out


def group_max_gather(x: Tensor, index: Tensor) -> Tensor:
    index = _dense_slots(index)
    x = to_map_format(x, index)
    out = empty("the gathered values", index.shape, x.dtype, x.device, map_format(index))
    _launch(gather_kernel, (x, index, out), x, x.shape[2], index.numel())
    return out.squeeze(2)


def _dense_slots(index):
    """``[B, C, H, W]`` -> ``[B, C, 1, H, W]`` without gaps."""
    index = index.unsqueeze(2)
    return to_map_format(index, index)
