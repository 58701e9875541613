"""Convolutions of the cpu backend with few channels: sums without gaps between pixels, pixels in parts."""

from __future__ import annotations

import math

import pytest
import torch

import gcnn_kernels as gk
from gcnn_kernels.backends import BACKENDS
from gcnn_kernels.groups import point_group

pytestmark = pytest.mark.skipif(BACKENDS["cpu"].unavailable() is not None, reason="the cpu backend is not built")


def convolve(x, weight, bias, group, padding=0, backend="cpu"):
    function = gk.lift_conv2d if x.dim() == 4 else gk.group_conv2d
    return function(x, weight, bias, group, padding=padding, backend=backend)


def draw(group, cin, cout, k, size, lifting, dtype=torch.float32):
    torch.manual_seed(0)
    slots = () if lifting else (point_group(group).order,)
    x = torch.randn(2, cin, *slots, *size, dtype=dtype)
    return x, torch.randn(cout, cin, *slots, k, k, dtype=dtype), torch.randn(cout, dtype=dtype)


@pytest.mark.parametrize("lifting", [False, True])
@pytest.mark.parametrize("channels", [(3, 5), (5, 11), (11, 5), (1, 64), (3, 24), (22, 11)])
@pytest.mark.parametrize("group", ["p4", "p4m"])
def test_pointwise(group, channels, lifting):
    x, weight, bias = draw(group, *channels, 1, (23, 37), lifting)
    exact = [t.double().requires_grad_() for t in (x, weight, bias)]
    inputs = [t.requires_grad_() for t in (x, weight, bias)]
    y, expected = convolve(*inputs, group), convolve(*exact, group, backend="reference")
    grad = torch.randn_like(y)
    found = (y, *torch.autograd.grad(y, inputs, grad))
    right = (expected, *torch.autograd.grad(expected, exact, grad.double()))
    for name, a, b in zip(("y", "x", "weight", "bias"), found, right, strict=True):
        assert (a.double() - b).norm() < 2e-6 * b.norm(), name


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(
    ("channels", "k", "geometry"),
    [
        ((1, 5), 5, {"padding": 2}),
        ((2, 11), 3, {"stride": (2, 1), "padding": (0, 3)}),
        ((3, 5), 3, {"padding": 1}),
        ((7, 9), 3, {"dilation": (1, 2), "padding": 2}),  # more rows than one call of the kernel takes
        ((15, 17), 5, {"stride": 2}),
        ((3, 40), 7, {"padding": 5}),
    ],
)
@pytest.mark.parametrize("group", ["p4", "p4m"])
def test_lifting_by_the_symmetry_of_the_taps(group, channels, k, geometry, memory_format):
    """Rows long enough for several runs of pixels, the last one shorter."""
    x, weight, bias = draw(group, *channels, k, (11, 333), True)
    exact = [t.double().requires_grad_() for t in (x, weight, bias)]
    inputs = [t.requires_grad_() for t in (x.contiguous(memory_format=memory_format), weight, bias)]
    y = gk.lift_conv2d(*inputs, group, **geometry, backend="cpu")
    expected = gk.lift_conv2d(*exact, group, **geometry, backend="reference")
    grad = torch.randn_like(y)
    found = (y, *torch.autograd.grad(y, inputs, grad))
    right = (expected, *torch.autograd.grad(expected, exact, grad.double()))
    for name, a, b in zip(("y", "x", "weight", "bias"), found, right, strict=True):
        assert (a.double() - b).norm() < 2e-6 * b.norm(), name


@pytest.mark.parametrize("lifting", [False, True])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_stays_where_filters_reach(value, k, lifting):
    x, weight, bias = draw("p4m", 3, 5, k, (9, 30), lifting)
    x[0, 1, ..., 4, 13] = value
    y = convolve(x.contiguous(memory_format=torch.channels_last_3d if x.dim() == 5 else torch.channels_last),
                 weight, bias, "p4m", padding=k // 2)  # fmt: skip
    reached = torch.zeros(2, 1, 1, 9, 30, dtype=torch.bool)
    reached[0, ..., 4 - k // 2 : 5 + k // 2, 13 - k // 2 : 14 + k // 2] = True
    assert (~y.isfinite()).equal(reached.expand_as(y))


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("lifting", [False, True])
def test_the_weight_gradient_does_not_depend_on_the_number_of_threads(lifting, k):
    x, weight, _ = draw("p4m", 3, 5, k, (40, 50), lifting)
    weight.requires_grad_()
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            y = convolve(x, weight, None, "p4m", padding=k // 2)
            found.append(torch.autograd.grad(y, weight, y.detach())[0])
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, found, found[1:] + found[:1]))
