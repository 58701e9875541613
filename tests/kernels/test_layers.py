"""Spatial resampling, norms of samples and restriction: formulas, equivariance, derivatives, export, errors."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from layer_properties import (
    check_autocast_and_compile,
    check_derivatives,
    check_equivariant,
    check_formats_and_dtypes,
    check_plain,
    check_planes_equivariant,
    settled,
)
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import gcnn_kernels as gk
from gcnn_kernels._actions import move_map

SPATIAL = {
    "average": lambda: gk.nn.SpatialAvgPool2d(2),
    "average, padded": lambda: gk.nn.SpatialAvgPool2d(3, 2, 1),
    "max": lambda: gk.nn.SpatialMaxPool2d(2),
    "max, padded": lambda: gk.nn.SpatialMaxPool2d(3, 2, 1),
    "max, stride 3": lambda: gk.nn.SpatialMaxPool2d(2, 3),
    "blur": lambda: gk.nn.SpatialBlurPool2d(),
    "blur, 4 taps, stride 3": lambda: gk.nn.SpatialBlurPool2d(4, 3),
    "fit": lambda: gk.nn.SpatialFit2d(3, 2, 1),
    "zeros": lambda: gk.nn.SpatialInsertZeros2d(2),
    "adaptive": lambda: gk.nn.SpatialAdaptiveAvgPool2d(4),
    "nearest": lambda: gk.nn.SpatialUpsample(),
    "bilinear": lambda: gk.nn.SpatialUpsample(3, "bilinear"),
    "bicubic": lambda: gk.nn.SpatialUpsample(2, "bicubic", align_corners=True),
}
NORMS = {
    "layer": lambda: gk.nn.GroupLayerNorm2d(4, activation="leaky_relu"),
    "instance": lambda: gk.nn.GroupInstanceNorm2d(4, activation="leaky_relu"),
    "group": lambda: gk.nn.GroupGroupNorm2d(2, 4, activation="leaky_relu"),
    "layer, plain": lambda: gk.nn.GroupLayerNorm2d(4, affine=False),
    "instance, plain": lambda: gk.nn.GroupInstanceNorm2d(4, affine=False),
    "group, plain": lambda: gk.nn.GroupGroupNorm2d(4, 4, affine=False),
}
LAYERS = SPATIAL | NORMS | {"restrict": lambda: gk.nn.Restrict("p4", "c2")}


@pytest.mark.parametrize("group", ["p4", "p4m", "c8"])
@pytest.mark.parametrize("name", SPATIAL | NORMS)
def test_equivariance_whatever_the_size(name, group):
    torch.manual_seed(0)
    layer = settled((SPATIAL | NORMS)[name]())
    for size in (6, 7, 8, 9):
        check_equivariant(layer, group, (2, 4, gk.point_group(group).order, size, size))
    check_equivariant(layer, group, (2, 4, gk.point_group(group).order, 6, 9))


@pytest.mark.parametrize("name", SPATIAL)
def test_images(name):
    check_planes_equivariant(SPATIAL[name]().double(), (2, 3, 7, 8))
    x = torch.randn(2, 3, 4, 8, 7)
    layer = SPATIAL[name]()
    torch.testing.assert_close(layer(x)[:, :, 1], layer(x[:, :, 1]))


@pytest.mark.parametrize("name", LAYERS)
def test_derivatives(name):
    torch.manual_seed(0)
    check_derivatives(settled(LAYERS[name]()), (2, 4, 4, 2, 3) if name in NORMS else (1, 1, 4, 4, 5))


@pytest.mark.parametrize("name", LAYERS)
def test_formats_dtypes_autocast_compile_export(name):
    torch.manual_seed(0)
    layer = settled(LAYERS[name]())
    check_formats_and_dtypes(layer, (2, 4, 4, 7, 8))
    check_autocast_and_compile(layer, (2, 4, 4, 7, 8))
    check_plain(layer, (2, 4, 4, 7, 8))


def test_pools_are_torchs_where_the_windows_fill_the_plane():
    x = torch.randn(2, 3, 4, 9, 9)
    for ours, theirs in (
        (gk.nn.SpatialAvgPool2d(3), nn.AvgPool2d(3)),
        (gk.nn.SpatialAvgPool2d(3, 2, 1), nn.AvgPool2d(3, 2, 1)),
        (gk.nn.SpatialMaxPool2d(3, 2, 1), nn.MaxPool2d(3, 2, 1)),
        (gk.nn.SpatialMaxPool2d(1, 2), nn.MaxPool2d(1, 2)),
    ):
        torch.testing.assert_close(ours(x).flatten(1, 2), theirs(x.flatten(1, 2)), rtol=0, atol=0)


def test_windows_grow_by_what_would_be_left_out():
    x = torch.randn(2, 3, 4, 7, 8)
    torch.testing.assert_close(gk.nn.SpatialAvgPool2d(2)(x[:, :, 0]), F.avg_pool2d(x[:, :, 0], (3, 2), 2))
    torch.testing.assert_close(gk.nn.SpatialMaxPool2d(3, 2, 1)(x[:, :, 0]), F.max_pool2d(x[:, :, 0], (3, 4), 2, 1))


def test_strided_convolutions_behind_a_fit():
    for options in ({"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": 1, "stride": 3}):
        fit, conv = gk.nn.SpatialFit2d(**options), gk.nn.GroupConv2d(2, 2, group="p4m", **options).double()
        for size in (6, 7, 8):
            check_equivariant(nn.Sequential(fit, conv), "p4m", (1, 2, 8, size, size))
            x = torch.randn(1, 2, 8, size, size, dtype=torch.float64)
            assert conv(fit(x)).shape == conv(x).shape


def test_zeros_and_a_convolution_are_a_transposed_convolution():
    x = torch.randn(2, 3, 6, 7)
    for k, stride, padding in ((2, 2, 0), (4, 2, 1), (3, 3, 1)):
        transposed = nn.ConvTranspose2d(3, 4, k, stride, padding)
        conv = gk.nn.LiftingConv2d(3, 4, k, padding=k - 1 - padding, group="p1")
        conv.weight.data, conv.bias.data = transposed.weight.data.transpose(0, 1).flip(2, 3), transposed.bias.data
        y = conv(gk.nn.SpatialInsertZeros2d(stride)(x)).squeeze(2)
        torch.testing.assert_close(y, transposed(x), rtol=1e-4, atol=1e-5)


def test_blur_is_the_binomial_filter():
    blur = gk.nn.SpatialBlurPool2d()
    for size, taps in ((8, [1, 3, 3, 1]), (9, [1, 2, 1])):
        x = torch.randn(2, 3, 4, size, size)
        row = torch.tensor(taps) / sum(taps)
        weight = torch.outer(row, row)[None, None]
        padded = F.pad(x.flatten(0, 2)[:, None], (1, 1, 1, 1), mode="reflect")
        expected = F.conv2d(padded, weight, stride=2).view(2, 3, 4, (size + 1) // 2, (size + 1) // 2)
        torch.testing.assert_close(blur(x), expected)
    torch.testing.assert_close(blur(torch.ones(1, 1, 4, 6, 7)), torch.ones(1, 1, 4, 3, 4))


@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu"])
def test_norms_against_formulas(activation):
    torch.manual_seed(0)
    x = (3 + 2 * torch.randn(3, 4, 8, 5, 6)).double()
    act = {None: lambda y: y, "relu": F.relu, "leaky_relu": lambda y: F.leaky_relu(y, 0.2)}[activation]
    for layer, dims, fold in (
        (gk.nn.GroupLayerNorm2d(4, activation=activation), (1, 2), x.shape),
        (gk.nn.GroupInstanceNorm2d(4, activation=activation), (2, 3, 4), x.shape),
        (gk.nn.GroupGroupNorm2d(2, 4, activation=activation), (2, 3, 4, 5), (3, 2, 2, 8, 5, 6)),
    ):
        layer = settled(layer)
        folded = x.view(fold)
        centred = folded - folded.mean(dims, keepdim=True)
        normal = (centred / (centred.square().mean(dims, keepdim=True) + 1e-5).sqrt()).view(x.shape)
        expected = act(normal * layer.weight.view(4, 1, 1, 1) + layer.bias.view(4, 1, 1, 1))
        torch.testing.assert_close(layer(x), expected)


RESTRICTIONS = [("p4m", "p4"), ("p4m", "d2"), ("p4m", "d1"), ("p4m", "p1"), ("p4", "c2"), ("d8", "p4m"), ("c8", "p4")]


@pytest.mark.parametrize("group, subgroup", RESTRICTIONS)
def test_restriction_turns_as_the_subgroup_does(group, subgroup):
    """k restrict(x) = restrict(k x): the left side by the subgroup's table, the right one by the group's."""
    large, small = gk.point_group(group), gk.point_group(subgroup)
    x = torch.randn(2, 3, large.order, 5, 5)
    y = gk.restrict(x, group, subgroup)
    assert y.shape == (2, 3 * large.order // small.order, small.order, 5, 5)
    assert torch.equal(y.flatten().sort().values, x.flatten().sort().values)
    for k in small.grid_elements:
        moved = move_map(x, int(large.embedding(small)[k]), large)
        assert torch.equal(gk.restrict(moved, group, subgroup), move_map(y, int(k), small))
    assert torch.equal(gk.nn.Restrict(group, subgroup)(x), y)


def test_restriction_by_steps_and_to_the_group_itself():
    x = torch.randn(1, 2, 8, 3, 3)
    assert torch.equal(gk.restrict(x, "p4m", "p4m"), x)
    by_steps = gk.restrict(gk.restrict(x, "p4m", "p4"), "p4", "p1")
    assert torch.equal(by_steps.sort(1).values, gk.restrict(x, "p4m", "p1").sort(1).values)
    assert torch.equal(gk.restrict(x, "p4m", "p1").squeeze(2), x.flatten(1, 2))
    assert gk.restrict(torch.randn(2, 3, 8), "p4m", "p4").shape == (2, 6, 4)


def test_embeddings_keep_the_product():
    for large, small in itertools.product(map(gk.point_group, ("p4m", "d8", "c8", "p4")), repeat=2):
        if large.contains(small):
            e = large.embedding(small)
            assert (large.cayley[e[:, None], e[None, :]] == e[small.cayley]).all()


def test_layers_over_the_subgroup_follow():
    network = nn.Sequential(
        gk.nn.LiftingConv2d(3, 4, 3, group="p4m"), gk.nn.Restrict("p4m", "p4"), gk.nn.GroupConv2d(8, 4, 3, group="p4")
    )
    x = torch.randn(2, 3, 9, 9)
    assert gk.check_equivariance(network, x, "p4")
    report = gk.check_equivariance(network, x, "p4m")
    assert report.first.module == "1" and "its subgroup only" in report.first.reason


def test_errors():
    x = torch.randn(2, 3, 4, 5, 5)
    for call, kind, words in (
        (lambda: gk.restrict(x, "p4", "p4m"), ValueError, "subgroup: expected a subgroup of 'p4', got 'p4m'"),
        (lambda: gk.restrict(x, "p4m", "p4"), ValueError, "x: expected 8 slots in dimension 2"),
        (lambda: gk.nn.GroupLayerNorm2d(4)(x), ValueError, "x: expected 4 channels, got 3"),
        (lambda: gk.nn.GroupLayerNorm2d(3)(x[:, :, 0]), ValueError, "x: expected .B, 3, order, H, W."),
        (lambda: gk.nn.GroupGroupNorm2d(2, 3), ValueError, "num_groups: expected a divisor of num_features 3, got 2"),
        (lambda: gk.nn.GroupInstanceNorm2d(3, activation="gelu"), ValueError, "activation: expected one of"),
        (lambda: gk.nn.SpatialMaxPool2d((2, 3)), TypeError, "kernel_size: expected an int, got"),
        (lambda: gk.nn.SpatialMaxPool2d(2, padding=2), ValueError, "padding: expected at most half"),
        (lambda: gk.nn.SpatialAvgPool2d(6)(x), ValueError, "x: expected planes of at least 6 pixels"),
        (lambda: gk.nn.SpatialBlurPool2d(1), ValueError, "kernel_size: expected at least 2"),
        (lambda: gk.nn.SpatialBlurPool2d(5)(x[..., :2]), ValueError, "x: expected planes of more than 2 pixels"),
        (lambda: gk.nn.SpatialUpsample(1.5), TypeError, "scale_factor: expected an int, got 1.5"),
        (lambda: gk.nn.SpatialUpsample(2, "area"), ValueError, "mode: expected one of"),
        (lambda: gk.nn.SpatialAvgPool2d(2)(x.int()), TypeError, "x: expected a floating-point dtype"),
    ):
        with pytest.raises(kind, match=words):
            call()


@pytest.mark.parametrize("windows", [(2,), (3, 2, 1)])
def test_derivatives_of_a_pool_keep_the_memory_format(windows):
    """Torch's own second derivative of a maximum pool is contiguous, and holds zeros for the map."""
    x = torch.randn(2, 3, 4, 8, 8).contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    y = gk.nn.SpatialMaxPool2d(*windows)(x)
    maps = []
    y.register_hook(maps.append)
    with Called() as called:
        (gradient,) = torch.autograd.grad((y * y).sum(), x, create_graph=True)
        gradient.square().sum().backward()
    assert len(maps) == 2
    assert all(m.is_contiguous(memory_format=torch.channels_last_3d) for m in (*maps, gradient, x.grad))
    backward = "gcnn_kernels.spatial_max_scatter" if windows == (2,) else "aten.max_pool2d_with_indices_backward"
    assert f"{backward}.default" in called.names
    assert not {"aten.zeros.default", "aten.zeros_like.default"} & called.names


class Called(TorchDispatchMode):
    """The operators that are called."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(str(function))
        return function(*args, **(kwargs or {}))
