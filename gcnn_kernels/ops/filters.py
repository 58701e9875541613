"""The filter stack and its adjoint, each the derivative of the other."""

from __future__ import annotations

from ..backends import choose
from ..groups import point_group
from .batching import folded_into
from .library import OPS, define


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


def _save_expand(ctx, inputs, output):
    weight, ctx.group, ctx.backend = inputs
    ctx.in_slots = weight.shape[2]


def _expand_backward(ctx, grad):
    return OPS.reduce_filters(grad, ctx.group, ctx.in_slots, ctx.backend), None, None


def _save_reduce(ctx, inputs, output):
    _, ctx.group, _, ctx.backend = inputs


def _reduce_backward(ctx, grad):
    return OPS.expand_filters(grad, ctx.group, ctx.backend), None, None, None


define(
    "expand_filters(Tensor weight, str group, str backend) -> Tensor",
    _expand,
    _expand_fake,
    save=_save_expand,
    backward=_expand_backward,
    linear=1,
    batched=folded_into(0, "expand_filters"),
)
define(
    "reduce_filters(Tensor stack, str group, int in_slots, str backend) -> Tensor",
    _reduce,
    _reduce_fake,
    save=_save_reduce,
    backward=_reduce_backward,
    linear=1,
    batched=folded_into(0, "reduce_filters"),
)
