"""Group batch norm with affine map and ReLU, and maxima over the group and the plane, against plain torch."""

from __future__ import annotations

from functools import cache, lru_cache, partial

import pytest
import torch

import gcnn_kernels as gk

from . import device, layers, naive
from .cases import map_cases
from .measure import fastest, rounds_within

BUDGET = 0.25  # seconds per case
MODES = ("forward", "forward+backward")
AT_KINK = {torch.float32: 1e-4, torch.bfloat16: 0.05}  # how near to zero rounding may change a value's sign


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


def _functions(case, statistics):
    """Ours and the naive one."""
    if case.kind == "pool":
        return gk.group_max_pool, naive.group_max_pool
    if case.kind == "spatial pool":
        return gk.nn.SpatialMaxPool2d(2), naive.spatial_max_pool
    return _norm(gk.group_batch_norm, case, statistics), _norm(naive.group_batch_norm, case, statistics)


def _norm(function, case, statistics):
    where = {"dtype": statistics, "device": device.current().torch_device}
    running = torch.zeros(case.channels, **where), torch.ones(case.channels, **where)

    def norm(x, weight, bias, activation="relu"):
        return function(x, *running, weight, bias, True, 0.1, 1e-5, activation)

    return norm


@lru_cache(maxsize=2)
def _draw(case, precision):
    """Map, affine parameters and the gradient of the output; parameters per map stay float32 under autocast."""
    where = device.current().torch_device
    random = {"generator": torch.Generator(where).manual_seed(0), "device": where}
    x = torch.randn(case.shape, **random).to(precision.dtype)
    if case.kind != "norm":
        pooled = x[:, :, 0] if case.kind == "pool" else x[..., ::2, ::2]
        return {"x": x, "affine": [], "dy": torch.randn(pooled.shape, **random).to(precision.dtype)}
    affine_shape = (case.batch, case.channels) if case.conditional else (case.channels,)
    affine = torch.randn(2, *affine_shape, **random).to(precision.dtype if case.conditional else torch.float32)
    dy = torch.randn(case.shape, **random).to(precision.dtype)
    # On which side of the ReLU's kink a value within rounding of zero lies is no error: no gradient comes from there.
    y = _norm(naive.group_batch_norm, case, torch.float64)(x.double(), *affine.double(), activation=None)
    return {"x": x, "affine": affine, "dy": dy.masked_fill_(y.abs() < AT_KINK[precision.dtype], 0)}


def _ours(case, precision):
    def as_map(t):
        return t.contiguous(memory_format=torch.channels_last_3d)

    return MapLayer(_functions(case, torch.float32)[0], _draw(case, precision), as_map)


def _naive(case, memory_format, tensors, statistics=torch.float32):
    def as_map(t):
        return t.flatten(1, 2).clone(memory_format=memory_format).unflatten(1, t.shape[1:3])

    return MapLayer(_functions(case, statistics)[1], tensors, as_map)


@cache
def _faster_format(case, mode, precision):
    return fastest({f: partial(_naive(case, f, _draw(case, precision)).run, mode) for f in layers.FORMATS})


@lru_cache(maxsize=1)
def _reference(case, precision):
    """Output and gradients in float64."""
    drawn = _draw(case, precision)
    tensors = {"x": drawn["x"].double(), "dy": drawn["dy"].double(), "affine": [t.double() for t in drawn["affine"]]}
    return _naive(case, torch.contiguous_format, tensors, torch.float64).run("forward+backward")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", map_cases(), ids=lambda case: case.name)
def test_norm_pool(compare, case, mode, precision):
    case = device.current().sized(case)
    ours = _ours(case, precision)
    plain = _naive(case, _faster_format(case, mode, precision), _draw(case, precision))
    results = ours.run(mode)
    assert layers.error(results, _reference(case, precision)[: len(results)]) < precision.tolerance
    timed, rivals = partial(ours.run, mode), {"naive": partial(plain.run, mode)}
    rounds = rounds_within(BUDGET, [timed, *rivals.values()])
    compare(case, mode, timed, rivals, rounds, precision, bytes=least_bytes(case, mode, precision.dtype))


def least_bytes(case, mode, dtype):
    """What must be read and written: a norm reads x twice, for the statistics and for its output."""
    elements = torch.Size(case.shape).numel()
    if case.kind == "norm":
        forward, backward = 3 * elements * dtype.itemsize, 5 * elements * dtype.itemsize
    else:  # the index of the maximum is one byte
        pooled = elements // (case.shape[2] if case.kind == "pool" else 4)
        forward = backward = (elements + pooled) * dtype.itemsize + pooled
    return forward if mode == "forward" else forward + backward
