"""From a group to a subgroup."""

from __future__ import annotations

import torch

from ..functional import check_restricted, choose_cosets
from ..groups import PointGroup, point_group
from .layer import Layer


class Restrict(Layer):
    """A map on a group as a map on a subgroup, ``[B, C, |H|, ...]`` -> ``[B, C * [H:K], |K|, ...]``.

    After it come layers over the subgroup; with "p1", after ``squeeze(2)``, planar ones. See
    :func:`gcnn_kernels.restrict`.
    """

    point_group: PointGroup
    subgroup: PointGroup
    slots: torch.Tensor

    def __init__(self, group: str | PointGroup, subgroup: str | PointGroup):
        super().__init__()
        self.point_group, self.subgroup = point_group(group), point_group(subgroup)
        slots = torch.from_numpy(self.point_group.coset_slots(self.subgroup))
        self.register_buffer("slots", slots, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_restricted(x, self.point_group)
        return choose_cosets(x, self.slots)

    def formula(self, x: torch.Tensor) -> torch.Tensor:
        """``forward`` in traceable torch operators alone."""
        return x[:, :, self.slots].flatten(1, 2)

    def extra_repr(self) -> str:
        return f"{self.point_group.name!r}, {self.subgroup.name!r}"
