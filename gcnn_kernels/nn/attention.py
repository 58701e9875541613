"""Self-attention of the pixels of a feature map."""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .. import _checks as checks
from .._layout import to_map_format
from .conv import GroupConv2d


class GroupSelfAttention2d(nn.Module):
    """Multi-head self-attention over the pixels, ``[B, C, order, H, W]`` -> the same shape.

    Queries, keys and values are linear over the group (1 x 1 group convolutions). Every head is there in each pose:
    slot s of it compares the queries' and keys' slots s, so that the group permutes the poses and turns the pixels:

        y(c, s, p) = sum_p' softmax_p'(<q(:, s, p), k(:, s, p')> / sqrt(d)) v(c, s, p'),    d = C / num_heads

    There is no residual connection, norm or positional encoding; the cost grows with (H W)^2.

    Args:
        channels: C.
        num_heads: number of heads, a divisor of C.
        group: as for :class:`GroupConv2d`.
        bias: one number per map for queries, keys, values and the output.
        any_order: differentiable to any order (gradient penalties), by the formula. If False, training too runs
            ``scaled_dot_product_attention``'s fused kernels, which need less memory and have no second derivative.
            Without gradients it always does.
        backend: of the convolutions.

    The submodules are ``qkv``, from C to 3 C maps, and ``out``.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int = 1,
        group: str = "p4",
        bias: bool = True,
        *,
        any_order: bool = True,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.channels = checks.whole("channels", channels, 1)
        self.num_heads = checks.whole("num_heads", num_heads, 1)
        if channels % num_heads:
            raise ValueError(f"num_heads: expected a divisor of channels {channels}, got {num_heads}")
        self.any_order = any_order
        options = {"bias": bias, "group": group, "backend": backend, "device": device, "dtype": dtype}
        self.qkv = GroupConv2d(channels, 3 * channels, 1, **options)
        self.out = GroupConv2d(channels, channels, 1, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        order = self.qkv.point_group.order
        checks.tensor("x", x, dims=(5,), shape=f"[B, {self.channels}, {order}, H, W]")
        wanted = torch.is_grad_enabled() and (x.requires_grad or self.qkv.weight.requires_grad)
        with sdpa_kernel(SDPBackend.MATH) if self.any_order and wanted else nullcontext():
            return to_map_format(self.formula(x), x)

    def formula(self, x):
        """``forward`` in traceable operators alone."""
        qkv = self.qkv(x).flatten(3).unflatten(1, (3, self.num_heads, -1))  # [B, 3, heads, d, order, N]
        qkv = qkv.permute(1, 0, 2, 4, 5, 3).flatten(2, 3)  # [3, B, heads * order, N, d]
        y = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        y = y.unflatten(1, (self.num_heads, -1)).permute(0, 1, 4, 2, 3).flatten(1, 2)
        return self.out(y.unflatten(3, x.shape[-2:]))

    def extra_repr(self) -> str:
        return f"{self.channels}, num_heads={self.num_heads}, any_order={self.any_order}"
