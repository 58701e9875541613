"""Tables of the convolutions as sums of correlations on the group, made from the group's own tables.

For one tap t, Z_t(g) = x(g, p + g t) and W_t(u) = w[u, u t] make the group convolution a sum of group correlations
y(h) = sum_g W_t(h^-1 g) Z_t(g), one per tap. Each is computed by a bilinear algorithm y = C((B w) * (A z)) of low
rank; A and C are additions in csrc/cpu/bilinear.h, B is here. A lifting convolution is the same with an x that does
not depend on g, and rank 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from ..._constants import constant
from ...groups import PointGroup


@dataclass(frozen=True, eq=False)
class Correlations:
    """Arguments of ``gcnn_cpu.conv`` and ``gcnn_cpu.conv_weight_grad`` (csrc/cpu/conv.cpp).

    Attributes:
        shifts: int32 ``[taps, order or 1, 2]``. Tap t of slot h is read from (pixel * mul + shifts[t, h]) / div.
        sources: int64 ``[taps, n]``, n the order or 1: W_t(u) is entry ``sources[t, u]`` of a filter.
        matrix: ``[rank, n]``, the filters' transform B.
    """

    shifts: torch.Tensor
    sources: torch.Tensor
    matrix: torch.Tensor
    mul: tuple[int, int]
    div: tuple[int, int]


@lru_cache(maxsize=1024)
def correlations(
    group: PointGroup, k: int, stride, padding, dilation, dtype: torch.dtype, form: str, *, backward: bool
) -> Correlations:
    """The convolution (or, ``backward``, its input gradient) as a sum over taps of correlations.

    In either direction a tap belongs to a slot of the input, then shifted inputs are gathered and transformed; or to a
    slot of the output, then the transformed sums are spread by shifted additions. ``form`` is one of

        gather   y(h, p)  = sum_t sum_g w[h^-1 g, h^-1 g t] x(g, p + g t)      W_t(u) = w[u, u t]
                 dx(g, q) = sum_t sum_h w[h^-1 g, t] dy(h, q - h t)            W_t(u) = w[u^-1, t]
        spread   y(h, p)  = sum_t sum_g w[h^-1 g, t] x(g, p + h t)             W_t(u) = w[u, t]
                 dx(g, q) = sum_t sum_h w[h^-1 g, h^-1 g t] dy(h, q - g t)     W_t(u) = w[u^-1, u^-1 t]
        lift     y(h, p)  = sum_t w[t] x(p + h t)                              W_t = w[t]
                 dx(q)    = sum_t w[t] sum_h dy(h, q - h t)
        stack    y(h, p)  = sum_t w[h^-1 t] x(p + t)                           W_t(h) = w[h^-1 t]
                 dx(q)    = sum_t sum_h w[h^-1 t] dy(h, q - t)

    with u = h^-1 g forwards and u = g^-1 h backwards; the last two are lifting convolutions.
    """
    action = group.tap_action(k)  # [order, taps]
    taps = np.arange(k * k)[:, None]
    place = taps if form == "stack" else action.T
    row, column = np.divmod(place, k)
    shifts = np.stack([row * dilation[0] - padding[0], column * dilation[1] - padding[1]], -1)
    if form == "lift":
        sources, matrix = taps, _constant(np.ones((1, 1)), dtype)
    elif form == "stack":
        sources, matrix = action[group.inverse].T, _constant(np.eye(group.order), dtype)
    else:
        slots = group.inverse if backward else np.arange(group.order)
        sources = slots * k * k + (taps if (form == "spread") != backward else action[slots].T)
        matrix = filter_transform(group, dtype)
    if backward and stride != (1, 1):
        # Taps that the same pixels read stand together (csrc/cpu/planar.h).
        remainders = -shifts % stride
        order = sorted(range(k * k), key=lambda t: sorted(remainders[t].tolist()))
        shifts, sources = shifts[order], sources[order]
    return Correlations(
        _constant(-shifts if backward else shifts, torch.int32),
        _constant(sources, torch.int64),
        matrix,
        (1, 1) if backward else stride,
        stride if backward else (1, 1),
    )


def has_algorithm(group: PointGroup) -> bool:
    """Whether there is a bilinear algorithm for the group: p4 and p4m."""
    return group.rotations == 4


@lru_cache(maxsize=8)
def filter_transform(group: PointGroup, dtype: torch.dtype) -> torch.Tensor:
    """B, ``[rank, order]``: the filters' part of the bilinear algorithm of bilinear.h, the scale included.

    For D4 the block E holds W's entries as the right factor of Strassen's products.
    """
    if group.reflections:
        a1, a2, b1, b2, b11, b12, b21, b22 = _entries(group)
        strassen = [b11 + b22, b11, b12 - b22, b21 - b11, b22, b11 + b12, b21 + b22]
        rows = [a1, a2, b1, b2, *strassen]
    else:
        a, b, re, im = _entries(group)
        rows = [a, b, re, re - im, re + im]
    return _constant(np.stack(rows), dtype)


@lru_cache(maxsize=8)
def entry_transform(group: PointGroup, dtype: torch.dtype) -> torch.Tensor:
    """``[order, order]``: the filters' entries that ``multiply`` of bilinear.h takes, the scale included."""
    return _constant(_entries(group), dtype)


def _entries(group):
    """The transform of a filter, for products of a representation's matrices, Y = Z W^T, that are not normalised.

    They need W scaled by dim / order: the rows of ``group.fourier`` times sqrt(dim / order). The block E of D4 holds W
    column by column, which is W^T row by row.
    """
    dims = [1, 1, 1, 1, 2, 2, 2, 2] if group.reflections else [1, 1, 2, 2]
    return group.fourier * np.sqrt(np.array(dims) / group.order)[:, None]


@dataclass(frozen=True, eq=False)
class TapTransform:
    """Tables of ``gcnn_cpu.lift`` and ``lift_weight_grad``: functions on the taps of a filter, adapted to the group.

    The group permutes the k x k taps (csrc/cpu/lift.h), so functions on them are a representation. In a basis e_ai in
    which it is a direct sum of copies a of irreps rho, h e_aj = sum_i rho_ij(h) e_ai, the lifting convolution of one
    channel is

        y(h, p) = sum_t w[h^-1 t] x(p + t) = sum_rho sum_ij rho_ij(h) sum_a <e_aj, w> <e_ai, x(p + .)> / |e_ai|^2

    Attributes:
        basis: ``[taps, taps]``, a vector per row, of entries 0, 1 and -1.
        starts: int32 ``[order + 1]``; sum k, of matrix entry k, has the products ``starts[k]`` to ``starts[k + 1]``.
        inputs: int32 ``[products]``, the row of the basis that stands for x in a product.
        taps: int64 ``[1, taps]``, 0, 1, 2, ...
        matrix: ``[products, taps]``, what the filter is multiplied by.
    """

    basis: torch.Tensor
    starts: torch.Tensor
    inputs: torch.Tensor
    taps: torch.Tensor
    matrix: torch.Tensor

    @property
    def tables(self) -> tuple[torch.Tensor, ...]:
        """All of them, in the order in which the operators take them."""
        return self.basis, self.starts, self.inputs, self.taps, self.matrix


@lru_cache(maxsize=64)
def tap_transform(group: PointGroup, k: int, dtype: torch.dtype) -> TapTransform:
    """The tables for one group and filter size."""
    entries = np.stack([
        irrep.matrices[:, i, j] for irrep in group.irreps for i in range(irrep.dim) for j in range(irrep.multiplicity)
    ])  # fmt: skip
    basis: list[np.ndarray] = []
    products: list[tuple] = []
    for irrep in group.irreps:
        for vectors in _copies(irrep, group.tap_action(k)):
            for i, j in np.ndindex(irrep.dim, irrep.dim):
                overlap = entries @ irrep.matrices[:, i, j] / (entries**2).sum(1)  # 1 or -1 for one of them
                entry = int(np.abs(overlap).argmax())
                scale = overlap[entry] / (vectors[i] @ vectors[i])
                products.append((entry, len(basis) + i, scale * vectors[j]))
            basis.extend(vectors)
    products.sort(key=lambda product: product[0])
    owners, inputs, rows = zip(*products, strict=True)
    return TapTransform(
        _constant(np.stack(basis), dtype),
        _constant(np.searchsorted(owners, np.arange(len(entries) + 1)), torch.int32),
        _constant(np.array(inputs), torch.int32),
        _constant(np.arange(k * k)[None], torch.int64),
        _constant(np.stack(rows), dtype),
    )


def _constant(table, dtype):
    return constant(table, torch.device("cpu"), dtype)


def _copies(irrep, action):
    """The copies of an irrep in the functions on the taps: bases ``[dim, taps]`` of entries 0, 1 and -1.

    On the orbit of a tap t0, e_i(h t0) = sum of rho_ij(g) over the g with g t0 = h t0, for a fixed column j.
    """
    for orbit in np.unique(np.sort(action, axis=0), axis=1).T:
        found = np.empty((0, action.shape[1]))
        for j in range(irrep.dim):
            vectors = np.zeros((irrep.dim, action.shape[1]))
            np.add.at(vectors.T, action[:, orbit[0]], irrep.matrices[:, :, j])
            more = np.concatenate([found, vectors])
            if np.linalg.matrix_rank(more) == len(more):
                found = more
                yield vectors / np.abs(vectors).max()
