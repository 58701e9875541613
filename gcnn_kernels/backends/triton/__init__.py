"""The triton backend: kernels for NVIDIA GPUs, compiled at run time.

Importing this package does not import triton; the modules that hold kernels are imported when one is first needed.
With ``TRITON_INTERPRET=1`` it runs on CPU tensors, in Triton's interpreter, where it is asked for by name.
"""

from __future__ import annotations

import importlib.metadata
import os
from functools import cache

import torch

from ..base import Backend, LazyModule, unsupported_dtype

_OLDEST_TRITON = (3, 6)
_OLDEST_GPU = (8, 0)


@cache
def _interpreting() -> bool:
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


@cache
def unavailable() -> str | None:
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
def unsupported(device: torch.device, dtype: torch.dtype) -> str | None:
    served = "cpu" if _interpreting() else "cuda"
    if device.type != served:
        where = "in Triton's interpreter on the CPU (TRITON_INTERPRET=1)" if served == "cpu" else "on NVIDIA GPUs"
        return f"it runs {where}, not on {device}"
    if reason := unsupported_dtype(dtype):
        return reason
    if served == "cuda" and torch.cuda.get_device_capability(device) < _OLDEST_GPU:
        capability = "{}.{}".format(*torch.cuda.get_device_capability(device))
        return f"it needs compute capability 8.0 (Ampere) or newer, {device} has {capability}"
    return None


def explicit_only() -> str | None:
    return "Triton's interpreter is for tests" if _interpreting() else None


BACKEND = Backend(
    "triton",
    unavailable,
    unsupported,
    conv=LazyModule(f"{__name__}.conv"),
    filters=LazyModule(f"{__name__}.filters"),
    norm=LazyModule(f"{__name__}.norm"),
    pool=LazyModule(f"{__name__}.pool"),
    explicit_only=explicit_only,
)
