"""What float32 matrix products compute in."""

from __future__ import annotations

import torch


def dot_precision(dtype: torch.dtype) -> str:
    """ "tf32" or "ieee" for float32 operands, following torch's setting for convolutions."""
    if dtype == torch.float32 and torch.backends.cudnn.conv.fp32_precision == "tf32":
        return "tf32"
    return "ieee"
