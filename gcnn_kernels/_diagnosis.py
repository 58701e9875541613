"""Why a layer is not equivariant: the reasons that ``check_equivariance`` knows."""

from __future__ import annotations

import torch
from torch import nn

from .groups import PointGroup
from .nn import GroupLinear, Restrict

_PLANE_CONVS = (nn.Conv2d, nn.ConvTranspose2d)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d)


def reason_of_module(
    module: nn.Module, entering: torch.Tensor | None, leaving: torch.Tensor, group: PointGroup
) -> str | None:
    """Why the output of a layer does not turn with its input, or None where that is not known."""
    found = [
        find(module, entering, leaving, group)
        for find in (_plain_layer, _windows, _same_padding, _output_padding, _flatten, _restriction)
    ]
    reasons = [reason for reason in found if reason]
    return ". Besides: ".join(reasons) if reasons else _positional_parameter(module, leaving, group)


def reason_of_code(module: nn.Module, value: torch.Tensor, group: PointGroup) -> str:
    """Why code between layers breaks equivariance, as far as a parameter or a shape tells."""
    reason = _positional_parameter(module, value, group)
    if reason:
        return reason
    if value.dim() == 2:
        return "a view or flatten makes a vector of positions and slots; pool over the group and over the plane first"
    return (
        "the code between layers treats slots or positions unequally: a view, slice, shift, resize, or a function of "
        "the position"
    )


def _windows(module, entering, leaving, group):
    """Windows that start at the near edge and do not end at the far one."""
    if entering is None or entering.dim() < 4 or not hasattr(module, "kernel_size") or not hasattr(module, "stride"):
        return None
    if isinstance(module, nn.modules.conv._ConvTransposeNd) or "Transpose" in type(module).__name__:
        return None
    padding = getattr(module, "padding", 0)
    if isinstance(padding, str):
        return None
    kernel, stride = _pair(module.kernel_size), _pair(module.stride or module.kernel_size)
    padding, dilation = _pair(padding), _pair(getattr(module, "dilation", 1))
    for size, k, s, p, d in zip(entering.shape[-2:], kernel, stride, padding, dilation, strict=True):
        left = (size + 2 * p - d * (k - 1) - 1) % s
        if left:
            return (
                f"windows of {k} with stride {s} and padding {p} leave out the last {left} of {size} pixels, and of a "
                f"rotated map the first: the rest ({size} + 2*{p} - {d}*({k} - 1) - 1) mod {s} must be 0. Take another "
                f"size or {_remedy(module)}"
            )
    if kernel[0] != kernel[1] or stride[0] != stride[1] or padding[0] != padding[1] or dilation[0] != dilation[1]:
        return "its windows are not square: kernel_size, stride, padding and dilation must be equal in both directions"
    return None


def _remedy(module):
    return (
        "take nn.SpatialMaxPool2d or SpatialAvgPool2d"
        if isinstance(module, _POOLS)
        else "put nn.SpatialFit2d before it"
    )


def _same_padding(module, entering, leaving, group):
    if getattr(module, "padding", None) == "same" and _pair(module.kernel_size)[0] % 2 == 0:
        k = _pair(module.kernel_size)[0]
        return (
            f"padding='same' with an even filter ({k} x {k}) pads one more pixel on the far side than on the near one"
        )
    return None


def _output_padding(module, entering, leaving, group):
    if "Transpose" in type(module).__name__ and any(_pair(getattr(module, "output_padding", 0))):
        return f"output_padding={module.output_padding} adds pixels on the far side only"
    return None


def _flatten(module, entering, leaving, group):
    if isinstance(module, (nn.Flatten, nn.Unflatten)):
        return (
            f"it makes {tuple(leaving.shape)} out of {tuple(entering.shape)}, where positions or slots lie among the "
            "features; pool over the group and over the plane first"
        )
    return None


def _plain_layer(module, entering, leaving, group):
    channels = None if entering is None or entering.dim() < 2 else entering.shape[1]
    if channels and isinstance(module, (nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)):
        return (
            f"{type(module).__name__} over {channels} channels has a scale and a bias per slot where they are maps and "
            f"slots flattened; take nn.GroupBatchNorm2d on [B, C, {group.order}, H, W]"
        )
    if isinstance(module, _PLANE_CONVS):
        return (
            f"{type(module).__name__} is equivariant to shifts only; take nn.LiftingConv2d for images, nn.GroupConv2d "
            "for maps on the group"
        )
    if isinstance(module, nn.Linear):
        return (
            "nn.Linear mixes the slots of the group (or the positions) among its features; pool over the group first "
            "or take nn.GroupLinear"
        )
    return None


def _restriction(module, entering, leaving, group):
    if isinstance(module, Restrict):
        return f"after it the network is equivariant under its subgroup only; check that one instead of {group.name!r}"
    return None


def _positional_parameter(module, value, group):
    """A parameter of the module itself with an axis as long as the group's or the plane's."""
    for name, parameter in module.named_parameters(recurse=False):
        shape = tuple(parameter.shape)
        trailing = tuple(n for n in shape if n > 1)
        if len(shape) >= 3 and trailing and group.order in shape and not _is_filter(module, shape):
            return f"its parameter {name!r} {shape} has another number for each slot; one number per map is equivariant"
        if value.dim() >= 4 and len(shape) >= 2 and shape[-2:] == tuple(value.shape[-2:]):
            return f"its parameter {name!r} {shape} has another number for each position"
        if len(shape) == 1 and value.dim() == 4 and shape[0] == value.shape[1] and shape[0] % group.order == 0:
            return f"its parameter {name!r} {shape} has another number for each slot; one number per map is equivariant"
    return None


def _is_filter(module, shape):
    return (hasattr(module, "kernel_size") and len(shape) >= 4) or isinstance(module, GroupLinear)


def _pair(value):
    return value if isinstance(value, (tuple, list)) else (value, value)
