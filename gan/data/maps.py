"""maps: Google maps and the aerial photographs of the same places, from pix2pix (Isola et al., 2017)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .download import obtain
from .errors import DataError
from .imageset import ImageSet, ResidentImages
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

    @property
    def targets(self) -> ImageSet:
        """The photographs alone, cut centrally, as images of one class; nothing is copied."""
        images = cut(self.images, self.resolution)[1]
        fingerprint = hashlib.blake2b(f"photographs {self.fingerprint}".encode(), digest_size=16).hexdigest()
        return ImageSet(self.name, self.split, images, self.labels, self.class_names, fingerprint)

    def batch(self, indices, places: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps and photographs, uint8 ``[B, resolution, resolution, 3]`` each, cut at ``places`` or centrally."""
        return cut(super().batch(indices)[0], self.resolution, places)

    def pictures(self, indices) -> torch.Tensor:
        """uint8 ``[B, H, 2 W, 3]`` to look at: map and photograph side by side."""
        return torch.cat(self.batch(indices), dim=2)

    def resident(self, device: torch.device | str) -> ResidentPairs:
        """A copy of all pairs on ``device``, from which batches are taken without the host."""
        return ResidentPairs(super().resident(device), self.resolution)

    def draw_places(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Where to cut ``count`` pairs as Isola et al. train: anywhere, and mirrored with probability 1/2.

        Returns:
            int64 ``[count, 3]`` on the CPU: top, left, and 1 for mirrored.
        """
        slack = self.images.shape[1] - self.resolution
        ranges = (slack + 1, slack + 1, 2)
        return torch.stack([torch.randint(high, (count,), generator=generator) for high in ranges], dim=1)


@dataclass(frozen=True)
class ResidentPairs:
    """All pairs of a :class:`PairSet` on one device."""

    stored: ResidentImages
    resolution: int

    def batch(self, indices, places: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """The same as :meth:`PairSet.batch`, on this device."""
        return cut(self.stored.batch(indices)[0], self.resolution, places)


def cut(pairs, size: int, places: torch.Tensor | None = None):
    """Maps and photographs ``[B, size, size, 3]`` of ``pairs`` ``[B, S, S, 6]``, arrays or tensors.

    ``places`` are those of :meth:`PairSet.draw_places`. Without them every pair is cut centrally and nothing is copied.
    """
    if places is None:
        start = (pairs.shape[1] - size) // 2
        window = pairs[:, start : start + size, start : start + size]
    else:
        window = torch.stack([
            pair[top : top + size, left : left + size].flip(1) if mirror else pair[top : top + size, left : left + size]
            for pair, (top, left, mirror) in zip(pairs, places.tolist(), strict=True)
        ])  # fmt: skip
    return window[..., :3], window[..., 3:]


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
