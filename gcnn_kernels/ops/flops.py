"""What ``torch.utils.flop_counter.FlopCounterMode`` counts for the operators.

As for torch's own convolutions, whose fast algorithms it does not see either, these are the operations of the formula:
two for each product of the filter stack or the expanded matrix, whatever algorithm runs.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from ..groups import point_group
from .library import OPS

Shape = Sequence[int]


def _conv(x_shape: Shape, weight_shape: Shape, *args: Any, out_shape: Shape, **kwargs: Any) -> int:
    return _stack(out_shape, weight_shape)


def _conv_with_statistics(
    x_shape: Shape, weight_shape: Shape, *args: Any, out_shape: Sequence[Shape], **kwargs: Any
) -> int:
    return _stack(out_shape[0], weight_shape)


def _conv_input_grad(grad_shape: Shape, weight_shape: Shape, *args: Any, out_shape: Shape, **kwargs: Any) -> int:
    return _stack(grad_shape, weight_shape)


def _conv_weight_grad(grad_shape: Shape, x_shape: Shape, *args: Any, out_shape: Shape, **kwargs: Any) -> int:
    return _stack(grad_shape, out_shape)


def _stack(y_shape: Shape, weight_shape: Shape) -> int:
    """Every number of the output map is a sum over a filter of the stack."""
    return 2 * math.prod(y_shape) * math.prod(weight_shape[1:])


def _linear(
    x_shape: Shape, weight_shape: Shape, bias_shape: Shape | None, group: str, *, out_shape: Shape, **kwargs: Any
) -> int:
    return _matrix(x_shape, weight_shape, group)


def _linear_input_grad(grad_shape: Shape, weight_shape: Shape, group: str, *, out_shape: Shape, **kwargs: Any) -> int:
    return _matrix(grad_shape, weight_shape, group)


def _linear_weight_grad(grad_shape: Shape, x_shape: Shape, group: str, *, out_shape: Shape, **kwargs: Any) -> int:
    return _matrix(x_shape, out_shape, group)


def _matrix(map_shape: Shape, weight_shape: Shape, group: str) -> int:
    return 2 * math.prod(map_shape[:-2]) * math.prod(weight_shape[:2]) * point_group(group).order ** 2


_FORMULAS = {
    OPS.conv: _conv,
    OPS.conv_activated: _conv,
    OPS.conv_with_statistics: _conv_with_statistics,
    OPS.conv_input_grad: _conv_input_grad,
    OPS.conv_weight_grad: _conv_weight_grad,
    OPS.linear: _linear,
    OPS.linear_input_grad: _linear_input_grad,
    OPS.linear_weight_grad: _linear_weight_grad,
}
_COUNTER = "torch.utils.flop_counter"


def _register(counter: Any) -> None:
    for operator, formula in _FORMULAS.items():
        counter.register_flop_formula(operator)(formula)


class _Registration(MetaPathFinder):
    """Registers the formulas once the counter is imported; it imports Triton, which takes too long to do it here."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _COUNTER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        loader: Any = spec.loader if spec is not None else None
        execute = loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            _register(module)

        loader.exec_module = execute_and_register
        return spec


if _COUNTER in sys.modules:
    _register(sys.modules[_COUNTER])
else:
    sys.meta_path.insert(0, _Registration())
