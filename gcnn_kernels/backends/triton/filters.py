"""The filter stack and its adjoint, one pass each."""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...groups import PointGroup
from ..base import accumulator
from ..filter_indices import filter_sources, filter_targets
from .launch import DTYPES, empty, jit, launch

BLOCK = 512


@jit
def expand_kernel(
    weight, sources, stack, total, in_channels, ORDER: tl.constexpr, ENTRIES: tl.constexpr, BLOCK: tl.constexpr
):
    """``stack[Cout, order, Cin, entry] = weight[Cout, Cin, sources[order, entry]]``."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < total
    entry = at % ENTRIES
    cin = at // ENTRIES % in_channels
    pose = at // ENTRIES // in_channels % ORDER
    cout = at // ENTRIES // in_channels // ORDER
    source = tl.load(sources + pose * ENTRIES + entry, mask=inside, other=0)
    value = tl.load(weight + (cout * in_channels + cin) * ENTRIES + source, mask=inside, other=0.0)
    tl.store(stack + at, value, mask=inside)


@jit
def reduce_kernel(
    stack, targets, weight, total, in_channels,
    ORDER: tl.constexpr, ENTRIES: tl.constexpr, SUM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """``weight[Cout, Cin, entry] = sum over poses of stack[Cout, pose, Cin, targets[pose, entry]]``."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < total
    entry = at % ENTRIES
    cin = at // ENTRIES % in_channels
    cout = at // ENTRIES // in_channels
    value = tl.zeros((BLOCK,), SUM)
    for pose in range(ORDER):
        target = tl.load(targets + pose * ENTRIES + entry, mask=inside, other=0)
        place = ((cout * ORDER + pose) * in_channels + cin) * ENTRIES + target
        value += tl.load(stack + place, mask=inside, other=0.0).to(SUM)
    tl.store(weight + at, value.to(weight.dtype.element_ty), mask=inside)


@lru_cache(maxsize=256)
def _table(group, in_slots, k, device, expanding):
    table = filter_sources if expanding else filter_targets
    return table(group, in_slots, k, device).to(torch.int32)


def expand_filters(weight: Tensor, group: PointGroup) -> Tensor:
    cout, cin, slots, k, _ = weight.shape
    weight = weight.contiguous()
    shape = (cout * group.order, cin * slots, k, k)
    stack = empty("the filter stack", shape, weight.dtype, weight.device)
    launch(
        expand_kernel, (triton.cdiv(stack.numel(), BLOCK),),
        weight, _table(group, slots, k, weight.device, True), stack, stack.numel(), cin,
        ORDER=group.order, ENTRIES=slots * k * k, BLOCK=BLOCK,
    )  # fmt: skip
    return stack


def reduce_filters(stack: Tensor, group: PointGroup, in_slots: int) -> Tensor:
    k = stack.shape[-1]
    cout, cin = stack.shape[0] // group.order, stack.shape[1] // in_slots
    stack = stack.contiguous()
    weight = empty("the reduced filters", (cout, cin, in_slots, k, k), stack.dtype, stack.device)
    launch(
        reduce_kernel, (triton.cdiv(weight.numel(), BLOCK),),
        stack, _table(group, in_slots, k, stack.device, False), weight, weight.numel(), cin,
        ORDER=group.order, ENTRIES=in_slots * k * k, SUM=DTYPES[accumulator(stack.dtype)], BLOCK=BLOCK,
    )  # fmt: skip
    return weight
