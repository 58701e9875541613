"""food101: torchvision's copy, downloaded and verified; resized once."""

from __future__ import annotations

from pathlib import Path

from torchvision.datasets import Food101

from ..common.errors import DataError
from ..common.files import read_json
from .download import obtain
from .pixels import decode, square
from .store import Source

RESOLUTION = 64
ARCHIVE = "food-101.tar.gz"


def source(root: Path, split: str, resolution: int) -> Source:
    """The central squares of the official 75,750 training and 25,250 test images.

    Dey et al. count 75,747 in training. The lists in ``food-101/meta`` say which image belongs where.
    """
    folder = obtain(root / "food-101", ARCHIVE, Food101._URL, Food101._MD5)
    listing = folder / "meta" / ("train.json" if split == "train" else "test.json")
    try:
        images_of = read_json(listing)
        class_names = sorted(images_of)
        files = [
            (folder / "images" / f"{image}.jpg", label)
            for label, name in enumerate(class_names)
            for image in images_of[name]
        ]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{listing}: expected the lists of Food-101 ({error}). Remove {folder}; it is then unpacked again from "
            f"{ARCHIVE}, or downloaded"
        ) from error
    return Source(
        name="food101",
        split=split,
        resolution=resolution,
        root=root,
        files=[listing],
        recipe={"resize": "central square, lanczos"},
        class_names=class_names,
        shape=(resolution, resolution, 3),
        rows=lambda: decode(files, lambda image: square(image, resolution)),
        count=len(files),
    )
