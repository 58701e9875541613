"""The baseline: group convolutions as they are written without this library.

A stack of transformed filters is built in Python and an ordinary convolution, ``order`` times larger, does the rest.
Maps are planar, ``[B, C * order, H, W]``, in the memory format that is faster for the case at hand.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
import torch.nn.functional as F

import gcnn_kernels as gk


def stack_by_rot90(weight, group):
    """The filter stack with ``torch.rot90``, ``flip`` and ``stack``, one pose after another.

    ``[Cout, Cin, S, k, k]`` -> ``[Cout * order, Cin * S, k, k]``; S is 1 for a lifting filter.
    """
    point = gk.point_group(group)
    poses = []
    for element in range(point.order):
        flipped, turns = divmod(element, point.rotations)
        pose = torch.rot90(weight, turns, (-2, -1))
        pose = pose.flip(-2) if flipped else pose
        poses.append(pose if weight.shape[2] == 1 else pose[:, :, point.quotient[element].tolist()])
    return torch.stack(poses, 1).flatten(0, 1).flatten(1, 2)


def stack_by_index(weight, group):
    """The filter stack by one gather with a precomputed index, as in GrouPy and its ports; shapes as above."""
    _, cin, slots, k, _ = weight.shape
    index = _stack_index(group, slots, k)
    return weight.flatten(2)[:, :, index].transpose(1, 2).reshape(-1, cin * slots, k, k)


_indices = {}


def _stack_index(group, slots, k):
    """int64 ``[order, S * k * k]``: for each pose the place in the base filter that every entry comes from."""
    if (group, slots, k) not in _indices:
        places = torch.arange(slots * k * k).view(1, 1, slots, k, k)
        order = gk.point_group(group).order
        _indices[group, slots, k] = stack_by_rot90(places, group).reshape(order, slots * k * k)
    return _indices[group, slots, k]


STACKS = {"rot90": stack_by_rot90, "index": stack_by_index}


def stack_by_grid_sample(weight, group):
    """The filter stack of a group beyond the grid, as SE(2) networks are commonly written: each pose resampled.

    Bilinear, inside the inscribed disk; shapes as above.
    """
    point = gk.point_group(group)
    k = weight.shape[-1]
    row, column = torch.meshgrid(
        *(torch.arange(k, dtype=weight.dtype, device=weight.device) - (k - 1) / 2,) * 2, indexing="ij"
    )
    disk = (row**2 + column**2 <= (k / 2) ** 2).to(weight.dtype)
    masked = (weight * disk).flatten(0, 2).unsqueeze(0)
    poses = []
    for element, ((a, b), (c, d)) in enumerate(point.matrices.tolist()):  # its inverse is ((a, c), (b, d))
        theta = torch.tensor([[[d, b, 0], [c, a, 0]]], dtype=weight.dtype, device=weight.device)  # of (column, row)
        grid = F.affine_grid(theta, (1, 1, k, k), align_corners=True)
        pose = (F.grid_sample(masked, grid, align_corners=True)[0] * disk).view_as(weight)
        poses.append(pose if weight.shape[2] == 1 else pose[:, :, point.quotient[element].tolist()])
    return torch.stack(poses, 1).flatten(0, 1).flatten(1, 2)


def conv2d(x, weight, bias, group, stride, padding, build_stack):
    """``[B, Cin * S, H, W]``, ``[Cout, Cin, S, k, k]`` -> ``[B, Cout * order, H', W']``."""
    order = gk.point_group(group).order
    if order == 1:
        return F.conv2d(x, weight.flatten(1, 2), bias, stride, padding)
    bias = None if bias is None else bias.repeat_interleave(order)
    return F.conv2d(x, build_stack(weight, group), bias, stride, padding)


# --- whole networks -----------------------------------------------------------------------------------------------


@contextmanager
def layers(memory_format, build_stack=stack_by_rot90):
    """Within this context the layers of ``gk.nn`` and ``gan.networks`` run on plain torch, with the same parameters.

    Maps keep their shape ``[B, C, order, H, W]`` and lie in memory as planar maps ``[B, C * order, H, W]`` do. Over the
    trivial group this is the plain CNN with torch's own layers.
    """

    def lift_conv2d(x, weight, bias, group, stride, padding, dilation, groups, *, activation, algorithm, backend):
        return group_conv2d(x, weight.unsqueeze(2), bias, group, stride, padding, dilation, activation=activation)

    def group_conv2d(
        x, weight, bias, group, stride, padding, dilation, groups=1, *, activation, algorithm="auto", backend="auto"
    ):
        x = (x.flatten(1, 2) if x.dim() == 5 else x).contiguous(memory_format=memory_format)
        y = conv2d(x, weight, bias, group, stride, padding, build_stack)
        return activated(y.unflatten(1, (weight.shape[0], -1)), activation)

    def conv_batch_norm(conv, norm, x, *condition):
        return norm(conv(x), *condition)

    def plane_wise(function, x):
        return function(x) if x.dim() == 4 else function(x.flatten(1, 2)).unflatten(1, x.shape[1:3])

    def max_pool(layer, x):
        return plane_wise(layer.planes, x)

    replacements = {
        (gk.nn, "conv_batch_norm"): conv_batch_norm,
        (gk.nn.conv, "lift_conv2d"): lift_conv2d,
        (gk.nn.conv, "group_conv2d"): group_conv2d,
        (gk.nn.norm, "group_batch_norm"): group_batch_norm,
        (gk.nn.pool, "group_max_pool"): group_max_pool,
        (gk.nn.spatial, "plane_wise"): plane_wise,
    }
    with ExitStack() as patches:
        patches.enter_context(patch.object(gk.nn.SpatialMaxPool2d, "_on_planes", max_pool))
        for (module, name), function in replacements.items():
            patches.enter_context(patch.object(module, name, function))
        yield


def group_batch_norm(
    x, running_mean, running_var, weight, bias, training, momentum, eps, activation, *,
    sync=False, batch_statistics=None, backend="auto",
):  # fmt: skip
    """``F.batch_norm`` on the flattened map, then the affine map if it is conditional, then the activation."""
    flat = x.flatten(1, 2) if x.dim() == 5 and x.shape[2] == 1 else x.flatten(2) if x.dim() == 5 else x
    conditional = weight is not None and weight.dim() == 2
    affine = (None, None) if conditional else (weight, bias)
    y = F.batch_norm(flat, running_mean, running_var, *affine, training, momentum, eps).view_as(x)
    if conditional:
        y = y * weight[(...,) + (None,) * (x.dim() - 2)] + bias[(...,) + (None,) * (x.dim() - 2)]
    return activated(y, activation)


def activated(y, activation):
    if activation is None:
        return y
    return F.relu(y) if activation == "relu" else F.leaky_relu(y, 0.2)


def group_max_pool(x):
    return x.squeeze(2) if x.shape[2] == 1 else x.max(2).values


def spatial_max_pool(x):
    return F.max_pool2d(x.flatten(1, 2), 2).unflatten(1, x.shape[1:3])
