"""Batch norm modules."""

from __future__ import annotations

import sys

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .. import _checks as checks
from ..backends import check_choice
from ..functional import ACTIVATION_SLOPES, group_batch_norm
from .layer import Layer


class _RunningStatistics(Layer, _BatchNorm):
    """Running statistics per map on the group, kept, or not, as ``nn.BatchNorm2d`` keeps them.

    Utilities that look for torch's batch norms, such as ``torch.optim.swa_utils.update_bn``, find these too.
    """

    activation: str | None
    sync: bool
    backend: str

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        activation: str | None,
        track_running_stats: bool,
        sync: bool,
        backend: str,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ):
        num_features = checks.whole("num_features", num_features, 1)
        checks.one_of("activation", activation, tuple(ACTIVATION_SLOPES))
        check_choice(backend)
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        self.activation, self.sync, self.backend = activation, sync, backend

    @property
    def affine(self) -> bool:
        """Whether the layer itself has a weight and a bias."""
        # It takes any batch norm for one of torch's, and the activation would be lost without a word.
        if sys._getframe(1).f_code is vars(nn.SyncBatchNorm)["convert_sync_batchnorm"].__func__.__code__:
            raise TypeError(f"convert_sync_batchnorm: cannot convert {type(self).__name__}; give the layer sync=True")
        return self._affine

    @affine.setter
    def affine(self, value: bool) -> None:
        self._affine = value

    def _normalize(
        self,
        x: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        batch_statistics: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> torch.Tensor:
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:  # cumulative average
                momentum = 1 / self.num_batches_tracked.item()
        return group_batch_norm(
            x, self.running_mean, self.running_var, weight, bias, self.training or not self.track_running_stats,
            momentum, self.eps, self.activation, sync=self.sync and self.training, batch_statistics=batch_statistics,
            backend=self.backend,
        )  # fmt: skip

    def extra_repr(self) -> str:
        text = f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"
        return text if self.activation is None else f"{text}, activation={self.activation!r}"


class GroupBatchNorm2d(_RunningStatistics):
    """Batch norm with statistics pooled over batch, plane and group (see :func:`gcnn_kernels.group_batch_norm`).

    Args:
        num_features: C of the maps ``[B, C, order, H, W]`` (or ``[B, C, H, W]``).
        eps, momentum, affine: as in ``torch.nn.BatchNorm2d``; momentum None is the cumulative average.
        activation: None, "relu" or "leaky_relu", applied in the same pass.
        track_running_stats: as in ``torch.nn.BatchNorm2d``; without, evaluation too takes the batch's statistics.
        sync: statistics over all ranks of ``torch.distributed`` while training.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        activation: str | None = None,
        *,
        track_running_stats: bool = True,
        sync: bool = False,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(
            num_features, eps, momentum, affine, activation, track_running_stats, sync, backend, device, dtype
        )

    def forward(
        self, x: torch.Tensor, *, batch_statistics: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> torch.Tensor:
        return self._normalize(x, self.weight, self.bias, batch_statistics)


class ConditionalGroupBatchNorm2d(_RunningStatistics):
    """Batch norm whose scale and shift are linear in a condition: y = (1 + G c) * xhat + B c (Dey et al. 2021, 2.2).

    One scale and one shift per map on the group, so the layer stays equivariant.

    Args:
        num_features: C of the maps.
        condition_features: D of the condition ``[B, D]``.
        eps, momentum, activation, track_running_stats, sync: as for :class:`GroupBatchNorm2d`.

    The submodules ``scale`` and ``shift`` are ``nn.Linear(D, C)``, so that spectral norm and the like apply to them.
    """

    scale: nn.Linear
    shift: nn.Linear

    def __init__(
        self,
        num_features: int,
        condition_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        activation: str | None = None,
        *,
        track_running_stats: bool = True,
        sync: bool = False,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(
            num_features, eps, momentum, False, activation, track_running_stats, sync, backend, device, dtype
        )
        self.scale = nn.Linear(condition_features, num_features, device=device, dtype=dtype)
        self.shift = nn.Linear(condition_features, num_features, device=device, dtype=dtype)

    def forward(
        self,
        x: torch.Tensor,
        condition: torch.Tensor,
        *,
        batch_statistics: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        return self._normalize(x, 1 + self.scale(condition), self.shift(condition), batch_statistics)
