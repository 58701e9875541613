"""Linear layers over a point group in the basis of its irreps, where they are block-diagonal.

For an irrep rho, x^ = sum_s rho(s) x(s) turns y(h) = sum_s w(h^-1 s) x(s) into the product of small matrices
y^ = x^ w^T, since rho is a homomorphism with orthogonal values (docs/fourier.md). One-dimensional irreps take one
product of channels each; two-dimensional ones four, on both rows of x^ where the group has reflections, else on the
first, which then determines the second. Per token and pair of channels that is 6 products instead of 16 for p4, 12
instead of 64 for p4m, 14 instead of 64 for c8.

All of it is matrix products of torch, for any device. Functions here take maps ``[tokens, C, order]``; transformed maps
are ``[order, tokens, C]``, so that the products read and write whole rows of channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from ..._constants import constant, table
from ...groups import PointGroup, point_group

# What transforms cost, in products: for each number of a map, and for each call. The CPU's are fitted to
# benches/test_other_networks.py; the GPU's are an H100's data sheet for 16-bit numbers, not measured.
_OVERHEAD = {"cpu": (60, 5e6), "cuda": (2000, 2e10)}
_PIECE = 1 << 19  # numbers of a map that a CPU transforms and multiplies at once: its temporaries stay in cache


@dataclass(frozen=True, eq=False)
class IrrepBasis:
    """The transforms of one group.

    Attributes:
        lines: how many irreps are one-dimensional.
        planes: how many are two-dimensional; their x^ have ``rows`` rows that are kept.
        maps: ``[order, order]``, of entries of irreps: first the lines, then the planes' columns, (column, irrep, row).
        filters: ``[lines + 4 * planes, order]``, scaled for the inverse transform: first the lines, then the planes'
            matrices, (row, column, irrep).
    """

    lines: int
    planes: int
    rows: int
    maps: Tensor
    filters: Tensor

    @cached_property
    def inverse(self) -> Tensor:
        """``maps`` transposed: what takes the products back to functions on the group."""
        return self.maps.T.contiguous()

    def split_map(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """``[order, tokens, C]`` -> ``[lines, tokens, C]`` and, by column, ``[2, planes, rows * tokens, C]``; views."""
        lines, columns = z[: self.lines], z[self.lines :]
        return lines, columns.view(2, self.planes, self.rows * z.shape[1], z.shape[2])

    def split_filters(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """``[n, Cout, Cin]`` -> ``[lines, Cout, Cin]`` and, by row and column, ``[2, 2, planes, Cout, Cin]``; views."""
        return w[: self.lines], w[self.lines :].view(2, 2, self.planes, *w.shape[1:])


@lru_cache(maxsize=64)
def irrep_basis(group: PointGroup, dtype: torch.dtype, device: torch.device) -> IrrepBasis:
    """The basis in a dtype, on a device."""
    lines = [irrep.matrices for irrep in group.irreps if irrep.dim == 1]
    planes = [irrep.matrices for irrep in group.irreps if irrep.dim == 2]
    rows = group.irreps[-1].multiplicity
    maps = [m[:, 0, 0] for m in lines] + [m[:, a, c] for c in range(2) for m in planes for a in range(rows)]
    filters = [m[:, 0, 0] for m in lines] + [2 * m[:, b, c] for b in range(2) for c in range(2) for m in planes]
    return IrrepBasis(
        len(lines),
        len(planes),
        rows,
        constant(np.stack(maps), device, dtype),
        constant(np.stack(filters) / group.order, device, dtype),
    )


def products(group: PointGroup) -> int:
    """Products for each token and pair of channels; the expanded matrix has ``order ** 2``."""
    return _products(group.name)


@table  # torch.compile cannot follow the first use of group.irreps
def _products(group: str) -> int:
    return sum(irrep.dim**2 * irrep.multiplicity for irrep in point_group(group).irreps)


def unsupported(group: PointGroup) -> str | None:
    return None


def pays(group: PointGroup, tokens: int, cin: int, cout: int, device: torch.device) -> bool:
    """Whether this is expected to be faster than the product with the expanded matrix."""
    per_number, per_call = _OVERHEAD[device.type] if device.type in _OVERHEAD else _OVERHEAD["cuda"]
    saved = (group.order**2 - products(group)) * cin * cout
    return tokens * (saved - per_number * group.order * (cin + cout)) > per_call


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, group: PointGroup, *, adjoint: bool = False) -> Tensor:
    """``[tokens, Cin, order]``, ``[Cout, Cin, order]``, ``[Cout]`` or None -> ``[tokens, Cout, order]``.

    ``adjoint`` maps ``[tokens, Cout, order]`` to ``[tokens, Cin, order]``: w(u^-1), transformed, is w^ transposed.
    """
    basis = irrep_basis(group, x.dtype, x.device)
    cout, cin, order = weight.shape
    transformed = (basis.filters @ weight.reshape(-1, order).T).view(-1, cout, cin)
    lines, planes = basis.split_filters(transformed)
    if adjoint:
        cout, cin, planes = cin, cout, planes.transpose(0, 1)
    else:
        lines, planes = lines.transpose(-2, -1), planes.transpose(-2, -1)
    y = x.new_empty(x.shape[0], cout, order)
    rows = _rows(x, cin, cout)
    one, other = x.new_empty(2, order * rows * max(cin, cout))
    for x_part, y_part in zip(x.split(rows), y.split(rows), strict=True):
        z = _transform(x_part, basis, one)
        sums = _take(other, y_part)
        z_lines, z_planes = basis.split_map(z)
        y_lines, y_planes = basis.split_map(sums)
        torch.bmm(z_lines, lines, out=y_lines)
        for row in range(2 if basis.planes else 0):
            torch.bmm(z_planes[0], planes[row, 0], out=y_planes[row])
            y_planes[row].baddbmm_(z_planes[1], planes[row, 1])
        if bias is not None:
            sums[0] += bias  # the first line is the trivial irrep, whose functions are constant on the group
        back = _take(one, y_part)
        torch.mm(basis.inverse, sums.flatten(1), out=back.flatten(1))
        y_part.copy_(back.permute(1, 2, 0))
    return y


def linear_weight_grad(grad: Tensor, x: Tensor, group: PointGroup) -> Tensor:
    """``[tokens, Cout, order]``, ``[tokens, Cin, order]`` -> ``[Cout, Cin, order]``."""
    basis = irrep_basis(group, x.dtype, x.device)
    cout, cin, order = grad.shape[1], x.shape[1], group.order
    total = x.new_zeros(len(basis.filters), cout, cin)
    lines, planes = basis.split_filters(total)
    rows = _rows(x, cin, cout)
    one, other = x.new_empty(2, order * rows * max(cin, cout))
    for grad_part, x_part in zip(grad.split(rows), x.split(rows), strict=True):
        g_lines, g_planes = basis.split_map(_transform(grad_part, basis, one))
        z_lines, z_planes = basis.split_map(_transform(x_part, basis, other))
        lines.baddbmm_(g_lines.transpose(1, 2), z_lines)
        for row in range(2 if basis.planes else 0):
            for column in range(2):
                planes[row, column].baddbmm_(g_planes[row].transpose(1, 2), z_planes[column])
    weight_grad = (basis.filters.T @ total.flatten(1)).view(order, cout, cin)
    return weight_grad.permute(1, 2, 0).contiguous()


def _transform(x, basis, out):
    """``[tokens, C, order]`` -> ``[order, tokens, C]``, in memory that is there."""
    z = _take(out, x)
    torch.mm(basis.maps, x.reshape(-1, x.shape[2]).T, out=z.flatten(1))
    return z


def _take(memory, x):
    """Memory for the transform of a map ``[tokens, C, order]``: ``[order, tokens, C]``."""
    return memory[: x.numel()].view(x.shape[2], x.shape[0], x.shape[1])


def _rows(x, cin, cout):
    """How many tokens are done at once; at least one, so that there are pieces."""
    most = _PIECE // (max(cin, cout) * x.shape[2]) if x.device.type == "cpu" else x.shape[0]
    return max(1, min(most, x.shape[0]))
