"""What is known about the functions and methods that networks call between their layers."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from .layers import Unconvertible

#: what works on every element alone, or on pairs of elements
ELEMENTWISE: set[Callable[..., Any]] = {
    operator.add, operator.iadd, operator.mul, operator.imul, operator.sub, operator.truediv, operator.neg,
    torch.add, torch.mul, torch.sub, torch.relu, torch.sigmoid, torch.tanh,
    F.relu, F.leaky_relu, F.gelu, F.silu, F.elu, F.relu6, F.hardswish, F.hardtanh, F.sigmoid, F.softplus,
}  # fmt: skip
SOFTMAX: set[Callable[..., Any]] = {torch.softmax, torch.log_softmax, F.softmax, F.log_softmax}
ELEMENTWISE_METHODS = {"add", "add_", "mul", "mul_", "relu", "relu_", "sigmoid", "tanh", "contiguous", "clone"}


def is_smooth(node: fx.Node) -> bool:
    """Whether an interpolation is symmetric for every size, as nearest neighbours are not."""
    mode = node.args[3] if len(node.args) > 3 else node.kwargs.get("mode", "nearest")
    return mode in ("bilinear", "bicubic")


def check_shape_access(node: fx.Node) -> None:
    """Sizes of the batch and the plane are the same before and after, where they are counted from the right end."""
    if node.target is getattr:
        if node.args[1] != "shape":
            raise Unconvertible(f"it reads {node.args[1]!r}")
        for user in node.users:
            index = user.args[1] if user.target is operator.getitem else None
            if not _is_stable(index):
                raise Unconvertible("it reads the shape other than by shape[0], shape[-2], shape[-1] or shape[-2:]")
    elif node.target == "size" and not (len(node.args) == 2 and _is_stable(node.args[1])):
        raise Unconvertible("it reads the size other than by size(0), size(-2) or size(-1)")
    elif node.target is operator.getitem:
        raise Unconvertible("slices of values are not known to be equivariant")


def _is_stable(index):
    return index in (0, -1, -2) or index == slice(-2, None, None)


def upsample_of(node: fx.Node) -> nn.Upsample:
    """The layer that is the same as a call of ``F.interpolate``."""
    names = ("size", "scale_factor", "mode", "align_corners")
    options: dict[str, Any] = dict(zip(names, node.args[1:], strict=False)) | node.kwargs
    if options.get("size") is not None:
        raise Unconvertible("F.interpolate to a given size; take scale_factor=, a whole number")
    return nn.Upsample(
        scale_factor=options["scale_factor"],
        mode=options.get("mode", "nearest"),
        align_corners=options.get("align_corners"),
    )
