"""The cpu backend: C++ kernels from ``csrc/cpu``."""

from __future__ import annotations

import torch

from .. import binaries
from ..base import Backend, unsupported_dtype
from ..compiled import CompiledFilters, CompiledPool
from . import linear
from .conv import CpuConv
from .norm import CpuNorm
from .spatial_pool import CpuSpatialPool


def unavailable() -> str | None:
    _, reason = binaries.load("_cpu")
    return reason


def unsupported(device: torch.device, dtype: torch.dtype) -> str | None:
    return unsupported_dtype(dtype) if device.type == "cpu" else f"it runs on the CPU, not on {device}"


_filters = CompiledFilters(torch.ops.gcnn_cpu)
BACKEND = Backend(
    "cpu",
    unavailable,
    unsupported,
    conv=CpuConv(_filters),
    filters=_filters,
    norm=CpuNorm(torch.ops.gcnn_cpu),
    pool=CompiledPool(torch.ops.gcnn_cpu),
    spatial_pool=CpuSpatialPool(torch.ops.gcnn_cpu),
    linear=linear,
)
