"""What a backend is: one class whose methods are the kernels, and whose predicates say why it cannot serve.

A predicate returns None if the backend can serve the request and otherwise the reason, in words for the user. The same
predicate serves both ways of choosing: automatic selection passes over a backend that gives a reason, an
explicit request raises it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from ..groups import PointGroup

ALGORITHMS = ("direct", "fourier", "expand")


@dataclass(frozen=True, slots=True)
class ConvProblem:
    """One convolution, as far as kernels and cost models need to know it.

    A lifting convolution is the case ``in_slots == 1``: the input is a function on the plane, which has one slot
    instead of one per group element. Sizes are (height, width) pairs.
    """

    op: str  # "conv" | "conv_input_grad" | "conv_weight_grad"
    group: PointGroup
    batch: int
    in_channels: int
    out_channels: int
    in_slots: int
    kernel: int
    in_size: tuple[int, int]
    out_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    dtype: torch.dtype
    device: torch.device

    @property
    @abstractmethod
    @abstractmethod
    def in_shape(self) -> tuple[int, ...]:
        return (self.batch, self.in_channels, self.in_slots, *self.in_size)

    @property
    def out_shape(self) -> tuple[int, ...]:
        return (self.batch, self.out_channels, self.group.order, *self.out_size)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.out_channels, self.in_channels, self.in_slots, self.kernel, self.kernel)


class Backend(ABC):
    """A set of kernels. Subclasses override what they have; all shapes and formats are checked before.

    Feature maps are ``[B, C, S, H, W]`` (S slots: 1 for images, else the group's order), filters
    ``[Cout, Cin, S, k, k]``. Inputs may have any strides. A map that is returned has the memory format
    ``gcnn_kernels._layout.map_format`` of the map that came in.
    """

    name: str

    @abstractmethod
    def missing(self) -> str | None:
        """Why this backend cannot be used on this machine at all, or None."""

    def only_by_name(self) -> str | None:
        """Why automatic choice passes over this backend although it could serve, or None."""
        return None

    # --- convolution -------------------------------------------------------------------------------------------
    @abstractmethod
    def refuses_conv(self, problem: ConvProblem, algorithm: str) -> str | None:
        """Why this problem cannot be served with this algorithm ("auto" included), or None."""

    @abstractmethod
    def choose_algorithm(self, problem: ConvProblem) -> str:
        """The algorithm expected to be fastest among those that ``refuses_conv`` lets through."""

    @abstractmethod
    def conv(self, problem, algorithm, x, weight, bias):
        """``[B, Cin, S, H, W]``, ``[Cout, Cin, S, k, k]``, ``[Cout]`` or None -> ``[B, Cout, order, H', W']``."""

    @abstractmethod
    def conv_input_grad(self, problem, algorithm, grad, weight):
        """``[B, Cout, order, H', W']``, ``[Cout, Cin, S, k, k]`` -> ``[B, Cin, S, H, W]``."""

    @abstractmethod
    def conv_weight_grad(self, problem, algorithm, grad, x):
        """``[B, Cout, order, H', W']``, ``[B, Cin, S, H, W]`` -> ``[Cout, Cin, S, k, k]``."""

    # --- filters, norm, pool -----------------------------------------------------------------------------------
    @abstractmethod
    def refuses(self, op: str, x: torch.Tensor) -> str | None:
        """Why ``op`` ("filters", "norm" or "pool") on the tensor x cannot be served, or None."""

    @abstractmethod
    def expand_filters(self, weight, group):
        """``[Cout, Cin, S, k, k]`` -> the filter stack ``[Cout * order, Cin * S, k, k]``."""

    @abstractmethod
    def reduce_filters(self, stack, group, in_slots):
        """The adjoint of ``expand_filters``: ``[Cout * order, Cin * S, k, k]`` -> ``[Cout, Cin, S, k, k]``."""

    @abstractmethod
    def norm_stats(self, x):
        """``[B, C, S, H, W]`` -> mean and biased variance ``[C]`` over batch, slots and plane.

        Statistics are float32, or float64 for float64 maps, and free of cancellation.
        """

    @abstractmethod
    def norm_apply(self, x, mean, rstd, weight, bias, slope):
        """y = act(weight * (x - mean) * rstd + bias); mean, rstd ``[C]``; weight, bias ``[C]``, ``[B, C]`` or None.

        act(t) = t where t > 0, else slope * t: slope 1 is no activation, 0 is ReLU.
        """

    @abstractmethod
    def norm_backward_sums(self, grad, x, mean, rstd, weight, bias, slope):
        """Sums over slots and plane, ``[B, C]`` each: of g and of g * xhat.

        g = grad * act'(y), y being recomputed; xhat = (x - mean) * rstd. Accumulated and returned in the statistics'
        dtype, in an order that does not depend on the number of threads.
        """

    @abstractmethod
    def norm_backward_input(self, grad, x, mean, rstd, weight, bias, slope, mean_g, mean_gx):
        """dx = rstd * (weight * g - mean_g - xhat * mean_gx); mean_g, mean_gx ``[C]`` are zero in evaluation mode."""

    def norm_eval(self, x, mean, var, weight, bias, eps, slope):
        """``norm_apply`` with rstd = 1 / sqrt(var + eps)."""
        return self.norm_apply(x, mean, (var + eps).rsqrt(), weight, bias, slope)

    def norm_train(self, x, weight, bias, eps, slope):
        """``norm_eval`` with the map's own statistics: the output, mean and var."""
        mean, var = self.norm_stats(x)
        return self.norm_eval(x, mean, var, weight, bias, eps, slope), mean, var

    def norm_backward(self, grad, x, mean, var, weight, bias, count, eps, slope):
        """dx and the two of ``norm_backward_sums``. mean and var are of ``count`` values; constants if that is 0."""
        rstd = (var + eps).rsqrt()
        sums = self.norm_backward_sums(grad, x, mean, rstd, weight, bias, slope)
        totals = weighted_totals(*sums, weight)
        means = totals / count if count else torch.zeros_like(totals)
        return self.norm_backward_input(grad, x, mean, rstd, weight, bias, slope, *means), *sums

    @abstractmethod
    def group_max(self, x):
        """``[B, C, S, H, W]`` -> two ``[B, C, H, W]``: maximum over the slots, its uint8 index (first of equals).

        NaN wins over every number, as in ``torch.max``.
        """

    @abstractmethod
    def group_max_scatter(self, grad, index, slots):
        """``[B, C, H, W]`` -> ``[B, C, slots, H, W]``: grad at the index, zero elsewhere."""

    @abstractmethod
    def group_max_gather(self, x, index):
        """``[B, C, S, H, W]`` -> ``[B, C, H, W]``: the value at the index; the adjoint of ``group_max_scatter``."""


def weighted_totals(sum_g, sum_gx, weight):
    """``[2, C]``: the totals over the batch of weight * g and weight * g * xhat, from the sums ``[B, C]``."""
    sums = torch.stack([sum_g, sum_gx])
    return (sums if weight is None else sums * weight.to(sums.dtype)).sum(1)


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """What sums over tensors of a dtype are kept in: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32
