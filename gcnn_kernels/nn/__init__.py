"""The layers as ``torch.nn.Module``s."""

from .conv import GroupConv2d, GroupConvTranspose2d, LiftingConv2d
from .linear import GroupLinear
from .norm import ConditionalGroupBatchNorm2d, GroupBatchNorm2d
from .pool import GroupAvgPool, GroupMaxPool

__all__ = [
    "ConditionalGroupBatchNorm2d",
    "GroupAvgPool",
    "GroupBatchNorm2d",
    "GroupConv2d",
    "GroupConvTranspose2d",
    "GroupLinear",
    "GroupMaxPool",
    "LiftingConv2d",
]
