"""The triton backend: kernels for NVIDIA GPUs, compiled at run time.

Importing this package does not import triton; the modules that hold kernels are imported when one is first needed.
"""

from __future__ import annotations

import importlib.metadata
import os
from functools import cache

import torch

from ..base import Backend
from ..expansion import ExpansionMixin

__all__ = ["TritonBackend"]

_OLDEST_TRITON = (3, 6)
_OLDEST_GPU = (8, 0)
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class TritonBackend(ExpansionMixin, Backend):
    """With ``TRITON_INTERPRET=1`` it runs on CPU tensors, in Triton's interpreter, where it is asked for by name."""

    name = "triton"

    def missing(self):
        return _missing()

    def only_by_name(self):
        return "Triton's interpreter is for tests" if _interpreting() else None

    # --- convolution -------------------------------------------------------------------------------------------
    def refuses_conv(self, problem, algorithm):
        reason = _refuses_tensor(problem.device, problem.dtype)
        shapes = problem.in_shape, problem.out_shape
        counted = max(max(b * height * width, c * s * height * width) for b, c, s, height, width in shapes)
        if reason is None and counted >= 2**31:
            reason = f"it counts the pixels of a batch and the numbers of a sample in int32, here are {counted}"
        if reason is None and algorithm == "fourier":
            from . import fourier

            reason = fourier.refuses(problem)
        return reason

    def choose_algorithm(self, problem):
        from . import cost

        return cost.choose_algorithm(problem)

    def conv(self, problem, algorithm, x, weight, bias):
        if algorithm == "expand":
            return self.expanded_conv(problem, x, weight, bias)
        kernels, tile = _kernels(problem, algorithm)
        return kernels.conv(problem, tile, x, weight, bias)

    def conv_input_grad(self, problem, algorithm, grad, weight):
        if algorithm == "expand":
            return self.expanded_conv_input_grad(problem, grad, weight)
        kernels, tile = _kernels(problem, algorithm)
        return kernels.conv_input_grad(problem, tile, grad, weight)

    def conv_weight_grad(self, problem, algorithm, grad, x):
        if algorithm == "expand":
            return self.expanded_conv_weight_grad(problem, grad, x)
        kernels, tile = _kernels(problem, algorithm)
        return kernels.conv_weight_grad(problem, tile, grad, x)

    # --- filters, norm, pool -----------------------------------------------------------------------------------
    def refuses(self, op, x):
        return _refuses_tensor(x.device, x.dtype)

    def expand_filters(self, weight, group):
        from . import filters

        return filters.expand_filters(weight, group)

    def reduce_filters(self, stack, group, in_slots):
        from . import filters

        return filters.reduce_filters(stack, group, in_slots)

    def norm_stats(self, x):
        from . import norm

        return norm.norm_stats(x)

    def norm_apply(self, x, mean, rstd, weight, bias, slope):
        from . import norm

        return norm.norm_apply(x, mean, rstd, weight, bias, slope)

    def norm_backward_sums(self, grad, x, mean, rstd, weight, bias, slope):
        from . import norm

        return norm.norm_backward_sums(grad, x, mean, rstd, weight, bias, slope)

    def norm_backward_input(self, grad, x, mean, rstd, weight, bias, slope, mean_g, mean_gx):
        from . import norm

        return norm.norm_backward_input(grad, x, mean, rstd, weight, bias, slope, mean_g, mean_gx)

    def group_max(self, x):
        from . import pool

        return pool.group_max(x)

    def group_max_scatter(self, grad, index, slots):
        from . import pool

        return pool.group_max_scatter(grad, index, slots)

    def group_max_gather(self, x, index):
        from . import pool

        return pool.group_max_gather(x, index)


def _kernels(problem, algorithm):
    from . import cost, direct, fourier

    return (direct if algorithm == "direct" else fourier), cost.choose_tile(problem, algorithm)


@cache
def _interpreting() -> bool:
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


@cache
def _missing() -> str | None:
    try:
        version = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        return "the package triton is not installed"
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_TRITON:
        return f"it needs triton {'.'.join(map(str, _OLDEST_TRITON))} or newer, installed is {version}"
    if _interpreting():
        return None
    if torch.version.hip is not None:
        return "it is for NVIDIA GPUs, this torch is for AMD's"
    if not torch.cuda.is_available():
        return "no NVIDIA GPU is usable here: torch.cuda.is_available() is False"
    return None


@cache
def _refuses_tensor(device: torch.device, dtype: torch.dtype) -> str | None:
    served = "cpu" if _interpreting() else "cuda"
    if device.type != served:
        where = "in Triton's interpreter on the CPU (TRITON_INTERPRET=1)" if served == "cpu" else "on NVIDIA GPUs"
        return f"it runs {where}, not on {device}"
    if dtype not in _DTYPES:
        return f"it computes in {', '.join(map(str, _DTYPES))}, not {dtype}"
    if served == "cuda" and torch.cuda.get_device_capability(device) < _OLDEST_GPU:
        capability = "{}.{}".format(*torch.cuda.get_device_capability(device))
        return f"it needs compute capability 8.0 (Ampere) or newer, {device} has {capability}"
    return None
