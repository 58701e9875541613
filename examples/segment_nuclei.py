"""Segment cell nuclei with a U-Net and with the same U-Net converted to p4m.

    python examples/segment_nuclei.py --image ihc.png

The image is an immunohistochemical stain: nuclei blue (hematoxylin), membranes brown (DAB), stroma pale. What is to be
found comes from its colours: a colour deconvolution (Ruifrok & Johnston 2001) tells how much hematoxylin is in each
pixel. The networks see grey levels only, so they have to go by texture and shape. The left part of the image trains,
the right part tests, as it is and rotated by 90 degrees: the p4m network's segmentation turns along exactly.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import gcnn_kernels as gk

# Optical density of the stains in red, green and blue (Ruifrok & Johnston 2001, Table 1; hematoxylin and DAB).
STAINS = np.array([[0.65, 0.70, 0.29], [0.27, 0.57, 0.78]])
PATCH, BATCH = 48, 8


def hematoxylin(pixels: np.ndarray) -> np.ndarray:
    """How much of it is in each pixel: uint8 ``[H, W, 3]`` -> float64 ``[H, W]``."""
    density = -np.log10((pixels.astype(np.float64) + 1) / 256)
    stains = np.vstack([STAINS, np.cross(*STAINS)])
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    amount = (density @ np.linalg.inv(stains))[..., 0]
    around = np.lib.stride_tricks.sliding_window_view(np.pad(amount, 2, mode="edge"), (5, 5))
    return around.mean((2, 3))  # over the grain of the image


def double_conv(cin: int, cout: int) -> nn.Sequential:
    layers = []
    for channels in (cin, cout):
        layers += [nn.Conv2d(channels, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """An ordinary U-Net with three levels; nothing in it knows of groups."""

    def __init__(self, width: int = 16):
        super().__init__()
        self.down = nn.ModuleList([double_conv(1, width), double_conv(width, 2 * width)])
        self.bottom = double_conv(2 * width, 2 * width)
        self.up = nn.ModuleList([double_conv(4 * width, width), double_conv(2 * width, width)])
        self.pool, self.enlarge = nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear")
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = self.pool(x)
        x = self.bottom(x)
        for block in self.up:
            x = block(torch.cat([self.enlarge(x), skips.pop()], dim=1))
        return self.head(x)


def train(net: nn.Module, grey: torch.Tensor, nuclei: torch.Tensor, steps: int) -> None:
    """On random patches of ``[H, W]``; no augmentation."""
    random = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        corners = [torch.randint(n - PATCH + 1, (BATCH,), generator=random).tolist() for n in grey.shape]
        boxes = [(slice(r, r + PATCH), slice(c, c + PATCH)) for r, c in zip(*corners, strict=True)]
        x, y = (torch.stack([plane[box] for box in boxes])[:, None] for plane in (grey, nuclei))
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(net(x), y).backward()
        optimizer.step()
        schedule.step()


@torch.no_grad()
def segment(net: nn.Module, grey: torch.Tensor) -> torch.Tensor:
    return net.eval()(grey[None, None])[0, 0] > 0


def overlap(found: torch.Tensor, nuclei: torch.Tensor) -> float:
    """Intersection over union."""
    right = nuclei > 0.5
    return ((found & right).sum() / (found | right).sum()).item()


def draw(path: Path, pictures: dict[str, np.ndarray]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(pictures), figsize=(2.1 * len(pictures), 4.4), layout="constrained")
    for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
        axis.imshow(picture, cmap="gray")
        axis.set_title(title, fontsize=8)
        axis.axis("off")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, required=True, help="an RGB image of hematoxylin and DAB stain")
    parser.add_argument("--steps", type=int, default=300, help="of training (%(default)s)")
    parser.add_argument("--width", type=int, default=16, help="channels of the U-Net's first level (%(default)s)")
    parser.add_argument("--figure", type=Path, help="where to draw the test part and both segmentations")
    given = parser.parse_args()

    pixels = np.asarray(Image.open(given.image).convert("RGB"))
    pixels = pixels[: len(pixels) // 4 * 4]
    density = hematoxylin(pixels)
    # Clearly more hematoxylin than the rest: nuclei cover about a fifth of such tissue.
    nuclei = torch.tensor(density > np.quantile(density, 0.8), dtype=torch.float32)
    grey = torch.tensor(pixels.mean(2), dtype=torch.float32) / 127.5 - 1
    border = grey.shape[1] * 5 // 8 // 4 * 4
    test, right = grey[:, border:][:, : (grey.shape[1] - border) // 4 * 4], nuclei[:, border:]
    right = right[:, : test.shape[1]]

    pictures = {"test part": pixels[:, border:], "nuclei by colour": right.numpy()}
    torch.manual_seed(0)
    plain = UNet(given.width)
    for name, net in (("CNN", plain), ("p4m G-CNN", gk.convert(plain, "p4m"))):
        start = time.perf_counter()
        train(net, grey[:, :border], nuclei[:, :border], given.steps)
        seconds = time.perf_counter() - start
        upright = segment(net, test)
        rotated = segment(net, test.rot90()).rot90(-1)
        size = sum(p.numel() for p in net.parameters())
        print(
            f"{name}: {size:,} parameters, {seconds:.0f} s of training; intersection over union "
            f"{overlap(upright, right):.3f}, on the rotated image {overlap(rotated, right):.3f}; "
            f"pixels that the turn changes: {(upright != rotated).float().mean():.2%}",
            flush=True,
        )
        pictures |= {name: upright.numpy(), f"{name}, changed\nby a 90 degree turn": (upright != rotated).numpy()}
    if given.figure:
        draw(given.figure, pictures)


if __name__ == "__main__":
    main()
