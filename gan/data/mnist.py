"""rotmnist: MNIST, each digit rotated once by a uniform random angle.

Regenerated from MNIST with a fixed seed: the same recipe as the 2007 files of Larochelle et al., not those files, whose
server is gone.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torchvision.datasets import MNIST
from torchvision.datasets.utils import calculate_md5

from ..common.errors import DataError
from ..common.locks import locked
from .imageset import ImageSet, content_fingerprint
from .rotate import rotate

RESOLUTION = 28
SEED = 0
TRAIN, VALIDATION = 12_000, 50_000
FILES = {  # magic number, size and MD5 of the original
    "train-images-idx3-ubyte": (2051, 47_040_016, "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte": (2049, 60_008, "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte": (2051, 7_840_016, "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte": (2049, 10_008, "27ae3e4e09519cfbb04c329615203637"),
}


class Mnist(NamedTuple):
    """uint8 ``images [N, 28, 28]``, int64 ``labels [N]``; the first ``train`` of them are MNIST's training digits."""

    images: np.ndarray
    labels: np.ndarray
    train: int
    notes: list[str]


def load_rotmnist(root: Path, split: str) -> ImageSet:
    """The split of Larochelle et al. (2007) that Dey et al. use: 12,000 training and 50,000 validation digits.

    Both are drawn without replacement from the 70,000 digits of MNIST in one seeded permutation.
    """
    mnist = read_mnist(root)
    if len(mnist.images) < TRAIN + VALIDATION:
        raise DataError(f"{root}/MNIST/raw: expected at least {TRAIN + VALIDATION} digits, found {len(mnist.images)}")
    order = np.random.default_rng(SEED).permutation(len(mnist.images))
    return _rotated("rotmnist", split, mnist, order[:TRAIN] if split == "train" else order[TRAIN:][:VALIDATION])


def load_rotmnist60k(root: Path, split: str) -> ImageSet:
    """The variant of Birrell et al. (2022): MNIST's own 60,000 training and 10,000 test digits, every one rotated."""
    mnist = read_mnist(root)
    train, test = np.split(np.arange(len(mnist.images)), [mnist.train])
    return _rotated("rotmnist60k", split, mnist, train if split == "train" else test)


def _rotated(name: str, split: str, mnist: Mnist, chosen: np.ndarray) -> ImageSet:
    angles = np.random.default_rng(SEED + 1).uniform(0, 2 * np.pi, len(mnist.images))
    rotated = rotate(mnist.images[chosen], angles[chosen], size=RESOLUTION)
    images, labels = np.rint(rotated).astype(np.uint8)[..., None], mnist.labels[chosen]
    note = f"MNIST, each digit rotated once by a uniform random angle (seed {SEED}); not the 2007 files"
    return ImageSet(
        name,
        split,
        images,
        labels,
        tuple(map(str, range(10))),
        content_fingerprint(images, labels, name=name, split=split),
        notes=(note, *mnist.notes),
    )


def read_mnist(root: Path) -> Mnist:
    """The four files in ``root/MNIST/raw``, downloaded if there is none."""
    folder = root / "MNIST" / "raw"
    if not any((folder / name).exists() for name in FILES):
        _download(root)
    for name, (magic, *_) in FILES.items():
        _check_idx(folder / name, magic)
    parts = [MNIST(root, train=train) for train in (True, False)]
    for part, prefix in zip(parts, ("train", "t10k"), strict=True):
        if part.data.shape[1:] != (RESOLUTION, RESOLUTION) or len(part.data) != len(part.targets):
            raise DataError(
                f"{folder}: expected as many 28x28 images as labels in {prefix}-*, found images "
                f"{tuple(part.data.shape)} and {len(part.targets)} labels"
            )
    images, labels = (np.concatenate([getattr(part, key).numpy() for part in parts]) for key in ("data", "targets"))
    if labels.max() > 9:
        raise DataError(f"{folder}: expected labels from 0 to 9, found {labels.max()}")
    foreign = [name for name, (*_, md5) in FILES.items() if calculate_md5(folder / name) != md5]
    notes = [f"not the original MNIST, by their checksums: {', '.join(foreign)}"] if foreign else []
    return Mnist(images, labels, len(parts[0].data), notes)


def _download(root: Path) -> None:
    try:
        with locked(root, "MNIST"):
            MNIST(root, download=True)
    except (OSError, RuntimeError) as error:
        sizes = ", ".join(f"{name} ({size:,} bytes)" for name, (_, size, _) in FILES.items())
        raise DataError(
            f"MNIST is not in {root}/MNIST/raw and cannot be downloaded: {error}\n"
            f"Put these files there: {sizes}. --data is the folder that holds MNIST/raw."
        ) from error


def _check_idx(path: Path, magic: int) -> None:
    """That the header of an idx file is the expected one and agrees with the file's size."""
    rank = magic & 255
    try:
        with path.open("rb") as file:
            header = file.read(4 + 4 * rank)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}, but other files of MNIST are there") from error
    start = struct.pack(">i", magic)
    if header[:4] != start:
        raise DataError(f"{path}: expected an idx file (first bytes {start.hex()}), found {header[:4].hex()!r}")
    dims = struct.unpack(f">{rank}i", header[4:].ljust(4 * rank, b"\0"))
    expected, found = 4 + 4 * rank + math.prod(dims), path.stat().st_size
    if found != expected:
        raise DataError(f"{path}: its header says {expected:,} bytes, the file has {found:,}; it is cut off or damaged")
