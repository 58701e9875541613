"""Convolutions of the triton backend, their gradients and second derivatives against the reference in float64."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
import torch

import gcnn_kernels as gk
from gcnn_kernels._layout import map_format
from gcnn_kernels.functional import conv_with_statistics

TOLERANCES = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1e-2}


def error(out, ref):
    return float((out.double() - ref).norm() / ref.norm())


def results(x, weight, bias, seed, geometry, **choice):
    """Output, the gradients of <g, output>, and those of the gradient penalty |d<g, output> / dx|^2."""
    x, weight, bias = (t.detach().requires_grad_() for t in (x, weight, bias))
    conv = gk.lift_conv2d if x.dim() == 4 else gk.group_conv2d
    y = conv(x, weight, bias, **geometry, **choice)
    g = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    g = g.to(x.dtype).to(memory_format=torch.channels_last_3d).requires_grad_()
    gx, gw, gb = torch.autograd.grad((y * g).sum(), (x, weight, bias), create_graph=True)
    penalty = torch.autograd.grad(gx.square().sum(), (weight, g))
    return tuple(t.detach() for t in (y, gx, gw, gb, *penalty))


def check(group, lifting, shape, out_channels, k, algorithm, dtype, last, stride=1, padding=0, dilation=1):
    slots = gk.point_group(group).order
    batch, channels, height, width = shape
    generator = torch.Generator().manual_seed(0)
    plane = (height, width)
    x = torch.randn((batch, channels, *(() if lifting else (slots,)), *plane), generator=generator, dtype=torch.float64)
    weight = torch.randn((out_channels, *x.shape[1 : x.dim() - 2], k, k), generator=generator, dtype=torch.float64)
    bias = torch.randn(out_channels, generator=generator, dtype=torch.float64)
    x, weight, bias = x.to(dtype), (weight / weight[0].numel() ** 0.5).to(dtype), bias.to(dtype)
    if last:
        x = x.to(memory_format=torch.channels_last if lifting else torch.channels_last_3d)
    geometry = {"group": group, "stride": stride, "padding": padding, "dilation": dilation}
    found = results(x, weight, bias, 1, geometry, backend="triton", algorithm=algorithm)
    expected = results(x.double(), weight.double(), bias.double(), 1, geometry, backend="reference")
    names = ("output", "dx", "dweight", "dbias", "d penalty / dweight", "d penalty / dgrad")
    errors = {name: error(a, b) for name, a, b in zip(names, found, expected, strict=True)}
    if dtype == torch.bfloat16:
        # The interpreter truncates to bfloat16 instead of rounding, twice the error of a GPU at each of the many steps.
        del errors["d penalty / dweight"], errors["d penalty / dgrad"]
    assert max(errors.values()) <= TOLERANCES[dtype], errors
    assert found[0].is_contiguous(memory_format=map_format(x.unsqueeze(2) if lifting else x))


# group, lifting, (batch, channels in, height, width), channels out, k, dtype, channels last, geometry
CASES = {
    "p4-lift-3-11": ("p4", True, (2, 3, 7, 6), 11, 3, torch.float32, True, {"padding": 1}),
    "p4m-lift-1-5-dilated": ("p4m", True, (1, 1, 8, 9), 5, 3, torch.float32, False, {"padding": 2, "dilation": 2}),
    "p1-lift-17-3": ("p1", True, (2, 17, 5, 5), 3, 2, torch.float16, True, {"stride": 2}),
    "p4-11-22": ("p4", False, (2, 11, 5, 6), 22, 3, torch.float32, True, {"padding": 1}),
    "p4m-22-11-2x2": ("p4m", False, (1, 22, 4, 5), 11, 2, torch.bfloat16, True, {"padding": 1}),
    "p4m-45-3-1x1": ("p4m", False, (2, 45, 3, 3), 3, 1, torch.float16, True, {}),
    "p4-5-2-strided-4x4": (
        "p4", False, (2, 5, 9, 7), 2, 4, torch.float32, False,
        {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)},
    ),
    "p4m-2-3-float64": ("p4m", False, (1, 2, 7, 5), 3, 3, torch.float64, False, {"stride": 2, "padding": 1}),
    "p4-90-1-2x2": ("p4", False, (1, 90, 4, 3), 1, 2, torch.float32, True, {"padding": (1, 0)}),
}  # fmt: skip


@pytest.mark.parametrize("algorithm", ["direct", "fourier", "staged"])
@pytest.mark.parametrize("name", CASES)
def test_conv(name, algorithm):
    group, lifting, shape, out_channels, k, dtype, last, geometry = CASES[name]
    if algorithm != "direct" and (lifting or group == "p1"):
        pytest.skip(f"{algorithm} serves group convolutions of p4 and p4m")
    check(group, lifting, shape, out_channels, k, algorithm, dtype, last, **geometry)


@pytest.mark.parametrize("algorithm", ["direct", "fourier", "staged"])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_activation_and_statistics_in_the_same_pass(dtype, algorithm, monkeypatch):
    """Several tiles, slots and chunks; a mean far from 0, and a last tile that the pixels do not fill."""
    from gcnn_kernels.backends import staged

    monkeypatch.setattr(staged, "WORKSPACE", 1)
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        for shape in ((3, 3, 8, 9, 7), (18, 3, 8, 1, 1), (18,))
    )
    bias += 20
    options = {"group": "p4m", "algorithm": algorithm, "backend": "triton"}
    y = gk.group_conv2d(x, weight, bias, **options)
    for activation, act in (("relu", torch.relu), ("leaky_relu", lambda y: torch.where(y < 0, 0.2 * y, y))):
        found = gk.group_conv2d(x, weight, bias - 20, activation=activation, **options)
        right = act(gk.group_conv2d(x, weight, bias - 20, **options).double()).to(dtype)
        assert error(found, right) <= TOLERANCES[dtype]
        if dtype == torch.float64:
            torch.testing.assert_close(found, right, rtol=1e-15, atol=0)
    found, (mean, var) = conv_with_statistics(
        False, x, weight, bias, gk.point_group("p4m"), 1, 0, 1, 1, algorithm, "triton"
    )
    assert torch.equal(found, y)
    right_var, right_mean = torch.var_mean(y.double(), (0, 2, 3, 4), correction=0)
    tolerance = {"rtol": 1e-13 if dtype == torch.float64 else 1e-5, "atol": 0}
    torch.testing.assert_close(mean.double(), right_mean, **tolerance)
    torch.testing.assert_close(var.double(), right_var, **tolerance)


@pytest.mark.parametrize(("group", "growth"), [("p4", 1.25), ("p4m", 1.5)])
def test_errors_of_transforms_in_16_bits(group, growth):
    """Those of output, input and weight gradient beside "staged", which rounds the coefficients once (docs/gpu.md)."""
    generator = torch.Generator().manual_seed(0)
    slots = gk.point_group(group).order
    x, weight = (torch.randn(8, 8, slots, n, n, generator=generator).half() / n for n in (5, 3))
    bias, geometry = torch.zeros(8, dtype=x.dtype), {"group": group, "padding": 1}
    exact = results(x.double(), weight.double(), bias.double(), 1, geometry, backend="reference")
    ours, once = (
        results(x, weight, bias, 1, geometry, backend="triton", algorithm=algorithm)
        for algorithm in ("fourier", "staged")
    )
    for found, least, true in zip(ours[:3], once[:3], exact[:3], strict=True):
        assert error(found, true) <= growth * error(least, true)


def test_expanded_conv():
    check("p4m", False, (1, 3, 5, 4), 2, 3, "expand", torch.float32, True, padding=1)


@pytest.mark.parametrize("algorithm", ["direct", "fourier", "staged"])
def test_golden_convolutions(golden, algorithm):
    """The convention itself, not only agreement with the reference backend."""
    for group in ("p4", "p4m"):
        x, weight, y = (torch.from_numpy(golden[f"{group}_k3_pad1__{name}"]) for name in "xwy")
        found = gk.group_conv2d(x, weight, group=group, padding=1, algorithm=algorithm, backend="triton")
        assert error(found, y) <= 1e-12


@pytest.mark.parametrize("algorithm", ["direct", "fourier", "staged"])
def test_offsets_in_int64(monkeypatch, algorithm):
    """The arithmetic for maps of more than 2^31 numbers gives the same values; here it is forced on a small one."""
    from gcnn_kernels.backends.triton import direct, fourier, staging

    for module in (direct, fourier, staging):
        monkeypatch.setattr(module, "wide", lambda *tensors: True)
    check("p4", False, (2, 3, 5, 4), 2, 3, algorithm, torch.float32, True, padding=1)


@pytest.mark.parametrize("algorithm", ["direct", "fourier"])
def test_weight_gradient_in_parts(monkeypatch, algorithm):
    """Sums split over several programs."""
    from gcnn_kernels.backends.triton import direct, fourier

    def three_parts(tiles, steps, bytes_per_split, device):
        per_part = -(-steps // 3)
        return -(-steps // per_part), per_part

    monkeypatch.setattr(direct, "split_sum", three_parts)
    monkeypatch.setattr(fourier, "split_sum", three_parts)
    check("p4", False, (3, 3, 6, 5), 2, 3, algorithm, torch.float32, True, padding=1)


@pytest.mark.parametrize("group", ["p4", "p4m"])
def test_staged_in_chunks(monkeypatch, group):
    """Several chunks, the last one with rows that are no pixels; widths in which the map moves 2, 4 and 8 at once."""
    from gcnn_kernels.backends import staged

    monkeypatch.setattr(staged, "WORKSPACE", 1)
    monkeypatch.setattr(staged, "_ROWS", 32)
    for channels, dtype in ((6, torch.float16), (4, torch.float32), (8, torch.float16)):
        check(group, False, (2, channels, 5, 7), 20 - channels, 3, "staged", dtype, True, padding=1)


@pytest.mark.parametrize("algorithm", ["direct", "fourier", "staged"])
def test_empty_batch(algorithm):
    x = torch.zeros(0, 2, 4, 5, 5, requires_grad=True)
    weight = torch.ones(3, 2, 4, 3, 3, requires_grad=True)
    y = gk.group_conv2d(x, weight, algorithm=algorithm, backend="triton")
    gx, gw = torch.autograd.grad(y.sum(), (x, weight))
    assert y.shape == (0, 3, 4, 3, 3)
    assert gx.shape == x.shape
    assert torch.equal(gw, torch.zeros_like(weight))


def test_slices_of_larger_tensors():
    """Any strides are read as they are."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn((2, 9, 4, 8, 7), generator=generator)[:, 2:5, :, 1:6, ::2]
    weight = torch.randn((6, 7, 4, 3, 3), generator=generator)[::2, 1:4]
    for algorithm in ("direct", "fourier", "staged"):
        found = gk.group_conv2d(x, weight, algorithm=algorithm, backend="triton")
        expected = gk.group_conv2d(x.double(), weight.double(), backend="reference")
        assert error(found, expected) <= 2e-6


def test_requests_that_cannot_be_served():
    image, weight = torch.zeros(1, 2, 5, 5), torch.zeros(2, 2, 3, 3)
    with pytest.raises(RuntimeError, match="'fourier' serves group convolutions, not lifting"):
        gk.lift_conv2d(image, weight, algorithm="fourier", backend="triton")
    with pytest.raises(RuntimeError, match="serves p4 and p4m, not p1"):
        gk.group_conv2d(image.unsqueeze(2), weight.unsqueeze(2), group="p1", algorithm="fourier", backend="triton")
    with pytest.raises(RuntimeError, match=r"it computes in .*, not torch.float8_e5m2"):
        gk.group_max_pool(image.unsqueeze(2).to(torch.float8_e5m2), backend="triton")


@pytest.mark.parametrize(("algorithm", "what"), [("direct", "packed filters"), ("fourier", "filters' coefficients")])
def test_an_error_for_want_of_memory_says_what_was_asked_for(algorithm, what, monkeypatch):
    x, weight = torch.zeros(1, 2, 4, 5, 5), torch.zeros(3, 2, 4, 3, 3)
    empty = torch.empty

    def full(shape, **options):
        if len(shape) == 5:  # the output itself fits
            return empty(shape, **options)
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(torch.OutOfMemoryError, match=f"no memory for the {what}: .* MiB on cpu"):
        gk.group_conv2d(x, weight, algorithm=algorithm, backend="triton")


def test_at_most_five_frames_between_a_module_and_the_launch(monkeypatch):
    found = []

    def record(executor, *args, **kwargs):
        frames = traceback.extract_stack()
        found.append([f.name for f in frames if Path(f.filename).is_relative_to(Path(gk.__file__).parent)])

    monkeypatch.setattr("triton.runtime.interpreter.GridExecutor.__call__", record)
    for algorithm in ("direct", "fourier"):
        gk.nn.GroupConv2d(2, 3, 3, algorithm=algorithm, backend="triton")(torch.zeros(1, 2, 4, 5, 5))
    assert len(found) == 3  # the transform of the filters has a launch of its own
    for names in found:
        assert len(names) - 1 - names.index("forward") <= 5, names


def test_the_interpreter_is_never_chosen_automatically():
    from gcnn_kernels.backends import BACKENDS, choose

    assert BACKENDS["triton"].unavailable() is None
    assert choose("norm", torch.zeros(1), "auto").name != "triton"
