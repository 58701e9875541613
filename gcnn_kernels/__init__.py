"""Accelerated layers for group-equivariant convolutional networks (G-CNNs) in PyTorch.

>>> import gcnn_kernels as gk
>>> lift = gk.nn.LiftingConv2d(3, 16, 3, padding=1, group="p4m")
>>> conv = gk.nn.GroupConv2d(16, 32, 3, padding=1, group="p4m")
>>> y = gk.group_max_pool(conv(lift(images)))          # [B, 32, H, W], rotates with the images
"""

from . import nn
from .conversion import convert
from .equivariance import check_equivariance
from .export import to_plain
from .functional import (
    expand_filters,
    group_avg_pool,
    group_batch_norm,
    group_conv2d,
    group_conv_transpose2d,
    group_linear,
    group_max_pool,
    lift_conv2d,
    restrict,
)
from .groups import point_group
from .ops.weight_gradients import no_weight_gradients

__version__ = "0.1.0"

__all__ = [
    "check_equivariance",
    "convert",
    "expand_filters",
    "group_avg_pool",
    "group_batch_norm",
    "group_conv2d",
    "group_conv_transpose2d",
    "group_linear",
    "group_max_pool",
    "lift_conv2d",
    "nn",
    "no_weight_gradients",
    "point_group",
    "restrict",
    "to_plain",
]
