"""Draws fourier.png: one tap of a group convolution, its matrix of weights, and the matrix after the change of basis.

python docs/figures/fourier.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from gcnn_kernels import point_group  # noqa: E402

RIGHT = 5  # the tap of a 3 x 3 filter to the right of the centre
COLOURS = np.array(plt.get_cmap("Paired").colors)[[1, 3, 5, 7, 0, 2, 4, 6]]  # mirrored poses are paler


def element_names(group):
    turns = ("", "R", "R²", "R³")
    return [mirror + turns[r] or "1" for mirror in ("", "M")[: group.order // 4] for r in range(4)]


def draw_reads(figure, area, group):
    """A 3 x 3 window for each slot, and the pixel at which this slot is read."""
    columns = 2
    windows = area.subgridspec(group.order // columns, columns, wspace=0.1, hspace=0.5)
    for slot, name in enumerate(element_names(group)):
        axes = figure.add_subplot(windows[slot // columns, slot % columns])
        window = np.ones((3, 3, 3))
        window[np.unravel_index(group.tap_action(3)[slot, RIGHT], (3, 3))] = COLOURS[slot]
        axes.imshow(window)
        axes.plot(1, 1, ".", color="0.7", markersize=4)
        axes.set_title(f"slot {name}", fontsize=8, pad=3)
        axes.set_xticks(np.arange(-0.5, 3), [])
        axes.set_yticks(np.arange(-0.5, 3), [])
        axes.grid(color="0.7", linewidth=0.7)
        axes.tick_params(length=0)


def draw_weights(axes, group):
    """M[h, g] = W(h^-1 g): equal weights, equal colours."""
    axes.imshow(COLOURS[group.quotient])
    names = element_names(group)
    for h, row in enumerate(group.quotient):
        for g, element in enumerate(row):
            axes.text(g, h, names[element], ha="center", va="center", fontsize=7)
    axes.set_xticks(range(group.order), names, fontsize=8)
    axes.set_yticks(range(group.order), names, fontsize=8)
    axes.set_xlabel("input slot g", fontsize=9)
    axes.set_ylabel("output slot h", fontsize=9)


def draw_blocks(axes, group):
    """The same matrix, for random weights, in the basis of the matrix entries of the irreps."""
    weights = np.random.default_rng(5).normal(size=group.order)
    entries = [
        (irrep, i, j) for irrep in group.irreps for i in range(irrep.multiplicity) for j in range(irrep.dim)
    ]  # row by row; for the rotations of p4 one row says all
    basis = np.stack([irrep.matrices[:, i, j] * np.sqrt(irrep.dim / group.order) for irrep, i, j in entries])
    matrix = basis @ weights[group.quotient] @ basis.T
    scale = np.abs(matrix).max()
    axes.imshow(np.where(np.abs(matrix) < 1e-12, np.nan, matrix), cmap="RdBu", vmin=-1.4 * scale, vmax=1.4 * scale)
    names = [irrep.name if irrep.dim == 1 else "" for irrep, _, _ in entries]
    for place, (irrep, _, j) in enumerate(entries):
        if irrep.dim == 2 and j == 0:
            axes.add_patch(plt.Rectangle((place - 0.5, place - 0.5), 2, 2, fill=False, linewidth=1.2))
            names[place] = "  E"
    for ticks in (axes.set_xticks, axes.set_yticks):
        ticks(range(group.order), names, fontsize=8)


def main():
    figure = plt.figure(figsize=(10, 7.5))
    rows = figure.add_gridspec(2, 3, width_ratios=(0.7, 1, 1), wspace=0.25, hspace=0.3)
    for row, name in enumerate(("p4", "p4m")):
        group = point_group(name)
        draw_reads(figure, rows[row, 0], group)
        weights, blocks = (figure.add_subplot(rows[row, column]) for column in (1, 2))
        draw_weights(weights, group)
        draw_blocks(blocks, group)
        weights.set_title(f"{name}: {group.order} × {group.order} products per tap", fontsize=10)
        blocks.set_title({"p4": "6 products", "p4m": "12 products"}[name], fontsize=10)
    figure.savefig(HERE / "fourier.png", dpi=130, bbox_inches="tight")


if __name__ == "__main__":
    main()
