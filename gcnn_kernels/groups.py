"""Finite point groups as data: elements, products, inverses, action on filter taps, irreps.

A plane group such as p4 or p4m is the semidirect product of the translations with a point group H of
rotations and reflections. Everything the layers need to know about H is a table, and all tables are here.

Conventions (GrouPy's). H is the cyclic group C_n or the dihedral group D_n. Element ``n*m + r`` is M^m R^r:
first r counter-clockwise rotations by 360/n degrees (a quarter turn is ``np.rot90``), then, if m is 1, a flip
of the rows (``np.flipud``). Coordinates are (row, column) with the origin at the filter's centre.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

__all__ = ["Irrep", "PointGroup", "point_group"]

_ALIASES = {"p1": "c1", "p4": "c4", "p4m": "d4"}
_PLANE_NAMES = {point: plane for plane, point in _ALIASES.items()}


@dataclass(frozen=True)
class Irrep:
    """A real irreducible representation of a point group.

    Attributes:
        name: Mulliken symbol (A, A1, A2, B, B1, B2, E1, ...).
        matrices: float64 ``[order, dim, dim]``, orthogonal, one per group element.
        multiplicity: how often it occurs in the regular representation: ``dim`` for a representation of real type,
            ``dim / 2`` for one of complex type (the rotations of a cyclic group).
    """

    name: str
    matrices: np.ndarray
    multiplicity: int

    @property
    def dim(self) -> int:
        return self.matrices.shape[-1]


@dataclass(frozen=True)
class PointGroup:
    """The point group C_n (``reflections=False``) or D_n (``reflections=True``).

    Attributes:
        name: the name that the public functions take: "p1", "p4", "p4m", or "c8", "d8", ...
        rotations: n, the number of rotations.
        reflections: whether the group has mirror elements too.
    """

    name: str
    rotations: int
    reflections: bool

    @property
    def order(self) -> int:
        return self.rotations * (2 if self.reflections else 1)

    @property
    def on_grid(self) -> bool:
        """Whether every element permutes the pixels of a square grid, so that equivariance is exact."""
        return 4 % self.rotations == 0

    @property
    def cosets(self) -> int:
        """The index of ``grid_subgroup``: 1 for groups on the grid, 2 for c8 and d8, 4 for c16."""
        return self.rotations // math.gcd(self.rotations, 4)

    @property
    def grid_subgroup(self) -> PointGroup:
        """The largest subgroup that permutes the grid.

        With q = ``cosets``, element ``q*a + j`` of the group is the subgroup's element a times R^j.
        """
        return point_group(f"{'d' if self.reflections else 'c'}{math.gcd(self.rotations, 4)}")

    def contains(self, subgroup: PointGroup) -> bool:
        """Whether every element of the subgroup is one of this group's."""
        return self.rotations % subgroup.rotations == 0 and self.reflections >= subgroup.reflections

    @lru_cache(maxsize=64)  # noqa: B019 - groups are few and live as long as the process
    def embedding(self, subgroup: PointGroup) -> np.ndarray:
        """int64 ``[|K|]``: the index in this group H of each element of its subgroup K.

        Raises:
            ValueError: if it is not a subgroup.
        """
        if not self.contains(subgroup):
            raise ValueError(f"subgroup: expected a subgroup of {self.name!r}, got {subgroup.name!r}")
        m, r = np.divmod(np.arange(subgroup.order), subgroup.rotations)
        return m * self.rotations + r * (self.rotations // subgroup.rotations)

    @lru_cache(maxsize=64)  # noqa: B019
    def coset_slots(self, subgroup: PointGroup) -> np.ndarray:
        """int64 ``[[H:K], |K|]``: the index in H of k c, for every element k of K and every coset K c.

        Each coset is represented by its first element c, and the cosets are ordered by it; the first one is K itself.
        """
        cosets = self.cayley[self.embedding(subgroup)].T  # row h: the elements k h
        return cosets[cosets.min(1) == np.arange(self.order)]

    @cached_property
    def grid_elements(self) -> np.ndarray:
        """The elements that permute the pixels of a square grid, those of ``grid_subgroup``, in this group's order."""
        return np.sort(self.embedding(self.grid_subgroup))

    @cached_property
    def cayley(self) -> np.ndarray:
        """int64 ``[order, order]``: ``cayley[g, h]`` is the index of the product g h."""
        m, r = np.divmod(np.arange(self.order), self.rotations)
        # M^m1 R^r1 M^m2 R^r2 = M^(m1+m2) R^(+-r1 + r2), because R M = M R^-1.
        rotation = np.where(m[None, :] == 1, -r[:, None], r[:, None]) + r[None, :]
        return (m[:, None] ^ m[None, :]) * self.rotations + rotation % self.rotations

    @cached_property
    def inverse(self) -> np.ndarray:
        """int64 ``[order]``: the index of each element's inverse."""
        return np.argmax(self.cayley == 0, axis=1)

    @cached_property
    def quotient(self) -> np.ndarray:
        """int64 ``[order, order]``: ``quotient[h, s]`` is the index of h^-1 s."""
        return self.cayley[self.inverse]

    @cached_property
    def matrices(self) -> np.ndarray:
        """float64 ``[order, 2, 2]``: the elements as orthogonal maps of (row, column) coordinates."""
        m, r = np.divmod(np.arange(self.order), self.rotations)
        angle = 2 * np.pi * r / self.rotations
        cos, sin = np.cos(angle), np.sin(angle)
        sign = np.where(m == 1, -1.0, 1.0)  # M flips the row
        maps = np.stack([np.stack([sign * cos, -sign * sin], -1), np.stack([sin, cos], -1)], -2)
        return np.rint(maps) if self.on_grid else maps

    @lru_cache(maxsize=64)  # noqa: B019 - groups are few and live as long as the process
    def tap_action(self, k: int) -> np.ndarray:
        """int64 ``[order, k*k]``: the tap to which each element moves each tap of a k x k filter.

        Raises:
            ValueError: if the group does not permute the grid (see ``filter_rotations``).
        """
        if not self.on_grid:
            raise ValueError(f"group {self.name!r} does not permute the taps of a {k} x {k} filter")
        row, column = np.divmod(np.arange(k * k), k)
        centred = np.stack([2 * row - (k - 1), 2 * column - (k - 1)], -1)  # doubled: whole numbers for even k too
        moved = np.rint(np.einsum("gij,tj->gti", self.matrices, centred)).astype(np.int64)
        moved = (moved + (k - 1)) // 2
        return moved[..., 0] * k + moved[..., 1]

    @lru_cache(maxsize=64)  # noqa: B019
    def filter_rotations(self, k: int) -> np.ndarray:
        """float64 ``[cosets, k*k, k*k]``: the maps from a filter to the filter rotated by R^j, j < cosets.

        (R f)(t) = f(R^-1 t) by bilinear interpolation; taps outside the inscribed disk are zero before and after, so
        that all orientations have the same support (Bekkers, Lafarge et al. 2018). With the exact quarter turns and
        reflections of ``grid_subgroup`` they give all orientations. Groups on the grid: the identity only, unmasked.
        """
        if self.on_grid:
            return np.eye(k * k)[None]
        centre = (k - 1) / 2
        taps = np.stack(np.divmod(np.arange(k * k), k), -1) - centre
        disk = (taps**2).sum(-1) <= (k / 2) ** 2
        sources = np.einsum("jba,tb->jta", self.matrices[: self.cosets], taps)  # R^-1 t
        # The weight of a tap falls off linearly with the distance in each coordinate, to zero at distance 1.
        distance = np.abs(sources[:, :, None, :] - taps[None, None, :, :])
        return np.clip(1 - distance, 0, None).prod(-1) * disk[:, None] * disk[None, :]

    @cached_property
    def irreps(self) -> tuple[Irrep, ...]:
        """The real irreducible representations, one-dimensional ones first."""
        n = self.rotations
        m, r = np.divmod(np.arange(self.order), n)
        mirror, half_turn = (-1.0) ** m, (-1.0) ** r
        characters = {"A": np.ones(self.order)}
        if self.reflections:
            characters = {"A1": np.ones(self.order), "A2": mirror}
        if n % 2 == 0:
            characters |= {"B1": half_turn, "B2": half_turn * mirror} if self.reflections else {"B": half_turn}
        found = [Irrep(name, values.reshape(-1, 1, 1), 1) for name, values in characters.items()]
        for frequency in range(1, (n + 1) // 2):
            angle = 2 * np.pi * frequency * r / n
            cos, sin = np.cos(angle), np.sin(angle)
            matrices = np.stack([np.stack([mirror * cos, -mirror * sin], -1), np.stack([sin, cos], -1)], -2)
            if self.on_grid:
                matrices = np.rint(matrices)
            found.append(Irrep(f"E{frequency}", matrices, 2 if self.reflections else 1))
        return tuple(found)

    @cached_property
    def fourier(self) -> np.ndarray:
        """float64 ``[order, order]``: the orthogonal matrix Q that block-diagonalises the regular representation.

        With L(g) the permutation e_u -> e_gu, ``Q @ L(g) @ Q.T`` is the direct sum of the irreps, each repeated
        ``multiplicity`` times in succession. The rows of an irrep are its matrix entries, column by column.
        """
        rows = [
            irrep.matrices[:, i, j] * np.sqrt(irrep.dim / self.order)
            for irrep in self.irreps
            for j in range(irrep.multiplicity)
            for i in range(irrep.dim)
        ]
        return np.stack(rows)


_MAX_ROTATIONS = 99
# All there are, made at once: a dictionary that changes is nothing that torch.compile could trace.
_GROUPS = {
    point: PointGroup(_PLANE_NAMES.get(point, point), n, point[0] == "d")
    for n in range(1, _MAX_ROTATIONS + 1)
    for point in (f"c{n}", f"d{n}")
}
_GROUPS |= {plane: _GROUPS[point] for plane, point in _ALIASES.items()}


def point_group(name: str | PointGroup) -> PointGroup:
    """The point group of that name.

    Args:
        name: "p1", "p4", "p4m" (or "C4", "D4"), or "c<n>", "d<n>" for n up to 99; upper and lower case are the same. A
            group itself is returned as the one object that there is of it.

    Raises:
        ValueError: for any other name.
    """
    if isinstance(name, PointGroup):
        found = _GROUPS.get(name.name)
        if found is not name and found != name:
            raise ValueError(f"group must be one made by point_group, got {name!r}")
        return found
    if not isinstance(name, str):
        raise TypeError(f"group must be a name such as 'p4', got {type(name).__name__}")
    found = _GROUPS.get(name) or _GROUPS.get(name.lower())
    if found is None:
        raise ValueError(f"group must be 'p1', 'p4', 'p4m', 'c<n>' or 'd<n>', n up to {_MAX_ROTATIONS}, got {name!r}")
    return found
