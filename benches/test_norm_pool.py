"""Group batch norm with affine map and ReLU, and the maximum over the group, against plain torch."""

from __future__ import annotations

from functools import cache, lru_cache, partial

import pytest
import torch

import gcnn_kernels as gk

from . import layers, naive
from .cases import map_cases
from .measure import fastest, rounds_within

TOLERANCE = 2e-6  # of fp32 against float64
BUDGET = 0.25  # seconds per case
MODES = ("forward", "forward+backward")


class MapLayer:
    """A norm or pool with its own tensors; ``function`` takes the map and, for a norm, scale and shift."""

    def __init__(self, function, tensors, as_map):
        self.function = function
        self.x = as_map(tensors["x"]).detach()
        self.leaves = [self.x, *(t.clone() for t in tensors["affine"])]
        with torch.no_grad():  # the gradient that arrives has the output's memory format
            self.dy = torch.empty_like(function(*self.leaves)).copy_(tensors["dy"])

    def run(self, mode):
        if mode == "forward":
            with torch.no_grad():
                return [self.function(*self.leaves)]
        for leaf in self.leaves:
            leaf.requires_grad_()
        y = self.function(*self.leaves)
        return [y.detach(), *torch.autograd.grad(y, self.leaves, self.dy)]


def _functions(case, dtype):
    """Ours and the naive one."""
    if case.kind == "pool":
        return gk.group_max_pool, naive.group_max_pool
    return _norm(gk.group_batch_norm, case, dtype), _norm(naive.group_batch_norm, case, dtype)


def _norm(function, case, dtype):
    moments = torch.zeros(case.channels, dtype=dtype), torch.ones(case.channels, dtype=dtype)

    def norm(x, weight, bias, activation="relu"):
        return function(x, *moments, weight, bias, True, 0.1, 1e-5, activation)

    return norm


@lru_cache(maxsize=2)
def _draw(case, dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(case.shape, generator=generator).to(dtype)
    if case.kind == "pool":
        return {"x": x, "affine": [], "dy": torch.randn(x[:, :, 0].shape, generator=generator).to(dtype)}
    affine_shape = (case.batch, case.channels) if case.conditional else (case.channels,)
    affine = torch.randn(2, *affine_shape, generator=generator).to(dtype)
    dy = torch.randn(case.shape, generator=generator).to(dtype)
    # On which side of the ReLU's kink a value within rounding of zero lies is no error: no gradient comes from there.
    at_kink = _norm(naive.group_batch_norm, case, dtype)(x, *affine, activation=None).abs() < 1e-4
    return {"x": x, "affine": affine, "dy": dy.masked_fill_(at_kink, 0)}


def _ours(case):
    def as_map(t):
        return t.contiguous(memory_format=torch.channels_last_3d)

    return MapLayer(_functions(case, torch.float32)[0], _draw(case, torch.float32), as_map)


def _naive(case, memory_format, dtype=torch.float32):
    def as_map(t):
        return t.flatten(1, 2).clone(memory_format=memory_format).unflatten(1, t.shape[1:3])

    return MapLayer(_functions(case, dtype)[1], _draw(case, dtype), as_map)


@cache
def _faster_format(case, mode):
    return fastest({f: partial(_naive(case, f).run, mode) for f in layers.FORMATS})


@lru_cache(maxsize=1)
def _reference(case):
    """Output and gradients in float64."""
    return _naive(case, torch.contiguous_format, torch.float64).run("forward+backward")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", map_cases(), ids=lambda case: case.name)
def test_norm_pool(compare, case, mode):
    ours, plain = _ours(case), _naive(case, _faster_format(case, mode))
    results = ours.run(mode)
    assert layers.error(results, _reference(case)[: len(results)]) < TOLERANCE
    timed, rivals = partial(ours.run, mode), {"naive": partial(plain.run, mode)}
    compare(case, mode, timed, rivals, rounds_within(BUDGET, [timed, *rivals.values()]))
