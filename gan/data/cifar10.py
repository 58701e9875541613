"""cifar10: through torchvision, which downloads and verifies it. Small enough to be kept in memory as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import check_integrity

from ..common.errors import DataError
from .download import obtain
from .imageset import ImageSet, content_fingerprint

RESOLUTION = 32


def load_cifar10(root: Path, split: str) -> ImageSet:
    """50,000 training and 10,000 validation images, 32x32x3."""
    folder = obtain(root / CIFAR10.base_folder, CIFAR10.filename, CIFAR10.url, CIFAR10.tgz_md5)
    expected = [*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])]
    wrong = [name for name, md5 in expected if not check_integrity(folder / name, md5)]
    if wrong:
        raise DataError(
            f"{folder}: missing, cut off or not CIFAR-10's: {', '.join(wrong)}. Remove the folder; it is then unpacked "
            f"again from {CIFAR10.filename}, or downloaded"
        )
    source = CIFAR10(root, train=split == "train")
    labels = np.array(source.targets, dtype=np.int64)
    classes = tuple(source.classes)
    images = np.ascontiguousarray(source.data)
    fingerprint = content_fingerprint(images, labels, name="cifar10", split=split, classes=classes)
    return ImageSet("cifar10", split, images, labels, classes, fingerprint)
