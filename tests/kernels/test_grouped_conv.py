"""Grouped and depthwise convolutions: against torch's own with the filter stack, and part by part."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import assert_close, poisoned
from symmetry import quarter_turns, rotated
from torch.autograd import gradcheck, gradgradcheck

import gcnn_kernels as gk
from gcnn_kernels.backends import BACKENDS as ALL_BACKENDS
from gcnn_kernels.backends import ConvProblem
from gcnn_kernels.ops.library import OPS

BACKENDS = ["reference", "cpu"]
CHANNELS = [(6, 4, 2), (4, 4, 4), (3, 6, 3), (9, 9, 9)]  # in, out, groups: parts, depthwise, with a multiplier
GEOMETRIES = [{"padding": 1}, {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)}, {"padding": 4, "dilation": 3}]
FORMATS = [torch.contiguous_format, torch.channels_last_3d]


def tensors(group, channels, k=3, dtype=torch.float64, size=(7, 6)):
    generator = torch.Generator().manual_seed(k)
    cin, cout, groups = channels
    order = gk.point_group(group).order
    shapes = (2, cin, order, *size), (cout, cin // groups, order, k, k), (cout,)
    return [torch.randn(s, generator=generator, dtype=dtype) for s in shapes]


def expected(x, weight, bias, group, **options):
    """By torch with the filter stack; x may be an image."""
    stack = gk.expand_filters(weight, group, backend="reference")
    order = gk.point_group(group).order
    y = F.conv2d(x.flatten(1, -3), stack, bias.repeat_interleave(order), **options)
    return y.unflatten(1, (-1, order))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("group", ["p1", "p4", "p4m", "d1", "c8"])
@pytest.mark.parametrize("channels", CHANNELS, ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_values_and_derivatives_are_those_of_the_filter_stack(backend, group, channels, memory_format):
    for geometry in GEOMETRIES:
        x, weight, bias = tensors(group, channels)
        leaves = [x.contiguous(memory_format=memory_format).requires_grad_(), weight.requires_grad_(), bias]
        leaves[2].requires_grad_()
        options = {"groups": channels[2], **geometry}
        results = []
        for function in (gk.group_conv2d, expected):
            more = {"backend": backend} if function is gk.group_conv2d else {}
            y = function(*leaves, group, **options, **more)
            first = torch.autograd.grad((y**2).sum(), leaves, create_graph=True)
            second = torch.autograd.grad(first[0].square().sum() + first[1].square().sum(), leaves)
            results.append((y, *first, *second))
        for found, exact in zip(*results, strict=True):
            assert (found - exact).norm() <= 1e-13 * exact.norm()
        assert results[0][0].is_contiguous(memory_format=memory_format)
        assert group == "c8" or results[0][1].is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("group", ["p4", "p4m", "c8"])
@pytest.mark.parametrize("channels", CHANNELS, ids=str)
def test_lifting(backend, group, channels):
    x, weight, bias = tensors(group, channels)
    leaves = [t.requires_grad_() for t in (x[:, :, 0].contiguous(), weight[:, :, 0].contiguous(), bias)]
    y = gk.lift_conv2d(*leaves, group, 1, 1, groups=channels[2], backend=backend)
    exact = expected(*leaves, group, padding=1, groups=channels[2])
    torch.testing.assert_close(y, exact)
    grad = torch.randn_like(y)
    for a, b in zip(torch.autograd.grad(y, leaves, grad), torch.autograd.grad(exact, leaves, grad), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("group", ["p4", "p4m"])
@pytest.mark.parametrize("channels", [(6, 4, 2), (4, 4, 4)], ids=str)
def test_each_part_by_itself(backend, group, channels):
    groups = channels[2]
    x, weight, bias = tensors(group, channels)
    y = gk.group_conv2d(x, weight, bias, group, groups=groups, backend=backend)
    parts = zip(x.chunk(groups, 1), weight.chunk(groups), bias.chunk(groups), strict=True)
    torch.testing.assert_close(y, torch.cat([gk.group_conv2d(*part, group, backend="reference") for part in parts], 1))


@pytest.mark.parametrize("group", ["p4", "c8"])
def test_transposed(group):
    channels, geometry = (4, 6, 2), {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}
    x, _, _ = tensors(group, channels)
    order = x.shape[2]
    weight, bias = torch.randn(4, 3, order, 3, 3, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    y = gk.group_conv_transpose2d(x, weight, bias, group, **geometry)
    stack = gk.expand_filters(weight, group)
    exact = F.conv_transpose2d(x.flatten(1, 2), stack, bias.repeat_interleave(order), **geometry)
    torch.testing.assert_close(y, exact.unflatten(1, (-1, order)))
    module = gk.nn.GroupConvTranspose2d(4, 6, 3, 2, 1, 1, group=group, groups=2).double()
    torch.testing.assert_close(gk.to_plain(module)(x), module(x))


@settings(max_examples=40, deadline=None)
@given(
    group=st.sampled_from(["p4", "p4m", "c8"]),
    backend=st.sampled_from(BACKENDS),
    channels=st.sampled_from(CHANNELS),
    k=st.integers(1, 5),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    size=st.integers(9, 12),
    data=st.data(),
)
def test_equivariance(group, backend, channels, k, padding, dilation, size, data):
    strides = [s for s in (1, 2, 3) if (size + 2 * padding - dilation * (k - 1) - 1) % s == 0]
    geometry = {"stride": data.draw(st.sampled_from(strides)), "padding": padding, "dilation": dilation}
    options = {"group": group, "groups": channels[2], "backend": backend, **geometry}
    g = data.draw(st.sampled_from(quarter_turns(group)))
    x, weight, _ = tensors(group, channels, k, size=(size, size))
    for function, y, w in ((gk.group_conv2d, x, weight), (gk.lift_conv2d, x[:, :, 0], weight[:, :, 0])):
        torch.testing.assert_close(
            function(rotated(y, g, group), w, **options), rotated(function(y, w, **options), g, group)
        )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("group", ["p4", "p4m", "c8"])
@pytest.mark.parametrize("channels", [(4, 2, 2), (2, 2, 2)], ids=str)
def test_gradcheck(backend, group, channels):
    inputs = [t.requires_grad_() for t in tensors(group, channels, size=(4, 3))]
    options = {"group": group, "stride": (2, 1), "padding": 1, "groups": channels[2], "backend": backend}
    for check in (gradcheck, gradgradcheck):
        assert check(lambda *a: gk.group_conv2d(*a, **options), inputs, fast_mode=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_opcheck(backend):
    x, w, b = (t.requires_grad_() for t in tensors("p4", (4, 6, 2)))
    g = torch.randn(2, 6, 4, 7, 6, dtype=torch.float64, requires_grad=True)
    rest = ("p4", (1, 1), (1, 1), (1, 1), "auto", backend, 2)
    torch.library.opcheck(OPS.conv.default, (x, w, b, *rest))
    torch.library.opcheck(OPS.conv_input_grad.default, (g, w, (7, 6), *rest))
    torch.library.opcheck(OPS.conv_weight_grad.default, (g, x, 3, *rest))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels", [(64, 32, 2), (40, 40, 40)], ids=str)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
def test_accuracy(backend, channels, dtype, tolerance):
    leaves = [t.to(dtype).requires_grad_() for t in tensors("p4m", channels)]
    exact = [t.detach().double().requires_grad_() for t in leaves]
    y = gk.group_conv2d(*leaves, "p4m", padding=1, groups=channels[2], backend=backend)
    z = gk.group_conv2d(*exact, "p4m", padding=1, groups=channels[2], backend="reference")
    grad = torch.randn_like(y)
    found = (y, *torch.autograd.grad(y, leaves, grad))
    for a, b in zip(found, (z, *torch.autograd.grad(z, exact, grad.double())), strict=True):
        assert a.dtype == dtype and (a.double() - b).norm() <= tolerance * b.norm()


@pytest.mark.parametrize("channels", [(4, 2, 2), (4, 4, 4)], ids=str)
def test_autocast_compile_and_empty_batches(channels):
    cin, cout, groups = channels
    lift = gk.nn.LiftingConv2d(2, cin, 3, padding=1, group="p4m", groups=2)
    net = torch.nn.Sequential(lift, gk.nn.GroupConv2d(cin, cout, 3, padding="same", group="p4m", groups=groups))
    x = torch.randn(2, 2, 8, 8)
    parameters = list(net.parameters())
    gradients = torch.autograd.grad(net(x).square().sum(), parameters)
    y = torch.compile(net, fullgraph=True)(x)
    torch.testing.assert_close(y, net(x))
    for a, b in zip(torch.autograd.grad(y.square().sum(), parameters), gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert net(x).dtype == torch.bfloat16
    assert net(x[:0]).shape == (0, cout, 8, 8, 8)
    net(x[:0]).sum().backward()
    assert all((p.grad == 0).all() for p in parameters[:1])


@pytest.mark.parametrize("group", ["p4", "c8"])
def test_to_plain(group):
    net = torch.nn.Sequential(
        gk.nn.LiftingConv2d(2, 4, 3, groups=2, group=group), gk.nn.GroupConv2d(4, 4, 3, groups=4, group=group)
    )
    x = torch.randn(2, 2, 8, 8)
    torch.testing.assert_close(gk.to_plain(net)(x), net(x), rtol=1e-4, atol=1e-5)


def test_module():
    conv = gk.nn.GroupConv2d(6, 4, 5, groups=2, group="p4m", bias=False)
    assert conv.weight.shape == (4, 3, 8, 5, 5)
    assert repr(conv) == "GroupConv2d(6, 4, kernel_size=5, group='p4m', groups=2, bias=False)"
    assert conv.weight.abs().max() <= 1 / (3 * 8 * 25) ** 0.5
    for groups, message in ((3, "groups: expected a divisor of 6 and 4 channels"), (0, "groups: expected at")):
        with pytest.raises(ValueError, match=message):
            gk.nn.GroupConv2d(6, 4, 5, groups=groups)


@pytest.mark.parametrize(
    "groups, weight, message",
    [
        (0, (4, 3, 4, 3, 3), "groups: expected at least 1, got 0"),
        (1.0, (4, 3, 4, 3, 3), "groups: expected an int, got 1.0"),
        (2, (4, 6, 4, 3, 3), "x: expected 12 channels as the weight has for 2 groups, got 6"),
        (2, (3, 3, 4, 3, 3), "groups: expected a divisor of the weight's 3 channels, got 2"),
    ],
)
def test_message(groups, weight, message):
    with pytest.raises(TypeError if isinstance(groups, float) else ValueError, match=message):
        gk.group_conv2d(torch.randn(2, 6, 4, 8, 8), torch.randn(weight), groups=groups)


def test_a_program_exported_before_groups_still_runs():
    """The schemas' new argument has a default."""
    x, w, b = tensors("p4", (3, 2, 1))
    geometry = ("p4", (1, 1), (1, 1), (1, 1), "auto", "auto")
    torch.testing.assert_close(OPS.conv(x, w, b, *geometry), gk.group_conv2d(x, w, b, padding=1))


def _cpu():
    backend = ALL_BACKENDS["cpu"]
    if reason := backend.unavailable():
        pytest.skip(reason)
    return backend.conv


@pytest.mark.parametrize("group, order", [("d1", 2), ("c2", 2), ("p4", 4), ("d2", 4), ("p4m", 8)])
@pytest.mark.parametrize("channels, k, size", [(21, 3, (9, 20)), (3, 5, (4, 3)), (8, 2, (17, 8)), (35, 1, (5, 5))])
def test_depthwise_kernels(group, order, channels, k, size):
    """The C++ kernels in all geometries, with part of a vector of channels and with one column, poisoned outputs."""
    conv, point = _cpu(), gk.point_group(group)
    generator = torch.Generator().manual_seed(channels)
    for slots in (1, order):
        for stride, padding, dilation in (
            ((1, 1), (k // 2,) * 2, (1, 1)),
            ((2, 3), (0, 3), (1, 1)),
            ((3, 1), (4, 5), (2, 3)),
        ):
            x = torch.randn(3, channels, slots, *size, generator=generator)
            w = torch.randn(channels, 1, slots, k, k, generator=generator)
            geometry = {"stride": stride, "padding": padding, "dilation": dilation, "group": point, "groups": channels}
            where = {"dtype": torch.float32, "device": x.device}
            try:
                problems = {
                    op: ConvProblem.of(op, x.shape, w.shape, **geometry, **where)
                    for op in ("conv", "conv_input_grad", "conv_weight_grad")
                }
            except ValueError:
                continue
            g = torch.randn(problems["conv"].out_shape, generator=generator)
            bias = torch.randn(channels, generator=generator)
            for op, arguments in (("conv", (x, w, bias)), ("conv_input_grad", (g, w)), ("conv_weight_grad", (g, x))):
                with poisoned():
                    found = getattr(conv.algorithms["direct"], op)(problems[op], *arguments)
                exact = getattr(conv.algorithms["expand"], op)(
                    replace(problems[op], dtype=torch.float64), *(a.double() for a in arguments)
                )
                assert_close(found, exact, 2e-6, f"{op} {slots} {stride}")


def test_what_the_cpu_chooses():
    conv = _cpu()

    def chosen(group, channels, groups, k=3):
        order = gk.point_group(group).order
        problem = ConvProblem.of(
            "conv", (1, channels, order, 9, 9), (channels, channels // groups, order, k, k),
            group=gk.point_group(group), dtype=torch.float32, device=torch.device("cpu"), groups=groups,
        )  # fmt: skip
        return conv.choose_algorithm(problem)

    assert chosen("d2", 12, 12) == chosen("c2", 4, 4) == "direct"
    assert chosen("p4", 12, 12) == chosen("p4m", 64, 64) == "fourier"
    assert chosen("p4", 64, 2) == chosen("p4m", 64, 8) == chosen("p4", 64, 32) == chosen("p4", 64, 2, k=1) == "fourier"
    assert chosen("p1", 12, 12) == chosen("c2", 64, 2) == "expand"


def test_an_algorithm_that_does_not_serve_says_so():
    x, w, b = tensors("p4", (6, 4, 2))
    _cpu()
    with pytest.raises(RuntimeError, match=r"'cpu' cannot run conv .*'direct' exists for groups=1 and for depthwise"):
        gk.group_conv2d(x, w, b, groups=2, backend="cpu", algorithm="direct")
