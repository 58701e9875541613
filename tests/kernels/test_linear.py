"""The group linear layer: against a loop over the group, the expanded matrix and, where it is one, the convolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

import gcnn_kernels as gk
from gcnn_kernels.backends import BACKENDS
from gcnn_kernels.backends.reference import linear as irreps
from gcnn_kernels.ops.library import OPS

GROUPS = ["p1", "c2", "d1", "c3", "d3", "p4", "p4m", "d2", "c6", "c8", "d8"]
ALGORITHMS = ["fourier", "expand"]


def tensors(group, tokens=(2, 3), cin=3, cout=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(cin)
    order = gk.point_group(group).order
    shapes = (*tokens, cin, order), (cout, cin, order), (cout,)
    return [torch.randn(s, generator=generator, dtype=dtype) for s in shapes]


def by_definition(x, weight, bias, group):
    """y(h) = bias + sum_s w[h^-1 s] x(s), one product at a time."""
    point = gk.point_group(group)
    y = bias[:, None].expand(*x.shape[:-2], -1, point.order).clone()
    for h in range(point.order):
        for s in range(point.order):
            y[..., h] += x[..., s] @ weight[:, :, point.quotient[h, s]].T
    return y


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("group", GROUPS)
def test_against_the_definition(group, algorithm):
    x, weight, bias = tensors(group)
    y = gk.group_linear(x, weight, bias, group, algorithm=algorithm)
    torch.testing.assert_close(y, by_definition(x, weight, bias, group), rtol=0, atol=1e-12)
    assert y.is_contiguous()


@pytest.mark.parametrize("group", ["p4", "p4m"])
def test_it_is_the_1x1_convolution(group):
    x, weight, bias = tensors(group)
    y = gk.group_conv2d(x.flatten(0, 1)[..., None, None], weight[..., None, None], bias, group)
    torch.testing.assert_close(gk.group_linear(x, weight, bias, group, algorithm="fourier").flatten(0, 1), y[..., 0, 0])


@settings(max_examples=40, deadline=None)
@given(group=st.sampled_from(["p4", "p4m", "c8", "d8"]), algorithm=st.sampled_from(ALGORITHMS), data=st.data())
def test_equivariance(group, algorithm, data):
    """Exact for every element of every group: the layer moves no pixels."""
    point = gk.point_group(group)
    g = data.draw(st.integers(0, point.order - 1))
    x, weight, bias = tensors(group)
    options = {"bias": bias, "group": group, "algorithm": algorithm}
    y, moved = gk.group_linear(x, weight, **options), torch.from_numpy(point.quotient[g])
    torch.testing.assert_close(gk.group_linear(x[..., moved], weight, **options), y[..., moved])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("group", ["p1", "d1", "p4", "p4m", "c8", "d3"])
def test_derivatives(group, algorithm):
    inputs = [t.requires_grad_() for t in tensors(group, tokens=(2, 1))]
    for check in (gradcheck, gradgradcheck):
        assert check(lambda *a: gk.group_linear(*a, group, algorithm=algorithm), inputs, fast_mode=True)


def test_third_derivative():
    x, w, _ = tensors("p4m")

    def third(algorithm):
        e = torch.zeros((), dtype=torch.float64, requires_grad=True)
        y = gk.group_linear(x * (1 + e), w * (1 + e * e), None, "p4m", algorithm=algorithm)
        value = (y**3).sum()
        for _ in range(3):
            (value,) = torch.autograd.grad(value, e, create_graph=True)
        return value.detach()

    torch.testing.assert_close(third("fourier"), third("expand"))


@pytest.mark.parametrize("group", ["p1", "p4m", "c8"])
def test_opcheck(group):
    x, w, b = (t.requires_grad_() for t in tensors(group))
    torch.library.opcheck(OPS.linear.default, (x, w, b, group))
    grad = torch.randn(2, 3, 2, x.shape[-1], dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(OPS.linear_input_grad.default, (grad, w, group))
    torch.library.opcheck(OPS.linear_weight_grad.default, (grad, x, group))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
@pytest.mark.parametrize("group", ["p4m", "c8"])
def test_accuracy(group, dtype, tolerance):
    leaves = [t.to(dtype).requires_grad_() for t in tensors(group, tokens=(64,), cin=48, cout=40)]
    exact = [t.detach().double().requires_grad_() for t in leaves]
    y, z = gk.group_linear(*leaves, group, algorithm="fourier"), by_definition(*exact, group)
    assert y.dtype == dtype
    grad = torch.randn_like(y)
    found = (y, *torch.autograd.grad(y, leaves, grad))
    for a, b in zip(found, (z, *torch.autograd.grad(z, exact, grad.double())), strict=True):
        assert (a.double() - b).norm() <= tolerance * b.norm()


def test_many_tokens_are_done_in_pieces(monkeypatch):
    monkeypatch.setattr(irreps, "_PIECE", 100)  # four tokens at once, and a shorter last piece
    leaves = [t.requires_grad_() for t in tensors("p4m", tokens=(2, 7))]
    y, z = gk.group_linear(*leaves, "p4m", algorithm="fourier"), by_definition(*leaves, "p4m")
    torch.testing.assert_close(y, z)
    grad = torch.randn_like(y)
    for a, b in zip(torch.autograd.grad(y, leaves, grad), torch.autograd.grad(z, leaves, grad), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_strided_inputs_single_vectors_and_empty_batches(algorithm):
    x, weight, bias = tensors("p4m", tokens=(4, 6))
    strided = x.permute(1, 2, 3, 0)[::2].permute(3, 0, 1, 2)  # the tokens of a feature map in channels_last_3d
    y = gk.group_linear(strided, weight.transpose(0, 1).contiguous().transpose(0, 1), bias, "p4m", algorithm=algorithm)
    torch.testing.assert_close(y, by_definition(x[:, ::2], weight, bias, "p4m"))
    y = gk.group_linear(x[0, 0], weight, bias, "p4m", algorithm=algorithm)
    torch.testing.assert_close(y, by_definition(x[:1, 0], weight, bias, "p4m")[0])
    for leaf in (x := x[:0], weight):
        leaf.requires_grad_()
    y = gk.group_linear(x, weight, bias, "p4m", algorithm=algorithm)
    assert y.shape == (0, 6, 2, 8)
    y.sum().backward()
    assert x.grad.shape == x.shape and (weight.grad == 0).all()


def test_the_choice_follows_the_number_of_products(monkeypatch):
    asked = []
    original = OPS.linear
    monkeypatch.setattr(OPS, "linear", lambda *a: asked.append(a[1].shape) or original(*a))
    for width, tokens in ((128, 1024), (4, 1024), (128, 1)):
        x, weight, bias = tensors("c8", (tokens,), width, width, torch.float32)
        gk.group_linear(x, weight, bias, "c8")
    assert asked == [(128, 128, 8)]
    gk.group_linear(*tensors("p1", (1024,), 256, 256, torch.float32), "p1")
    assert len(asked) == 1
    assert [irreps.products(gk.point_group(g)) for g in ("p1", "p4", "p4m", "c8", "d8")] == [1, 6, 12, 14, 28]


@pytest.mark.skipif(BACKENDS["cpu"].unavailable() is not None, reason="the cpu backend is not built")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("group", ["p4", "p4m"])
@pytest.mark.parametrize(
    ("tokens", "cin", "cout"), [(1, 1, 1), (0, 2, 3), (7, 3, 50), (3000, 40, 20), (600, 400, 7), (90, 5, 300)]
)
def test_kernels_of_the_cpu(group, tokens, cin, cout, dtype):
    """Parts of vectors and of tiles, several passes over channels, several panels of filters, parts of the tokens."""
    kernels, point = BACKENDS["cpu"].linear, gk.point_group(group)
    x, weight, bias = tensors(group, (tokens,), cin, cout, dtype)
    grad = torch.randn(tokens, cout, point.order, dtype=dtype)
    exact = [t.double() for t in (x, weight, bias, grad)]
    for found, expected in (
        (kernels.linear(x, weight, bias, point), irreps.linear(*exact[:3], point)),
        (
            kernels.linear(grad, weight, None, point, adjoint=True),
            irreps.linear(exact[3], exact[1], None, point, adjoint=True),
        ),
        (kernels.linear_weight_grad(grad, x, point), irreps.linear_weight_grad(exact[3], exact[0], point)),
    ):
        assert (found - expected).norm() <= (2e-6 if dtype == torch.float32 else 1e-14) * expected.norm()


@pytest.mark.skipif(BACKENDS["cpu"].unavailable() is not None, reason="the cpu backend is not built")
@pytest.mark.parametrize(("tokens", "cin"), [(150, 7), (3000, 7), (1000, 300)])
def test_the_weight_gradient_does_not_depend_on_the_number_of_threads(threads, tokens, cin):
    x, _, _ = tensors("p4m", (tokens,), cin, 40, torch.float32)
    grad, found = torch.randn(tokens, 40, 8), []
    for count in (1, 2, 3):
        threads(count)
        found.append(BACKENDS["cpu"].linear.linear_weight_grad(grad, x, gk.point_group("p4m")))
    assert all(map(torch.equal, found, found[1:] + found[:1]))


@pytest.mark.parametrize("group", ["p4m", "c8"])
def test_compiled(group):
    layer, x = gk.nn.GroupLinear(16, 24, group=group), torch.randn(64, 16, 8)
    for y in (
        torch.compile(layer, fullgraph=True, backend="aot_eager")(x),
        torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)(x),
    ):
        torch.testing.assert_close(y, layer(x))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_autocast(algorithm):
    x, weight, bias = (t.requires_grad_() for t in tensors("p4m", dtype=torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        y = gk.group_linear(x, weight, bias, "p4m", algorithm=algorithm)
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert x.grad.dtype == weight.grad.dtype == bias.grad.dtype == torch.float32


def test_the_weight_gradient_can_be_skipped():
    x, weight, bias = (t.requires_grad_() for t in tensors("p4m"))
    y = gk.group_linear(x, weight, bias, "p4m", algorithm="fourier")
    with gk.no_weight_gradients():
        gx, gweight, gbias = torch.autograd.grad(y.sum(), (x, weight, bias), allow_unused=True)
    assert gx is not None and gweight is None and gbias is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_compile_in_one_graph_with_gradients(algorithm):
    net = torch.nn.Sequential(
        gk.nn.GroupLinear(3, 5, group="c8", algorithm=algorithm), torch.nn.GELU(), gk.nn.GroupLinear(5, 2, group="c8")
    )
    x = torch.randn(4, 3, 8)
    gradients = torch.autograd.grad(net(x).square().sum(), list(net.parameters()))
    y = torch.compile(net, fullgraph=True)(x)
    torch.testing.assert_close(y, net(x))
    for a, b in zip(torch.autograd.grad(y.square().sum(), list(net.parameters())), gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_module():
    torch.manual_seed(0)
    plain = torch.nn.Linear(16 * 8, 4)
    torch.manual_seed(0)
    module = gk.nn.GroupLinear(16, 4, group="p4m")
    torch.testing.assert_close(module.weight.flatten(1), plain.weight)
    torch.testing.assert_close(module.bias, plain.bias)
    assert repr(module) == "GroupLinear(16, 4, group='p4m')"
    assert repr(gk.nn.GroupLinear(1, 2, False, "C8", algorithm="expand")) == (
        "GroupLinear(1, 2, group='c8', bias=False, algorithm='expand')"
    )
    with pytest.raises(ValueError, match="out_channels: expected at least 1, got 0"):
        gk.nn.GroupLinear(3, 0)
    with pytest.raises(ValueError, match="algorithm: expected one of 'auto', 'fourier', 'expand', got 'direct'"):
        gk.nn.GroupLinear(3, 4, algorithm="direct")


@pytest.mark.parametrize("group, bias", [("p4m", True), ("c8", False)])
def test_to_plain(group, bias):
    module = gk.nn.GroupLinear(3, 2, bias, group)
    plain = gk.to_plain(module)
    x = torch.randn(2, 5, 3, 8)
    torch.testing.assert_close(plain(x), module(x))
    assert not any(type(m).__module__.startswith("gcnn_kernels") for m in plain.modules())
    exported = torch.export.export(plain, (x,)).module()
    torch.testing.assert_close(exported(x), F.linear(x.flatten(-2), plain[1].weight, plain[1].bias).view(2, 5, 2, 8))


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"x": torch.randn(8)}, ValueError, r"x: expected \[..., Cin, 4\], got 1 dimensions"),
        ({"x": torch.randn(2, 3, 8)}, ValueError, r"x: expected 4 slots in dimension -1 for group 'p4', got 8"),
        ({"x": torch.randn(2, 5, 4)}, ValueError, r"x: expected 3 channels as the weight has, got 5 in \(2, 5, 4\)"),
        ({"x": torch.ones(2, 3, 4).int()}, TypeError, "x: expected a floating-point dtype, got torch.int32"),
        ({"weight": torch.randn(2, 3, 4, 1, 1)}, ValueError, r"weight: expected \[Cout, Cin, 4\], got 5 dimensions"),
        ({"weight": torch.randn(2, 3, 8)}, ValueError, "weight: expected 4 slots in dimension 2"),
        ({"weight": torch.randn(0, 3, 4)}, ValueError, "weight: expected at least one channel in and out"),
        ({"weight": torch.randn(2, 3, 4).double()}, TypeError, "weight: expected dtype torch.float32 as x has"),
        ({"weight": torch.randn(2, 3, 4, device="meta")}, ValueError, "weight: expected device cpu as x has, got meta"),
        ({"bias": torch.randn(3)}, ValueError, r"bias: expected shape \(2,\), got \(3,\)"),
        ({"group": "p6"}, ValueError, "group must be"),
        ({"algorithm": "direct"}, ValueError, "algorithm: expected one of 'auto', 'fourier', 'expand', got 'direct'"),
    ],
)
def test_message(change, error, message):
    arguments = {"x": torch.randn(2, 3, 4), "weight": torch.randn(2, 3, 4), **change}
    with pytest.raises(error, match=message):
        gk.group_linear(**arguments)
