"""The filter stack and its adjoint, each the derivative of the other."""

from __future__ import annotations

from ..backends import choose
from ..groups import point_group
from .derivatives import adjoints
from .library import define


def _expand(weight, group, backend):
    return choose("filters", weight, backend).filters.expand_filters(weight, point_group(group))


def _expand_fake(weight, group, backend):
    cout, cin, slots, k, _ = weight.shape
    return weight.new_empty((cout * point_group(group).order, cin * slots, k, k))


def _reduce(stack, group, in_slots, backend):
    return choose("filters", stack, backend).filters.reduce_filters(stack, point_group(group), in_slots)


def _reduce_fake(stack, group, in_slots, backend):
    order, k = point_group(group).order, stack.shape[-1]
    return stack.new_empty((stack.shape[0] // order, stack.shape[1] // in_slots, in_slots, k, k))


_of_expand, _of_reduce = adjoints("expand_filters", "reduce_filters")
define("expand_filters(Tensor weight, str group, str backend) -> Tensor", _expand, _expand_fake, **_of_expand)
define(
    "reduce_filters(Tensor stack, str group, int in_slots, str backend) -> Tensor", _reduce, _reduce_fake, **_of_reduce
)
