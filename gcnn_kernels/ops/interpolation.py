"""Filters of groups finer than the grid, rotated by interpolation, and the adjoint: each the derivative of the other.

As operators they are whole to whoever traces or exports a network; the formulas are in ``_interpolation.py``.
"""

from __future__ import annotations

from .._interpolation import coset_filters, coset_filters_adjoint
from ..groups import point_group
from .derivatives import adjoints
from .library import define


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


_of_filters, _of_adjoint = adjoints("coset_filters", "coset_filters_adjoint")
define(
    "coset_filters(Tensor weight, str group) -> Tensor",
    _coset_filters,
    _coset_filters_fake,
    **_of_filters,
    autocast=True,
)
define(
    "coset_filters_adjoint(Tensor rotated, str group, int in_slots) -> Tensor",
    _coset_filters_adjoint,
    _coset_filters_adjoint_fake,
    **_of_adjoint,
    autocast=True,
)
