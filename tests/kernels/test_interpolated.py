"""Groups finer than the grid: against a dense float64 rotate-stack-convolve, and the stability of what they compute."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch.autograd import gradcheck, gradgradcheck

import gcnn_kernels as gk

GROUPS = ["c8", "c16", "d8", "c3", "c6", "d3"]


def rotated(filter_, matrix):
    """One k x k filter under one element, by scipy's bilinear interpolation inside the disk."""
    k = filter_.shape[-1]
    centre = (k - 1) / 2
    grid = np.stack(np.meshgrid(np.arange(k), np.arange(k), indexing="ij")).reshape(2, -1) - centre
    disk = (grid**2).sum(0).reshape(k, k) <= (k / 2) ** 2
    sources = matrix.T @ grid + centre
    values = map_coordinates(np.pad(filter_ * disk, 1), sources + 1, order=1)
    return values.reshape(k, k) * disk


def dense_stack(weight, group):
    """The stack by a loop over everything."""
    w = weight.numpy()
    cout, cin, slots, k, _ = w.shape
    out = np.zeros((cout, group.order, cin, slots, k, k))
    for h in range(group.order):
        for s in range(slots):
            source = s if slots == 1 else group.quotient[h, s]
            for o in range(cout):
                for i in range(cin):
                    out[o, h, i, s] = rotated(w[o, i, source], group.matrices[h])
    return torch.from_numpy(out.reshape(cout * group.order, cin * slots, k, k))


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("k", [1, 3, 4, 5])
def test_against_dense_rotate_stack_convolve(name, k):
    group = gk.point_group(name)
    x = torch.randn(2, 2, group.order, 7, 6, dtype=torch.float64)
    w = torch.randn(3, 2, group.order, k, k, dtype=torch.float64)
    b = torch.randn(3, dtype=torch.float64)
    stack = dense_stack(w, group)
    torch.testing.assert_close(gk.expand_filters(w, name), stack)
    expected = torch.nn.functional.conv2d(x.flatten(1, 2), stack, b.repeat_interleave(group.order), padding=1)
    for memory_format in (torch.contiguous_format, torch.channels_last_3d):
        y = gk.group_conv2d(x.contiguous(memory_format=memory_format), w, b, name, padding=1)
        torch.testing.assert_close(y.flatten(1, 2), expected)
        assert y.is_contiguous(memory_format=memory_format)
    image, w = x[:, :, 0], w[:, :, 0]
    stack = dense_stack(w.unsqueeze(2), group)
    torch.testing.assert_close(gk.expand_filters(w, name), stack)
    y = gk.lift_conv2d(image, w, b, name, stride=2)
    expected = torch.nn.functional.conv2d(image, stack, b.repeat_interleave(group.order), stride=2)
    torch.testing.assert_close(y.flatten(1, 2), expected)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("name", [*GROUPS, "c5"])
def test_gradients_are_those_of_the_filter_stack(name, groups, backend):
    torch.manual_seed(0)
    order = gk.point_group(name).order
    x = torch.randn(2, 3, order, 6, 7, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 3 // groups, order, 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True)
    stack, stack_bias = gk.functional.expand_filters(weight, name), bias.repeat_interleave(order)
    for found, expected in (
        (
            gk.group_conv2d(x, weight, bias, name, padding=1, groups=groups, backend=backend),
            torch.nn.functional.conv2d(x.flatten(1, 2), stack, stack_bias, padding=1, groups=groups),
        ),
        (
            gk.group_conv_transpose2d(x, weight, bias, name, stride=2, groups=groups, backend=backend),
            torch.nn.functional.conv_transpose2d(x.flatten(1, 2), stack, stack_bias, stride=2, groups=groups),
        ),
    ):
        expected = expected.unflatten(1, (-1, order))
        grad, inputs = torch.randn_like(found), (x, weight, bias)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(
            torch.autograd.grad(found, inputs, grad), torch.autograd.grad(expected, inputs, grad, retain_graph=True)
        )


@pytest.mark.parametrize("name", ["c8", "d8"])
def test_derivatives(name):
    order = gk.point_group(name).order
    x = torch.randn(1, 2, order, 4, 4, dtype=torch.float64, requires_grad=True)
    w = torch.randn(2, 2, order, 3, 3, dtype=torch.float64, requires_grad=True)
    b = torch.randn(2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda *a: gk.group_conv2d(*a, name, padding=1), (x, w, b), fast_mode=True)
    assert gradgradcheck(lambda *a: gk.group_conv2d(*a, name, padding=1), (x, w, b), fast_mode=True)


@pytest.mark.parametrize("name", ["c8", "c16", "d8"])
def test_equivariance_is_exact_under_the_subgroup_of_the_grid(name):
    group = gk.point_group(name)
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    lift = torch.randn(4, 3, 5, 5, dtype=torch.float64)
    conv = torch.randn(2, 4, group.order, 5, 5, dtype=torch.float64)
    y = gk.group_conv2d(gk.lift_conv2d(x, lift, group=name), conv, group=name)
    turn = group.rotations // 4
    found = gk.group_conv2d(gk.lift_conv2d(torch.rot90(x, 1, (2, 3)), lift, group=name), conv, group=name)
    expected = torch.rot90(y, 1, (3, 4))[:, :, torch.from_numpy(group.quotient[turn])]
    torch.testing.assert_close(found, expected)


def test_finer_groups_are_more_stable_between_the_quarter_turns():
    """The mean response to a smooth image that is rotated by 45 degrees changes far less for c8 than for p4."""
    rows, columns = torch.meshgrid(*(torch.arange(-24, 25, dtype=torch.float64),) * 2, indexing="ij")

    def image(angle):
        u = rows * np.cos(angle) + columns * np.sin(angle)
        v = columns * np.cos(angle) - rows * np.sin(angle)
        return (torch.exp(-(u**2) / 6 - v**2 / 40) * (1 + v / 8))[None, None]

    def change(name):
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(32, 1, 9, 9, generator=generator, dtype=torch.float64)
        a, b = (gk.lift_conv2d(image(t), weight, group=name).relu().mean((2, 3, 4)) for t in (0.0, np.pi / 4))
        return ((a - b).norm() / a.norm()).item()

    assert change("c16") < change("c8") < 0.25 * change("p4")


@pytest.mark.parametrize("compiler", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_module_with_a_finer_group(compiler):
    net = torch.nn.Sequential(
        gk.nn.LiftingConv2d(3, 4, 5, padding=2, group="c8"),
        gk.nn.GroupBatchNorm2d(4, activation="relu"),
        gk.nn.GroupConv2d(4, 4, 5, padding=2, group="c8"),
        gk.nn.GroupMaxPool(),
    )
    assert net[2].weight.shape == (4, 4, 8, 5, 5)
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(torch.compile(net, fullgraph=True, backend=compiler)(x), net(x))
