"""The public functions: arguments are checked here, before any kernel starts, and then handed to the operators."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from . import _checks as checks
from ._constants import constant, table
from ._interpolation import join_cosets, split_cosets
from ._layout import plane_format, to_map_format
from .backends import BACKENDS, choose, choose_for_linear
from .groups import PointGroup, point_group
from .ops.library import OPS

ACTIVATION_SLOPES: dict[str | None, float] = {None: 1.0, "relu": 0.0, "leaky_relu": 0.2}


def lift_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    group: str | PointGroup = "p4",
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | str = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
    algorithm: str = "auto",
    backend: str = "auto",
) -> Tensor:
    """Lifting convolution: from an image to a feature map on the group.

        y(h, p) = bias + sum_t w[h^-1 t] x(p + t)        (Cohen & Welling 2016, eq. 10)

    Equivalent to ``F.conv2d(x, expand_filters(weight, group), ...).unflatten(1, (-1, order))``.

    Args:
        x: ``[B, Cin, H, W]``, any floating dtype; channels_last is fastest.
        weight: ``[Cout, Cin / groups, k, k]``, dtype and device of x.
        bias: ``[Cout]`` or None; one number per map on the group.
        group: "p1", "p4", "p4m", or a finer one such as "c8", "d8", whose filters are rotated by bilinear interpolation
            inside a disk (equivariance is then exact under quarter turns, approximate in between).
        stride, padding, dilation: as in ``torch.nn.functional.conv2d``; padding also "valid" or "same".
        groups: into how many parts the channels fall, as in ``conv2d``; every map keeps its whole group axis.
        activation: None, "relu" or "leaky_relu" (slope 0.2), in the same pass if the kernel can, else in place.
        algorithm: "auto", "direct", "fourier", "staged" or "expand".
        backend: "auto", "reference", "cpu", "triton" or "cuda".

    Returns:
        ``[B, Cout, order, H', W']`` in x's dtype; channels_last_3d if x is channels_last. A quarter turn of x turns
        the output and permutes its slots, exactly, where ``H + 2*padding - dilation*(k - 1) - 1`` is divisible by the
        stride.

    Raises:
        TypeError, ValueError: for an argument that does not fit; the message names it.
        RuntimeError: if the backend or algorithm asked for cannot serve here; the message says why.
    """
    convolve, slope = _operator(activation)
    options = stride, padding, dilation, groups, algorithm, backend
    return convolve(*_lifting(x, weight, bias, point_group(group), *options), *slope)


def group_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    group: str | PointGroup = "p4",
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | str = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
    algorithm: str = "auto",
    backend: str = "auto",
) -> Tensor:
    """Group convolution: from a feature map on the group to another.

        y(h, p) = bias + sum_{s,t} w[h^-1 s, h^-1 t] x(s, p + t)        (Cohen & Welling 2016, eq. 11)

    Equivalent to ``F.conv2d(x.flatten(1, 2), expand_filters(weight, group), ...).unflatten(1, (-1, order))``.

    Args:
        x: ``[B, Cin, order, H, W]``, any floating dtype; channels_last_3d is fastest.
        weight: ``[Cout, Cin / groups, order, k, k]``, dtype and device of x; depthwise is the case groups = Cin.

    The other arguments, the result and the errors are those of :func:`lift_conv2d`.
    """
    point = point_group(group)
    convolve, slope = _operator(activation)
    options = stride, padding, dilation, groups, algorithm, backend
    operands = _between_groups(x, weight, bias, point, *options)
    if not _off_the_grid(point):
        return convolve(*operands, *slope)
    x, weight, bias, _, *rest = operands
    bias = None if bias is None else bias.repeat_interleave(point.cosets)
    return join_cosets(convolve(split_cosets(x, point.cosets), weight, bias, "p1", *rest, *slope), point.cosets)


def conv_with_statistics(
    lifts: bool, x: Tensor, weight: Tensor, bias: Tensor | None, point: PointGroup, *options: Any
) -> tuple[Tensor, tuple[Tensor, Tensor]]:  # fmt: skip
    """:func:`lift_conv2d` or :func:`group_conv2d`, and the ``batch_statistics`` that :func:`group_batch_norm` takes.

    ``options`` are stride, padding, dilation, groups, algorithm and backend. Not for a group that permutes no pixels.
    """
    arguments = (_lifting if lifts else _between_groups)(x, weight, bias, point, *options)
    y, mean, var = OPS.conv_with_statistics(*arguments)
    return y, (mean, var)


def folds_statistics(x: Tensor, point: PointGroup, backend: str) -> bool:
    """Whether :func:`conv_with_statistics` may save a pass over the map; it depends on the algorithm chosen then."""
    return not _off_the_grid(point) and _some_algorithm_folds(x.device, x.dtype, backend)


@table
def _some_algorithm_folds(device: torch.device, dtype: torch.dtype, backend: str) -> bool:
    conv = choose("conv", torch.empty(0, dtype=dtype, device=device), backend).conv
    return conv is not None and bool(conv.folds)


def group_conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    group: str | PointGroup = "p4",
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    output_padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    *,
    algorithm: str = "auto",
    backend: str = "auto",
) -> Tensor:
    """Transposed group convolution, for upsampling: the gradient of :func:`group_conv2d` with respect to its input.

        y(s, q) = bias + sum_{h,t} w[h^-1 s, h^-1 t] x(h, p)     over p, t with stride*p + dilation*t = q + padding

    Equivalent to ``F.conv_transpose2d(x.flatten(1, 2), expand_filters(weight, group), ...).unflatten(1, (-1, order))``.

    Args:
        x: ``[B, Cin, order, H, W]``, any floating dtype; channels_last_3d is fastest.
        weight: ``[Cin, Cout / groups, order, k, k]``, dtype and device of x: the filter of the convolution
            ``Cout -> Cin`` that it transposes.
        bias: ``[Cout]`` or None; one number per map on the group.
        group, groups, algorithm, backend: as in :func:`lift_conv2d`.
        stride, padding, output_padding, dilation: as in ``torch.nn.functional.conv_transpose2d``.

    Returns:
        ``[B, Cout, order, H', W']`` in x's dtype and memory format, with
        ``H' = (H - 1) * stride - 2 * padding + dilation * (k - 1) + output_padding + 1``. A quarter turn of x turns the
        output and rolls its slots, exactly, where output_padding is 0: rows are added on one side only.

    Raises:
        TypeError, ValueError: for an argument that does not fit; the message names it.
        RuntimeError: if the backend or algorithm asked for cannot serve here; the message says why.
    """
    point = point_group(group)
    checks.tensor("x", x, dims=(5,), shape=f"[B, Cin, {point.order}, H, W]")
    checks.tensor("weight", weight, dims=(5,), shape=f"[Cin, Cout / groups, {point.order}, k, k]")
    checks.slots("x", x, 2, point)
    checks.slots("weight", weight, 2, point)
    cin, cout, _, k, _ = weight.shape
    groups = checks.whole("groups", groups, 1)
    _check_filter(x, weight, bias, cin, cout * groups, groups)
    stride, dilation = checks.pair("stride", stride, 1), checks.pair("dilation", dilation, 1)
    padding, output_padding = checks.pair("padding", padding, 0), checks.pair("output_padding", output_padding, 0)
    if any(o >= max(s, d) for o, s, d in zip(output_padding, stride, dilation, strict=True)):
        raise ValueError(
            f"output_padding: expected less than the stride {stride} or the dilation {dilation}, got {output_padding}"
        )
    # What reaches a whole stride beyond the last pixel is as if pixels followed that are zero.
    far = [o // s for o, s in zip(output_padding, stride, strict=True)]
    if any(far):
        x = F.pad(x, (0, far[1], 0, far[0]))
    rest = [o % s for o, s in zip(output_padding, stride, strict=True)]
    geometry = zip(x.shape[3:], stride, padding, dilation, rest, strict=True)
    size = [(n - 1) * s - 2 * p + d * (k - 1) + r + 1 for n, s, p, d, r in geometry]
    if min(*size, *x.shape[3:]) < 1:
        raise ValueError(
            f"padding: a {k} x {k} filter (dilation {dilation}, stride {stride}) on a plane of {tuple(x.shape[3:])} "
            f"with padding {padding} leaves no output, {tuple(size)}"
        )
    options = (stride, padding, dilation, algorithm, backend, groups)
    if _off_the_grid(point):
        y = OPS.conv_input_grad(split_cosets(x, point.cosets), _filters(weight, point), size, "p1", *options)
        y = join_cosets(y, point.cosets)
    else:
        y = OPS.conv_input_grad(x, _filters(weight, point), size, point.name, *options)
    if bias is None:
        return y
    bias = bias.to(y.dtype)[:, None, None, None]
    # In place, unless a transform might need a larger result.
    return y + bias if torch._C._are_functorch_transforms_active() else y.add_(bias)


def _operator(activation: str | None) -> tuple[Any, tuple[float, ...]]:
    """The operator of a convolution, and what it takes after all else."""
    if activation is None:
        return OPS.conv, ()
    checks.one_of("activation", activation, tuple(ACTIVATION_SLOPES))
    return OPS.conv_activated, (ACTIVATION_SLOPES[activation],)


def _lifting(x: Tensor, weight: Tensor, bias: Tensor | None, point: PointGroup, *options: Any) -> tuple[Any, ...]:
    """What the operators take, of :func:`lift_conv2d`'s arguments."""
    checks.tensor("x", x, dims=(4,), shape="[B, Cin, H, W]")
    checks.tensor("weight", weight, dims=(4,), shape="[Cout, Cin / groups, k, k]")
    return _operands(x.unsqueeze(2), weight.unsqueeze(2), bias, point, *options)


def _between_groups(
    x: Tensor, weight: Tensor, bias: Tensor | None, point: PointGroup, *options: Any
) -> tuple[Any, ...]:  # fmt: skip
    """What the operators take, of :func:`group_conv2d`'s arguments."""
    checks.tensor("x", x, dims=(5,), shape=f"[B, Cin, {point.order}, H, W]")
    checks.tensor("weight", weight, dims=(5,), shape=f"[Cout, Cin / groups, {point.order}, k, k]")
    checks.slots("x", x, 2, point)
    checks.slots("weight", weight, 2, point)
    return _operands(x, weight, bias, point, *options)


def _operands(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    point: PointGroup,
    stride: int | tuple[int, int],
    padding: int | tuple[int, int] | str,
    dilation: int | tuple[int, int],
    groups: int,
    algorithm: str,
    backend: str,
) -> tuple[Any, ...]:
    """All padding that the operators cannot do is in the map."""
    cout, cin, _, k, _ = weight.shape
    groups = checks.whole("groups", groups, 1)
    _check_filter(x, weight, bias, cin * groups, cout, groups)
    stride = checks.pair("stride", stride, 1)
    dilation = checks.pair("dilation", dilation, 1)
    x, padding = _resolve_padding(x, k, stride, padding, dilation)
    return x, _filters(weight, point), bias, point.name, stride, padding, dilation, algorithm, backend, groups


def _check_filter(x: Tensor, weight: Tensor, bias: Tensor | None, cin: int, cout: int, groups: int) -> None:
    k, k_width = weight.shape[-2:]
    if k != k_width or k == 0:
        raise ValueError(f"weight: expected a square filter, at least 1 x 1, got {k} x {k_width}")
    if cout == 0 or cin == 0:
        raise ValueError(f"weight: expected at least one channel in and out, got {cin} in and {cout} out")
    if x.shape[1] != cin:
        parts = "" if groups == 1 else f" for {groups} groups"
        raise ValueError(f"x: expected {cin} channels as the weight has{parts}, got {x.shape[1]} in {tuple(x.shape)}")
    if weight.shape[0] % groups:
        raise ValueError(f"groups: expected a divisor of the weight's {weight.shape[0]} channels, got {groups}")
    checks.same_device("weight", weight, "x", x)
    checks.same_dtype("weight", weight, "x", x)
    if bias is not None:
        checks.vector("bias", bias, cout, "x", x)
        checks.same_dtype("bias", bias, "x", x)


def _off_the_grid(point: PointGroup) -> bool:
    """Whether no element but the identity permutes the pixels: c3, c5, ..

    Cosets are then single elements. As channels they make maps over p1, whose one slot the operators of a finer group
    would take for an image.
    """
    return point.grid_subgroup.order == 1 < point.order


def _filters(weight: Tensor, point: PointGroup) -> Tensor:
    """The filters as the operators take them."""
    return weight if point.on_grid else OPS.coset_filters(weight, point.name)


def _resolve_padding(
    x: Tensor,
    k: int,
    stride: tuple[int, int],
    padding: int | tuple[int, int] | str,
    dilation: tuple[int, int],
) -> tuple[Tensor, tuple[int, int]]:
    if not isinstance(padding, str):
        return x, checks.pair("padding", padding, 0)
    checks.one_of("padding", padding, ("valid", "same"))
    if padding == "valid":
        return x, (0, 0)
    if stride != (1, 1):
        raise ValueError(f"padding: 'same' needs stride 1, got stride {stride}")
    near, far = same_padding(k, dilation)
    if near != far:
        x = F.pad(x, (0, far[1] - near[1], 0, far[0] - near[0]))
    return x, near


def same_padding(k: int, dilation: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Padding "same" in (height, width), on the near and the far side: an even filter has one more on the far side."""
    total = [d * (k - 1) for d in dilation]
    near = (total[0] // 2, total[1] // 2)
    return near, (total[0] - near[0], total[1] - near[1])


def group_batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: str | None = None,
    *,
    sync: bool = False,
    batch_statistics: tuple[Tensor, Tensor] | None = None,
    backend: str = "auto",
) -> Tensor:
    """Batch norm of feature maps on the group, with statistics pooled over batch, plane and group, and an activation.

    Equivalent to ``activation(F.batch_norm(x.flatten(2), ...)).view_as(x)``, and equivariant because all slots of a map
    share statistics and affine map (Dey et al. 2021, section 2.2).

    Args:
        x: ``[B, C, order, H, W]``, or ``[B, C, H, W]`` for an image-like map.
        running_mean, running_var: ``[C]`` or None; updated in place if training.
        weight, bias: ``[C]``, or ``[B, C]`` for a conditional norm, or None.
        training: use the batch's statistics, else the running ones.
        momentum: weight of the batch in the running statistics (torch's sense).
        eps: added to the variance.
        activation: None, "relu" or "leaky_relu" (slope 0.2).
        sync: take the statistics over all ranks of ``torch.distributed``'s default group.
        batch_statistics: mean and biased variance ``[C]`` of x, in float32 (float64 for float64), where they are known:
            if training, they are not computed again. They must be x's own; gradients are those of a norm without.
        backend: "auto", "reference", "cpu", "triton" or "cuda".

    Returns:
        a map of x's shape, dtype and memory format.

    Raises:
        TypeError, ValueError: for an argument that does not fit; the message names it.
        RuntimeError: if the backend asked for cannot serve here, or ``sync`` without a process group.
    """
    checks.tensor("x", x, dims=(4, 5), shape="[B, C, order, H, W] or [B, C, H, W]")
    checks.one_of("activation", activation, tuple(ACTIVATION_SLOPES))
    batch, channels = x.shape[:2]
    if channels == 0:
        raise ValueError(f"x: expected at least one channel, got shape {tuple(x.shape)}")
    for name, statistic in (("running_mean", running_mean), ("running_var", running_var)):
        if statistic is not None:
            checks.vector(name, statistic, channels, "x", x)
        elif not training:
            raise ValueError(f"{name}: expected a tensor [{channels}] when not training, got None")
    for name, parameter in (("weight", weight), ("bias", bias)):
        if parameter is None:
            continue
        checks.tensor(name, parameter, dims=(1, 2), shape=f"[{channels}] or [{batch}, {channels}]")
        if tuple(parameter.shape) not in ((channels,), (batch, channels)):
            raise ValueError(
                f"{name}: expected shape ({channels},) or ({batch}, {channels}), got {tuple(parameter.shape)}"
            )
        checks.same_device(name, parameter, "x", x)
    slope = ACTIVATION_SLOPES[activation]
    maps = x if x.dim() == 5 else x.unsqueeze(2)
    if training:
        if sync and not dist.is_initialized():
            raise RuntimeError("sync: expected an initialised torch.distributed process group, got none")
        count: int | Tensor = x.numel() // channels
        if count < 2 and not sync:
            raise ValueError(f"x: expected more than one value per channel when training, got shape {tuple(x.shape)}")
        for name, statistic in zip(("mean", "variance"), batch_statistics or (), strict=False):
            checks.vector(f"batch_statistics ({name})", statistic, channels, "x", x)
        known = () if batch_statistics is None else batch_statistics
        y, mean, var, total = OPS.batch_norm(maps, weight, bias, eps, slope, sync, backend, *known)
        _update_running(running_mean, running_var, momentum, mean, var, total if sync else count)
    else:
        y = OPS.batch_norm_eval(maps, running_mean, running_var, weight, bias, eps, slope, backend)
    return y if x.dim() == 5 else y.squeeze(2)


def _update_running(
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    mean: Tensor,
    var: Tensor,
    count: int | Tensor,
) -> None:
    """By the batch's mean and biased variance, which are of ``count`` values per map."""
    if running_mean is not None:
        running_mean.lerp_(mean.detach().to(running_mean.dtype), momentum)
    if running_var is not None:
        unbiased = var.detach() * (count / (count - 1))
        running_var.lerp_(unbiased.to(running_var.dtype), momentum)


def group_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    group: str | PointGroup = "p4",
    *,
    algorithm: str = "auto",
) -> Tensor:
    """Linear layer between vectors that are functions on the group: a 1x1 group convolution of tokens.

        y(h) = bias + sum_s w[h^-1 s] x(s)

    Equivalent to ``F.linear(x.flatten(-2), expand_filters(weight[..., None, None], group).flatten(1), ...)`` with 2.67
    (p4), 4.57 (c8) or 5.33 (p4m) times fewer products, in the basis of the irreps (docs/fourier.md). Any group is exact
    here, since no filter has to be rotated.

    Args:
        x: ``[..., Cin, order]``, any floating dtype.
        weight: ``[Cout, Cin, order]``, dtype and device of x.
        bias: ``[Cout]`` or None.
        group: "p1", "p4", "p4m", "c8", "d8", ...
        algorithm: "fourier", "expand", or "auto", which takes "expand" where there are too few channels or tokens for
            the transforms to pay.

    Returns:
        ``[..., Cout, order]`` in x's dtype, contiguous.

    Raises:
        TypeError, ValueError: for an argument that does not fit; the message names it.
    """
    point = point_group(group)
    checks.one_of("algorithm", algorithm, ("auto", "fourier", "expand"))
    checks.tensor("x", x, dims=tuple(range(2, 65)), shape=f"[..., Cin, {point.order}]")
    checks.tensor("weight", weight, dims=(3,), shape=f"[Cout, Cin, {point.order}]")
    checks.slots("x", x, -1, point)
    checks.slots("weight", weight, 2, point)
    cout, cin, order = weight.shape
    if cout == 0 or cin == 0:
        raise ValueError(f"weight: expected at least one channel in and out, got {cin} in and {cout} out")
    if x.shape[-2] != cin:
        raise ValueError(f"x: expected {cin} channels as the weight has, got {x.shape[-2]} in {tuple(x.shape)}")
    checks.same_device("weight", weight, "x", x)
    checks.same_dtype("weight", weight, "x", x)
    if bias is not None:
        checks.vector("bias", bias, cout, "x", x)
        checks.same_dtype("bias", bias, "x", x)
    tokens = x.shape[:-2].numel()
    if algorithm == "fourier" or (algorithm == "auto" and _transforms_pay(point, tokens, cin, cout, x)):
        return OPS.linear(x, weight, bias, point.name)
    # Row (o, h) and column (i, s) of the expanded matrix hold weight[o, i, h^-1 s].
    shape = (cout, order, cin, order)
    sources = _quotients(point.name, weight.device)[:, None].expand(shape)
    matrix = weight.unsqueeze(1).expand(shape).gather(3, sources).flatten(2).flatten(0, 1)
    bias = None if bias is None else bias.repeat_interleave(order)
    return F.linear(x.flatten(-2), matrix, bias).unflatten(-1, (cout, order))


def _transforms_pay(group: PointGroup, tokens: int, cin: int, cout: int, x: Tensor) -> bool:
    kernels = BACKENDS[_linear_backend(group.name, x.device, x.dtype)].linear
    assert kernels is not None  # else it would not have been chosen
    return kernels.pays(group, tokens, cin, cout, x.device)


@table
def _linear_backend(group: str, device: torch.device, dtype: torch.dtype) -> str:
    return choose_for_linear(point_group(group), device, dtype).name


@table
def _quotients(group: str, device: torch.device) -> Tensor:
    """int64 ``[order, order]``: h^-1 s."""
    return constant(point_group(group).quotient, device, torch.int64)


def group_max_pool(x: Tensor, *, backend: str = "auto") -> Tensor:
    """Maximum over the group, ``[B, C, order, H, W]`` -> ``[B, C, H, W]``; of equal values the first one's slot counts.

    A monotone activation commutes with it, ``relu(max(x)) == max(relu(x))``, and is cheaper after it.
    """
    checks.tensor("x", x, dims=(5,), shape="[B, C, order, H, W]")
    if not 1 <= x.shape[2] <= 256:
        raise ValueError(f"x: expected 1 to 256 slots in dimension 2, got {x.shape[2]}")
    return OPS.group_max(x, backend)[0]


def group_avg_pool(x: Tensor) -> Tensor:
    """Mean over the group, ``[B, C, order, H, W]`` -> ``[B, C, H, W]``."""
    checks.tensor("x", x, dims=(5,), shape="[B, C, order, H, W]")
    y = x.mean(2)
    return y.contiguous(memory_format=plane_format(x))


def restrict(x: Tensor, group: str | PointGroup, subgroup: str | PointGroup) -> Tensor:
    """The same map as one on a subgroup K of its group H: each coset K c becomes a channel.

        y(C * [H:K] + c, k, p) = x(C, k c, p)

    What the subgroup does to x it does to y: an element of K permutes the slots of y by its own product. After it come
    layers over K; the discriminators of Dey et al. (2021) whose last block is planar are the case K = "p1".

    Args:
        x: ``[B, C, |H|, ...]``, such as a feature map ``[B, C, |H|, H, W]``.
        group: H.
        subgroup: K, each of whose elements is in H.

    Returns:
        ``[B, C * [H:K], |K|, ...]`` in x's dtype and memory format.

    Raises:
        TypeError, ValueError: for an argument that does not fit; the message names it.
    """
    point, sub = point_group(group), point_group(subgroup)
    if not point.contains(sub):
        raise ValueError(f"subgroup: expected a subgroup of {point.name!r}, got {sub.name!r}")
    check_restricted(x, point)
    return choose_cosets(x, _coset_slots(point.name, sub.name, x.device))


@table
def _coset_slots(group: str, subgroup: str, device: torch.device) -> Tensor:
    return constant(point_group(group).coset_slots(point_group(subgroup)), device)


def check_restricted(x: Tensor, point: PointGroup) -> None:
    checks.tensor("x", x, dims=(3, 4, 5), shape=f"[B, C, {point.order}, ...]")
    checks.slots("x", x, 2, point)


def choose_cosets(x: Tensor, slots: Tensor) -> Tensor:
    """``[B, C, |H|, ...]`` -> ``[B, C * [H:K], |K|, ...]``, of the slots int64 ``[[H:K], |K|]``."""
    y = x[:, :, slots].flatten(1, 2)
    return to_map_format(y, x) if x.dim() == 5 else y


def expand_filters(weight: Tensor, group: str | PointGroup, *, backend: str = "auto") -> Tensor:
    """The filter stack: every filter in every pose, for an ordinary ``conv2d``.

    Args:
        weight: a lifting filter ``[Cout, Cin, k, k]`` or a group filter ``[Cout, Cin, order, k, k]``.
        group: as in :func:`lift_conv2d`.

    Returns:
        ``[Cout * order, Cin, k, k]`` or ``[Cout * order, Cin * order, k, k]``; the channel of map c, slot h is
        ``c * order + h``. Differentiable to any order.

    Raises:
        TypeError, ValueError: for an argument that does not fit; the message names it.
    """
    point = point_group(group)
    checks.tensor("weight", weight, dims=(4, 5), shape=f"[Cout, Cin, k, k] or [Cout, Cin, {point.order}, k, k]")
    if weight.dim() == 5:
        checks.slots("weight", weight, 2, point)
    if weight.shape[-1] != weight.shape[-2]:
        raise ValueError(f"weight: expected a square filter, got {weight.shape[-2]} x {weight.shape[-1]}")
    weight = weight if weight.dim() == 5 else weight.unsqueeze(2)
    if point.on_grid:
        return OPS.expand_filters(weight, point.name, backend)
    q, order = point.cosets, point.grid_subgroup.order
    stack = OPS.expand_filters(OPS.coset_filters(weight, point.name), point.grid_subgroup.name, backend)
    stack = stack.unflatten(0, (-1, q, order)).transpose(1, 2).flatten(0, 2)
    if weight.shape[2] > 1:
        stack = stack.unflatten(1, (-1, q, order)).transpose(2, 3).flatten(1, 3)
    return stack
