"""The groups' tables as tensors on a device."""

from __future__ import annotations

from functools import lru_cache

import torch

from .._constants import constant
from ..groups import PointGroup


@lru_cache(maxsize=256)
def filter_sources(group: PointGroup, in_slots: int, k: int, device: torch.device) -> torch.Tensor:
    """int64 ``[order, in_slots * k * k]``: where each entry of the filter of output slot h is found in the base filter.

    The filter of slot h is w[h^-1 s, h^-1 t] ; for a lifting filter (one slot) w[h^-1 t]. For each h
    the row is a permutation.
    """
    taps = group.tap_action(k)[group.inverse]  # [order, k*k]
    if in_slots > 1:
        taps = (group.quotient[:, :, None] * (k * k) + taps[:, None, :]).reshape(group.order, -1)
    return constant(taps, device)


@lru_cache(maxsize=256)
def filter_targets(group: PointGroup, in_slots: int, k: int, device: torch.device) -> torch.Tensor:
    """The inverse permutations of :func:`filter_sources`: where each entry of the base filter goes to, for every h."""
    return constant(filter_sources(group, in_slots, k, torch.device("cpu")).numpy().argsort(1), device)
