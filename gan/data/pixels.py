"""Image files of any kind as 8-bit RGB, and square images of one resolution."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

EXTENSIONS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
CHUNK = 256  # files that are decoded ahead of the one that is written


class Row(NamedTuple):
    """One image of a set: uint8 ``[H, W, C]``, its class, and what was done to it that the log should count."""

    pixels: np.ndarray
    label: int
    remarks: Sequence[str] = ()


class Unreadable(NamedTuple):
    """A file in place of an image that cannot be decoded."""

    path: Path
    reason: str


def is_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def to_rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """An image of any mode as RGB, upright, and remarks on what that took.

    Grey becomes three equal channels, 16 bits become 8 over the full range, transparency is laid on white.
    """
    remarks = []
    image.load()
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
        remarks.append("turned upright as their EXIF orientation says")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"values from {values.min()} to {values.max()} do not fit 16 bits")
        image = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
        remarks.append("16 bits reduced to 8")
    if image.mode in ("1", "L"):
        remarks.append("grey, copied to three channels")
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        remarks.append("transparency laid on white")
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no defined range")
    elif image.mode != "RGB":
        remarks.append(f"converted from {'a palette' if image.mode == 'P' else image.mode}")
    return image if image.mode == "RGB" else image.convert("RGB"), remarks


def square(image: Image.Image, size: int) -> tuple[np.ndarray, list[str]]:
    """The central square of an RGB image, resampled (Lanczos) with antialiasing: uint8 ``[size, size, 3]``."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    cut = image.crop((left, top, left + side, top + side))
    remarks = ["smaller than the resolution and enlarged"] if side < size else []
    return np.asarray(cut.resize((size, size), Image.Resampling.LANCZOS)), remarks


def decode(files: Sequence[tuple[Path, int]], make: Callable[[Image.Image], tuple[np.ndarray, list[str]]]) -> Iterator:
    """A :class:`Row` or an :class:`Unreadable` for each (file, label), in order, decoded by all cores.

    ``make`` turns an RGB image into the pixels of the set.
    """

    def read(item):
        path, label = item
        try:
            with Image.open(path) as image:
                rgb, remarks = to_rgb(image)
            pixels, more = make(rgb)
        except Exception as error:  # a damaged file makes a decoder raise anything
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            return Unreadable(path, reason or type(error).__name__)
        return Row(pixels, label, remarks + more)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), CHUNK):
            yield from pool.map(read, files[start : start + CHUNK])
