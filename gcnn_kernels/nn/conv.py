"""Convolution modules."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from .. import _checks as checks
from .._layout import to_map_format
from ..backends import check_choice
from ..functional import (
    ACTIVATION_SLOPES,
    conv_with_statistics,
    group_conv2d,
    group_conv_transpose2d,
    lift_conv2d,
    same_padding,
)
from ..groups import PointGroup, point_group
from .layer import WeightedLayer

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _GroupConv(WeightedLayer):
    """What lifting and group convolution share. State dict: ``weight`` and ``bias``, shaped and ordered as GrouPy's."""

    _lifts: bool
    point_group: PointGroup
    in_channels: int
    out_channels: int
    kernel_size: int
    stride: tuple[int, int]
    padding: tuple[int, int] | str
    dilation: tuple[int, int]
    padding_mode: str
    groups: int
    activation: str | None = None
    algorithm: str
    backend: str
    weight: nn.Parameter
    bias: nn.Parameter | None
    # What is printed where it differs, in this order.
    _defaults: ClassVar[dict[str, object]] = {
        "stride": (1, 1), "padding": (0, 0), "output_padding": (0, 0), "dilation": (1, 1), "groups": 1,
        "bias": True, "padding_mode": "zeros", "activation": None, "algorithm": "auto", "backend": "auto",
    }  # fmt: skip
    output_padding: tuple[int, int] = (0, 0)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        group: str | PointGroup = "p4",
        *,
        groups: int = 1,
        activation: str | None = None,
        algorithm: str = "auto",
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.point_group = point_group(group)
        check_choice(backend, algorithm)
        checks.one_of("activation", activation, tuple(ACTIVATION_SLOPES))
        checks.one_of("padding_mode", padding_mode, _PADDING_MODES)
        in_channels = checks.whole("in_channels", in_channels, 1)
        out_channels = checks.whole("out_channels", out_channels, 1)
        groups = checks.whole("groups", groups, 1)
        kernel_size = checks.square("kernel_size", kernel_size)
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"groups: expected a divisor of {in_channels} and {out_channels} channels, got {groups}")
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.stride = checks.pair("stride", stride, 1)
        self.dilation = checks.pair("dilation", dilation, 1)
        if isinstance(padding, str):
            checks.one_of("padding", padding, ("valid", "same"))
            self.padding = padding
        else:
            self.padding = checks.pair("padding", padding, 0)
        self.padding_mode = padding_mode
        self.groups, self.activation, self.algorithm, self.backend = groups, activation, algorithm, backend
        self.weight = nn.Parameter(torch.empty(self._weight_shape(), device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def _weight_shape(self) -> tuple[int, ...]:
        slots = () if self._lifts else (self.point_group.order,)
        return (self.out_channels, self.in_channels // self.groups, *slots, self.kernel_size, self.kernel_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        *arguments, algorithm, backend = self._arguments(x)
        convolve = lift_conv2d if self._lifts else group_conv2d
        return convolve(*arguments, activation=self.activation, algorithm=algorithm, backend=backend)

    def with_statistics(self, x: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """The map, without activation, and its statistics for a norm (``functional.conv_with_statistics``)."""
        return conv_with_statistics(self._lifts, *self._arguments(x))

    def _arguments(self, x: torch.Tensor) -> tuple[Any, ...]:
        padding: int | tuple[int, int] | str = self.padding
        if self.padding_mode != "zeros":
            x, padding = self._pad(x), 0
        return (
            x, self.weight, self.bias, self.point_group, self.stride, padding, self.dilation, self.groups,
            self.algorithm, self.backend,
        )  # fmt: skip

    def _pad(self, x: torch.Tensor) -> torch.Tensor:
        if self.padding == "valid":
            return x
        if isinstance(self.padding, str):  # "same"
            near, far = same_padding(self.kernel_size, self.dilation)
        else:
            near = far = self.padding
        planes = F.pad(x.flatten(0, -4), (near[1], far[1], near[0], far[0]), mode=self.padding_mode)
        padded = planes.unflatten(0, x.shape[:-3])
        return to_map_format(padded, x) if x.dim() == 5 else to_map_format(padded.unsqueeze(2), x.unsqueeze(2))[:, :, 0]

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, group={self.group!r}"
        for name, default in self._defaults.items():
            value = getattr(self, name) if name != "bias" else self.bias is not None
            if value != default:
                text += f", {name}={value!r}"
        return text


class LiftingConv2d(_GroupConv):
    """Lifting convolution, ``[B, in_channels, H, W]`` -> ``[B, out_channels, order, H', W']``.

    Args:
        in_channels, out_channels: maps in (planar) and maps on the group out.
        kernel_size: k, a square filter.
        stride, padding, dilation, bias, padding_mode: as in ``torch.nn.Conv2d``; the bias is one number per map.
        group: "p1", "p4", "p4m", or a finer one such as "c8", "d8".
        groups: as in ``torch.nn.Conv2d``, of maps; each keeps its whole group axis.
        activation: None, "relu" or "leaky_relu", applied in the same pass where the kernel can, else in place.
        algorithm, backend: as in :func:`gcnn_kernels.lift_conv2d`.

    Parameters are ``weight`` ``[out_channels, in_channels / groups, k, k]`` and ``bias`` ``[out_channels]``.
    """

    _lifts = True

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """GrouPy and its ports have filters ``[out_channels, in_channels, 1, k, k]``."""
        weight = state_dict.get(f"{prefix}weight")
        if weight is not None and weight.dim() == 5 and weight.shape[2] == 1:
            state_dict[f"{prefix}weight"] = weight.squeeze(2)
        super()._load_from_state_dict(state_dict, prefix, *args)


class GroupConv2d(_GroupConv):
    """Group convolution, ``[B, in_channels, order, H, W]`` -> ``[B, out_channels, order, H', W']``.

    Arguments as for :class:`LiftingConv2d`. Parameters are ``weight``
    ``[out_channels, in_channels / groups, order, k, k]`` and ``bias`` ``[out_channels]``.
    """

    _lifts = False


class GroupConvTranspose2d(_GroupConv):
    """Transposed group convolution, ``[B, in_channels, order, H, W]`` -> ``[B, out_channels, order, H', W']``.

    Args:
        in_channels, out_channels: maps on the group, in and out.
        kernel_size: k, a square filter.
        stride, padding, output_padding, bias, dilation: as in ``torch.nn.ConvTranspose2d``, whose initialisation it has
            too. Exactly equivariant without output_padding; ``kernel_size=4, stride=2, padding=1`` doubles the size.
        group: "p1", "p4", "p4m", or a finer one such as "c8", "d8".
        groups, algorithm, backend: as in :class:`GroupConv2d`.

    Parameters are ``weight`` ``[in_channels, out_channels / groups, order, k, k]`` and ``bias`` ``[out_channels]``.
    """

    _lifts = False
    padding: tuple[int, int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        output_padding: int | tuple[int, int] = 0,
        bias: bool = True,
        dilation: int | tuple[int, int] = 1,
        group: str | PointGroup = "p4",
        *,
        groups: int = 1,
        algorithm: str = "auto",
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        padding = checks.pair("padding", padding, 0)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, bias, "zeros", group,
            groups=groups, algorithm=algorithm, backend=backend, device=device, dtype=dtype,
        )  # fmt: skip
        self.output_padding: tuple[int, int] = checks.pair("output_padding", output_padding, 0)

    def _weight_shape(self) -> tuple[int, ...]:
        out = self.out_channels // self.groups
        return (self.in_channels, out, self.point_group.order, self.kernel_size, self.kernel_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return group_conv_transpose2d(
            x, self.weight, self.bias, self.point_group, self.stride, self.padding, self.output_padding, self.dilation,
            self.groups, algorithm=self.algorithm, backend=self.backend,
        )  # fmt: skip
