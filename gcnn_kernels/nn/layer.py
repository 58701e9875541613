"""What all layers share."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..groups import PointGroup


class Layer(nn.Module):
    """A module that ``torch.fx`` keeps whole, and that moves to every memory format.

    ``network.to(memory_format=torch.channels_last)`` is for tensors of four dimensions only and filters on the group
    have five; they stay contiguous, which is all the same to the kernels.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for a in (*args, *kwargs.values()):
            if isinstance(a, fx.Proxy):
                tracer: Any = a.tracer
                return tracer.create_proxy("call_module", tracer.path_of_module(self), args, kwargs)
        if torch.compiler.is_exporting() and torch.onnx.is_in_onnx_export():
            # No error: the exporter would only try another way, and fail there without this.
            warnings.warn(
                f"ONNX has no operator for {type(self).__name__}: export gcnn_kernels.to_plain(network) in its place",
                stacklevel=2,
            )
        return super().__call__(*args, **kwargs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Layer:
        def of_any_rank(t: Tensor) -> Tensor:
            try:
                return fn(t)
            except RuntimeError as error:  # of t.to(..., memory_format=channels_last or channels_last_3d)
                if "required rank" not in str(error):
                    raise
                same = t.flatten(0, -4) if t.dim() > 4 else t.unsqueeze(0)
                return fn(same).contiguous().view(t.shape)

        return super()._apply(of_any_rank, recurse)


class WeightedLayer(Layer):
    """A layer over ``point_group`` with a ``weight`` and a ``bias``, which may be None."""

    point_group: PointGroup
    weight: nn.Parameter
    bias: nn.Parameter | None

    @property
    def group(self) -> str:
        return self.point_group.name

    def reset_parameters(self) -> None:
        """As torch's layers: uniform with variance 1 / (3 fan_in); the fan-in counts the group."""
        bound = 1 / math.sqrt(self.weight[0].numel())
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)
