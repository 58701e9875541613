"""The cpu backend: C++ kernels from ``csrc/cpu``."""

from __future__ import annotations

import torch

from .. import binaries
from ..base import Backend
from ..compiled import CompiledMixin
from .conv import CpuConvolution
from .norm import CpuNorm

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class CpuBackend(CpuConvolution, CpuNorm, CompiledMixin, Backend):
    name = "cpu"

    @property
    def kernels(self):
        return torch.ops.gcnn_cpu

    def missing(self):
        _, reason = binaries.load("_cpu")
        return reason

    def refuses_conv(self, problem, algorithm):
        if problem.device.type != "cpu":
            return f"it runs on the CPU, not on {problem.device}"
        if problem.dtype not in _DTYPES:
            return f"it computes in {', '.join(map(str, _DTYPES))}, not {problem.dtype}"
        return self.refuses_algorithm(problem, algorithm)

    def refuses(self, op, x):
        if x.device.type != "cpu":
            return f"it runs on the CPU, not on {x.device}"
        if x.dtype not in _DTYPES:
            return f"it computes in {', '.join(map(str, _DTYPES))}, not {x.dtype}"
        return None
