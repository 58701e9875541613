"""maps: Google maps and the aerial photographs of the same places, from pix2pix (Isola et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .download import obtain
from .errors import DataError
from .imageset import ImageSet
from .pixels import decode, is_image
from .store import Source

RESOLUTION = 256
ENLARGED = 286 / 256
URL = "http://efrosgans.eecs.berkeley.edu/pix2pix/datasets/maps.tar.gz"


@dataclass(frozen=True)
class PairSet(ImageSet):
    """Pairs of a map and the photograph of the same place.

    ``images`` is uint8 ``[N, S, S, 6]``: the map's three channels, then the photograph's. Training pairs are stored
    286/256 times larger than ``resolution``, for random crops. There is one class.
    """

    @classmethod
    def of(cls, images: ImageSet) -> PairSet:
        return cls(**vars(images))

    @property
    def resolution(self) -> int:
        side = self.images.shape[1]
        return round(side / ENLARGED) if self.split == "train" else side

    @property
    def channels(self) -> int:
        return 3

    def batch(self, indices, generator: torch.Generator | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps and photographs, uint8 ``[B, resolution, resolution, 3]`` each; ``generator`` as in :meth:`cut`."""
        return self.cut(super().batch(indices)[0], generator)

    def cut(self, pairs: torch.Tensor, generator: torch.Generator | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps and photographs of ``pairs``, uint8 ``[B, S, S, 6]`` on any device.

        With a ``generator`` (on the CPU) each pair is cut at a random place and mirrored with probability 1/2, as Isola
        et al. train; without one it is the central cut.
        """
        size = self.resolution
        slack = pairs.shape[1] - size
        if generator is None:
            places = [(slack // 2, slack // 2, 0)] * len(pairs)
        else:
            places = [
                [int(torch.randint(high, (), generator=generator)) for high in (slack + 1, slack + 1, 2)] for _ in pairs
            ]
        windows = [
            pair[top : top + size, left : left + size].flip(1) if mirror else pair[top : top + size, left : left + size]
            for pair, (top, left, mirror) in zip(pairs, places, strict=True)
        ]
        cut = torch.stack(windows)
        return cut[..., :3], cut[..., 3:]


def source(root: Path, split: str, resolution: int) -> Source:
    """1,096 training and 1,098 validation pairs.

    Layout: ``root/maps/train/N.jpg`` and ``root/maps/val/N.jpg``, each 1200x600, photograph left, map right. The
    tarball is downloaded if there is no ``root/maps``; its authors publish no checksum.
    """
    folder = obtain(root / "maps", "maps.tar.gz", URL, None)
    part = folder / ("train" if split == "train" else "val")
    files = sorted((path for path in part.glob("*") if is_image(path)), key=lambda path: (len(path.name), path.name))
    if not files:
        raise DataError(f"{part}: no images; expected those of maps.tar.gz. Remove {folder} and it is unpacked again")
    side = round(resolution * ENLARGED) if split == "train" else resolution
    return Source(
        name="maps",
        split=split,
        resolution=resolution,
        root=root,
        files=files,
        recipe={"resize": "bicubic", "side": side},
        class_names=["maps"],
        shape=(side, side, 6),
        rows=lambda: decode([(path, 0) for path in files], lambda image: (_pair(image, side), [])),
        count=len(files),
    )


def _pair(image: Image.Image, side: int) -> np.ndarray:
    """uint8 ``[side, side, 6]``, map first."""
    if image.width != 2 * image.height:
        raise ValueError(f"expected two squares side by side, found {image.width}x{image.height}")
    half = image.height
    photo, street = (
        image.crop((left, 0, left + half, half)).resize((side, side), Image.Resampling.BICUBIC) for left in (0, half)
    )
    return np.concatenate([np.asarray(street), np.asarray(photo)], axis=2)
