"""Tensors computed from images by all ranks together, kept between runs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ..common.caching import cache_folder
from ..common.distributed import World, any_rank
from ..common.files import write_atomically


def cached(name: str, rows: int, compute: Callable[[], torch.Tensor], world: World) -> torch.Tensor:
    """The tensor ``[rows, ...]`` kept in the cache under a name, computed if it is not there on all ranks."""
    file = cache_folder("features") / f"{name}.safetensors"
    found = _read(file, rows)
    if not any_rank(found is None):
        return found
    tensor = compute()
    if world.is_main:
        write_atomically(file, save({"features": tensor.contiguous()}))
    return tensor


def _read(file, rows: int) -> torch.Tensor | None:
    """The cached tensor, or None if it is not there, cut off or of another number of rows."""
    try:
        tensor = load(file.read_bytes())["features"]
    except (OSError, SafetensorError, KeyError):
        return None
    return tensor if len(tensor) == rows else None
