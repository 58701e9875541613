"""The cuda backend: CUDA C++ kernels from ``csrc/cuda``, for GPUs and platforms without Triton.

Convolutions are the filter stack, expanded in one kernel, and cuDNN's convolution.
"""

from __future__ import annotations

from functools import cache

import torch

from .. import binaries
from ..base import Backend, unsupported_dtype
from ..compiled import CompiledFilters, CompiledPool
from ..expansion import ExpandedConv
from .norm import CudaNorm


def unavailable() -> str | None:
    _, reason = binaries.load("_cuda")
    if reason is None and not torch.cuda.is_available():
        return "torch.cuda.is_available() is False"
    return reason


def unsupported(device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type != "cuda":
        return f"it runs on CUDA devices, not on {device}"
    return unsupported_dtype(dtype) or _unsupported_device(
        torch.cuda.current_device() if device.index is None else device.index
    )


@cache
def _unsupported_device(index):
    if torch.ops.gcnn_cuda.runs_on(index):
        return None
    major, minor = torch.cuda.get_device_capability(index)
    return (
        f"it was compiled without code for {torch.cuda.get_device_name(index)}, compute capability {major}.{minor} "
        f"(run `TORCH_CUDA_ARCH_LIST={major}.{minor} pip install .`)"
    )


_filters = CompiledFilters(torch.ops.gcnn_cuda)
BACKEND = Backend(
    "cuda",
    unavailable,
    unsupported,
    conv=ExpandedConv(_filters),
    filters=_filters,
    norm=CudaNorm(torch.ops.gcnn_cuda),
    pool=CompiledPool(torch.ops.gcnn_cuda),
)
