"""Memory formats of feature maps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import forward_ad


def is_transformed() -> bool:
    """Whether a transform of ``torch.func`` or forward mode is at work."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def map_format(x: torch.Tensor) -> torch.memory_format:
    """The memory format of a feature map ``[B, C, S, H, W]``, and so of the maps computed from it.

    Where a map fits both formats (one channel, one pixel) it counts as channels_last_3d, the fast one. Within the
    transforms of ``torch.func`` and in forward mode all count as contiguous, the one format that ``torch.vmap`` knows.
    """
    if is_transformed():
        return torch.contiguous_format
    if x.is_contiguous(memory_format=torch.channels_last_3d) or x.stride(1) == 1:
        return torch.channels_last_3d
    return torch.contiguous_format


def plane_format(x: torch.Tensor) -> torch.memory_format:
    """The memory format of the planes ``[B, C, H, W]`` computed from a feature map."""
    return torch.channels_last if map_format(x) == torch.channels_last_3d else torch.contiguous_format


def to_map_format(y: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """y in the memory format of ``like``; no copy where it is so already."""
    return y.contiguous(memory_format=map_format(like))


def sum_per_map(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """``[B, C, S, H, W]`` -> ``[C]``, summed in ``dtype``, in an order that torch vectorises."""
    channels, rows = x.shape[1], x.permute(0, 2, 3, 4, 1)
    concrete = all(type(n) is int for n in x.shape) and not is_transformed()
    if not (concrete and x.is_cpu and 1 < channels < 64 and rows.is_contiguous()):
        return x.sum((2, 3, 4), dtype=dtype).sum(0)  # sample by sample first
    # Several pixels as one row, which fills vectors, in parts for the threads.
    pixels = x.numel() // channels
    together = math.gcd(pixels, 16)
    rows = rows.reshape(math.gcd(pixels // together, 32), -1, together * channels)
    return rows.sum(1, dtype=dtype).view(-1, channels).sum(0)


def plane_wise(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """``function`` of images ``[N, C, H, W]``, which treats all channels alike, on every plane of a map or an image.

    The slots join the batch in channels_last_3d and the channels else, so that neither needs a copy.
    """
    if x.dim() == 4:
        return function(x)
    if map_format(x) == torch.channels_last_3d:
        y = function(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)
    else:
        y = function(x.flatten(1, 2)).unflatten(1, x.shape[1:3])
    found = map_format(x)
    return to_map_format(y, x) if found == torch.contiguous_format else _InFormat.apply(y, found)


class _InFormat(torch.autograd.Function):
    """A tensor in a memory format, and its derivatives of every order too.

    Torch's double backward of a maximum pool is contiguous, and every kernel after it would have to copy what it reads.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, memory_format: torch.memory_format) -> torch.Tensor:
        ctx.memory_format = memory_format
        return x.contiguous(memory_format=memory_format)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        return _InFormat.apply(grad, ctx.memory_format), None
