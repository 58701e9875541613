"""Self-attention of the pixels of a feature map."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from .. import _checks as checks
from .._layout import to_map_format
from ..groups import PointGroup
from .layer import Layer
from .linear import GroupLinear


class GroupSelfAttention2d(Layer):
    """Multi-head self-attention over the pixels, ``[B, C, order, H, W]`` -> the same shape.

    Queries, keys and values are linear over the group (:class:`GroupLinear` at each pixel). Every head is there in
    each pose: slot s of it compares the queries' and keys' slots s, so that the group permutes the poses and turns the
    pixels:

        y(c, s, p) = sum_p' softmax_p'(<q(:, s, p), k(:, s, p')> / sqrt(d)) v(c, s, p'),    d = C / num_heads

    There is no residual connection, norm or positional encoding; the cost grows with (H W)^2.

    Args:
        channels: C.
        num_heads: number of heads, a divisor of C.
        group: "p1", "p4", "p4m", "c8", "d8", ...
        bias: one number per map for queries, keys, values and the output.
        any_order: differentiable to any order (gradient penalties), by the formula. If False, training too runs
            ``scaled_dot_product_attention``'s fused kernels, which need less memory and have no second derivative.
            Without gradients it always does.
        algorithm: of the linear layers, as in :func:`gcnn_kernels.group_linear`.

    The submodules are ``qkv``, from C to 3 C maps, and ``out``.
    """

    channels: int
    num_heads: int
    any_order: bool
    qkv: GroupLinear
    out: GroupLinear

    def __init__(
        self,
        channels: int,
        num_heads: int = 1,
        group: str | PointGroup = "p4",
        bias: bool = True,
        *,
        any_order: bool = True,
        algorithm: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.channels = checks.whole("channels", channels, 1)
        self.num_heads = checks.whole("num_heads", num_heads, 1)
        channels, num_heads = self.channels, self.num_heads
        if channels % num_heads:
            raise ValueError(f"num_heads: expected a divisor of channels {channels}, got {num_heads}")
        self.any_order = any_order
        options: dict[str, Any] = {"group": group, "algorithm": algorithm, "device": device, "dtype": dtype}
        self.qkv = GroupLinear(channels, 3 * channels, bias, **options)
        self.out = GroupLinear(channels, channels, bias, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        order = self.qkv.point_group.order
        checks.tensor("x", x, dims=(5,), shape=f"[B, {self.channels}, {order}, H, W]")
        wanted = torch.is_grad_enabled() and (x.requires_grad or self.qkv.weight.requires_grad)
        with sdpa_kernel(SDPBackend.MATH) if self.any_order and wanted else nullcontext():
            return to_map_format(self.formula(x), x)

    def formula(self, x: torch.Tensor) -> torch.Tensor:
        """``forward`` in traceable operators alone."""
        qkv = self.qkv(x.flatten(3).permute(0, 3, 1, 2))  # [B, N, 3 C, order]
        qkv = qkv.unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 5, 1, 4).flatten(2, 3)
        y = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])  # of [B, heads * order, N, d]
        y = y.unflatten(1, (self.num_heads, -1)).permute(0, 3, 1, 4, 2).flatten(2, 3)  # [B, N, C, order]
        return self.out(y).permute(0, 2, 3, 1).unflatten(3, x.shape[-2:])

    def extra_repr(self) -> str:
        return f"{self.channels}, num_heads={self.num_heads}, any_order={self.any_order}"
