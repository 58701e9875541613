"""Norm, pool and filter expansion of the triton backend against the reference."""

from __future__ import annotations

import pytest
import torch

import gcnn_kernels as gk
from gcnn_kernels.backends import BACKENDS
from gcnn_kernels.backends.base import Affine

TRITON, REFERENCE = BACKENDS["triton"], BACKENDS["reference"]
TOLERANCES = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1e-2}


def error(out, ref):
    return float((out.double() - ref).norm() / ref.norm())


def random_map(shape, dtype, last, seed=0, mean=0.0):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + mean
    return x.to(dtype).to(memory_format=torch.channels_last_3d if last else torch.contiguous_format)


MAPS = [
    ((2, 5, 4, 6, 7), torch.float32, True),
    ((3, 11, 8, 4, 4), torch.bfloat16, True),
    ((1, 181, 4, 2, 3), torch.float16, True),
    ((2, 3, 1, 40, 33), torch.float32, False),
    ((1, 32, 8, 5, 5), torch.float64, False),
    ((1, 16, 4, 4, 4), torch.float64, True),
    # several tiles in a row of one program, the last one not full
    ((2, 5, 8, 33, 31), torch.float32, True),
    ((4, 5, 1, 70, 73), torch.float32, False),
]
KINDS = ("none", "per map", "per sample", "per sample", "per map", "none", "per map", "per sample")


def check_statistics(shape, dtype, last):
    """Far from zero, where a sum of squares would lose the variance."""
    x = random_map(shape, dtype, last, mean=100.0)
    for found, expected in zip(TRITON.norm.norm_stats(x), REFERENCE.norm.norm_stats(x.double()), strict=True):
        assert error(found, expected) <= (1e-12 if dtype == torch.float64 else 2e-6)


def check_norm(shape, dtype, last, kind):
    batch, channels = shape[:2]
    x, grad = random_map(shape, dtype, last), random_map(shape, dtype, last, seed=1)
    generator = torch.Generator().manual_seed(2)
    sums = torch.float64 if dtype == torch.float64 else torch.float32

    def random(*shape):
        return torch.randn(shape, generator=generator, dtype=sums)

    mean, rstd = random(channels), random(channels).abs() + 0.5
    affine = {
        "none": (None, None),
        "per map": (random(channels), random(batch, channels)),
        "per sample": (random(batch, channels), random(channels)),
    }[kind]
    means = random(channels), random(channels)
    double = mean.double(), rstd.double(), Affine(*(None if t is None else t.double() for t in affine), 0.2)
    here = mean, rstd, Affine(*affine, 0.2)
    y = TRITON.norm.norm_apply(x, *here)
    assert y.stride() == x.stride()
    assert error(y, REFERENCE.norm.norm_apply(x.double(), *double)) <= TOLERANCES[dtype]
    expected = REFERENCE.norm.norm_backward_sums(grad.double(), x.double(), *double)
    for found, reference in zip(TRITON.norm.norm_backward_sums(grad, x, *here), expected, strict=True):
        assert error(found, reference) <= (1e-12 if dtype == torch.float64 else 2e-6)
    expected = REFERENCE.norm.norm_backward_input(grad.double(), x.double(), *double, *(m.double() for m in means))
    assert error(TRITON.norm.norm_backward_input(grad, x, *here, *means), expected) <= TOLERANCES[dtype]


@pytest.mark.parametrize(("shape", "dtype", "last"), MAPS)
def test_statistics(shape, dtype, last):
    check_statistics(shape, dtype, last)


@pytest.mark.parametrize(
    ("shape", "dtype", "last", "kind"), [(*case, kind) for case, kind in zip(MAPS, KINDS, strict=True)]
)
def test_norm(shape, dtype, last, kind):
    check_norm(shape, dtype, last, kind)


@pytest.mark.parametrize(("shape", "last"), [((2, 3, 4, 20, 21), True), ((1, 2, 4, 129, 128), False)])
def test_many_partial_sums(shape, last, monkeypatch):
    """More of them than one step of the kernels that combine them takes, as on a GPU with its many programs."""
    from gcnn_kernels.backends.triton import norm

    monkeypatch.setattr(norm, "TILE", 1024)
    monkeypatch.setattr(norm, "multiprocessors", lambda device: 1000)
    check_statistics(shape, torch.float32, last)
    check_norm(shape, torch.float32, last, "per sample")


@pytest.mark.parametrize("shape", [(0, 3, 4, 5, 5), (2, 3, 4, 0, 5)])
@pytest.mark.parametrize("last", [True, False])
def test_norm_of_nothing(shape, last):
    x, vector = random_map(shape, torch.float32, last), torch.ones(3)
    moments_and_affine = vector, vector, Affine(None, None, 1.0)
    assert TRITON.norm.norm_apply(x, *moments_and_affine).shape == x.shape
    assert TRITON.norm.norm_backward_input(x, x, *moments_and_affine, vector, vector).shape == x.shape
    for found in TRITON.norm.norm_backward_sums(x, x, *moments_and_affine):
        assert torch.equal(found, torch.zeros(shape[:2]))


def test_norm_of_mixed_formats():
    x, grad = (
        random_map((2, 3, 4, 5, 6), torch.float32, True),
        random_map((2, 3, 4, 5, 6), torch.float32, False, seed=1),
    )
    arguments = (torch.zeros(3), torch.ones(3), Affine(None, None, 0.0))
    found = TRITON.norm.norm_backward_sums(grad, x, *arguments)
    for a, b in zip(found, REFERENCE.norm.norm_backward_sums(grad.double(), x.double(), *arguments), strict=True):
        assert error(a, b) <= 2e-6


def test_second_derivative_of_norm():
    def penalty(dtype, backend):
        x = random_map((2, 3, 4, 4, 5), dtype, True).requires_grad_()
        weight = torch.linspace(0.5, 2, 3, dtype=dtype).requires_grad_()
        y = gk.group_batch_norm(x, None, None, weight, None, training=True, activation="leaky_relu", backend=backend)
        (gx,) = torch.autograd.grad((y**3).sum(), x, create_graph=True)
        return torch.autograd.grad(gx.square().sum(), (x, weight))

    for found, expected in zip(penalty(torch.float32, "triton"), penalty(torch.float64, "reference"), strict=True):
        assert error(found, expected) <= 2e-6


@pytest.mark.parametrize(("shape", "dtype", "last"), MAPS)
def test_pool(shape, dtype, last):
    """Bit for bit, with ties and NaN."""
    x = random_map(shape, dtype, last).round()
    x[0, 0, -1, 0, 0] = x[-1, -1, :, -1, -1] = float("nan")
    value, index = TRITON.pool.group_max(x)
    expected, expected_index = REFERENCE.pool.group_max(x)
    assert torch.equal(index, expected_index)
    assert torch.equal(value.nan_to_num(7), expected.nan_to_num(7))
    grad = random_map(value.unsqueeze(2).shape, dtype, last, seed=1).squeeze(2)
    scattered = TRITON.pool.group_max_scatter(grad, index, shape[2])
    assert torch.equal(scattered, REFERENCE.pool.group_max_scatter(grad, index, shape[2]))
    assert torch.equal(TRITON.pool.group_max_gather(scattered, index), grad)


@pytest.mark.parametrize(("group", "slots"), [("p4", 4), ("p4m", 8), ("p4m", 1), ("p1", 1)])
def test_filters(group, slots):
    point = gk.point_group(group)
    weight = torch.randn(3, 5, slots, 3, 3, generator=torch.Generator().manual_seed(0))
    stack = TRITON.filters.expand_filters(weight, point)
    assert torch.equal(stack, REFERENCE.filters.expand_filters(weight, point))
    stack = torch.randn(stack.shape, generator=torch.Generator().manual_seed(1))
    expected = REFERENCE.filters.reduce_filters(stack.double(), point, slots)
    assert error(TRITON.filters.reduce_filters(stack, point, slots), expected) <= 1e-6
