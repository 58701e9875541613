"""The linear layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import _checks as checks
from ..functional import group_linear
from ..groups import PointGroup, point_group
from .layer import WeightedLayer


class GroupLinear(WeightedLayer):
    """Linear layer between functions on the group, ``[..., in_channels, order]`` -> ``[..., out_channels, order]``.

    Args:
        in_channels, out_channels: functions on the group, in and out.
        bias: whether there is one, a number per function.
        group: "p1", "p4", "p4m", "c8", "d8", ...; all are exact.
        algorithm: as in :func:`gcnn_kernels.group_linear`.

    Parameters are ``weight`` ``[out_channels, in_channels, order]`` and ``bias`` ``[out_channels]``.
    """

    point_group: PointGroup
    in_channels: int
    out_channels: int
    algorithm: str
    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bias: bool = True,
        group: str | PointGroup = "p4",
        *,
        algorithm: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.point_group = point_group(group)
        checks.one_of("algorithm", algorithm, ("auto", "fourier", "expand"))
        in_channels = checks.whole("in_channels", in_channels, 1)
        out_channels = checks.whole("out_channels", out_channels, 1)
        self.in_channels, self.out_channels, self.algorithm = in_channels, out_channels, algorithm
        shape = (out_channels, in_channels, self.point_group.order)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        return group_linear(x, self.weight, self.bias, self.point_group, algorithm=self.algorithm)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, group={self.group!r}"
        if self.bias is None:
            text += ", bias=False"
        return text if self.algorithm == "auto" else f"{text}, algorithm={self.algorithm!r}"
