"""The staged algorithm in plain PyTorch: values against the golden file and the filter stack, derivatives, memory."""

from __future__ import annotations

import random

import pytest
import torch
from kernel_cases import poisoned
from torch.autograd import gradcheck, gradgradcheck

import gcnn_kernels as gk
from gcnn_kernels.backends import BACKENDS, ConvProblem, choose_for_conv, staged

STAGED = {"algorithm": "staged", "backend": "reference"}
ROUNDING = {torch.float64: 1e-14, torch.float32: 2e-6, torch.bfloat16: 2e-2}


@pytest.fixture(autouse=True)
def poisoned_memory():
    """A number that nobody wrote is NaN."""
    # Not by a torch.empty of our own: torch.device("meta") would remember that one for the rest of the process.
    with poisoned():
        yield


@pytest.fixture(params=[64 * 2**20, 1])
def workspace(request, monkeypatch):
    """The shipped bound, and one that makes chunks as small as they get."""
    monkeypatch.setattr(staged, "WORKSPACE", request.param)
    monkeypatch.setattr(staged, "_ROWS", 128 if request.param > 1 else 8)


@pytest.mark.parametrize("group", ["p4", "p4m"])
@pytest.mark.parametrize(("k", "padding"), [(1, 0), (3, 1), (3, 0), (5, 2), (4, 0)])
def test_golden(golden, group, k, padding):
    x, weight, y = (torch.from_numpy(golden[f"{group}_k{k}_pad{padding}__{name}"]) for name in "xwy")
    found = gk.group_conv2d(x, weight, group=group, padding=padding, **STAGED)
    torch.testing.assert_close(found, y, rtol=0, atol=1e-12)


def results(x, weight, bias, grad, **options):
    x, weight, bias = (t.detach().requires_grad_() for t in (x, weight, bias))
    y = gk.group_conv2d(x, weight, bias, **options)
    return y, *torch.autograd.grad(y, (x, weight, bias), grad)


def assert_parity(x, weight, bias, dtype, **options):
    x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
    y = gk.group_conv2d(x, weight, bias, backend="reference", **options)
    grad = torch.randn(y.shape).to(dtype).contiguous(memory_format=gk._layout.map_format(x))
    found = results(x, weight, bias, grad, **STAGED, **options)
    expected = results(x.double(), weight.double(), bias.double(), grad.double(), backend="reference", **options)
    for name, out, right in zip(("y", "x", "weight", "bias"), found, expected, strict=True):
        assert out.dtype == dtype
        error = ((out.double() - right).norm() / right.norm().clamp_min(1e-300)).item()
        assert error <= ROUNDING[dtype], f"{name}: {error:.1e} for {tuple(x.shape)}, {tuple(weight.shape)}, {options}"
    assert found[0].is_contiguous(memory_format=gk._layout.map_format(x))


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("group", ["p4", "p4m"])
def test_random_problems(group, dtype, workspace):
    """Any channels, k, stride, padding, dilation, memory format; whole, and in small chunks."""
    rng, order = random.Random(f"{group} {dtype}"), gk.point_group(group).order
    torch.manual_seed(0)
    for _ in range(12):
        k = rng.choice([1, 2, 3, 5])
        stride, padding, dilation = ((rng.randint(*r), rng.randint(*r)) for r in ((1, 3), (0, 2), (1, 2)))
        size = (dilation[0] * (k - 1) + rng.randint(1, 6), dilation[1] * (k - 1) + rng.randint(1, 6))
        cin, cout = rng.choice([1, 3, 8, 11]), rng.choice([1, 2, 5, 17])
        x = torch.randn(rng.randint(1, 3), cin, order, *size)
        if rng.random() < 0.5:
            x = x.contiguous(memory_format=torch.channels_last_3d)
        weight, bias = torch.randn(cout, cin, order, k, k), torch.randn(cout)
        assert_parity(x, weight, bias, dtype, group=group, stride=stride, padding=padding, dilation=dilation)


@pytest.mark.parametrize("group", ["c8", "c16", "d8"])
def test_finer_groups_through_their_grid_subgroup(group):
    torch.manual_seed(0)
    order = gk.point_group(group).order
    x, weight = torch.randn(2, 2, order, 5, 6), torch.randn(3, 2, order, 3, 3)
    assert_parity(x, weight, torch.randn(3), torch.float64, group=group, padding=1)


def test_slices_of_larger_tensors():
    torch.manual_seed(0)
    x, weight = torch.randn(2, 9, 4, 8, 7)[:, 2:5, :, 1:6, ::2], torch.randn(6, 7, 4, 3, 3)[::2, 1:4]
    assert_parity(x, weight, torch.randn(3), torch.float64, group="p4", padding=1)


@pytest.mark.parametrize("group", ["p4", "p4m"])
def test_derivatives(group):
    torch.manual_seed(0)
    order = gk.point_group(group).order
    shapes = (2, 2, order, 5, 4), (3, 2, order, 3, 3), (3,)
    inputs = [torch.randn(s, dtype=torch.float64).requires_grad_() for s in shapes]
    options = {"group": group, "stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), **STAGED}
    assert gradcheck(lambda *a: gk.group_conv2d(*a, **options), inputs, fast_mode=True)
    assert gradgradcheck(lambda *a: gk.group_conv2d(*a, **options), inputs, fast_mode=True)


def test_empty_batch():
    x, weight = torch.zeros(0, 2, 4, 5, 5), torch.ones(3, 2, 4, 3, 3)
    y, gx, gw, _ = results(x, weight, torch.ones(3), torch.zeros(0, 3, 4, 3, 3), group="p4", **STAGED)
    assert y.shape == (0, 3, 4, 3, 3) and gx.shape == x.shape
    assert torch.equal(gw, torch.zeros_like(weight))


def problem(op, channels, batch=64, size=64, group="p4m", dtype=torch.bfloat16, device="cpu"):
    point = gk.point_group(group)
    return ConvProblem.of(
        op, (batch, channels, point.order, size, size), (channels, channels, point.order, 3, 3),
        group=point, padding=(1, 1), dtype=dtype, device=torch.device(device),
    )  # fmt: skip


@pytest.mark.parametrize("op", ["conv", "conv_input_grad", "conv_weight_grad"])
@pytest.mark.parametrize("channels", [11, 90, 181, 512])
def test_the_workspace_is_bounded(op, channels):
    """The coefficients of maps take WORKSPACE at most, and no small part of it where there are pixels enough."""
    layer, workspace = problem(op, channels, device="meta"), {}

    class Record:
        def gather(self, x, windows, first, out):
            if not windows.filters:
                workspace[id(out.single.untyped_storage())] = out.single.untyped_storage()

        def scatter(self, coefficients, kernel, bias, y, first, slope=1.0, statistics=False):
            if kernel == 1:
                workspace[id(coefficients.single.untyped_storage())] = coefficients.single.untyped_storage()

    x, weight, y = (
        torch.empty(s, dtype=layer.dtype, device="meta") for s in (layer.in_shape, layer.weight_shape, layer.out_shape)
    )
    arguments = {"conv": (x, weight), "conv_input_grad": (y, weight), "conv_weight_grad": (y, x)}[op]
    getattr(staged.Staged(Record()), op)(layer, *arguments)
    assert len(workspace) == 2
    assert staged.WORKSPACE // 2 < sum(storage.nbytes() for storage in workspace.values()) <= staged.WORKSPACE


def test_requests_that_cannot_be_served():
    image, weight = torch.zeros(1, 2, 5, 5), torch.zeros(2, 2, 3, 3)
    with pytest.raises(RuntimeError, match="'staged' serves group convolutions, not lifting"):
        gk.lift_conv2d(image, weight, **STAGED)
    with pytest.raises(RuntimeError, match="serves p4 and p4m, not p1"):
        gk.group_conv2d(image.unsqueeze(2), weight.unsqueeze(2), group="p1", **STAGED)


def test_on_the_cpu_it_is_not_chosen_but_served_on_request():
    layer = problem("conv", 128, dtype=torch.float32)
    assert choose_for_conv(layer, "auto", "auto")[1] != "staged"
    assert choose_for_conv(layer, "auto", "reference")[1] == "expand"
    assert choose_for_conv(layer, "staged", "auto") == (BACKENDS["reference"], "staged")
