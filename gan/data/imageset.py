"""Labelled images in memory or in a memory-mapped file, and the way from bytes to what the networks see."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

__all__ = [
    "ImageSet",
    "ResidentImages",
    "content_fingerprint",
    "stratified_order",
    "to_tensor",
    "to_uint8",
]

COPIED = 1024  # images that are copied to a device at a time


def to_tensor(images: torch.Tensor) -> torch.Tensor:
    """uint8 ``[B, H, W, C]`` -> float32 ``[B, C, H, W]`` in [-1, 1], ``torch.channels_last``, on the same device."""
    if images.dtype != torch.uint8 or images.dim() != 4:
        raise TypeError(f"images: expected uint8 [B, H, W, C], got {images.dtype} {tuple(images.shape)}")
    return images.permute(0, 3, 1, 2).to(torch.float32).sub_(127.5).mul_(1 / 127.5)


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """Floating point ``[B, C, H, W]`` in [-1, 1] -> uint8 ``[B, H, W, C]``; values outside are clamped.

    ``to_uint8(to_tensor(x))`` is x.
    """
    if not images.is_floating_point() or images.dim() != 4:
        raise TypeError(f"images: expected floating-point [B, C, H, W], got {images.dtype} {tuple(images.shape)}")
    return images.float().add(1).mul(127.5).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def stratified_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """A seeded permutation int64 ``[N]`` whose every prefix has the classes in the proportions of the whole.

    The first n entries hold each class to within about one image of its share, and the first n are among the first
    m > n: subsets of the same seed are nested.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    position = np.empty(len(labels))
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        position[labels[order] == label] = (np.arange(count) + 0.5) / count
    return order[np.argsort(position, kind="stable")]


def content_fingerprint(images: np.ndarray, labels: np.ndarray | None, **description) -> str:
    """32 hex digits of the pixels, the labels and a JSON-able description of the set."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps({"shape": images.shape, **description}, sort_keys=True).encode())
    if labels is not None:
        digest.update(np.ascontiguousarray(labels, dtype=np.int64))
    rows = max(1, 2**24 // max(1, images[:1].nbytes))
    for start in range(0, len(images), rows):
        digest.update(np.ascontiguousarray(images[start : start + rows]))
    return digest.hexdigest()


@dataclass(frozen=True)
class ImageSet:
    """Images with one class each.

    Attributes:
        name: the data set, as ``--dataset`` names it.
        split: "train" or "validation".
        images: uint8 ``[N, H, W, C]``, an array or a read-only memory map.
        labels: int64 ``[N]``, indices into ``class_names``.
        class_names: one per class.
        fingerprint: hex digest of pixels, labels and preparation. Equal fingerprints mean equal data, in equal order.
        notes: what a reader of the log should know about the preparation, one sentence each.
    """

    name: str
    split: str
    images: np.ndarray
    labels: np.ndarray
    class_names: Sequence[str]
    fingerprint: str
    notes: Sequence[str] = field(default=())

    def __len__(self) -> int:
        return len(self.images)

    @property
    def resolution(self) -> int:
        return self.images.shape[1]

    @property
    def channels(self) -> int:
        return self.images.shape[3]

    @property
    def class_counts(self) -> dict[str, int]:
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        return {name: int(count) for name, count in zip(self.class_names, counts, strict=True)}

    def batch(self, indices) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 ``[B, H, W, C]`` and int64 ``[B]`` on the CPU, copied; ``indices`` is an integer array or tensor."""
        indices = np.asarray(indices)
        return torch.from_numpy(self.images[indices]), torch.from_numpy(self.labels[indices])

    @property
    def targets(self) -> ImageSet:
        """The images that a generator's are compared with: these."""
        return self

    def pictures(self, indices) -> torch.Tensor:
        """uint8 ``[B, H, W, C]`` to look at."""
        return self.batch(indices)[0]

    def resident(self, device: torch.device | str) -> ResidentImages:
        """A copy of the whole set on ``device``, still uint8, from which batches are taken without the host."""
        images = torch.empty(self.images.shape, dtype=torch.uint8, device=device)
        for start in range(0, len(self), COPIED):
            images[start : start + COPIED] = torch.from_numpy(self.images[start : start + COPIED].copy())
        return ResidentImages(images, torch.from_numpy(self.labels).to(device))

    def subset(self, fraction: float, seed: int) -> ImageSet:
        """A seeded, class-stratified ``fraction`` of the images, in their order here, in memory.

        Its size is ``round(fraction * len(self))``; see :func:`stratified_order` for its composition. A larger fraction
        of the same seed contains a smaller one.
        """
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction: expected a number in (0, 1], got {fraction!r}")
        if fraction == 1:
            return self
        chosen = np.sort(stratified_order(self.labels, seed)[: round(fraction * len(self))])
        missing = set(range(len(self.class_names))) - set(self.labels[chosen].tolist())
        if missing:
            names = ", ".join(self.class_names[label] for label in sorted(missing))
            raise ValueError(f"fraction: {fraction!r} of {len(self)} images of {self.name} leaves no image of {names}")
        digest = hashlib.blake2b(self.fingerprint.encode() + chosen.astype("<i8").tobytes(), digest_size=16)
        return replace(
            self,
            images=self.images[chosen],
            labels=self.labels[chosen],
            fingerprint=digest.hexdigest(),
            notes=(*self.notes, f"{len(chosen)} of {len(self)} images, stratified by class, seed {seed}"),
        )

    def summary(self) -> str:
        """Name, sizes, class counts and notes, for the log."""
        size = f"{self.resolution}x{self.resolution}x{self.channels}"
        head = f"{self.name} ({self.split}): {len(self)} images {size}, {len(self.class_names)} classes"
        counts = ", ".join(f"{name} {count}" for name, count in self.class_counts.items())
        return "\n".join([f"{head}, {self.fingerprint}", f"  {counts}", *(f"  {note}" for note in self.notes)])


@dataclass(frozen=True)
class ResidentImages:
    """uint8 ``images [N, H, W, C]`` and int64 ``labels [N]`` on one device."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices) -> tuple[torch.Tensor, torch.Tensor]:
        """The same as :meth:`ImageSet.batch`, on this device."""
        indices = torch.as_tensor(indices, device=self.images.device)
        return self.images[indices], self.labels[indices]
