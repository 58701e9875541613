"""The convolution family as users meet it: values, equivariance, derivatives, autocast, compilation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from symmetry import rotated
from torch.autograd import gradcheck, gradgradcheck

import gcnn_kernels as gk
from gcnn_kernels.ops import conv as conv_ops
from gcnn_kernels.ops.library import OPS

BACKENDS = ["reference", "cpu"]
GOLDEN_CASES = [(g, k, p) for g in ("p4", "p4m") for k, p in ((1, 0), (3, 1), (3, 0), (5, 2), (4, 0))]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("group, k, padding", GOLDEN_CASES)
def test_golden(golden, group, k, padding, backend):
    data = {key: torch.from_numpy(golden[f"{group}_k{k}_pad{padding}__{key}"]) for key in ("x", "w", "y")}
    y = gk.group_conv2d(data["x"], data["w"], group=group, padding=padding, backend=backend)
    torch.testing.assert_close(y, data["y"], rtol=0, atol=1e-12)
    data = {key: torch.from_numpy(golden[f"{group}_k{k}_pad{padding}__lift_{key}"]) for key in ("x", "w", "y")}
    y = gk.lift_conv2d(data["x"], data["w"], group=group, padding=padding, backend=backend)
    torch.testing.assert_close(y, data["y"], rtol=0, atol=1e-12)


def test_filter_stack_of_the_golden_file_gives_its_outputs(golden):
    x, w, y = (torch.from_numpy(golden[f"p4m_k3_pad1__{key}"]) for key in ("x", "w", "y"))
    for backend in BACKENDS:
        stack = gk.expand_filters(w, "p4m", backend=backend)
        out = torch.nn.functional.conv2d(x.flatten(1, 2), stack, padding=1).unflatten(1, (-1, 8))
        torch.testing.assert_close(out, y, rtol=0, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    group=st.sampled_from(["p4", "p4m", "c2", "d1", "d2"]),
    backend=st.sampled_from(BACKENDS),
    k=st.integers(1, 5),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    size=st.integers(9, 12),
    data=st.data(),
)
def test_equivariance(group, backend, k, padding, dilation, size, data):
    """Turning the input turns the output, exactly up to rounding, wherever the stride divides."""
    stride = data.draw(
        st.sampled_from([s for s in (1, 2, 3) if (size + 2 * padding - dilation * (k - 1) - 1) % s == 0])
    )
    g = data.draw(st.integers(0, gk.point_group(group).order - 1))
    generator = torch.Generator().manual_seed(k + size)
    options = {"group": group, "stride": stride, "padding": padding, "dilation": dilation, "backend": backend}
    image = torch.randn(2, 3, size, size, generator=generator, dtype=torch.float64)
    lift = torch.randn(2, 3, k, k, generator=generator, dtype=torch.float64)
    y = gk.lift_conv2d(image, lift, **options)
    torch.testing.assert_close(gk.lift_conv2d(rotated(image, g, group), lift, **options), rotated(y, g, group))
    maps = torch.randn(2, 3, y.shape[2], size, size, generator=generator, dtype=torch.float64)
    weight = torch.randn(2, 3, y.shape[2], k, k, generator=generator, dtype=torch.float64)
    y = gk.group_conv2d(maps, weight, **options)
    torch.testing.assert_close(gk.group_conv2d(rotated(maps, g, group), weight, **options), rotated(y, g, group))


def small(group, slots, requires_grad=True, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 2, *slots, 5, 4), (3, 2, *slots, 3, 3), (3,)
    return [torch.randn(s, generator=generator, dtype=dtype).requires_grad_(requires_grad) for s in shapes]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("group", ["p1", "p4", "p4m"])
def test_derivatives(group, backend):
    order = gk.point_group(group).order
    options = {"group": group, "stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "backend": backend}
    for function, slots in ((gk.lift_conv2d, ()), (gk.group_conv2d, (order,))):
        inputs = small(group, slots)
        assert gradcheck(lambda *a, f=function: f(*a, **options), inputs, fast_mode=True)
        assert gradgradcheck(lambda *a, f=function: f(*a, **options), inputs, fast_mode=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_third_derivative(backend):
    """d^3/de^3 of <g, conv(x + e a, w + e b)^3>, against the reference in closed form of torch's own convolution."""
    x, w, _ = small("p4", (4,))

    def third(function):
        e = torch.zeros((), dtype=torch.float64, requires_grad=True)
        value = (function(x.detach() * (1 + e), w.detach() * (1 + e * e)) ** 3).sum()
        for _ in range(3):
            (value,) = torch.autograd.grad(value, e, create_graph=True)
        return value.detach()

    def stacked(x, w):
        return torch.nn.functional.conv2d(x.flatten(1, 2), gk.expand_filters(w, "p4", backend="reference"))

    torch.testing.assert_close(third(lambda x, w: gk.group_conv2d(x, w, group="p4", backend=backend)), third(stacked))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_opcheck(backend, memory_format):
    x, w, b = small("p4", (4,))
    x = x.detach().contiguous(memory_format=memory_format).requires_grad_()
    g = torch.randn(2, 3, 4, 5, 4, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    rest = ("p4", (1, 1), (1, 1), (1, 1), "auto", backend)
    torch.library.opcheck(OPS.conv.default, (x, w, b, *rest))
    torch.library.opcheck(OPS.conv_input_grad.default, (g, w, (5, 4), *rest))
    torch.library.opcheck(OPS.conv_weight_grad.default, (g, x, 3, *rest))
    torch.library.opcheck(OPS.expand_filters.default, (w, "p4", backend))
    torch.library.opcheck(OPS.reduce_filters.default, (torch.randn(12, 8, 3, 3, requires_grad=True), "p4", 4, backend))


@pytest.mark.parametrize("backend", BACKENDS)
def test_output_follows_the_memory_format(backend):
    x, w, _ = small("p4", (4,), requires_grad=False)
    for source in (x, x.contiguous(memory_format=torch.channels_last_3d)):
        source = source.detach().requires_grad_()
        y = gk.group_conv2d(source, w, group="p4", backend=backend)
        channels_last = source.is_contiguous(memory_format=torch.channels_last_3d)
        assert y.is_contiguous(memory_format=torch.channels_last_3d) == channels_last
        (gx,) = torch.autograd.grad(y, source, torch.ones_like(y))
        assert gx.is_contiguous(memory_format=torch.channels_last_3d) == channels_last
    image = torch.randn(2, 2, 6, 6).contiguous(memory_format=torch.channels_last)
    y = gk.lift_conv2d(image, torch.randn(4, 2, 3, 3), backend=backend)
    assert y.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch", [0, 1])
def test_empty_and_single_batches(backend, batch):
    x = torch.randn(batch, 2, 4, 5, 5, requires_grad=True)
    w = torch.randn(3, 2, 4, 3, 3, requires_grad=True)
    y = gk.group_conv2d(x, w, torch.randn(3), backend=backend)
    assert y.shape == (batch, 3, 4, 3, 3)
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert (w.grad == 0).all() == (batch == 0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_slices_and_expanded_gradients(backend):
    """Neither strided inputs nor the stride-0 gradients of a sum need to be made contiguous by the user."""
    wide = torch.randn(2, 6, 4, 9, 9, dtype=torch.float64)
    x = wide[:, 1:6:2, :, 1:8, ::2].requires_grad_()
    w = torch.randn(3, 3, 4, 3, 3, dtype=torch.float64).transpose(3, 4).requires_grad_()
    results = []
    for xi, wi in ((x, w), (x.detach().clone().requires_grad_(), w.detach().contiguous().requires_grad_())):
        y = gk.group_conv2d(xi, wi, padding=1, backend=backend)
        results.append((y, *torch.autograd.grad(y.sum(), (xi, wi))))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("k, dilation", [(3, 1), (4, 1), (2, 3), (5, 2)])
def test_same_padding_is_that_of_conv2d(k, dilation):
    x, w = torch.randn(1, 2, 4, 9, 8), torch.randn(2, 2, 4, k, k)
    y = gk.group_conv2d(x, w, padding="same", dilation=dilation)
    stack = gk.expand_filters(w, "p4")
    expected = torch.nn.functional.conv2d(x.flatten(1, 2), stack, padding="same", dilation=dilation)
    torch.testing.assert_close(y.flatten(1, 2), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
def test_accuracy(backend, dtype, tolerance):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 32, 8, 8, 8, generator=generator).to(dtype)
    w = (torch.randn(32, 32, 8, 3, 3, generator=generator) / 48).to(dtype)
    y = gk.group_conv2d(x, w, group="p4m", padding=1, backend=backend)
    expected = gk.group_conv2d(x.double(), w.double(), group="p4m", padding=1, backend="reference")
    assert y.dtype == dtype
    assert (y.double() - expected).norm() <= tolerance * expected.norm()


def test_autocast_casts_once_and_back_propagates_in_the_parameters_dtype():
    x, w = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = gk.lift_conv2d(x, w)
        z = gk.group_conv2d(y, torch.randn(2, 4, 4, 3, 3))
        assert gk.lift_conv2d(x.double(), w.double()).dtype == torch.float64
    assert y.dtype == z.dtype == torch.bfloat16
    z.float().square().sum().backward()
    assert w.grad.dtype == torch.float32 and w.grad.isfinite().all()


def test_no_weight_gradients_skips_exactly_the_discarded_kernels(monkeypatch):
    """The inner gradient of a penalty costs one input gradient per layer; the penalty's own gradients are unchanged."""
    calls = []
    original = conv_ops.choose_for_conv
    monkeypatch.setattr(conv_ops, "choose_for_conv", lambda p, *a: calls.append(p.op) or original(p, *a))
    net = torch.nn.Sequential(gk.nn.LiftingConv2d(3, 4, 3), gk.nn.GroupConv2d(4, 4, 3), gk.nn.GroupMaxPool()).double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)

    def penalty(context):
        logits = net(x).square().sum()
        calls.clear()
        with context():
            (gx,) = torch.autograd.grad(logits, x, create_graph=True)
        inner = sorted(calls)
        return inner, torch.autograd.grad(gx.square().sum(), list(net.parameters()))

    from contextlib import nullcontext

    inner, expected = penalty(nullcontext)
    assert inner == ["conv_input_grad"] * 2 + ["conv_weight_grad"] * 2
    inner, gradients = penalty(gk.no_weight_gradients)
    assert inner == ["conv_input_grad"] * 2
    for a, b in zip(gradients, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_no_weight_gradients_ends_with_an_exception():
    w = torch.randn(2, 2, 3, 3, requires_grad=True)
    with pytest.raises(KeyError), gk.no_weight_gradients():
        raise KeyError
    gk.lift_conv2d(torch.randn(1, 2, 5, 5), w).sum().backward()
    assert w.grad is not None


def test_compile_in_one_graph_with_gradients():
    net = torch.nn.Sequential(
        gk.nn.LiftingConv2d(3, 4, 3, padding=1, group="p4m"),
        gk.nn.GroupBatchNorm2d(4, activation="relu"),
        gk.nn.GroupConv2d(4, 4, 3, padding=1, group="p4m"),
        gk.nn.GroupMaxPool(),
    )
    x = torch.randn(2, 3, 8, 8)
    expected = net(x)
    expected.square().sum().backward()
    gradients = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    y = torch.compile(net, fullgraph=True)(x)
    torch.testing.assert_close(y, expected)
    y.square().sum().backward()
    for p, g in zip(net.parameters(), gradients, strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-4, atol=1e-4)


def test_groupy_formula_for_the_filters_of_p4():
    """GrouPy's weights load unchanged: slot r of the stack is the filter rotated r times with its slots rolled."""
    w = np.random.default_rng(0).standard_normal((2, 3, 4, 3, 3))
    stack = gk.expand_filters(torch.from_numpy(w), "p4").reshape(2, 4, 3, 4, 3, 3).numpy()
    for r in range(4):
        assert (stack[:, r] == np.rot90(np.roll(w, r, axis=2), r, axes=(3, 4))).all()
