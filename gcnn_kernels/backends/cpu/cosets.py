"""Cosets among the slots of a map to cosets among its channels, and back (csrc/cpu/cosets.cpp)."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import _interpolation
from ..._layout import map_format


def split_cosets(x: Tensor, cosets: int) -> Tensor:
    """``[B, C, S*q, H, W]`` -> ``[B, C*q, S, H, W]``, in the same memory format."""
    if map_format(x) != torch.channels_last_3d:
        return _interpolation.split_cosets(x, cosets)
    batch, channels, slots, *size = x.shape
    y = _empty_like(x, (batch, channels * cosets, slots // cosets, *size))
    torch.ops.gcnn_cpu.split_cosets(x.contiguous(memory_format=torch.channels_last_3d), y)
    return y


def join_cosets(y: Tensor, cosets: int) -> Tensor:
    """The inverse of :func:`split_cosets`."""
    if map_format(y) != torch.channels_last_3d:
        return _interpolation.join_cosets(y, cosets)
    batch, channels, slots, *size = y.shape
    x = _empty_like(y, (batch, channels // cosets, slots * cosets, *size))
    torch.ops.gcnn_cpu.join_cosets(y.contiguous(memory_format=torch.channels_last_3d), x)
    return x


def _empty_like(x, shape):
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last_3d)
