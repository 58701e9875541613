"""The counterpart on the group of each layer that ``convert`` knows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils import parametrize

from .. import nn as gnn

if TYPE_CHECKING:
    from .walk import Conversion

_ELEMENTWISE = (
    nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.ELU, nn.SELU, nn.CELU, nn.ReLU6, nn.Hardswish, nn.Hardtanh,
    nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Mish, nn.Identity, nn.Dropout, nn.AlphaDropout,
)  # fmt: skip


@dataclass(frozen=True)
class Value:
    """What a node of the graph holds.

    Attributes:
        kind: "image", "map" (on the group), "flat" (such a map, to be flattened), or "planar" (behind the pooling).
        channels: number of channels, or of maps on the group.
        before: that of the network before its conversion.
    """

    kind: str
    channels: int | None
    before: int | None


class Unconvertible(Exception):
    """Why a layer or an operation cannot be converted."""


class PlaneConv2d(gnn.GroupConv2d):
    """A group convolution over the whole plane: what a ``Linear`` on a flattened map becomes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if tuple(x.shape[-2:]) != (self.kernel_size, self.kernel_size):
            raise ValueError(
                f"x: expected planes of {self.kernel_size} x {self.kernel_size} pixels, as the flattened ones had, "
                f"got {tuple(x.shape)}"
            )
        return super().forward(x)


def convert_layer(
    layer: nn.Module, value: Value, conversion: Conversion, is_head: bool
) -> tuple[nn.Module | None, nn.Module, Value]:
    """The counterpart of a layer.

    Args:
        layer: of the ordinary network.
        value: what goes in (:class:`Value`).
        conversion: knows the group and the widths.
        is_head: whether no layer with weights follows.

    Returns:
        a layer to insert before it or None, the counterpart (the layer itself where it serves), and what comes out.

    Raises:
        Unconvertible: if there is no counterpart.
    """
    if value.kind == "unknown":
        return None, layer, value  # the cause has been named
    if parametrize.is_parametrized(layer) or layer._forward_pre_hooks or layer._forward_hooks:
        raise Unconvertible(
            "its parametrization or hooks (spectral norm, weight norm) would be lost; add them afterwards"
        )
    if isinstance(layer, _ELEMENTWISE):
        return None, layer, value
    for kinds, convert in _CONVERTERS:
        if isinstance(layer, kinds):
            return convert(layer, value, conversion, is_head)
    raise Unconvertible("there is no counterpart of this layer")


def _conv(layer, value, conversion, is_head):
    if isinstance(layer.padding, str) and layer.padding == "same" and layer.kernel_size[0] % 2 == 0:
        raise Unconvertible("padding='same' with an even filter is not equivariant")
    if value.kind == "planar":
        if layer.groups != 1:
            raise Unconvertible(f"groups={layer.groups}: expected 1 behind the pooling over the group")
        return None, _planar_head(nn.Conv2d, layer, value, kernel_size=1), _after(value, layer.out_channels)
    if value.kind == "flat":
        raise Unconvertible("a convolution of a flattened map")
    k, stride, dilation = (_square(name, getattr(layer, name)) for name in ("kernel_size", "stride", "dilation"))
    padding = layer.padding if isinstance(layer.padding, str) else _square("padding", layer.padding)
    cin, out, groups = _channels(layer, value, conversion, is_head)
    kind = gnn.LiftingConv2d if value.kind == "image" else gnn.GroupConv2d
    new = kind(
        cin, out, k, stride, padding, dilation, layer.bias is not None, layer.padding_mode, conversion.group,
        groups=groups,
    )  # fmt: skip
    _initialise(new, layer)
    near = 0 if padding == "valid" else padding
    fit = gnn.SpatialFit2d(k, stride, near, dilation) if stride > 1 else None
    return fit, new, _map(out, layer.out_channels)


def _conv_transpose(layer, value, conversion, is_head):
    """Of an image by zeros between the pixels and a lifting convolution, which together are a transposed one."""
    if any(layer.output_padding):
        raise Unconvertible(
            f"output_padding={layer.output_padding} adds pixels on the far side only; take 0 and an even filter, as "
            "kernel_size=4, stride=2, padding=1, or an Upsample and a Conv2d"
        )
    if value.kind not in ("image", "map"):
        raise Unconvertible("a transposed convolution of a flattened map")
    names = ("kernel_size", "stride", "padding", "dilation")
    k, stride, padding, dilation = (_square(name, getattr(layer, name)) for name in names)
    cin, out, groups = _channels(layer, value, conversion, is_head)
    options = {"bias": layer.bias is not None, "dilation": dilation, "group": conversion.group, "groups": groups}
    if value.kind == "map":
        zeros, new = None, gnn.GroupConvTranspose2d(cin, out, k, stride, padding, **options)
    else:
        near = dilation * (k - 1) - padding
        if near < 0:
            raise Unconvertible(f"padding={padding}: expected at most {dilation * (k - 1)}")
        zeros, new = gnn.SpatialInsertZeros2d(stride), gnn.LiftingConv2d(cin, out, k, 1, near, **options)
    _initialise(new, layer)
    return zeros, new, _map(out, layer.out_channels)


def _channels(layer, value, conversion, is_head):
    """Channels in, channels out and groups of a convolution's counterpart. What is depthwise stays so."""
    lifts = value.kind == "image"
    cin, groups = layer.in_channels if lifts else value.channels, layer.groups
    out = layer.out_channels if is_head else conversion.width(layer.out_channels)
    if groups == layer.in_channels > 1 and not lifts:
        groups = cin
        out = layer.out_channels if is_head else cin * (layer.out_channels // layer.in_channels)
    elif lifts and not is_head:
        out = groups * max(1, round(out / groups))
    if cin % groups or out % groups:
        raise Unconvertible(
            f"groups={layer.groups}: expected a divisor of the {cin} and {out} channels left; take width='keep'"
        )
    return cin, out, groups


def _linear(layer, value, conversion, is_head):
    if value.kind == "planar":
        return None, _planar_head(nn.Linear, layer, value), _after(value, layer.out_features)
    if value.kind != "flat":
        raise Unconvertible("a Linear on something other than a flattened map")
    side = math.isqrt(layer.in_features // value.before)
    if side * side * value.before != layer.in_features:
        raise Unconvertible(f"its {layer.in_features} features are not {value.before} square planes")
    out = layer.out_features if is_head else conversion.width(layer.out_features)
    new = PlaneConv2d(value.channels, out, side, bias=layer.bias is not None, group=conversion.group)
    _initialise(new, layer)
    return None, new, _flat(out, layer.out_features)


def _batch_norm(layer, value, conversion, is_head):
    if value.kind not in ("map", "flat"):
        return None, layer, value
    new = gnn.GroupBatchNorm2d(
        value.channels,
        layer.eps,
        layer.momentum,
        layer.affine,
        track_running_stats=layer.track_running_stats,
        sync=isinstance(layer, nn.SyncBatchNorm),
    )
    return None, _with_constants(new, layer), value


def _instance_norm(layer, value, conversion, is_head):
    if value.kind != "map":
        return None, layer, value
    if layer.track_running_stats:
        raise Unconvertible("track_running_stats=True: expected False")
    return None, _with_constants(gnn.GroupInstanceNorm2d(value.channels, layer.eps, layer.affine), layer), value


def _group_norm(layer, value, conversion, is_head):
    if value.kind != "map":
        return None, layer, value
    if value.channels % layer.num_groups:
        raise Unconvertible(
            f"num_groups={layer.num_groups} does not divide the {value.channels} channels left; take width='keep'"
        )
    new = gnn.GroupGroupNorm2d(layer.num_groups, value.channels, layer.eps, layer.affine)
    return None, _with_constants(new, layer), value


def _max_pool(layer, value, conversion, is_head):
    _expect(layer, ceil_mode=False, return_indices=False)
    if _square("dilation", layer.dilation) != 1:
        raise Unconvertible(f"dilation={layer.dilation}: expected 1")
    return None, gnn.SpatialMaxPool2d(*_window(layer)), value


def _avg_pool(layer, value, conversion, is_head):
    _expect(layer, ceil_mode=False, divisor_override=None)
    new = gnn.SpatialAvgPool2d(*_window(layer))
    if new.padding:
        _expect(layer, count_include_pad=True)
    return None, new, value


def _adaptive_pool(layer, value, conversion, is_head):
    size = _square("output_size", layer.output_size)
    if not isinstance(size, int):
        raise Unconvertible(f"output_size={layer.output_size}: expected a number")
    return None, gnn.SpatialAdaptiveAvgPool2d(size), value


def _upsample(layer, value, conversion, is_head):
    scale = layer.scale_factor if not isinstance(layer.scale_factor, (tuple, list)) else _square("", layer.scale_factor)
    if layer.size is not None or scale != int(scale):
        raise Unconvertible(f"size={layer.size}, scale_factor={scale}: expected a whole scale_factor")
    if layer.mode not in ("nearest", "bilinear", "bicubic"):
        raise Unconvertible(f"mode={layer.mode!r}: expected 'nearest', 'bilinear' or 'bicubic'")
    return None, gnn.SpatialUpsample(int(scale), layer.mode, bool(layer.align_corners)), value


def _dropout(layer, value, conversion, is_head):
    return None, (nn.Dropout3d(layer.p) if value.kind == "map" else layer), value


def _prelu(layer, value, conversion, is_head):
    if layer.num_parameters == 1 or value.kind not in ("map", "flat"):
        return None, layer, value
    return None, nn.PReLU(value.channels, layer.weight.mean().item()), value


def _flatten(layer, value, conversion, is_head):
    if (layer.start_dim, layer.end_dim) != (1, -1) or value.kind == "image":
        raise Unconvertible("only a flattening of maps, from dimension 1 to the last, is known")
    return None, layer, value if value.kind == "planar" else _flat(value.channels, value.before)


def _softmax(layer, value, conversion, is_head):
    if layer.dim != 1 or value.kind != "planar":
        raise Unconvertible("only a softmax over the channels, dimension 1, behind the last layer is known")
    return None, layer, value


_CONVERTERS = (
    (nn.Conv2d, _conv),
    (nn.ConvTranspose2d, _conv_transpose),
    (nn.Linear, _linear),
    ((nn.BatchNorm2d, nn.BatchNorm1d, nn.SyncBatchNorm), _batch_norm),
    (nn.InstanceNorm2d, _instance_norm),
    (nn.GroupNorm, _group_norm),
    (nn.MaxPool2d, _max_pool),
    (nn.AvgPool2d, _avg_pool),
    (nn.AdaptiveAvgPool2d, _adaptive_pool),
    (nn.Upsample, _upsample),
    (nn.Dropout2d, _dropout),
    (nn.PReLU, _prelu),
    (nn.Flatten, _flatten),
    ((nn.Softmax, nn.LogSoftmax), _softmax),
)


def _planar_head(kind, layer, value, **options):
    """The head behind the pooling over the group: the same layer with fewer channels in."""
    out = layer.weight.shape[0]
    new = kind(value.channels, out, bias=layer.bias is not None, **options)
    _initialise(new, layer)
    return new


@torch.no_grad()
def _initialise(new, layer):
    """Normal weights with the variance that those of the layer have, times the ratio of the fan-ins; its mean bias."""
    deviation = layer.weight.double().std(correction=0).item()
    new.weight.normal_(0, deviation * math.sqrt(_fan_in(layer) / _fan_in(new)))
    if new.bias is not None:
        new.bias.fill_(layer.bias.double().mean().item())


def _fan_in(layer):
    if isinstance(layer, (nn.ConvTranspose2d, gnn.GroupConvTranspose2d)):
        return layer.weight[:, 0].numel() // layer.groups
    return layer.weight[0].numel()


@torch.no_grad()
def _with_constants(new, layer):
    if layer.affine:
        new.weight.fill_(layer.weight.double().mean().item())
        new.bias.fill_(layer.bias.double().mean().item())
    return new


def _map(channels, before):
    return Value("map", channels, before)


def _flat(channels, before):
    return Value("flat", channels, before)


def _after(value, channels):
    return type(value)("planar", channels, channels)


def _window(layer):
    kernel, padding = _square("kernel_size", layer.kernel_size), _square("padding", layer.padding)
    return kernel, _square("stride", layer.stride), padding


def _square(name, value):
    values = value if isinstance(value, (tuple, list)) else (value, value)
    if values[0] != values[1]:
        raise Unconvertible(f"{name}={value}: expected the same in both directions")
    return values[0]


def _expect(layer, **options):
    for name, expected in options.items():
        if getattr(layer, name) != expected:
            raise Unconvertible(f"{name}={getattr(layer, name)}: expected {expected}")
