"""GroupSelfAttention2d: the formula pixel by pixel, equivariance, derivatives, fused kernels, export, errors."""

from __future__ import annotations

import pytest
import torch
from layer_properties import (
    check_autocast_and_compile,
    check_derivatives,
    check_equivariant,
    check_formats_and_dtypes,
    check_plain,
    settled,
)

import gcnn_kernels as gk


def attention(group="p4", **options):
    torch.manual_seed(0)
    return settled(gk.nn.GroupSelfAttention2d(4, 2, group, **options))


@pytest.mark.parametrize("group", ["p4", "p4m", "c8"])
def test_equivariance(group):
    order = gk.point_group(group).order
    check_equivariant(attention(group), group, (2, 4, order, 5, 5))
    check_equivariant(attention(group), group, (1, 4, order, 4, 6))


def test_formula_pixel_by_pixel():
    layer, x = attention(), torch.randn(1, 4, 4, 2, 3, dtype=torch.float64)
    filters = gk.expand_filters(layer.qkv.weight[..., None, None], "p4")[..., 0, 0]
    qkv = torch.einsum("of,fp->op", filters, x[0].flatten(0, 1).flatten(1)).unflatten(0, (12, 4))
    q, k, v = (qkv + layer.qkv.bias.view(12, 1, 1)).split(4)  # [C, order, N]
    y = torch.empty(4, 4, 6, dtype=torch.float64)
    for head in (slice(0, 2), slice(2, 4)):
        for slot in range(4):
            for pixel in range(6):
                scores = torch.stack([(q[head, slot, pixel] * k[head, slot, other]).sum() for other in range(6)])
                weights = (scores / 2**0.5).exp()
                y[head, slot, pixel] = (v[head, slot] * weights).sum(1) / weights.sum()
    expected = gk.group_conv2d(y.view(1, 4, 4, 2, 3), layer.out.weight[..., None, None], layer.out.bias, "p4")
    torch.testing.assert_close(layer(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected)


def test_derivatives():
    check_derivatives(attention(), (1, 4, 4, 2, 2))


def test_formats_dtypes_autocast_compile_export():
    layer = gk.nn.GroupSelfAttention2d(4, 2, "p4").double()
    check_formats_and_dtypes(layer, (2, 4, 4, 3, 5))
    check_autocast_and_compile(layer, (2, 4, 4, 3, 5))
    check_plain(layer, (2, 4, 4, 3, 5))


def test_fused_kernels_give_the_same_gradient():
    x = torch.randn(2, 4, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    by_formula, fused = attention(), attention(any_order=False)
    for layer in (by_formula, fused):
        layer.float()
    gradients = [torch.autograd.grad(layer(x.float()).square().sum(), x)[0] for layer in (by_formula, fused)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_errors_and_the_check():
    with pytest.raises(ValueError, match="num_heads: expected a divisor of channels 4, got 3"):
        gk.nn.GroupSelfAttention2d(4, 3)
    with pytest.raises(ValueError, match=r"x: expected \[B, 4, 4, H, W\]"):
        attention()(torch.randn(2, 4, 5, 5))
    network = torch.nn.Sequential(gk.nn.LiftingConv2d(3, 4, 3, group="p4"), attention())
    assert gk.check_equivariance(network, torch.randn(2, 3, 7, 7), "p4")
