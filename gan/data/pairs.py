"""Pairs of images of the same place."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch

from .imageset import ImageSet, ResidentImages

#: how much larger than its resolution a training pair is stored, for random crops (Isola et al. 2017: 286 for 256)
ENLARGED = 286 / 256


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
