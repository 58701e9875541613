"""A convolution and the batch norm behind it, with one pass over the map less."""

from __future__ import annotations

from typing import Any

import torch

from ..functional import folds_statistics
from .conv import GroupConv2d, LiftingConv2d
from .norm import ConditionalGroupBatchNorm2d, GroupBatchNorm2d


def conv_batch_norm(conv: Any, norm: Any, x: torch.Tensor, *condition: torch.Tensor) -> torch.Tensor:
    """``norm(conv(x), *condition)``; on GPUs the convolution's kernel adds up what the norm's statistics need.

    Values and derivatives are the same up to rounding, the modules and their state dicts stay what they are. Whatever
    two modules are given, the result is right: where nothing can be saved (evaluation, other layers, layers with hooks,
    an activation between the two, kernels that do not add up), they are simply called one after the other.

    Args:
        conv: :class:`LiftingConv2d` or :class:`GroupConv2d`.
        norm: :class:`GroupBatchNorm2d`, or :class:`ConditionalGroupBatchNorm2d` with a ``condition`` ``[B, D]``.
        x: what ``conv`` takes.
    """
    if not (_adds_up(conv, x) and _takes_statistics(norm)):
        return norm(conv(x), *condition)
    y, statistics = conv.with_statistics(x)
    return norm(y, *condition, batch_statistics=statistics)


def _adds_up(conv: Any, x: Any) -> bool:
    """Whether the convolution's kernel does, and a call of the module would do no more."""
    return (
        isinstance(conv, LiftingConv2d | GroupConv2d)
        and type(conv).forward in (LiftingConv2d.forward, GroupConv2d.forward)
        and conv.activation is None
        and not any(getattr(conv, f"_{kind}_hooks") for kind in ("forward", "forward_pre", "backward", "backward_pre"))
        and not torch.nn.modules.module._has_any_global_hook()
        and isinstance(x, torch.Tensor)  # and no fx.Proxy
        and folds_statistics(x, conv.point_group, conv.backend)
    )


def _takes_statistics(norm: Any) -> bool:
    return (
        isinstance(norm, GroupBatchNorm2d | ConditionalGroupBatchNorm2d)
        and type(norm).forward in (GroupBatchNorm2d.forward, ConditionalGroupBatchNorm2d.forward)
        and (norm.training or not norm.track_running_stats)
    )
