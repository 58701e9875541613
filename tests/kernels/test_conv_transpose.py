"""The transposed group convolution: against torch's own with the filter stack, and as the convolution's adjoint."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from symmetry import quarter_turns, rotated
from torch.autograd import gradcheck, gradgradcheck

import gcnn_kernels as gk

BACKENDS = ["reference", "cpu"]
GEOMETRIES = [
    {},
    {"stride": 2, "padding": 1},
    {"stride": (3, 2), "padding": (0, 1), "output_padding": (2, 1), "dilation": (1, 2)},
    {"stride": (1, 2), "padding": 2, "output_padding": (1, 2), "dilation": (2, 3)},  # beyond the stride
    {"padding": (3, 4), "dilation": 2},  # more than a filter covers
]


def tensors(group, k, dtype=torch.float64, size=(5, 4)):
    generator = torch.Generator().manual_seed(k)
    order = gk.point_group(group).order
    shapes = (2, 3, order, *size), (3, 2, order, k, k), (2,)
    return [torch.randn(s, generator=generator, dtype=dtype) for s in shapes]


def expected(x, weight, bias, group, **geometry):
    stack = gk.expand_filters(weight, group, backend="reference")
    bias = bias.repeat_interleave(x.shape[2])
    return F.conv_transpose2d(x.flatten(1, 2), stack, bias, **geometry).unflatten(1, (-1, x.shape[2]))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("group", ["p1", "p4", "p4m", "c8", "d3"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d], ids=str)
def test_against_torch_with_the_filter_stack(backend, group, geometry, memory_format):
    for k in (1, 4, 5) if geometry == {} else (3, 4):
        x, weight, bias = tensors(group, k, size=(8, 7))
        x = x.contiguous(memory_format=memory_format)
        y = gk.group_conv_transpose2d(x, weight, bias, group, **geometry, backend=backend)
        torch.testing.assert_close(y, expected(x, weight, bias, group, **geometry), rtol=0, atol=1e-12)
        assert y.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("group", ["p4", "p4m", "c8"])
def test_it_is_the_gradient_of_the_convolution(group):
    geometry = {"stride": 2, "padding": 1}
    grad, weight, _ = tensors(group, 3, size=(4, 4))
    x = torch.randn(2, 2, grad.shape[2], 7, 7, dtype=torch.float64, requires_grad=True)
    (gx,) = torch.autograd.grad(gk.group_conv2d(x, weight, None, group, **geometry), x, grad)
    torch.testing.assert_close(gk.group_conv_transpose2d(grad, weight, None, group, **geometry), gx, rtol=0, atol=0)


@settings(max_examples=40, deadline=None)
@given(
    group=st.sampled_from(["p4", "p4m", "c8"]),
    backend=st.sampled_from(BACKENDS),
    k=st.integers(2, 5),
    stride=st.integers(1, 3),
    padding=st.integers(0, 1),
    dilation=st.integers(1, 2),
    size=st.integers(3, 6),
    data=st.data(),
)
def test_equivariance(group, backend, k, stride, padding, dilation, size, data):
    """Exact without output_padding, whatever the stride; of c8, its quarter turns."""
    g = data.draw(st.sampled_from(quarter_turns(group)))
    x, weight, bias = tensors(group, k, size=(size, size))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "backend": backend}
    y = gk.group_conv_transpose2d(x, weight, bias, group, **options)
    torch.testing.assert_close(
        gk.group_conv_transpose2d(rotated(x, g, group), weight, bias, group, **options), rotated(y, g, group)
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("group", ["p1", "p4", "p4m", "c8"])
def test_derivatives(group, backend):
    options = {"stride": (2, 1), "padding": (1, 0), "output_padding": (1, 1), "dilation": (1, 2), "backend": backend}
    inputs = [t.requires_grad_() for t in tensors(group, 3, size=(3, 2))]
    for check in (gradcheck, gradgradcheck):
        assert check(lambda *a: gk.group_conv_transpose2d(*a, group, **options), inputs, fast_mode=True)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
def test_accuracy(dtype, tolerance):
    x, weight, bias = (t.to(dtype) for t in tensors("p4m", 4, size=(8, 8)))
    y = gk.group_conv_transpose2d(x, weight, bias, "p4m", 2, 1)
    exact = expected(x.double(), weight.double(), bias.double(), "p4m", stride=2, padding=1)
    assert y.dtype == dtype
    assert (y.double() - exact).norm() <= tolerance * exact.norm()


def test_autocast():
    x, weight, bias = (t.requires_grad_() for t in tensors("p4", 4, torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        y = gk.group_conv_transpose2d(x, weight, bias, "p4", 2, 1)
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert x.grad.dtype == weight.grad.dtype == bias.grad.dtype == torch.float32


def test_the_weight_gradient_can_be_skipped():
    x, weight, bias = (t.requires_grad_() for t in tensors("p4", 4))
    y = gk.group_conv_transpose2d(x, weight, bias, "p4", 2, 1)
    with gk.no_weight_gradients():
        gx, gweight = torch.autograd.grad(y.sum(), (x, weight), allow_unused=True)
    assert gx is not None and gweight is None


def test_empty_batch():
    x, weight, bias = tensors("p4", 3)
    assert gk.group_conv_transpose2d(x[:0], weight, bias, stride=2).shape == (0, 2, 4, 11, 9)


def test_initialisation_is_that_of_torch():
    plain = torch.nn.ConvTranspose2d(3 * 4, 256 * 4, 5)
    module = gk.nn.GroupConvTranspose2d(3, 256, 5, group="p4")  # so many that the largest bias is near its bound
    bound = plain.weight.abs().max()
    for p in (module.weight, module.bias):
        assert 0.9 * bound <= p.abs().max() <= 1.01 * bound


def test_compile_in_one_graph_with_gradients():
    net = torch.nn.Sequential(
        gk.nn.GroupConv2d(2, 4, 3, 2, 1, group="p4m"), gk.nn.GroupConvTranspose2d(4, 2, 4, 2, 1, group="p4m")
    )
    x = torch.randn(2, 2, 8, 8, 8)
    gradients = torch.autograd.grad(net(x).square().sum(), list(net.parameters()))
    y = torch.compile(net, fullgraph=True)(x)
    torch.testing.assert_close(y, net(x))
    for a, b in zip(torch.autograd.grad(y.square().sum(), list(net.parameters())), gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("group", ["p4", "c8"])
def test_to_plain(group):
    module = gk.nn.GroupConvTranspose2d(3, 2, 3, 2, 1, 1, dilation=2, group=group)
    plain = gk.to_plain(module)
    x = torch.randn(2, 3, module.point_group.order, 5, 4)
    torch.testing.assert_close(plain(x), module(x), rtol=1e-4, atol=1e-5)
    assert not any(type(m).__module__.startswith("gcnn_kernels") for m in plain.modules())


def test_repr():
    module = gk.nn.GroupConvTranspose2d(3, 2, 4, 2, 1, (1, 0), False, group="D4", backend="reference")
    assert repr(module) == (
        "GroupConvTranspose2d(3, 2, kernel_size=4, group='p4m', stride=(2, 2), padding=(1, 1), output_padding=(1, 0), "
        "bias=False, backend='reference')"
    )


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"x": torch.randn(2, 3, 8, 8)}, ValueError, r"x: expected \[B, Cin, 4, H, W\], got 4 dimensions"),
        ({"x": torch.randn(2, 2, 4, 8, 8)}, ValueError, "x: expected 3 channels as the weight has, got 2"),
        ({"x": torch.randn(2, 3, 4, 0, 8)}, ValueError, r"padding: .* on a plane of \(0, 8\) .* leaves no output"),
        ({"weight": torch.randn(3, 2, 8, 4, 4)}, ValueError, "weight: expected 4 slots in dimension 2"),
        ({"weight": torch.randn(3, 2, 4, 4, 3)}, ValueError, "weight: expected a square filter"),
        ({"weight": torch.randn(3, 0, 4, 4, 4)}, ValueError, "weight: expected at least one channel in and out"),
        ({"bias": torch.randn(3)}, ValueError, r"bias: expected shape \(2,\), got \(3,\)"),
        ({"stride": 0}, ValueError, "stride: expected at least 1, got 0"),
        ({"padding": "same"}, TypeError, "padding: expected an int or a pair of ints, got 'same'"),
        ({"padding": 9}, ValueError, r"padding: a 4 x 4 filter .* with padding \(9, 9\) leaves no output, \(-7, -7\)"),
        ({"output_padding": 2, "stride": 2}, ValueError, r"output_padding: expected less than the stride \(2, 2\) or"),
        ({"output_padding": (0, 1)}, ValueError, r"output_padding: expected less than .* got \(0, 1\)"),
        ({"algorithm": "fft"}, ValueError, "algorithm: expected one of"),
    ],
)
def test_message(change, error, message):
    arguments = {"x": torch.randn(2, 3, 4, 8, 8), "weight": torch.randn(3, 2, 4, 4, 4), **change}
    with pytest.raises(error, match=message):
        gk.group_conv_transpose2d(**arguments)
