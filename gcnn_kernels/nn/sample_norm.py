"""Norms by the statistics of each sample: layer, instance and group norm. None depends on the batch or keeps any."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .. import _checks as checks
from .._layout import to_map_format
from ..backends import check_choice
from ..backends.norm_formulas import per_map
from ..functional import ACTIVATION_SLOPES, group_batch_norm
from .layer import Layer


class _SampleNorm(Layer):
    """One scale and one shift per map, shared by its slots: so the norms are equivariant."""

    num_features: int
    eps: float
    activation: str | None
    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        affine: bool = True,
        activation: str | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.num_features = checks.whole("num_features", num_features, 1)
        num_features = self.num_features
        checks.one_of("activation", activation, tuple(ACTIVATION_SLOPES))
        self.eps, self.activation = eps, activation
        self.weight = nn.Parameter(torch.ones(num_features, device=device, dtype=dtype)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features, device=device, dtype=dtype)) if affine else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        checks.tensor("x", x, dims=(5,), shape=f"[B, {self.num_features}, order, H, W]")
        if x.shape[1] != self.num_features:
            raise ValueError(f"x: expected {self.num_features} channels, got {x.shape[1]} in {tuple(x.shape)}")
        return self._normalize(x)

    def formula(self, x: torch.Tensor) -> torch.Tensor:
        """``forward`` in traceable torch operators alone."""
        raise NotImplementedError

    def _normalize(self, x: torch.Tensor) -> torch.Tensor:
        return to_map_format(self.formula(x), x)

    def _activate(self, y: torch.Tensor) -> torch.Tensor:
        slope = ACTIVATION_SLOPES[self.activation]
        return y if slope == 1 else F.leaky_relu(y, slope) if slope else F.relu(y)

    def extra_repr(self) -> str:
        text = f"{self.num_features}, eps={self.eps}"
        if self.weight is None:
            text += ", affine=False"
        return text if self.activation is None else f"{text}, activation={self.activation!r}"


class GroupLayerNorm2d(_SampleNorm):
    """Layer norm over channels and group at each pixel, ``[B, C, order, H, W]`` -> the same shape.

        y = activation(weight * (x - mean) / sqrt(var + eps) + bias)

    with the mean and variance of the ``C * order`` values of a pixel (ConvNeXt's ``LayerNorm2d``, over the group too).

    Args:
        num_features: C.
        eps: added to the variance.
        affine: whether to learn ``weight`` ``[C]`` and ``bias`` ``[C]``.
        activation: None, "relu" or "leaky_relu" (slope 0.2).
    """

    def formula(self, x: torch.Tensor) -> torch.Tensor:
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        var, mean = torch.var_mean(values, dim=(1, 2), correction=0, keepdim=True)
        y = (values - mean) * (var + self.eps).rsqrt()
        if self.weight is not None and self.bias is not None:
            y = y * per_map(self.weight) + per_map(self.bias)
        return self._activate(y).to(x.dtype)


class GroupInstanceNorm2d(_SampleNorm):
    """Instance norm over group and plane, for each sample and map, ``[B, C, order, H, W]`` -> the same shape.

    It is the fused batch norm of a batch of one sample with ``B * C`` maps, and so runs its kernels.

    Args:
        num_features, eps, affine, activation: as for :class:`GroupLayerNorm2d`.
        backend: as for :class:`GroupBatchNorm2d`.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        affine: bool = True,
        activation: str | None = None,
        *,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(num_features, eps, affine, activation, device=device, dtype=dtype)
        check_choice(backend)
        self.backend = backend

    def _normalize(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels = x.shape[:2]
        if batch == 0:
            return x.clone()
        folded = x.contiguous().view(1, batch * channels, *x.shape[2:])
        weight, bias = (t if t is None else t.repeat(batch) for t in (self.weight, self.bias))
        y = group_batch_norm(
            folded, None, None, weight, bias, True, eps=self.eps, activation=self.activation, backend=self.backend
        )
        return to_map_format(y.reshape(x.shape), x)

    def formula(self, x: torch.Tensor) -> torch.Tensor:
        return self._activate(F.group_norm(x, self.num_features, self.weight, self.bias, self.eps)).to(x.dtype)


class GroupGroupNorm2d(_SampleNorm):
    """Group norm over the group axis too, ``[B, C, order, H, W]`` -> the same shape.

    Each of ``num_groups`` sets of C / num_groups maps is normalised by its own mean and variance over maps, group and
    plane (Wu & He 2018).

    Args:
        num_groups: number of sets of channels; it divides ``num_features``.
        num_features, eps, affine, activation: as for :class:`GroupLayerNorm2d`.
    """

    num_groups: int

    def __init__(
        self,
        num_groups: int,
        num_features: int,
        eps: float = 1e-5,
        affine: bool = True,
        activation: str | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(num_features, eps, affine, activation, device=device, dtype=dtype)
        self.num_groups = checks.whole("num_groups", num_groups, 1)
        if num_features % num_groups:
            raise ValueError(f"num_groups: expected a divisor of num_features {num_features}, got {num_groups}")

    def formula(self, x: torch.Tensor) -> torch.Tensor:
        y = F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
        return self._activate(y).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {super().extra_repr()}"
