"""Depthwise convolutions in the basis of the irreps (csrc/cpu/depthwise_fourier.h), against float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from cpu_cases import check, draw

import gcnn_kernels as gk
from gcnn_kernels.backends import BACKENDS
from gcnn_kernels.backends.cpu import kernels

pytestmark = pytest.mark.skipif(BACKENDS["cpu"].unavailable() is not None, reason="the cpu backend is not built")


def depthwise(group, channels, *args, **options):
    return draw(group, (channels, channels), *args, groups=channels, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [2, 8, 21, 70])  # half vectors, whole ones, parts of one, two panels of filters
@pytest.mark.parametrize("group", ["p4", "p4m"])
def test_channels(group, channels, dtype):
    check("depthwise", *depthwise(group, channels, 3, (9, 14), dtype=dtype, padding=(1, 1)))


@pytest.mark.parametrize(
    ("k", "size", "geometry"),
    [
        (1, (1, 1), {}),
        (3, (3, 40), {"padding": (1, 1)}),
        (3, (90, 300), {"padding": (1, 1)}),  # several blocks of rows
        (7, (7, 8), {"padding": (3, 3)}),
        (2, (8, 9), {"padding": (3, 0)}),  # more padding than filter
        (3, (9, 12), {"dilation": (2, 3), "padding": (2, 1)}),
        (3, (16, 16), {"stride": (2, 2), "padding": (1, 1)}),
        (3, (15, 18), {"stride": (2, 2), "padding": (1, 1)}),
        (4, (17, 40), {"stride": (2, 2), "padding": (1, 1)}),
        (3, (16, 15), {"stride": (2, 1), "padding": (0, 2)}),
        (3, (17, 19), {"stride": (3, 2), "dilation": (2, 1), "padding": (2, 0)}),
        (1, (9, 9), {"stride": (2, 2)}),  # pixels that no tap reads
        (2, (11, 11), {"stride": (4, 3)}),
        (5, (40, 41), {"stride": (2, 2), "padding": (2, 2)}),
    ],
)
@pytest.mark.parametrize("group", ["p4", "p4m"])
def test_geometry(group, k, size, geometry):
    check("depthwise", *depthwise(group, 5, k, size, **geometry))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("group", ["c8", "c12", "c16", "d8", "d12"])
def test_cosets(group, stride):
    """Pairs of cosets, and an odd number of them, which are filters for each other."""
    torch.manual_seed(0)
    order = gk.point_group(group).order
    shapes = (2, 3, order, 9, 7), (3, 1, order, 3, 3), (3,)
    tensors = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    found, exact = (
        gk.group_conv2d(*tensors, group=group, groups=3, padding=1, stride=stride, backend=backend)
        for backend in ("cpu", "reference")
    )
    torch.testing.assert_close(found, exact, rtol=1e-12, atol=1e-12)
    grad = torch.randn_like(exact)
    gradients = (torch.autograd.grad(y, tensors, grad) for y in (found, exact))
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_the_weight_gradient_does_not_depend_on_the_number_of_threads(threads):
    problem, x, _, _, grad = depthwise("p4m", 5, 3, (90, 300), padding=(1, 1))
    found = []
    for count in (1, 2, 3):
        threads(count)
        found.append(kernels.conv_weight_grad(replace(problem, op="conv_weight_grad"), grad, x))
    assert all(map(torch.equal, found, found[1:] + found[:1]))
