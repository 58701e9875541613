"""What a backend is: a name, the reasons why it may not serve, and one component for each operation.

A predicate returns None if the backend can serve the request and otherwise the reason, in words for the user. The same
predicate serves both ways of choosing: automatic selection passes over a backend that gives a reason, an
explicit request raises it.

A component is a module or an object that has the functions of its protocol below. All shapes and formats are checked
before. Feature maps are ``[B, C, S, H, W]`` (S slots: 1 for images, else the group's order), filters
``[Cout, Cin / groups, S, k, k]``. Inputs may have any strides. A map that is returned has the memory format
``gcnn_kernels._layout.map_format`` of the map that came in.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ..groups import PointGroup
from .problem import ConvProblem

ALGORITHMS = ("direct", "fourier", "staged", "expand")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class ConvKernels(Protocol):
    """The convolution and its two gradients by one algorithm."""

    def conv(self, problem: ConvProblem, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """``[B, Cin, S, H, W]``, ``problem.weight_shape``, ``[Cout]`` or None -> ``[B, Cout, order, H', W']``."""

    def conv_input_grad(self, problem: ConvProblem, grad: Tensor, weight: Tensor) -> Tensor:
        """``[B, Cout, order, H', W']``, ``problem.weight_shape`` -> ``[B, Cin, S, H, W]``."""

    def conv_weight_grad(self, problem: ConvProblem, grad: Tensor, x: Tensor) -> Tensor:
        """``[B, Cout, order, H', W']``, ``[B, Cin, S, H, W]`` -> ``problem.weight_shape``."""


@dataclass
class Epilogue:
    """What is done with the map of a convolution where it is written.

    Attributes:
        slope: of the activation, as in ``Affine``.
        wanted: whether statistics are.
        statistics: those of the map, as of ``Norm.norm_stats``; the kernel sets them if they are wanted.
    """

    slope: float = 1.0
    wanted: bool = False
    statistics: tuple[Tensor, Tensor] | None = None


class FoldingKernels(ConvKernels, Protocol):
    """Kernels that take an epilogue, for maps that have values."""

    def conv(
        self, problem: ConvProblem, x: Tensor, weight: Tensor, bias: Tensor | None, epilogue: Epilogue = ...
    ) -> Tensor:
        """As ``ConvKernels.conv``."""


NO_EPILOGUE = Epilogue()


class Conv(Protocol):
    """Convolutions, by one or several algorithms."""

    @property
    def algorithms(self) -> Mapping[str, ConvKernels]:
        """The kernels of each algorithm, by name."""

    @property
    def takes_cosets(self) -> Collection[str]:
        """The algorithms to which maps of a finer group are given as they are; see ``ConvProblem``."""

    @property
    def folds(self) -> Collection[str]:
        """The algorithms whose kernels are ``FoldingKernels``."""

    def unsupported(self, problem: ConvProblem, algorithm: str) -> str | None:
        """Why this problem cannot be served with this algorithm ("auto" included), or None."""

    def choose_algorithm(self, problem: ConvProblem) -> str:
        """The algorithm expected to be fastest among those that ``unsupported`` lets through."""


class Filters(Protocol):
    """The filter stack and its adjoint."""

    def expand_filters(self, weight: Tensor, group: PointGroup) -> Tensor:
        """``[Cout, Cin, S, k, k]`` -> the filter stack ``[Cout * order, Cin * S, k, k]``."""

    def reduce_filters(self, stack: Tensor, group: PointGroup, in_slots: int) -> Tensor:
        """The adjoint of ``expand_filters``: ``[Cout * order, Cin * S, k, k]`` -> ``[Cout, Cin, S, k, k]``."""


class Affine(NamedTuple):
    """What follows the standardisation in a norm: y = act(weight * xhat + bias); act(t) = t if t > 0, else slope * t.

    Attributes:
        weight, bias: ``[C]``, ``[B, C]`` or None.
        slope: 1 is no activation, 0 is ReLU.
    """

    weight: Tensor | None
    bias: Tensor | None
    slope: float


class Norm(Protocol):
    """Batch norm: four kernels, and three compositions of them, which ``norm_formulas.composed`` makes of them."""

    def norm_stats(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, C, S, H, W]`` -> mean and biased variance ``[C]`` over batch, slots and plane.

        Statistics are float32, or float64 for float64 maps, and free of cancellation.
        """

    def norm_apply(self, x: Tensor, mean: Tensor, rstd: Tensor, affine: Affine) -> Tensor:
        """y as in ``Affine``, with xhat = (x - mean) * rstd; mean, rstd ``[C]``."""

    def norm_backward_sums(
        self, grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, affine: Affine
    ) -> tuple[Tensor, Tensor]:
        """Sums over slots and plane, ``[B, C]`` each: of g and of g * xhat.

        g = grad * act'(y), y being recomputed; xhat = (x - mean) * rstd. Accumulated and returned in the statistics'
        dtype, in an order that does not depend on the number of threads.
        """

    def norm_backward_input(
        self,
        grad: Tensor,
        x: Tensor,
        mean: Tensor,
        rstd: Tensor,
        affine: Affine,
        mean_g: Tensor,
        mean_gx: Tensor,
    ) -> Tensor:
        """dx = rstd * (weight * g - mean_g - xhat * mean_gx); mean_g, mean_gx ``[C]`` are zero in evaluation mode."""

    def norm_eval(self, x: Tensor, mean: Tensor, var: Tensor, affine: Affine, eps: float) -> Tensor:
        """``norm_apply`` with rstd = 1 / sqrt(var + eps)."""

    def norm_train(self, x: Tensor, affine: Affine, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        """``norm_eval`` with the map's own statistics: the output, mean and var."""

    def norm_backward(
        self,
        grad: Tensor,
        x: Tensor,
        mean: Tensor,
        var: Tensor,
        affine: Affine,
        count: int,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """dx and the two of ``norm_backward_sums``. mean and var are of ``count`` values; constants if that is 0."""


class Pool(Protocol):
    """Maximum over the group."""

    def group_max(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, C, S, H, W]`` -> two ``[B, C, H, W]``: maximum over the slots, its uint8 index (first of equals).

        NaN wins over every number, as in ``torch.max``.
        """

    def group_max_scatter(self, grad: Tensor, index: Tensor, slots: int) -> Tensor:
        """``[B, C, H, W]`` -> ``[B, C, slots, H, W]``: grad at the index, zero elsewhere."""

    def group_max_gather(self, x: Tensor, index: Tensor) -> Tensor:
        """``[B, C, S, H, W]`` -> ``[B, C, H, W]``: the value at the index; the adjoint of ``group_max_scatter``."""


class SpatialPool(Protocol):
    """Maximum over windows of 2 x 2 pixels that fill the plane, whose corners are counted by rows."""

    def spatial_max(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, C, S, 2 H, 2 W]`` -> two ``[B, C, S, H, W]``: maximum, its uint8 index from 0 to 3 (first of equals).

        NaN wins over every number, the last one over the others, as in ``F.max_pool2d``.
        """

    def spatial_max_scatter(self, grad: Tensor, index: Tensor) -> Tensor:
        """``[B, C, S, H, W]`` -> ``[B, C, S, 2 H, 2 W]``: grad at the index, zero elsewhere."""

    def spatial_max_gather(self, x: Tensor, index: Tensor) -> Tensor:
        """``[B, C, S, 2 H, 2 W]`` -> ``[B, C, S, H, W]``: the value at the index; the adjoint of the scatter."""


class Linear(Protocol):
    """Linear layers between functions on a group, in the basis of its irreps. Tokens are ``[tokens, C, order]``."""

    def unsupported(self, group: PointGroup) -> str | None:
        """Why layers over this group cannot be served, or None."""

    def pays(self, group: PointGroup, tokens: int, cin: int, cout: int, device: torch.device) -> bool:
        """Whether this is expected to be faster than the product with the expanded matrix."""

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None, group: PointGroup, *, adjoint: bool) -> Tensor:
        """``[tokens, Cin, order]``, ``[Cout, Cin, order]``, ``[Cout]`` or None -> ``[tokens, Cout, order]``.

        The result is contiguous. ``adjoint`` maps ``[tokens, Cout, order]`` to ``[tokens, Cin, order]``.
        """

    def linear_weight_grad(self, grad: Tensor, x: Tensor, group: PointGroup) -> Tensor:
        """``[tokens, Cout, order]``, ``[tokens, Cin, order]`` -> ``[Cout, Cin, order]``."""


@dataclass(eq=False)
class Backend:
    """A set of kernels.

    Attributes:
        name: what users ask for it by.
        unavailable: why this backend cannot be used on this machine at all, or None.
        unsupported: why tensors of a device and dtype cannot be served, or None.
        conv, filters, norm, pool, spatial_pool, linear: the operations; one that is None is not served.
        explicit_only: why automatic choice passes over this backend although it could serve, or None.
    """

    name: str
    unavailable: Callable[[], str | None]
    unsupported: Callable[[torch.device, torch.dtype], str | None]
    conv: Conv | None = None
    filters: Filters | None = None
    norm: Norm | None = None
    pool: Pool | None = None
    spatial_pool: SpatialPool | None = None
    linear: Linear | None = None
    explicit_only: Callable[[], str | None] = lambda: None


class LazyModule:
    """A module that is imported when something in it is first used."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(_module(self._name), attribute)


_module = cache(importlib.import_module)


def unsupported_dtype(dtype: torch.dtype) -> str | None:
    """The reason that kernels for ``DTYPES`` give for another dtype, or None."""
    return None if dtype in DTYPES else f"it computes in {', '.join(map(str, DTYPES))}, not {dtype}"


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """What sums over tensors of a dtype are kept in: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32
