"""Resampling of the planes of feature maps, so that rotated maps give rotated results whatever their size.

Windows with a stride that start at the near edge and leave pixels out at the far one would break equivariance: of a
rotated map they leave out others. Here every window grows by as many pixels as would be left out. The output keeps its
size, and all windows together lie symmetrically in the plane. A 2 x 2 pooling of a plane with an odd side, for example,
becomes a 3 x 3 one with stride 2.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from .. import _checks as checks
from .._layout import is_transformed, plane_wise
from ..ops.library import OPS
from .layer import Layer

_UPSAMPLING_MODES = ("nearest", "bilinear", "bicubic")


class _Spatial(Layer):
    """A function of every plane."""

    def planes(self, x: torch.Tensor) -> torch.Tensor:
        """The function, of ``[N, C, H, W]``."""
        raise NotImplementedError

    def eager_planes(self, x: torch.Tensor) -> torch.Tensor:
        """The same, where it need not be traceable."""
        return self.planes(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        checks.tensor("x", x, dims=(4, 5), shape="[B, C, order, H, W] or [B, C, H, W]")
        self._check_size(x)
        return self._on_planes(x)

    def _on_planes(self, x: torch.Tensor) -> torch.Tensor:
        return plane_wise(self.eager_planes, x)

    def formula(self, x: torch.Tensor) -> torch.Tensor:
        """``forward`` in traceable torch operators alone."""
        y = self.planes(x.flatten(1, -3))
        return y.reshape(x.shape[:-2] + y.shape[-2:])

    def _check_size(self, x: torch.Tensor) -> None:
        pass


class _Windowed(_Spatial):
    kernel_size: int
    stride: int
    padding: int

    def __init__(self, kernel_size: int, stride: int | None, padding: int):
        super().__init__()
        self.kernel_size = checks.whole("kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else checks.whole("stride", stride, 1)
        self.padding = checks.whole("padding", padding, 0)

    def _left_out(self, size: int) -> int:
        """How many pixels of a side would be left out at its far end."""
        return (size + 2 * self.padding - self.kernel_size) % self.stride

    def _windows(self, planes: torch.Tensor) -> tuple[int, int]:
        height, width = planes.shape[-2:]
        return self.kernel_size + self._left_out(height), self.kernel_size + self._left_out(width)

    def _check_size(self, x: torch.Tensor) -> None:
        if min(x.shape[-2:]) + 2 * self.padding < self.kernel_size:
            raise ValueError(
                f"x: expected planes of at least {self.kernel_size - 2 * self.padding} pixels in each direction, "
                f"got {tuple(x.shape)}"
            )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _Pool(_Windowed):
    def __init__(self, kernel_size: int, stride: int | None = None, padding: int = 0):
        super().__init__(kernel_size, stride, padding)
        if 2 * self.padding > self.kernel_size:
            raise ValueError(f"padding: expected at most half of kernel_size {kernel_size}, got {padding}")


class SpatialAvgPool2d(_Pool):
    """Mean over windows of the plane, ``[B, C, order, H, W]`` -> ``[B, C, order, H', W']``, or of an image.

    Equal to ``nn.AvgPool2d`` where the windows fill the plane. Where they would leave pixels out, they grow (see the
    module), so that equivariance is exact for every size.

    Args:
        kernel_size, stride, padding: ints, as in ``torch.nn.AvgPool2d``; the zeros of the padding count.
    """

    def planes(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, self._windows(x), self.stride, self.padding)


class SpatialMaxPool2d(_Pool):
    """Maximum over windows of the plane, ``[B, C, order, H, W]`` -> ``[B, C, order, H', W']``, or of an image.

    Equal to ``nn.MaxPool2d`` where the windows fill the plane. Where they would leave pixels out, they grow (see the
    module), so that equivariance is exact for every size.

    Args:
        kernel_size, stride, padding: ints, as in ``torch.nn.MaxPool2d``.
    """

    def planes(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(x, self._windows(x), self.stride, self.padding)

    def _on_planes(self, x: torch.Tensor) -> torch.Tensor:
        # Torch's kernel for CPUs is good at many channels only, and keeps an index of 8 bytes.
        if x.device.type != "cpu" or self.stride != 2 or self.padding or self._windows(x) != (2, 2):
            return super()._on_planes(x)
        if x.dim() == 5:
            return OPS.spatial_max(x, "auto")[0]
        return OPS.spatial_max(x.unsqueeze(2), "auto")[0].squeeze(2)

    def eager_planes(self, x: torch.Tensor) -> torch.Tensor:
        if is_transformed() or not x.requires_grad:
            return self.planes(x)
        return _MaxPool.apply(x, self._windows(x), self.stride, self.padding)


class _MaxPool(torch.autograd.Function):
    """``F.max_pool2d`` whose gradient depends on x's shape only.

    Torch's double backward fills a contiguous map of zeros for x, and adds it to the others.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, kernel_size: tuple[int, int], stride: int, padding: int) -> torch.Tensor:
        y, index = F.max_pool2d(x, kernel_size, stride, padding, return_indices=True)
        ctx.save_for_backward(x, index)
        ctx.windows = kernel_size, (stride, stride), (padding, padding)
        return y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:  # type: ignore[override]
        x, index = ctx.saved_tensors
        back = torch.ops.aten.max_pool2d_with_indices_backward
        return back(grad, x.detach(), *ctx.windows, (1, 1), False, index), None, None, None


class SpatialBlurPool2d(_Windowed):
    """Low-pass filter and subsampling (Zhang 2019, "Making convolutional networks shift-invariant again").

    ``[B, C, order, H, W]`` -> ``[B, C, order, ceil(H / stride), ceil(W / stride)]`` for the binomial filter 1 2 1, its
    edges reflected. Where the stride would leave pixels out the filter grows (1 3 3 1), so that equivariance is exact
    for every size.

    Args:
        kernel_size: of the binomial filter, at least 2.
        stride: 2 halves the size.
    """

    filters: torch.Tensor

    def __init__(self, kernel_size: int = 3, stride: int = 2):
        kernel_size = checks.whole("kernel_size", kernel_size, 2)
        super().__init__(kernel_size, stride, (kernel_size - 1) // 2)
        self.register_buffer("filters", self._binomial_filters(), persistent=False)

    def _binomial_filters(self) -> torch.Tensor:
        """float64 ``[stride, kernel_size + stride - 1]``: in row r the filter with r more taps, zeros behind it."""
        filters = torch.zeros(self.stride, self.kernel_size + self.stride - 1, dtype=torch.float64)
        for more in range(self.stride):
            taps = self.kernel_size + more
            for tap in range(taps):
                filters[more, tap] = math.comb(taps - 1, tap) / 2 ** (taps - 1)
        return filters

    def planes(self, x: torch.Tensor) -> torch.Tensor:
        channels, (height, width) = x.shape[1], self._windows(x)
        rows = self.filters[height - self.kernel_size, :height].unsqueeze(1)
        columns = self.filters[width - self.kernel_size, :width].unsqueeze(0)
        weight = (rows * columns).to(x.dtype).expand(channels, 1, height, width)
        padded = F.pad(x, (self.padding,) * 4, mode="reflect")
        return F.conv2d(padded, weight, stride=self.stride, groups=channels)

    def _check_size(self, x: torch.Tensor) -> None:
        if min(x.shape[-2:]) <= self.padding:
            raise ValueError(
                f"x: expected planes of more than {self.padding} pixels in each direction, got {tuple(x.shape)}"
            )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}"


class SpatialFit2d(_Spatial):
    """Makes planes fit the stride of the convolution that follows, so that it is equivariant for every size.

    Where the windows of a convolution with stride s would leave r pixels out, it averages over (1 + r) x (1 + r) pixels
    with stride 1, which makes the plane smaller by r; else it does nothing. The convolution's output has the size that
    it would have had. Before a 1 x 1 convolution with stride 2, for example, it makes even planes' subsampling a 2 x 2
    average.

    Args:
        kernel_size, stride, padding, dilation: ints, those of the convolution.
    """

    kernel_size: int
    stride: int
    padding: int
    dilation: int

    def __init__(self, kernel_size: int, stride: int, padding: int = 0, dilation: int = 1):
        super().__init__()
        self.kernel_size = checks.whole("kernel_size", kernel_size, 1)
        self.stride = checks.whole("stride", stride, 1)
        self.padding = checks.whole("padding", padding, 0)
        self.dilation = checks.whole("dilation", dilation, 1)

    def planes(self, x: torch.Tensor) -> torch.Tensor:
        reach = self.dilation * (self.kernel_size - 1) + 1 - 2 * self.padding
        height, width = x.shape[-2:]
        return F.avg_pool2d(x, (1 + (height - reach) % self.stride, 1 + (width - reach) % self.stride), 1)

    def extra_repr(self) -> str:
        text = f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
        return text if self.dilation == 1 else f"{text}, dilation={self.dilation}"


class SpatialInsertZeros2d(_Spatial):
    """Puts stride - 1 zeros between neighbouring pixels, ``[..., H, W]`` -> ``[..., s (H - 1) + 1, s (W - 1) + 1]``.

    A convolution with stride 1 after it is a transposed convolution with stride s, whose output turns with its input as
    long as nothing is added on one side only (``output_padding``).
    """

    stride: int

    def __init__(self, stride: int = 2):
        super().__init__()
        self.stride = checks.whole("stride", stride, 1)

    def planes(self, x: torch.Tensor) -> torch.Tensor:
        one = torch.ones((), dtype=x.dtype, device=x.device).expand(x.shape[1], 1, 1, 1)
        return F.conv_transpose2d(x, one, stride=self.stride, groups=x.shape[1])

    def extra_repr(self) -> str:
        return f"stride={self.stride}"


class SpatialAdaptiveAvgPool2d(_Spatial):
    """Mean over windows so chosen that the output has a given size, ``[B, C, order, H, W]`` or an image.

    Equal to ``nn.AdaptiveAvgPool2d``, whose windows lie symmetrically in the plane.

    Args:
        output_size: height and width of the output, one number.
    """

    output_size: int

    def __init__(self, output_size: int = 1):
        super().__init__()
        self.output_size = checks.whole("output_size", output_size, 1)

    def planes(self, x: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        return repr(self.output_size)


class SpatialUpsample(_Spatial):
    """Enlarges the planes by a whole number, ``[B, C, order, H, W]`` -> ``[B, C, order, s H, s W]``, or an image.

    Equal to ``nn.Upsample``. Whole factors only: other ones repeat some rows more often than their mirror images.

    Args:
        scale_factor: s.
        mode: "nearest", "bilinear" or "bicubic".
        align_corners: as in ``torch.nn.Upsample``, for the latter two.
    """

    scale_factor: int
    mode: str
    align_corners: bool

    def __init__(self, scale_factor: int = 2, mode: str = "nearest", align_corners: bool = False):
        super().__init__()
        self.scale_factor = checks.whole("scale_factor", scale_factor, 1)
        checks.one_of("mode", mode, _UPSAMPLING_MODES)
        if align_corners and mode == "nearest":
            raise ValueError("align_corners: expected False in mode 'nearest', got True")
        self.mode, self.align_corners = mode, align_corners

    def planes(self, x: torch.Tensor) -> torch.Tensor:
        corners = None if self.mode == "nearest" else self.align_corners
        return F.interpolate(x, scale_factor=float(self.scale_factor), mode=self.mode, align_corners=corners)

    def extra_repr(self) -> str:
        return f"scale_factor={self.scale_factor}, mode={self.mode!r}" + (
            ", align_corners=True" if self.align_corners else ""
        )
