"""Checks of the public functions' arguments. Every message names the argument, what was expected and what came."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch

from .groups import PointGroup


def tensor(name: str, value: object, *, dims: tuple[int, ...], shape: str) -> torch.Tensor:
    """A floating-point tensor of one of the given ranks; ``shape`` says in words what it should be."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name}: expected a tensor {shape}, got {type(value).__name__}")
    if value.dim() not in dims:
        raise ValueError(f"{name}: expected {shape}, got {value.dim()} dimensions, {tuple(value.shape)}")
    if not value.is_floating_point():
        raise TypeError(f"{name}: expected a floating-point dtype, got {value.dtype}")
    if value.layout != torch.strided:
        raise TypeError(f"{name}: expected a dense tensor, layout torch.strided, got {value.layout}; use .to_dense()")
    return value


def same_device(name: str, value: torch.Tensor, like_name: str, like: torch.Tensor) -> None:
    if value.device != like.device:
        raise ValueError(f"{name}: expected device {like.device} as {like_name} has, got {value.device}")


def same_dtype(name: str, value: torch.Tensor, like_name: str, like: torch.Tensor) -> None:
    if value.dtype != like.dtype and not torch.is_autocast_enabled(like.device.type):
        raise TypeError(f"{name}: expected dtype {like.dtype} as {like_name} has, got {value.dtype}")


def vector(name: str, value: torch.Tensor, length: int, like_name: str, like: torch.Tensor) -> None:
    """A tensor ``[length]`` on the device of ``like``."""
    tensor(name, value, dims=(1,), shape=f"[{length}]")
    if value.shape[0] != length:
        raise ValueError(f"{name}: expected shape ({length},), got {tuple(value.shape)}")
    same_device(name, value, like_name, like)


def one_of(name: str, value: object, allowed: Collection[object]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}")


def slots(name: str, value: torch.Tensor, dim: int, group: PointGroup) -> None:
    if value.shape[dim] != group.order:
        raise ValueError(
            f"{name}: expected {group.order} slots in dimension {dim} for group {group.name!r}, "
            f"got {value.shape[dim]} in {tuple(value.shape)}"
        )


def pair(name: str, value: Any, least: int) -> tuple[int, int]:
    """A whole number or a sequence of one or two, as a pair of ints; every one at least ``least``."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(values) not in (1, 2) or not all(map(_is_whole, values)):
        raise TypeError(f"{name}: expected an int or a pair of ints, got {value!r}")
    if min(values) < least:
        raise ValueError(f"{name}: expected at least {least}, got {value!r}")
    return (int(values[0]), int(values[-1]))


def whole(name: str, value: Any, least: int) -> int:
    """A whole number, at least ``least``, as an int."""
    if not _is_whole(value):
        raise TypeError(f"{name}: expected an int, got {value!r}")
    if value < least:
        raise ValueError(f"{name}: expected at least {least}, got {value!r}")
    return int(value)


def square(name: str, value: Any) -> int:
    """The side of a square filter: a whole number, or a sequence of one or of two equal ones."""
    height, width = pair(name, value, 1)
    if height != width:
        raise ValueError(f"{name}: expected a square filter, got {height} x {width}")
    return height


def _is_whole(value: object) -> bool:
    """An int or one of numpy's, which torch takes for sizes too."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
