"""Filters of groups finer than the grid, rotated by interpolation, and the adjoint: each the derivative of the other.

As operators they are whole to whoever traces or exports a network; the formulas are in ``_interpolation.py``.
"""

from __future__ import annotations

from .._interpolation import coset_filters, coset_filters_adjoint
from ..groups import point_group
from .batching import folded_into
from .library import OPS, define


def _coset_filters(weight, group):
    return coset_filters(weight, point_group(group))


def _coset_filters_fake(weight, group):
    cout, cin, slots, k, _ = weight.shape
    q, order = point_group(group).cosets, point_group(group).grid_subgroup.order
    return weight.new_empty((cout * q, cin, 1, k, k) if slots == 1 else (cout * q, cin * q, order, k, k))


def _coset_filters_adjoint(rotated, group, in_slots):
    return coset_filters_adjoint(rotated, point_group(group), in_slots)


def _coset_filters_adjoint_fake(rotated, group, in_slots):
    q, k = point_group(group).cosets, rotated.shape[-1]
    cin = rotated.shape[1] if in_slots == 1 else rotated.shape[1] // q
    return rotated.new_empty((rotated.shape[0] // q, cin, in_slots, k, k))


def _save_coset_filters(ctx, inputs, output):
    weight, ctx.group = inputs
    ctx.in_slots = weight.shape[2]


def _coset_filters_backward(ctx, grad):
    return OPS.coset_filters_adjoint(grad, ctx.group, ctx.in_slots), None


def _save_coset_filters_adjoint(ctx, inputs, output):
    _, ctx.group, _ = inputs


def _coset_filters_adjoint_backward(ctx, grad):
    return OPS.coset_filters(grad, ctx.group), None, None


define(
    "coset_filters(Tensor weight, str group) -> Tensor",
    _coset_filters,
    _coset_filters_fake,
    save=_save_coset_filters,
    backward=_coset_filters_backward,
    linear=1,
    batched=folded_into(0, "coset_filters"),
    autocast=True,
)
define(
    "coset_filters_adjoint(Tensor rotated, str group, int in_slots) -> Tensor",
    _coset_filters_adjoint,
    _coset_filters_adjoint_fake,
    save=_save_coset_filters_adjoint,
    backward=_coset_filters_adjoint_backward,
    linear=1,
    batched=folded_into(0, "coset_filters_adjoint"),
    autocast=True,
)
