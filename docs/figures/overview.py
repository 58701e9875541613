"""Draws overview.png, the README's picture: ``python docs/figures/overview.py IMAGE``, of an RGB image.

A patch of the image and the same patch rotated go through the same two-layer networks (random filters); the features of
the rotated patch are rotated back and compared with those of the patch.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image

import gcnn_kernels as gk

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PATCH = 128


def network(group: str, maps: int) -> torch.nn.Module:
    """Two layers and a maximum over the group."""
    torch.manual_seed(6)
    return torch.nn.Sequential(
        gk.nn.LiftingConv2d(3, maps, 5, padding=2, group=group),
        torch.nn.ReLU(),
        gk.nn.GroupConv2d(maps, maps, 5, padding=2, group=group),
        gk.nn.GroupMaxPool(),
    )


@torch.no_grad()
def features(net: torch.nn.Module, x: torch.Tensor) -> np.ndarray:
    """One feature map of the batch's only image, ``[PATCH, PATCH]``."""
    return net(x)[0, 1].numpy()


def main() -> None:
    picture = np.asarray(Image.open(sys.argv[1]).convert("RGB"), np.float32)
    patch = picture[:PATCH, :PATCH] / 255
    x = torch.from_numpy(patch).permute(2, 0, 1)[None]
    rotated = torch.rot90(x, 1, (2, 3))
    figure, axes = plt.subplots(2, 4, figsize=(9, 4.6), layout="constrained")
    for row, (title, net) in enumerate({"CNN": network("p1", 32), "p4m G-CNN": network("p4m", 12)}.items()):
        upright, back = features(net, x), np.rot90(features(net, rotated), -1)
        change = np.abs(upright - back)
        images = (rotated[0].permute(1, 2, 0) if row else patch, upright, back, change)
        names = (
            "rotated input" if row else "input",
            f"{title}: features",
            "of the rotated input,\nrotated back",
            "difference",
        )
        for axis, image, name in zip(axes[row], images, names, strict=True):
            low, high = (0, np.ptp(upright) / 2) if image is change else (upright.min(), upright.max())
            axis.imshow(image, cmap="magma", vmin=low, vmax=high)
            axis.set_title(name, fontsize=10)
            axis.set_axis_off()
        axes[row, 3].text(
            4, PATCH - 8, f"largest: {change.max() / np.abs(upright).max():.0e}", color="white", fontsize=9
        )
    path = Path(__file__).with_suffix(".png")
    figure.savefig(path, dpi=110)
    Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    main()
