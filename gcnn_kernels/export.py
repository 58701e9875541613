"""Turning trained group layers into plain torch layers, for deployment without this package."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import nn as layers
from .functional import ACTIVATION_SLOPES, expand_filters
from .ops.folded import activate

__all__ = ["to_plain"]


def to_plain(module: nn.Module) -> nn.Module:
    """A copy of a module tree in evaluation mode, with every layer of this package replaced by plain torch layers.

    Filters are expanded and their parametrisations (spectral norm) evaluated once; norms use their running statistics
    if they keep any.
    Inputs and outputs keep their shapes, so what lies between the layers need not change; only what is called as a
    *module* is replaced. The result goes through ``torch.export`` and ``torch.onnx.export``.

    Args:
        module: any ``nn.Module``; it is left as it is.

    Returns:
        the copy; its outputs equal those of ``module.eval()`` up to rounding. What is one module under several names
        is one in the copy too.

    Raises:
        TypeError: for a layer that computes something of its own, by another ``forward`` or by hooks (as the spectral
            and weight norms of ``torch.nn.utils`` that are not parametrizations); the message names it.
    """
    for name, layer in module.named_modules():
        if (kind := _kind(layer)) is not None:
            _check_faithful(name, layer, kind)
    # What hooks left on other modules need not be a leaf of autograd's graph, which deepcopy wants; they make it anew.
    computed = {
        id(t): t.detach().clone()
        for m in module.modules()
        for t in vars(m).values()
        if isinstance(t, Tensor) and not t.is_leaf
    }
    return _replace(copy.deepcopy(module, computed).eval(), {})


def _kind(module: nn.Module) -> type[nn.Module] | None:
    return next((kind for kind in _PLAIN if isinstance(module, kind)), None)


def _check_faithful(name: str, layer: nn.Module, kind: type[nn.Module]) -> None:
    where = f"module: cannot convert {name or 'it'} ({type(layer).__name__})"
    if type(layer).forward is not kind.forward or "forward" in vars(layer):
        raise TypeError(f"{where}: its forward is not that of {kind.__name__}; convert what it is made of")
    for path, part in layer.named_modules():
        if part._forward_hooks or part._forward_pre_hooks:
            raise TypeError(
                f"{where}: its hooks {f'on {path} ' if path else ''}would be lost; remove them, and take spectral and "
                "weight norm from torch.nn.utils.parametrizations"
            )


def _replace(module: nn.Module, done: dict[int, tuple[nn.Module, nn.Module]]) -> nn.Module:
    """``done`` is what has been replaced, by the id of what it replaces."""
    if id(module) not in done:
        kind = _kind(module)
        if kind is None:
            done[id(module)] = module, module
            for name, child in module._modules.items():  # named_children would leave out second names
                if child is not None:
                    setattr(module, name, _replace(child, done))
        else:
            done[id(module)] = _PLAIN[kind](module), module  # kept, so that no other module gets its id
    return done[id(module)][0]


def _conv2d(conv: layers.LiftingConv2d | layers.GroupConv2d) -> list[nn.Module]:
    stack = expand_filters(conv.weight, conv.group).detach()
    mode: Any = conv.padding_mode  # newer versions of torch want to know that it is one of four strings
    plain = nn.Conv2d(
        stack.shape[1] * conv.groups, stack.shape[0], conv.kernel_size, conv.stride, conv.padding, conv.dilation,
        conv.groups, bias=conv.bias is not None, padding_mode=mode, device=stack.device, dtype=stack.dtype,
    )  # fmt: skip
    return [*_filled(plain, conv, stack), *_activation(conv.activation)]


def _activation(name: str | None) -> list[nn.Module]:
    slope = ACTIVATION_SLOPES[name]
    return [] if slope == 1 else [nn.LeakyReLU(slope) if slope else nn.ReLU()]


def _filled(
    plain: nn.Conv2d | nn.ConvTranspose2d | nn.Linear,
    layer: layers.LiftingConv2d | layers.GroupConv2d | layers.GroupConvTranspose2d | layers.GroupLinear,
    stack: Tensor,
) -> list[nn.Module]:
    """The plain layer with its numbers, and what makes a map on the group of its output."""
    order = layer.point_group.order
    plain.weight.data.copy_(stack)
    if plain.bias is not None and layer.bias is not None:
        plain.bias.data.copy_(layer.bias.detach().repeat_interleave(order))
    return [plain, nn.Unflatten(-1 if isinstance(plain, nn.Linear) else 1, (layer.out_channels, order))]


def _plain_lift(conv: layers.LiftingConv2d) -> nn.Module:
    return nn.Sequential(*_conv2d(conv))


def _plain_conv(conv: layers.GroupConv2d) -> nn.Module:
    return nn.Sequential(nn.Flatten(1, 2), *_conv2d(conv))


def _plain_conv_transpose(conv: layers.GroupConvTranspose2d) -> nn.Module:
    stack = expand_filters(conv.weight, conv.group).detach()
    plain = nn.ConvTranspose2d(
        stack.shape[0], stack.shape[1] * conv.groups, conv.kernel_size, conv.stride, conv.padding, conv.output_padding,
        conv.groups, bias=conv.bias is not None, dilation=conv.dilation, device=stack.device, dtype=stack.dtype,
    )  # fmt: skip
    return nn.Sequential(nn.Flatten(1, 2), *_filled(plain, conv, stack))


class _Norm(nn.Module):
    """Normalisation in evaluation mode. It is traced, so that the result does not refer to this class."""

    running_mean: Tensor | None
    running_var: Tensor | None

    def __init__(self, norm: layers.GroupBatchNorm2d | layers.ConditionalGroupBatchNorm2d):
        super().__init__()
        self.by_batch = not norm.track_running_stats
        for name in ("running_mean", "running_var"):
            self.register_buffer(name, None if self.by_batch else getattr(norm, name).detach().clone())
        self.eps, self.slope = norm.eps, ACTIVATION_SLOPES[norm.activation]

    def _normalize(self, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, weight, bias, self.by_batch, eps=self.eps)


class _PlainNorm(_Norm):
    def __init__(self, norm: layers.GroupBatchNorm2d):
        super().__init__(norm)
        self.weight = None if norm.weight is None else nn.Parameter(norm.weight.detach().clone())
        self.bias = None if norm.bias is None else nn.Parameter(norm.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return activate(self._normalize(x, self.weight, self.bias), self.slope)


class _PlainConditionalNorm(_Norm):
    def __init__(self, norm: layers.ConditionalGroupBatchNorm2d):
        super().__init__(norm)
        self.scale, self.shift = _plain_linear(norm.scale), _plain_linear(norm.shift)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        y = self._normalize(x).movedim((0, 1), (-2, -1))
        y = (1 + self.scale(condition)) * y + self.shift(condition)
        return activate(y.movedim((-2, -1), (0, 1)), self.slope)


def _plain_group_linear(linear: layers.GroupLinear) -> nn.Module:
    stack = expand_filters(linear.weight[..., None, None], linear.group).detach().flatten(1)
    plain = nn.Linear(
        stack.shape[1], stack.shape[0], bias=linear.bias is not None, device=stack.device, dtype=stack.dtype
    )
    return nn.Sequential(nn.Flatten(-2), *_filled(plain, linear, stack))


def _plain_linear(linear: nn.Linear) -> nn.Linear:
    plain = nn.Linear(linear.in_features, linear.out_features, device=linear.weight.device, dtype=linear.weight.dtype)
    plain.weight.data.copy_(linear.weight.detach())
    plain.bias.data.copy_(linear.bias.detach())
    return plain


class _Max(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.amax(2)


class _Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(2)


class _Formula(nn.Module):
    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer: Any = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer.formula(x)


def _plain_formula(layer: nn.Module) -> nn.Module:
    """A layer that is plain torch but for the checks of its arguments: what it computes, traced."""
    for name, child in layer.named_children():
        setattr(layer, name, _replace(child, {}))
    return torch.fx.symbolic_trace(_Formula(layer))


_FORMULAS = (
    layers.GroupGroupNorm2d,
    layers.GroupInstanceNorm2d,
    layers.GroupLayerNorm2d,
    layers.GroupSelfAttention2d,
    layers.Restrict,
    layers.SpatialAdaptiveAvgPool2d,
    layers.SpatialAvgPool2d,
    layers.SpatialBlurPool2d,
    layers.SpatialFit2d,
    layers.SpatialInsertZeros2d,
    layers.SpatialMaxPool2d,
    layers.SpatialUpsample,
)

_PLAIN: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    layers.LiftingConv2d: _plain_lift,
    layers.GroupConv2d: _plain_conv,
    layers.GroupConvTranspose2d: _plain_conv_transpose,
    layers.GroupLinear: _plain_group_linear,
    layers.GroupBatchNorm2d: lambda norm: torch.fx.symbolic_trace(_PlainNorm(norm)),
    layers.ConditionalGroupBatchNorm2d: lambda norm: torch.fx.symbolic_trace(_PlainConditionalNorm(norm)),
    layers.GroupMaxPool: lambda pool: torch.fx.symbolic_trace(_Max()),
    layers.GroupAvgPool: lambda pool: torch.fx.symbolic_trace(_Mean()),
    **dict.fromkeys(_FORMULAS, _plain_formula),
}
