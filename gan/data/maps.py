"""maps: Google maps and the aerial photographs of the same places, from pix2pix (Isola et al., 2017)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..common.errors import DataError
from .download import obtain
from .pairs import ENLARGED
from .pixels import decode, is_image
from .store import Source

RESOLUTION = 256
URL = "http://efrosgans.eecs.berkeley.edu/pix2pix/datasets/maps.tar.gz"


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
