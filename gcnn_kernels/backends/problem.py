"""One convolution as the kernels and cost models see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import torch

from ..groups import PointGroup


def joined_shape(shape: Sequence[int], cosets: int) -> tuple[int, ...]:
    """The shape of a map over a group itself, from that of one whose channels are the pairs (channel, coset)."""
    batch, channels, slots, *size = shape
    return (batch, channels // cosets, slots * cosets, *size)


@dataclass(frozen=True, kw_only=True)
class ConvProblem:
    """One convolution, as far as kernels and cost models need to know it.

    A lifting convolution is the case ``in_slots == 1``: the input is a function on the plane, which has one slot
    instead of one per group element. Sizes are (height, width) pairs. With ``groups`` > 1 the channels fall into that
    many parts, each convolved by itself; a backend without kernels for that says so in ``unsupported``.

    The group permutes the pixels of the grid. A convolution over a finer group is one over its ``grid_subgroup`` whose
    channels are the pairs (channel, coset), of ``cosets`` cosets (_interpolation.py); channels and filters are given in
    this form. Its maps are given with the finer group's slots, slot * cosets + coset, to algorithms that take them so
    (base.py: ``Conv.takes_cosets``); for others ``by_subgroup`` puts the cosets among the channels.
    """

    op: str  # "conv" | "conv_input_grad" | "conv_weight_grad"
    group: PointGroup
    batch: int
    in_channels: int
    out_channels: int
    in_slots: int
    kernel: int
    in_size: tuple[int, int]
    out_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    dtype: torch.dtype
    device: torch.device
    groups: int = 1
    cosets: int = 1

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """That of the fields, kept: every call looks its tables up by the problem."""
        return hash(tuple(getattr(self, f.name) for f in fields(self)))

    @classmethod
    def of(
        cls,
        op: str,
        x_shape: Sequence[int],
        weight_shape: Sequence[int],
        *,
        group: PointGroup,
        stride: Sequence[int] = (1, 1),
        padding: Sequence[int] = (0, 0),
        dilation: Sequence[int] = (1, 1),
        dtype: torch.dtype,
        device: torch.device,
        groups: int = 1,
        cosets: int = 1,
    ) -> ConvProblem:
        """The problem of ``op`` for an input ``[B, Cin, S, H, W]`` and filters ``[Cout, Cin / groups, S, k, k]``.

        Raises:
            ValueError: if the convolution has no output.
        """
        batch, in_channels, in_slots, height, width = x_shape
        kernel = weight_shape[3]
        out_size = (
            (height + 2 * padding[0] - dilation[0] * (kernel - 1) - 1) // stride[0] + 1,
            (width + 2 * padding[1] - dilation[1] * (kernel - 1) - 1) // stride[1] + 1,
        )
        if out_size[0] < 1 or out_size[1] < 1 or height < 1 or width < 1:
            raise ValueError(
                f"padding: a {kernel} x {kernel} filter (dilation {tuple(dilation)}) on a plane of {(height, width)} "
                f"with padding {tuple(padding)} leaves no output, {out_size}"
            )
        return cls(
            op=op,
            group=group,
            batch=batch,
            in_channels=in_channels,
            out_channels=weight_shape[0],
            in_slots=in_slots,
            kernel=kernel,
            in_size=(height, width),
            out_size=out_size,
            stride=(stride[0], stride[1]),
            padding=(padding[0], padding[1]),
            dilation=(dilation[0], dilation[1]),
            dtype=dtype,
            device=device,
            groups=groups,
            cosets=cosets,
        )

    @property
    def in_shape(self) -> tuple[int, ...]:
        return (self.batch, self.in_channels, self.in_slots, *self.in_size)

    @cached_property
    def out_shape(self) -> tuple[int, ...]:
        return (self.batch, self.out_channels, self.group.order, *self.out_size)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.out_channels, self.in_channels // self.groups, self.in_slots, self.kernel, self.kernel)

    @cached_property
    def adjoint(self) -> bool:
        """Whether the map computed is the input's gradient, from that of the output."""
        return self.op == "conv_input_grad"

    @property
    def depthwise(self) -> bool:
        """Whether every map is convolved by itself, to one map."""
        maps_in = self.in_channels if self.in_slots == 1 else self.in_channels // self.cosets
        return 1 < self.groups == maps_in == self.out_channels // self.cosets

    @cached_property
    def computed_shape(self) -> tuple[int, ...]:
        """The shape of the map computed by "conv" or "conv_input_grad", its cosets being slots."""
        if self.adjoint and self.in_slots == 1:
            return self.in_shape
        return joined_shape(self.in_shape if self.adjoint else self.out_shape, self.cosets)
