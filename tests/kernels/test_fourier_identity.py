"""The formulas of docs/fourier.md, by number, in float64 and plain torch, and the operation counts in its table."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import gcnn_kernels as gk
from gcnn_kernels.backends.cpu.correlations import tap_transform

GROUPS = ("p4", "p4m")


def irreps(group):
    return [(torch.from_numpy(irrep.matrices), irrep.multiplicity) for irrep in gk.point_group(group).irreps]


def reads(x, k, group):
    """Z_t0(g) of (2): ``[B, C, order, H, W]`` -> ``[k*k, B, C, order, H, W]``; zero beyond the border, odd k."""
    height, width = x.shape[-2:]
    padded = F.pad(x, (k // 2,) * 4)
    rows, columns = np.divmod(gk.point_group(group).tap_action(k), k)
    slots = [
        [padded[:, :, g, r : r + height, c : c + width] for g, (r, c) in enumerate(zip(*tap, strict=True))]
        for tap in zip(rows.T, columns.T, strict=True)
    ]
    return torch.stack([torch.stack(tap, 2) for tap in slots])


def tap_weights(w, group):
    """W_t0(u) of (2): ``[Cout, Cin, order, k, k]`` -> ``[k*k, Cout, Cin, order]``."""
    taps = torch.from_numpy(gk.point_group(group).tap_action(w.shape[-1]))
    return w.flatten(3).gather(3, taps.expand(*w.shape[:2], -1, -1)).permute(3, 0, 1, 2)


def fourier_conv(x, w, group):
    """(10) and (8): stride 1, "same" padding."""
    z, weights = reads(x, w.shape[-1], group), tap_weights(w, group)
    y = 0
    for rho, multiplicity in irreps(group):
        zhat = torch.einsum("tbcgyx,gij->tbcijyx", z, rho)
        what = torch.einsum("tocu,uij->tocij", weights, rho)
        yhat = torch.einsum("tbcilyx,tocjl->boijyx", zhat, what)
        y = y + multiplicity / len(rho) * torch.einsum("hij,boijyx->bohyx", rho, yhat)
    return y


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("k", [1, 3, 5])
def test_equals_the_filter_stack(group, k):
    generator = torch.Generator().manual_seed(k)
    order = gk.point_group(group).order
    x = torch.randn(2, 3, order, 6, 7, generator=generator, dtype=torch.float64)
    w = torch.randn(4, 3, order, k, k, generator=generator, dtype=torch.float64)
    expected = gk.group_conv2d(x, w, group=group, padding=k // 2, backend="reference")
    torch.testing.assert_close(fourier_conv(x, w, group), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("group", GROUPS)
def test_taps_of_the_output_slot(group):
    point = gk.point_group(group)
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2, 3, point.order, 6, 7, generator=generator, dtype=torch.float64)
    w = torch.randn(4, 3, point.order, 3, 3, generator=generator, dtype=torch.float64)
    # z[t, g, h] is x(g, p + h t): all slots of the input at the place of one tap of one output slot
    z = torch.stack([reads(x[:, :, g : g + 1].expand_as(x), 3, group) for g in range(point.order)], 3)
    weights = w.flatten(3)[:, :, torch.from_numpy(point.quotient)]  # [Cout, Cin, h, g, taps]
    y = torch.einsum("ochgt,tbcghyx->bohyx", weights, z)  # (12)
    torch.testing.assert_close(y, gk.group_conv2d(x, w, group=group, padding=1, backend="reference"))

    image, w = x[:, :, 0], w[:, :, 0]
    z = reads(image.unsqueeze(2).expand_as(x), 3, group)
    y = torch.einsum("oct,tbchyx->bohyx", w.flatten(2), z)  # (13)
    torch.testing.assert_close(y, gk.lift_conv2d(image, w, group=group, padding=1, backend="reference"))


@pytest.mark.parametrize("group", GROUPS)
def test_patterns_on_the_taps(group):
    point, tables = gk.point_group(group), tap_transform(gk.point_group(group), 3, torch.float64)
    generator = torch.Generator().manual_seed(6)
    image = torch.randn(2, 3, 6, 7, generator=generator, dtype=torch.float64)
    w = torch.randn(4, 3, 3, 3, generator=generator, dtype=torch.float64)
    taps = reads(image.unsqueeze(2).expand(-1, -1, point.order, -1, -1), 3, group)[:, :, :, 0]  # x(p + t)
    patterns = torch.einsum("jt,tbcyx->jbcyx", tables.basis, taps)
    filters = torch.einsum("lt,oct->loc", tables.matrix, w.flatten(2))
    entries = torch.stack([rho[:, i, j] for rho, m in irreps(group) for i in range(rho.shape[1]) for j in range(m)])
    entries = entries.repeat_interleave(tables.starts.diff(), dim=0)
    y = torch.einsum("lh,loc,lbcyx->bohyx", entries, filters, patterns[tables.inputs])  # (14)
    torch.testing.assert_close(y, gk.lift_conv2d(image, w, group=group, padding=1, backend="reference"))
    assert len(tables.inputs) == 13


@pytest.mark.parametrize("group", GROUPS)
def test_equals_the_golden_file(group, golden):
    x, w, y = (torch.from_numpy(golden[f"{group}_k3_pad1__{name}"]) for name in "xwy")
    torch.testing.assert_close(fourier_conv(x, w, group), y, rtol=0, atol=1e-12)


@pytest.fixture(params=GROUPS)
def tap(request):
    """One tap: group, its name, z and W, and y(h) = sum_g W(h^-1 g) z(g)."""
    group = gk.point_group(request.param)
    z, weights = torch.randn(2, group.order, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return request.param, z, weights, weights[torch.from_numpy(group.quotient)] @ z


def transform(values, rho):
    """(6)"""
    return torch.einsum("g,gij->ij", values, rho)


def test_correlation_becomes_products(tap):
    group, z, weights, y = tap
    for rho, _ in irreps(group):
        torch.testing.assert_close(transform(y, rho), transform(z, rho) @ transform(weights, rho).T)  # (7)


def test_nothing_is_lost(tap):
    group, _, _, y = tap
    parts = [m / len(y) * torch.einsum("hij,ij->h", rho, transform(y, rho)) for rho, m in irreps(group)]
    torch.testing.assert_close(sum(parts), y)  # (8)


def test_gradients_are_products_of_the_same_sizes(tap):
    group, z, weights, _ = tap
    g = torch.randn(len(z), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    z.requires_grad_()
    weights.requires_grad_()
    trilinear = g @ (weights[torch.from_numpy(gk.point_group(group).quotient)] @ z)  # (11)
    grad_z, grad_weights = torch.autograd.grad(trilinear, (z, weights))
    hats = [(rho, m / len(z), *(transform(v.detach(), rho) for v in (g, z, weights))) for rho, m in irreps(group)]
    total = sum(share * (ghat * (zhat @ what.T)).sum() for _, share, ghat, zhat, what in hats)
    torch.testing.assert_close(total, trilinear.detach())
    from_hats = sum(share * torch.einsum("gij,ij->g", rho, ghat @ what) for rho, share, ghat, _, what in hats)
    torch.testing.assert_close(from_hats, grad_z)
    from_hats = sum(share * torch.einsum("uij,ij->u", rho, ghat.T @ zhat) for rho, share, ghat, zhat, _ in hats)
    torch.testing.assert_close(from_hats, grad_weights)


def butterfly(z0, z1, z2, z3):
    """(3): A, B, u, v by six additions."""
    even, odd = z0 + z2, z1 + z3
    return even + odd, even - odd, z0 - z2, z1 - z3


def test_p4_by_hand():
    z, w = torch.randn(2, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    w0, w1, w2, w3 = w
    circulant = torch.stack(
        [torch.stack(r) for r in ((w0, w1, w2, w3), (w3, w0, w1, w2), (w2, w3, w0, w1), (w1, w2, w3, w0))]
    )
    y = circulant @ z
    torch.testing.assert_close(circulant, w[torch.from_numpy(gk.point_group("p4").quotient)], rtol=0, atol=0)
    (big_a, big_b, u, v), (alpha, beta, a, b) = butterfly(*z), butterfly(*w)
    torch.testing.assert_close(
        torch.stack(butterfly(*y)), torch.stack([alpha * big_a, beta * big_b, a * u + b * v, a * v - b * u])
    )  # (4)
    shared = a * (u + v)
    torch.testing.assert_close(shared + (b - a) * v, a * u + b * v)  # (5)
    torch.testing.assert_close(shared - (a + b) * u, a * v - b * u)


def test_p4m_by_hand():
    z = torch.randn(8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    (s, b, u, v), (s1, b1, u1, v1) = butterfly(*z[:4]), butterfly(*z[4:])
    by_hand = [s + s1, s - s1, b + b1, b - b1, torch.stack([u - u1, v1 - v, v + v1, u + u1]).view(2, 2)]  # (9)
    for value, (rho, _) in zip(by_hand, irreps("p4m"), strict=True):
        torch.testing.assert_close(value.reshape(rho.shape[1:]), transform(z, rho))


def products(irrep, *, complex_products=4, two_by_two=8):
    """Multiplications of (7) for one irrep, of complex type where it occurs less often than its size."""
    if irrep.multiplicity < irrep.dim:
        return complex_products
    return two_by_two if irrep.dim == 2 else irrep.dim**3


@pytest.mark.parametrize(("group", "stack", "fourier", "fewer"), [("p4", 144, 54, 45), ("p4m", 576, 108, 99)])
def test_table_of_costs(group, stack, fourier, fewer):
    point, taps = gk.point_group(group), 9
    assert taps * point.order**2 == stack
    assert taps * sum(products(irrep) for irrep in point.irreps) == fourier
    assert taps * sum(products(irrep, complex_products=3, two_by_two=7) for irrep in point.irreps) == fewer
    assert sum(irrep.dim * irrep.multiplicity for irrep in point.irreps) == point.order  # as many numbers as slots
