"""The layers as ``torch.nn.Module``s."""

from .attention import GroupSelfAttention2d
from .conv import GroupConv2d, GroupConvTranspose2d, LiftingConv2d
from .conv_norm import conv_batch_norm
from .linear import GroupLinear
from .norm import ConditionalGroupBatchNorm2d, GroupBatchNorm2d
from .pool import GroupAvgPool, GroupMaxPool
from .restrict import Restrict
from .sample_norm import GroupGroupNorm2d, GroupInstanceNorm2d, GroupLayerNorm2d
from .spatial import (
    SpatialAdaptiveAvgPool2d,
    SpatialAvgPool2d,
    SpatialBlurPool2d,
    SpatialFit2d,
    SpatialInsertZeros2d,
    SpatialMaxPool2d,
    SpatialUpsample,
)

__all__ = [
    "ConditionalGroupBatchNorm2d",
    "GroupAvgPool",
    "GroupBatchNorm2d",
    "GroupConv2d",
    "GroupConvTranspose2d",
    "GroupGroupNorm2d",
    "GroupInstanceNorm2d",
    "GroupLayerNorm2d",
    "GroupLinear",
    "GroupMaxPool",
    "GroupSelfAttention2d",
    "LiftingConv2d",
    "Restrict",
    "SpatialAdaptiveAvgPool2d",
    "SpatialAvgPool2d",
    "SpatialBlurPool2d",
    "SpatialFit2d",
    "SpatialInsertZeros2d",
    "SpatialMaxPool2d",
    "SpatialUpsample",
    "conv_batch_norm",
]
