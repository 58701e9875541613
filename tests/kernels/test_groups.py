"""The groups' tables: against the golden file, numpy's rot90 and flipud, and the axioms."""

import numpy as np
import pytest

from gcnn_kernels.groups import PointGroup, point_group

GROUPS = ["p1", "p4", "p4m", "c2", "c3", "c8", "c16", "d1", "d2", "d3", "d8"]


@pytest.mark.parametrize("name", ["p4", "p4m"])
def test_tables_are_the_golden_ones(golden, name):
    group = point_group(name)
    assert (group.cayley == golden[f"{name}__cayley"]).all()
    assert (group.inverse == golden[f"{name}__inverse"]).all()


@pytest.mark.parametrize("name", GROUPS)
def test_group_axioms_and_matrices(name):
    group = point_group(name)
    n = np.arange(group.order)
    assert (group.cayley[0] == n).all() and (group.cayley[:, 0] == n).all()
    assert (group.cayley[n, group.inverse] == 0).all()
    assert (group.cayley[group.cayley] == group.cayley[:, group.cayley]).all()  # (a b) c = a (b c)
    products = np.einsum("aij,bjk->abik", group.matrices, group.matrices)
    np.testing.assert_allclose(products, group.matrices[group.cayley], atol=1e-12)


@pytest.mark.parametrize("name", ["p1", "p4", "p4m", "c2", "d1", "d2"])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_tap_action_is_rot90_and_flipud(name, k):
    group = point_group(name)
    image = np.arange(k * k).reshape(k, k)
    for g in range(group.order):
        m, r = divmod(g, group.rotations)
        rotated = np.rot90(image, r * 4 // group.rotations)
        rotated = np.flipud(rotated) if m else rotated
        moved = np.empty(k * k, dtype=int)
        moved[group.tap_action(k)[g]] = image.ravel()
        assert (moved.reshape(k, k) == rotated).all()


@pytest.mark.parametrize("name", GROUPS)
def test_irreps_are_homomorphisms_and_block_diagonalise_the_regular_representation(name):
    group = point_group(name)
    q = group.fourier
    np.testing.assert_allclose(q @ q.T, np.eye(group.order), atol=1e-12)
    for irrep in group.irreps:
        products = np.einsum("aij,bjk->abik", irrep.matrices, irrep.matrices)
        np.testing.assert_allclose(products, irrep.matrices[group.cayley], atol=1e-12)
    for g in range(group.order):
        regular = np.zeros((group.order, group.order))
        regular[group.cayley[g], np.arange(group.order)] = 1
        blocks = np.zeros_like(regular)
        start = 0
        for irrep in group.irreps:
            for _ in range(irrep.multiplicity):
                blocks[start : start + irrep.dim, start : start + irrep.dim] = irrep.matrices[g]
                start += irrep.dim
        assert start == group.order
        np.testing.assert_allclose(q @ regular @ q.T, blocks, atol=1e-12)


def test_names():
    assert point_group("C4") is point_group("p4")
    assert point_group("D4") is point_group("p4m")
    assert point_group("c1").name == "p1"
    assert [point_group(n).order for n in GROUPS] == [1, 4, 8, 2, 3, 8, 16, 2, 4, 6, 16]
    assert [n for n in GROUPS if not point_group(n).on_grid] == ["c3", "c8", "c16", "d3", "d8"]


def test_a_group_stands_for_itself():
    assert point_group(point_group("p4")) is point_group("p4")
    assert point_group(PointGroup("p4", 4, False)) is point_group("p4")
    with pytest.raises(ValueError, match=r"group must be one made by point_group, got PointGroup\(name='p4'"):
        point_group(PointGroup("p4", 4, True))


@pytest.mark.parametrize("name", ["p5m", "", "so2", "c0", "4"])
def test_unknown_name(name):
    with pytest.raises(ValueError, match=f"group must be 'p1', 'p4'.*got '{name}'"):
        point_group(name)


def test_name_of_another_type():
    with pytest.raises(TypeError, match="group must be a name such as 'p4', got int"):
        point_group(4)


def test_no_tap_action_off_the_grid():
    with pytest.raises(ValueError, match="'c8' does not permute the taps of a 3 x 3 filter"):
        point_group("c8").tap_action(3)
