"""Groups with finer rotations than quarter turns, reduced to their subgroup on the grid.

Let K be the largest subgroup of H that permutes the pixels, and c, d run over the rotations R^j that represent the
cosets K c. Writing h = a c and s = b d with a, b in K, the group convolution over H is

    y(a c, p) = sum_{b,d,t} W[c, d](a^-1 b, a^-1 t) x(b d, p + t),    W[c, d](u, t) = (R_c w[c^-1 u d])(t)

which is a group convolution over K whose channels are the pairs (channel, coset): its equivariance under K stays exact,
and every algorithm and kernel for K serves. R_c, the rotation of a filter by interpolation, is a small matrix.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from ._constants import constant
from ._layout import map_format, to_map_format
from .groups import PointGroup


def coset_filters(weight: torch.Tensor, group: PointGroup) -> torch.Tensor:
    """``[Cout, Cin, S, k, k]`` for H -> ``[Cout*q, Cin*q, |K|, k, k]`` for K (lifting: ``[Cout*q, Cin, 1, k, k]``)."""
    cout, cin, slots, k, _ = weight.shape
    q, order = group.cosets, group.grid_subgroup.order
    rotations = _filter_rotations(group, k, weight.dtype, weight.device)  # [q, k*k, k*k]
    taps = weight.flatten(3)
    if slots == 1:
        rotated = torch.einsum("cvt,oist->ocisv", rotations, taps)
        return rotated.reshape(cout * q, cin, 1, k, k)
    chosen = taps[:, :, _coset_slots(group, weight.device)]  # [Cout, Cin, c, d, u, k*k]
    rotated = torch.einsum("cvt,oicdut->ociduv", rotations, chosen)
    return rotated.reshape(cout * q, cin * q, order, k, k)


def coset_filters_adjoint(rotated: torch.Tensor, group: PointGroup, in_slots: int) -> torch.Tensor:
    """The adjoint of :func:`coset_filters`: filters for K -> ``[Cout, Cin, in_slots, k, k]`` for H."""
    q, k = group.cosets, rotated.shape[-1]
    cout, cin = rotated.shape[0] // q, rotated.shape[1] if in_slots == 1 else rotated.shape[1] // q
    rotations = _filter_rotations(group, k, rotated.dtype, rotated.device)
    if in_slots == 1:
        taps = torch.einsum("cvt,ocisv->oist", rotations, rotated.reshape(cout, q, cin, 1, k * k))
        return taps.reshape(cout, cin, 1, k, k)
    chosen = torch.einsum("cvt,ociduv->oicdut", rotations, rotated.reshape(cout, q, cin, q, -1, k * k))
    targets = _coset_slots(group, rotated.device).flatten(1).argsort(1)  # [c, slot]: where the slot went
    taps = chosen.flatten(3, 4).gather(3, targets[None, None, :, :, None].expand(cout, cin, -1, -1, k * k)).sum(2)
    return taps.reshape(cout, cin, in_slots, k, k)


def coset_of(x: torch.Tensor, coset: int, cosets: int) -> torch.Tensor:
    """``[B, C, |H|, H, W]`` -> ``[B, C, |K|, H, W]``, the slots of one of the ``cosets``."""
    return to_map_format(x[:, :, coset::cosets], x)


def split_cosets(x: torch.Tensor, cosets: int) -> torch.Tensor:
    """``[B, C, |H|, H, W]`` -> ``[B, C*q, |K|, H, W]``."""
    split = x.unflatten(2, (-1, cosets)).transpose(2, 3)  # [B, C, q, |K|, H, W]
    return to_map_format(split.flatten(1, 2), x)


def join_cosets(y: torch.Tensor, cosets: int) -> torch.Tensor:
    """The inverse of :func:`split_cosets`."""
    joined = y.unflatten(1, (-1, cosets)).transpose(2, 3)  # [B, C, |K|, q, H, W]
    return to_map_format(joined.flatten(2, 3), y)


def stack_cosets(parts: list[torch.Tensor]) -> torch.Tensor:
    """One map ``[B, C, |K|, H, W]`` for each coset -> ``[B, C, |H|, H, W]``, in their memory format."""
    if map_format(parts[0]) == torch.contiguous_format:
        return torch.stack(parts, 3).flatten(2, 3)
    rows = torch.stack([part.permute(0, 2, 3, 4, 1) for part in parts], 2).flatten(1, 2)  # [B, |H|, H, W, C]
    return rows.permute(0, 4, 1, 2, 3)


@lru_cache(maxsize=64)
def _filter_rotations(group, k, dtype, device):
    return constant(group.filter_rotations(k), device, dtype)


@lru_cache(maxsize=64)
def _coset_slots(group, device):
    """int64 ``[q, q, |K|]``: the slot c^-1 u d of H."""
    q, order = group.cosets, group.grid_subgroup.order
    d, u = np.arange(q), np.arange(order)
    return constant(np.stack([group.quotient[c][u[None, :] * q + d[:, None]] for c in range(q)]), device)
