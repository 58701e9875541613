"""An ordinary convolutional network as a G-CNN: ``convert``.

The network is traced by torch.fx. Along its graph every value is an image (before the lifting), a map on the group, a
map whose flattening is pending, or something planar after the pooling over the group; every module and operation is
replaced by what does the same to that kind of value.
"""

from __future__ import annotations

import copy
import math

from torch import fx, nn

from .. import _checks as checks
from .. import nn as gnn
from ..groups import PointGroup, point_group
from .walk import Conversion

__all__ = ["convert"]

_POOLS = {"max": gnn.GroupMaxPool, "average": gnn.GroupAvgPool}


def convert(module: nn.Module, group: str | PointGroup = "p4m", *, width: str = "sqrt", pool: str = "max") -> nn.Module:
    """An ordinary convolutional network as one that is exactly equivariant under a group.

    The first convolutions lift to the group, the others become group convolutions, norms and pooling their counterparts
    on the group, and the maps are pooled over the group before the last layer (the head: a ``Linear`` or the last
    convolution). So a classifier becomes invariant, a U-Net's output turns with the image. Where a stride would leave
    pixels out, ``nn.SpatialFit2d`` or a larger pooling window keeps this exact for every size. A ``Linear`` on a
    flattened plane, as VGG has it, becomes a group convolution over the whole plane.

    Understood are Conv2d, ConvTranspose2d, BatchNorm, InstanceNorm2d, GroupNorm, MaxPool2d, AvgPool2d, adaptive average
    pooling, Upsample, Linear, dropout, activations, additions, products, concatenations of channels and flattening, in
    whatever order torch.fx can trace: torchvision's ResNets, ResNeXts, RegNets, VGGs and MobileNets, U-Nets.
    Convolutions with ``groups`` keep that many, depthwise ones stay depthwise.

    Args:
        module: takes images ``[B, C, H, W]``. It is left as it is.
        group: of the result.
        width: "sqrt" divides the numbers of channels by sqrt(order), rounded (to what ``groups`` divides), which keeps
            the number of parameters about the same; "keep" keeps them, with ``order`` times as many parameters.
        pool: "max" or "average": the pooling over the group.

    Returns:
        a module with new random weights, whose variances are those of the given network's, fan-in for fan-in; the names
        of its submodules are kept.

    Raises:
        ValueError: for what cannot be converted; one message names all of it.
    """
    point = point_group(group)
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: expected an nn.Module, got {type(module).__name__}")
    checks.one_of("width", width, ("sqrt", "keep"))
    checks.one_of("pool", pool, tuple(_POOLS))
    network = copy.deepcopy(module)
    network = fx.GraphModule(network, _trace(network), class_name=type(module).__name__)
    Conversion(network, point, 1.0 if width == "keep" else math.sqrt(point.order), _POOLS[pool]).run()
    return network.train(module.training)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return type(module).__module__.startswith("gcnn_kernels") or super().is_leaf_module(module, qualified_name)


def _trace(network: nn.Module) -> fx.Graph:
    """The graph in training mode, which has to be that in evaluation mode too, but for functions such as dropout."""
    try:
        evaluation = _Tracer().trace(network.eval())
        training = _Tracer().trace(network.train())
    except Exception as error:
        raise ValueError(f"module: expected a network that torch.fx can trace, got {error}") from error
    steps, others = ([(n.op, n.target) for n in graph.nodes] for graph in (training, evaluation))
    if steps != others:
        raise ValueError("module: expected a network that computes the same in training and evaluation, got another")
    return training
