"""The filter stack and its adjoint, by indexing."""

from __future__ import annotations

from torch import Tensor

from ...groups import PointGroup
from ..filter_indices import filter_sources, filter_targets


def expand_filters(weight: Tensor, group: PointGroup) -> Tensor:
    cout, cin, slots, k, _ = weight.shape
    sources = filter_sources(group, slots, k, weight.device)
    stack = weight.reshape(cout, cin, -1)[:, :, sources]  # [Cout, Cin, order, S*k*k]
    return stack.transpose(1, 2).reshape(cout * group.order, cin * slots, k, k)


def reduce_filters(stack: Tensor, group: PointGroup, in_slots: int) -> Tensor:
    k = stack.shape[-1]
    targets = filter_targets(group, in_slots, k, stack.device)
    cout, cin = stack.shape[0] // group.order, stack.shape[1] // in_slots
    stack = stack.reshape(cout, group.order, cin, -1)
    weight = stack.gather(3, targets[None, :, None, :].expand_as(stack)).sum(1)
    return weight.reshape(cout, cin, in_slots, k, k)
