"""Convolutions of the cpu backend with pixels along the vectors (csrc/cpu/planar.h), against float64."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from cpu_cases import check, draw

from gcnn_kernels.backends import BACKENDS
from gcnn_kernels.backends.cpu import cost, kernels

pytestmark = pytest.mark.skipif(BACKENDS["cpu"].unavailable() is not None, reason="the cpu backend is not built")


@pytest.fixture(autouse=True)
def planes(monkeypatch):
    """Whatever the cost model says; the weight gradient from either map, as far as strides allow."""

    def weight_grad_form(problem):
        return "planes", problem.stride == (1, 1) and problem.in_channels > problem.out_channels

    monkeypatch.setattr(cost, "conv_form", lambda *_: ("planes", False))
    monkeypatch.setattr(cost, "weight_grad_form", weight_grad_form)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("channels", "k", "size", "geometry"),
    [
        ((1, 1), 1, (1, 1), {}),
        ((3, 5), 3, (7, 9), {"padding": (1, 1)}),
        ((5, 3), 3, (40, 50), {"padding": (1, 1)}),  # several tiles and parts
        ((17, 18), 3, (6, 5), {"padding": (1, 1)}),  # more than a vector of channels
        ((50, 3), 3, (5, 6), {}),  # several passes over the entries
        ((2, 49), 3, (5, 6), {}),  # several panels of filters
        ((4, 4), 2, (8, 9), {"padding": (3, 0)}),  # more padding than filter
        ((3, 4), 3, (9, 12), {"dilation": (2, 3), "padding": (2, 1)}),
    ],
)
@pytest.mark.parametrize("group", ["p4", "p4m"])
def test_shapes(group, channels, k, size, geometry, dtype):
    check("planes", *draw(group, channels, k, size, dtype=dtype, **geometry))


@pytest.mark.parametrize(
    ("k", "size", "geometry"),
    [
        (3, (16, 16), {"stride": (2, 2), "padding": (1, 1)}),
        (3, (15, 18), {"stride": (2, 2), "padding": (1, 1)}),
        (4, (17, 40), {"stride": (2, 2), "padding": (1, 1)}),
        (3, (16, 15), {"stride": (2, 1), "padding": (0, 2)}),
        (3, (17, 19), {"stride": (3, 2), "dilation": (2, 1), "padding": (2, 0)}),
        (1, (9, 9), {"stride": (2, 2)}),  # pixels that no tap reads
        (2, (11, 11), {"stride": (4, 3)}),
        (3, (13, 13), {"stride": (2, 2), "dilation": (2, 2), "padding": (2, 2)}),
    ],
)
@pytest.mark.parametrize("group", ["p4", "p4m"])
def test_strides(group, k, size, geometry):
    check("planes", *draw(group, (3, 5), k, size, **geometry))


@pytest.mark.parametrize(("channels", "groups"), [((6, 4), 2), ((40, 20), 20), ((36, 54), 9), ((7, 7), 7)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
@pytest.mark.parametrize("group", ["p4", "p4m"])
def test_groups(group, stride, channels, groups):
    check("planes", *draw(group, channels, 3, (10, 21), groups, stride=stride, padding=(1, 1)))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_stays_where_filters_reach(value):
    problem, x, weight, bias, _ = draw("p4m", (3, 5), 3, (9, 30), padding=(1, 1))
    x[0, 1, ..., 4, 13] = x[1, 2, ..., 8, 29] = value
    y = kernels.conv(problem, x, weight, bias)
    reached = torch.zeros(2, 1, 1, 9, 30, dtype=torch.bool)
    reached[0, ..., 3:6, 12:15] = reached[1, ..., 7:, 28:] = True
    assert (~y.isfinite()).equal(reached.expand_as(y))


def test_the_weight_gradient_does_not_depend_on_the_number_of_threads(threads):
    problem, x, _, _, grad = draw("p4m", (3, 5), 3, (40, 50), padding=(1, 1))
    found = []
    for count in (1, 2, 3):
        threads(count)
        found.append(kernels.conv_weight_grad(replace(problem, op="conv_weight_grad"), grad, x))
    assert all(map(torch.equal, found, found[1:] + found[:1]))
