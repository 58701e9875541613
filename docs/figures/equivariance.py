"""How stable are the layers between the angles of their group? Draws equivariance.png and prints the table.

    python docs/figures/equivariance.py

Two layers with random filters (no training) end in a mean over group and plane, so their output would not change at all
if they were equivariant to every rotation. The input is a crop of a real photograph (scikit-learn's "china.jpg"), faded
out towards a circle and rotated by cubic splines about its centre; the change of the output, relative to its norm, is
the error. "Smoothed" filters are the same filters after a Gaussian of 1 pixel.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import torch
from scipy.ndimage import gaussian_filter, rotate
from sklearn.datasets import load_sample_image

import gcnn_kernels as gk

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NETWORKS = {"CNN": "p1", "p4": "p4", "c8": "c8", "c16": "c16"}
ANGLES = np.arange(0, 181, 11.25)
SEEDS = 4
SIZE, KERNEL, FEATURES = 63, 7, 8


def images() -> torch.Tensor:
    """float32 ``[angles, 1, SIZE, SIZE]``: one crop under every angle."""
    photo = load_sample_image("china.jpg").mean(-1)[200 : 200 + SIZE, 250 : 250 + SIZE]
    axis = np.arange(SIZE) - SIZE // 2
    radius = np.hypot(*np.meshgrid(axis, axis, indexing="ij"))
    window = np.clip((0.4 * SIZE - radius) / 8, 0, 1)
    photo = gaussian_filter((photo - photo.mean()) / photo.std(), 1) * window
    rotated = [rotate(photo, angle, reshape=False, order=3) for angle in ANGLES]
    return torch.from_numpy(np.stack(rotated)).float()[:, None]


def features(x: torch.Tensor, group: str, seed: int, smooth: bool) -> torch.Tensor:
    """``[angles, FEATURES]``: mean over group and plane after two layers."""
    generator = torch.Generator().manual_seed(seed)
    order = gk.point_group(group).order
    filters = []
    for shape in ((FEATURES, 1), (FEATURES, FEATURES, order)):
        weight = torch.randn(*shape, KERNEL, KERNEL, generator=generator, dtype=torch.float32)
        if smooth:
            weight = torch.from_numpy(gaussian_filter(weight.numpy(), 1, axes=(-2, -1), mode="constant"))
        filters.append(weight / weight[0].norm())
    y = gk.lift_conv2d(x, filters[0], group=group, padding=KERNEL // 2).relu()
    y = gk.group_conv2d(y, filters[1], group=group, padding=KERNEL // 2).relu()
    return y.mean((2, 3, 4))


def error(x: torch.Tensor, group: str, smooth: bool) -> np.ndarray:
    """``[angles]``: mean over the seeds of ||f(rotated x) - f(x)|| / ||f(x)||."""
    found = []
    for seed in range(SEEDS):
        f = features(x, group, seed, smooth)
        found.append((f - f[0]).norm(dim=1) / f[0].norm())
    return torch.stack(found).mean(0).numpy()


def main() -> None:
    x = images()
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True, layout="constrained")
    print("largest error over all angles, and at multiples of 90 degrees")
    for axis, smooth in zip(axes, (False, True), strict=True):
        title = "smoothed filters" if smooth else "random filters"
        for name, group in NETWORKS.items():
            e = error(x, group, smooth)
            quarter = e[np.isin(ANGLES, (90, 180))].max()
            print(f"  {title:<17} {name:<4} {e.max():.4f}  {quarter:.1e}")
            axis.semilogy(ANGLES, np.maximum(e, 1e-4), label=name, marker=".")
        axis.set(title=title, xlabel="angle of the input, degrees", xticks=range(0, 181, 45))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("relative change of the output")
    axes[0].legend()
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=120)


if __name__ == "__main__":
    main()
