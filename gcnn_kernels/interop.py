"""Weights from other libraries. GrouPy's and its ports' load as they are: ``layer.load_state_dict(theirs)``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from .functional import expand_filters
from .groups import PointGroup
from .nn import GroupConv2d, LiftingConv2d

__all__ = ["from_filter_stack", "load_escnn"]


class R2Conv(Protocol):
    """What is used of an ``escnn.nn.R2Conv``."""

    def expand_parameters(self) -> tuple[Tensor, Tensor | None]:
        """Its filters for ``conv2d`` and its bias."""


def from_filter_stack(stack: Tensor, group: PointGroup, in_slots: int) -> Tensor:
    """The base filter of a stack of filters in all poses, as other libraries hold or export it.

    Their elements are ordered as ours, or, where they reflect about another axis or put the reflection first, with the
    mirror elements in another order; the order is found from the stack itself.

    Args:
        stack: ``[Cout * order, Cin * in_slots, k, k]``, slot fastest.
        group: a group on the grid.
        in_slots: 1 for a lifting filter, else the group's order.

    Returns:
        ``[Cout, Cin, k, k]`` or ``[Cout, Cin, order, k, k]``.

    Raises:
        ValueError: if no order makes the stack the poses of one filter.
    """
    order, k = group.order, stack.shape[-1]
    if stack.dim() != 4 or stack.shape[0] % order or stack.shape[1] % in_slots:
        raise ValueError(
            f"stack: expected [Cout * {order}, Cin * {in_slots}, k, k] for group {group.name!r}, "
            f"got {tuple(stack.shape)}"
        )
    poses = stack.reshape(-1, order, stack.shape[1] // in_slots, in_slots, k, k)
    for slots in _slot_orders(group):
        ordered = poses[:, slots] if in_slots == 1 else poses[:, slots][:, :, :, slots]
        weight = ordered[:, 0]
        weight = weight.squeeze(2) if in_slots == 1 else weight
        if torch.allclose(expand_filters(weight, group.name), ordered.reshape(stack.shape), rtol=1e-4, atol=1e-5):
            return weight.contiguous()
    raise ValueError(f"stack: its filters are not the poses of one filter under the group {group.name!r}")


def load_escnn(layer: LiftingConv2d | GroupConv2d, conv: R2Conv) -> None:
    """Copies the weights of an ``escnn.nn.R2Conv`` between regular fields (or from scalar fields, for lifting).

    Args:
        layer: with the group, channels and filter size of ``conv``; stride, padding and dilation are the layer's own.
        conv: of the gspace ``rot2dOnR2(4)`` or ``flipRot2dOnR2(4)``.

    Raises:
        ValueError: if the filters do not fit the layer.
    """
    stack, bias = conv.expand_parameters()
    group = layer.point_group
    in_slots = 1 if isinstance(layer, LiftingConv2d) else group.order
    weight = from_filter_stack(stack.detach(), group, in_slots)
    if weight.shape != layer.weight.shape:
        raise ValueError(f"conv: expected filters {tuple(layer.weight.shape)}, got {tuple(weight.shape)}")
    if (bias is None) != (layer.bias is None):
        raise ValueError(f"conv: expected {'no ' if layer.bias is None else ''}bias as the layer has")
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None and layer.bias is not None:
            layer.bias.copy_(bias[:: group.order])


def _slot_orders(group: PointGroup) -> Iterator[list[int]]:
    """Lists of their slots in our order: rotations alike, mirror elements alike or in a reversed cyclic order."""
    n = group.rotations
    rotations = list(range(n))
    yield list(range(group.order))
    if group.reflections:
        for start in range(n):
            yield rotations + [n + (start - r) % n for r in range(n)]
