"""The cuda backend: CUDA C++ kernels from ``csrc/cuda``, for GPUs and platforms without Triton.

Convolutions are the filter stack, expanded in one kernel, and cuDNN's convolution.
"""

from __future__ import annotations

from functools import cache

import torch

from .. import binaries
from ..base import Backend
from ..compiled import CompiledMixin
from ..expansion import OnlyExpansionMixin

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class CudaBackend(OnlyExpansionMixin, CompiledMixin, Backend):
    name = "cuda"

    @property
    def kernels(self):
        return torch.ops.gcnn_cuda

    def missing(self):
        _, reason = binaries.load("_cuda")
        if reason is None and not torch.cuda.is_available():
            return "torch.cuda.is_available() is False"
        return reason

    def refuses_tensor(self, device, dtype):
        if device.type != "cuda":
            return f"it runs on CUDA devices, not on {device}"
        if dtype not in _DTYPES:
            return f"it computes in {', '.join(map(str, _DTYPES))}, not {dtype}"
        return _refuses_device(torch.cuda.current_device() if device.index is None else device.index)


@cache
def _refuses_device(index):
    if torch.ops.gcnn_cuda.runs_on(index):
        return None
    major, minor = torch.cuda.get_device_capability(index)
    return (
        f"it was compiled without code for {torch.cuda.get_device_name(index)}, compute capability {major}.{minor} "
        f"(run `TORCH_CUDA_ARCH_LIST={major}.{minor} pip install .`)"
    )
