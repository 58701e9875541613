"""What every launch needs: output memory, arithmetic of a dtype, facts about the device."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl

from ..._layout import map_format
from ..base import accumulator

DTYPES = {
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
    torch.float32: tl.float32,
    torch.float64: tl.float64,
}

VECTOR = tl.constexpr(16)  # numbers to which the rows of copied filters are padded

GRID = 2**31 - 1, 65535, 65535  # blocks that CUDA allows along each axis

WORKSPACE = 64 * 2**20  # bytes that the partial sums of a weight gradient may take

# Arguments of which Triton need not know whether they are 1 or divisible by 16: another batch, plane or width must not
# be another program to compile. Strides and channels come in units of the map's alignment, which is a constant.
SIZES = (
    "first", "pixels", "rows", "height", "width", "x_height", "x_width", "padding_h", "padding_w",
    "aligned_channels", "aligned_x_channels", "vectors", "row_vectors", "splits", "steps_per_split", "in_channels",
    "outer", "inner", "rows_per_chunk", "sample_stride", "outer_stride", "inner_stride", "channel_stride",
    *(f"stride_{map}{axis}" for map in "xyg" for axis in "bshw"),
)  # fmt: skip


def jit(function: Callable) -> Any:
    """``triton.jit`` for kernels whose ``SIZES`` are no part of the program."""
    names = inspect.signature(function).parameters
    return triton.jit(function, do_not_specialize=[name for name in SIZES if name in names])


INTERPRETED = triton.knobs.runtime.interpret  # fixed when the kernels are decorated, so on import


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **meta: Any) -> None:
    """Runs a kernel on the device, and the current stream there, of its first argument, a tensor.

    Raises:
        RuntimeError: if CUDA has no grid of that size.
    """
    if any(n > most for n, most in zip(grid, GRID, strict=False)):
        raise RuntimeError(f"{kernel.__name__} would need a grid of {grid} blocks, more than {GRID[: len(grid)]}")
    first = arguments[0]
    with torch.cuda.device(first.device) if first.is_cuda else nullcontext():
        kernel[grid](*arguments, enable_fp_fusion=True, **meta)


@cache
def multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 2


def wide(*tensors: torch.Tensor) -> bool:
    """Whether offsets into one of the tensors leave int32."""
    return any(1 + sum((n - 1) * abs(s) for n, s in zip(t.shape, t.stride(), strict=True)) >= 2**31 for t in tensors)


def alignment(x: torch.Tensor) -> int:
    """How many numbers of a map can be moved at once: a power of two that divides all its strides and its channels.

    Triton knows of an argument's divisibility by 16 only. Where a smaller power of two divides a map's strides, the
    kernels get the quotients (``aligned_strides``) and multiply by the constant.
    """
    if x.stride(1) != 1:
        return 1
    return math.gcd(16 // x.element_size(), x.shape[1], *x.stride()[:1], *x.stride()[2:])


def aligned_strides(x: torch.Tensor, align: int) -> list[int]:
    """x's strides in units of ``align`` numbers, but that of the channels."""
    return [stride if axis == 1 else stride // align for axis, stride in enumerate(x.stride())]


def dot_dtype(dtype: torch.dtype) -> tl.dtype:
    """What the operands of ``tl.dot`` are: the interpreter has no bfloat16 arithmetic."""
    return tl.float32 if INTERPRETED and dtype == torch.bfloat16 else DTYPES[dtype]


def empty(
    what: str,
    shape: Sequence[int],
    dtype: torch.dtype,
    device: torch.device,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> torch.Tensor:
    """``torch.empty`` whose out-of-memory error says what was asked for."""
    try:
        return torch.empty(shape, dtype=dtype, device=device, memory_format=memory_format)
    except torch.OutOfMemoryError as error:
        size = torch.Size(shape).numel() * dtype.itemsize / 2**20
        raise torch.OutOfMemoryError(
            f"no memory for {what}: {tuple(shape)} of {dtype}, {size:.0f} MiB on {device} ({error})"
        ) from error


def empty_map(what: str, shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    """A map of that shape in the dtype and memory format of ``like``."""
    return empty(what, shape, like.dtype, like.device, map_format(like))


def partial_statistics(y: torch.Tensor, parts: int) -> torch.Tensor:
    """``[3, parts, C]``: for the statistics of parts of a map, which ``norm.combine_stats`` puts together."""
    return empty("the map's partial statistics", (3, parts, y.shape[1]), accumulator(y.dtype), y.device)


def split_sum(tiles: int, steps: int, bytes_per_split: int, device: torch.device) -> tuple[int, int]:
    """In how many parts to sum so that all multiprocessors work, within ``WORKSPACE``, and the steps of each part."""
    wanted = triton.cdiv(4 * multiprocessors(device), tiles)
    splits = max(1, min(wanted, steps // 8, WORKSPACE // bytes_per_split))
    steps_per_split = triton.cdiv(steps, splits)
    return triton.cdiv(steps, steps_per_split), steps_per_split
