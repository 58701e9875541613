"""Tables of the groups as tensors that are kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

import numpy as np
import torch

Result = TypeVar("Result")


def table(function: Callable[..., Result]) -> Callable[..., Result]:
    """Decorates a function of names, numbers and a device that makes a table, or another constant: it is kept, and a
    constant of what ``torch.compile`` makes.

    It may be called anywhere, within ``torch.export`` too, where tensors are fake: what is made there is not kept.
    """
    kept = lru_cache(maxsize=64)(function)

    @wraps(function)
    def look_up(*arguments: Any) -> Result:
        return function(*arguments) if torch._C._len_torch_dispatch_stack() else kept(*arguments)

    # torch.compiler.assume_constant_result without its import of two seconds
    vars(look_up)["_dynamo_marked_constant"] = True
    return look_up


def constant(table: np.ndarray, device: torch.device, dtype: torch.dtype | None = None) -> torch.Tensor:
    """A table on a device, in its own dtype unless another is given.

    It is an ordinary tensor with values in memory, whatever mode is on, so that a cache may hold it: where kernels run
    there are no fake tensors and no tracing; inference mode and a default device are set aside here.
    """
    with torch.inference_mode(False):
        return torch.from_numpy(np.ascontiguousarray(table)).to(device, dtype)
