"""Tables of the groups as tensors that are kept."""

from __future__ import annotations

import numpy as np
import torch


def constant(table: np.ndarray, device: torch.device, dtype: torch.dtype | None = None) -> torch.Tensor:
    """A table on a device, in its own dtype unless another is given.

    It is an ordinary tensor with values in memory, whatever mode is on, so that a cache may hold it: where kernels run
    there are no fake tensors and no tracing; inference mode and a default device are set aside here.
    """
    with torch.inference_mode(False):
        return torch.from_numpy(np.ascontiguousarray(table)).to(device, dtype)
