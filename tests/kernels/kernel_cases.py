"""Checks of a backend's norm, pool and filter kernels against the reference in float64, for any device."""

from __future__ import annotations

from contextlib import contextmanager

import torch
import torch.nn.functional as F

from gcnn_kernels._layout import map_format, plane_format
from gcnn_kernels.backends import BACKENDS
from gcnn_kernels.backends.base import Affine

REFERENCE = BACKENDS["reference"]
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
TOLERANCES = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}
FORMATS = (torch.contiguous_format, torch.channels_last_3d)
SHAPES = (
    (2, 3, 4, 5, 5),
    (3, 7, 8, 16, 16),  # a plane in several pieces
    (1, 90, 8, 6, 6),
    (2, 300, 4, 3, 3),  # more channels than a block of threads
    (5, 1, 8, 4, 4),  # one channel: both formats at once
    (7, 5, 1, 40, 41),  # one slot
    (2, 5, 4, 1, 1),  # one pixel
)
EMPTY_SHAPES = ((0, 3, 4, 5, 5), (2, 3, 4, 0, 5))
AFFINES_AND_SLOPES = (
    ("none", 1.0),
    ("none", 0.2),
    ("per map", 0.0),
    ("per sample", 0.2),
    ("per sample", 1.0),
    ("scale only", 0.0),
    ("shift per sample", 0.2),
)


@contextmanager
def poisoned():
    """New tensors are full of NaN, so that a result's element that is not written shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def error(out, expected):
    """Relative to the norm of what is expected; NaN where out has one."""
    out, expected = out.double().cpu(), expected.double().cpu()
    assert out.shape == expected.shape
    return ((out - expected).norm() / expected.norm().clamp_min(1e-30)).item()


def assert_close(out, expected, tolerance, what):
    assert error(out, expected) <= tolerance, f"{what}: {error(out, expected):.2e} > {tolerance:.0e}"


def random_map(shape, dtype, device, memory_format):
    return (2 * torch.randn(shape) + 3).to(device, dtype).contiguous(memory_format=memory_format)


def affine_parameters(kind, shape, dtype, device):
    batch, channels = shape[:2]
    shapes = {
        "none": (None, None),
        "per map": ((channels,), (channels,)),
        "per sample": ((batch, channels), (batch, channels)),
        "scale only": ((channels,), None),
        "shift per sample": ((channels,), (batch, channels)),
    }[kind]
    return [None if s is None else torch.randn(s).to(device, dtype) for s in shapes]


def check_norm(backend, device, dtype, shape, memory_format, parameters, slope):
    """The four norm kernels: values, dtypes and memory formats."""
    x, grad = random_map(shape, dtype, device, memory_format), torch.randn(shape).to(device, dtype)
    weight, bias = affine_parameters(parameters, shape, dtype, device)
    statistics = torch.float64 if dtype == torch.float64 else torch.float32
    exact = 1e-12 if dtype == torch.float64 else 2e-6  # for what is not rounded to dtype
    double = lambda t: None if t is None else t.double().cpu()  # noqa: E731

    mean, var = REFERENCE.norm.norm_stats(double(x))
    with poisoned():
        found_mean, found_var = backend.norm.norm_stats(x)
    assert found_mean.dtype == found_var.dtype == statistics
    assert_close(found_mean, mean, exact, "mean")
    assert_close(found_var, var, exact, "variance")

    mean, rstd = mean.to(device, statistics), (var + 1e-5).rsqrt().to(device, statistics)
    affine = Affine(weight, bias, slope)
    moments, exact_affine = (double(mean), double(rstd)), Affine(double(weight), double(bias), slope)
    with poisoned():
        y = backend.norm.norm_apply(x, mean, rstd, affine)
    assert y.dtype == dtype and y.is_contiguous(memory_format=memory_format)
    assert_close(y, REFERENCE.norm.norm_apply(double(x), *moments, exact_affine), TOLERANCES[dtype], "y")

    sums = REFERENCE.norm.norm_backward_sums(double(grad), double(x), *moments, exact_affine)
    with poisoned():
        found = backend.norm.norm_backward_sums(grad, x, mean, rstd, affine)
    for name, out, expected in zip(("sum of g", "sum of g xhat"), found, sums, strict=True):
        assert out.dtype == statistics
        assert_close(out, expected, exact, name)

    means = [(s.sum(0) / 10).to(device, statistics) for s in sums]
    with poisoned():
        gx = backend.norm.norm_backward_input(grad, x, mean, rstd, affine, *means)
    assert gx.dtype == dtype and gx.is_contiguous(memory_format=memory_format)
    expected = REFERENCE.norm.norm_backward_input(double(grad), double(x), *moments, exact_affine, *map(double, means))
    assert_close(gx, expected, TOLERANCES[dtype], "gradient of x")

    # The same in one call for each direction.
    eps = 1e-5
    var = var.to(device, statistics)
    with poisoned():
        y, *moments = backend.norm.norm_train(x, affine, eps)
        y_eval = backend.norm.norm_eval(x, mean, var, affine, eps)
    expected, *expected_moments = REFERENCE.norm.norm_train(double(x), exact_affine, eps)
    assert y.dtype == dtype and y.is_contiguous(memory_format=memory_format)
    assert_close(y, expected, TOLERANCES[dtype], "y in training")
    assert_close(y_eval, expected, TOLERANCES[dtype], "y in evaluation")
    for name, out, right in zip(("mean", "variance"), moments, expected_moments, strict=True):
        assert out.dtype == statistics
        assert_close(out, right, exact, name)
    for count in (0, x.numel() // shape[1]):
        with poisoned():
            found = backend.norm.norm_backward(grad, x, mean, var, affine, count, eps)
        exactly = map(double, (grad, x, mean, var))
        gx, *sums = REFERENCE.norm.norm_backward(*exactly, exact_affine, count, eps)
        assert found[0].dtype == dtype and found[0].is_contiguous(memory_format=memory_format)
        assert_close(found[0], gx, TOLERANCES[dtype], "gradient of x in one call")
        for name, out, right in zip(("sum of g", "sum of g xhat"), found[1:], sums, strict=True):
            assert_close(out, right, exact, name)


def check_norm_of_nothing(backend, device, shape, memory_format):
    x = torch.empty(shape, device=device).contiguous(memory_format=memory_format)
    vector = torch.ones(shape[1], device=device)
    with poisoned():
        assert backend.norm.norm_apply(x, vector, vector, Affine(None, None, 1.0)).shape == x.shape
        sums = backend.norm.norm_backward_sums(x, x, vector, vector, Affine(vector, None, 1.0))
        gx = backend.norm.norm_backward_input(x, x, vector, vector, Affine(vector, None, 1.0), vector, vector)
    assert all(s.shape == x.shape[:2] and not s.any() for s in sums)
    assert gx.shape == x.shape


def check_statistics_without_cancellation(backend, device, dtype, memory_format):
    """Mean and variance of values whose spread is a small part of their mean, and of a plane with one far value."""
    x = (torch.randn(4, 5, 8, 16, 16, dtype=torch.float64) + 1e4).to(dtype)
    x[0, 1, 0, 0, 0] = -1e6  # the first value of a channel, on which a shift of the origin might be based
    _, var = REFERENCE.norm.norm_stats(x.double())
    mean, found = backend.norm.norm_stats(x.to(device).contiguous(memory_format=memory_format))
    assert_close(mean, x.double().mean((0, 2, 3, 4)), 1e-6, "mean")
    relative = (found.double().cpu() - var).abs() / var
    assert relative.max() <= 1e-5, relative


def check_spatial_pool(backend, device, dtype, shape, memory_format):
    """Maxima of 2 x 2 pixels (with ties and NaN), scatter and gather: exactly torch's. ``shape`` is the maxima's."""
    height, width = 2 * shape[3], 2 * shape[4]
    x = torch.randint(-3, 4, (*shape[:3], height, width)).to(device, dtype)
    x[torch.rand(x.shape, device=device) < 0.05] = float("nan")
    planes = x.flatten(0, 2)[None]
    value, place = F.max_pool2d(planes, 2, return_indices=True)
    index = 2 * (place // width % 2) + place % 2
    grad = torch.randn(shape).to(device, dtype)
    scattered = F.max_unpool2d(grad.view_as(value).double(), place, 2).to(dtype)

    with poisoned():
        found_value, found_index = backend.spatial_pool.spatial_max(x.contiguous(memory_format=memory_format))
        found_scattered = backend.spatial_pool.spatial_max_scatter(grad, found_index)
        found = backend.spatial_pool.spatial_max_gather(found_scattered, found_index)
    for result in (found_value, found_index, found_scattered, found):
        assert result.is_contiguous(memory_format=memory_format)
    assert found_value.dtype == dtype and found_index.dtype == torch.uint8
    assert torch.equal(found_value.nan_to_num(9), value.view(shape).nan_to_num(9))
    assert torch.equal(found_index, index.view(shape).to(torch.uint8))
    assert torch.equal(found_scattered, scattered.view(x.shape))
    assert torch.equal(found, grad)


def check_pool(backend, device, dtype, shape, memory_format):
    """Maxima (of maps with ties and NaN), scatter and gather: exactly the reference's."""
    x = torch.randint(-3, 4, shape).to(device, dtype).contiguous(memory_format=memory_format)
    x[torch.rand(shape, device=device) < 0.05] = float("nan")
    same = lambda a, b: torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(9), b.nan_to_num(9))  # noqa: E731
    planes = plane_format(x)

    value, index = REFERENCE.pool.group_max(x)
    with poisoned():
        found_value, found_index = backend.pool.group_max(x)
    assert found_value.dtype == dtype and found_index.dtype == torch.uint8
    assert found_value.is_contiguous(memory_format=planes)
    assert found_index.is_contiguous(memory_format=planes)
    assert same(found_value, value) and torch.equal(found_index, index)

    grad = torch.randn(value.shape).to(device, dtype)
    with poisoned():
        scattered = backend.pool.group_max_scatter(grad, found_index, shape[2])
        gathered = backend.pool.group_max_gather(x, found_index)
    assert torch.equal(scattered, REFERENCE.pool.group_max_scatter(grad, index, shape[2]))
    if shape[3] * shape[4] > 1:  # a plane of one pixel has both formats
        assert map_format(scattered) == map_format(x)
    assert same(gathered, value)


def check_filters(backend, device, dtype, group, in_slots, k):
    weight = torch.randn(5, 3, in_slots, k, k).to(device, dtype)
    with poisoned():
        stack = backend.filters.expand_filters(weight, group)
        reduced = backend.filters.reduce_filters(stack, group, in_slots)
    expected = REFERENCE.filters.expand_filters(weight, group)
    assert torch.equal(stack, expected)
    exact = REFERENCE.filters.reduce_filters(expected.double(), group, in_slots)
    assert_close(reduced, exact, TOLERANCES[dtype], "adjoint")
