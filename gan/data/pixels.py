"""Image files of any kind as 8-bit RGB, and square images of one resolution."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

EXTENSIONS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 2**30  # of one image; 3 GiB as RGB
_LARGE = threading.Lock()
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


_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def to_rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """An image of any mode as RGB, upright, and remarks on what that took.

    Grey becomes three equal channels, 16 bits become 8 over the full range, transparency is laid on white. Of files
    with several images the first one is taken. Pixels without a defined range (float, 32-bit integers) are refused.
    """
    remarks = []
    if getattr(image, "n_frames", 1) > 1:
        remarks.append("the first of several in their file")
    stored = _stored_as(image)
    image.load()
    transparent = image.info.get("transparency")
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged block makes the parser raise anything
        orientation = 1
        remarks.append("with an unreadable EXIF block, which is left out")
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
        remarks.append("rotated upright as their EXIF orientation says")
    mask = None
    if image.mode in ("1", "L", "I;16", "I;16B", "I") and isinstance(transparent, int):
        mask = np.asarray(image).astype(np.int64) == transparent * _grey_scale(stored)
    if image.mode.startswith("I"):
        image = _eight_bits(image, stored)
        remarks.append("16 bits reduced to 8")
    if image.mode in ("1", "L"):
        remarks.append("grey, copied to three channels")
        if mask is not None:
            image = Image.fromarray(np.where(mask, 255, np.asarray(image.convert("L"))).astype(np.uint8))
            remarks.append("transparency laid on white")
    elif image.has_transparency_data:
        if stored.startswith("RGB;16") and isinstance(transparent, tuple):
            image.info["transparency"] = tuple(value >> 8 for value in transparent)  # as the pixels were reduced
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        remarks.append("transparency laid on white")
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no defined range")
    elif image.mode != "RGB":
        remarks.append(f"converted from {'a palette' if image.mode == 'P' else image.mode}")
    return image if image.mode == "RGB" else image.convert("RGB"), remarks


def _stored_as(image: Image.Image) -> str:
    """Pillow's name of the pixels' format in the file, such as "L;4" or "I;32S"; "" if unknown. Lost by loading."""
    arguments = image.tile[0][3] if getattr(image, "tile", None) else ""
    name = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return name if isinstance(name, str) else ""


def _grey_scale(stored: str) -> int:
    """What Pillow multiplies grey values of fewer than eight bits by."""
    return {"1": 255, "L;2": 85, "L;4": 17}.get(stored, 1)


def _eight_bits(image: Image.Image, stored: str) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if stored.startswith("I;32"):
        raise ValueError("32-bit integers have no defined range; save them with 8 or 16 bits")
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"values from {values.min()} to {values.max()} do not fit 16 bits")
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))


def square(image: Image.Image, size: int) -> tuple[np.ndarray, list[str]]:
    """The central square of an RGB image, resampled (Lanczos) with antialiasing: uint8 ``[size, size, 3]``."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    cut = image.crop((left, top, left + side, top + side))
    remarks = ["smaller than the resolution and enlarged"] if side < size else []
    return np.asarray(cut.resize((size, size), Image.Resampling.LANCZOS)), remarks


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An image file. Those that Pillow takes for decompression bombs are opened one at a time, which bounds the memory.

    Raises:
        ValueError: for more than ``MAX_PIXELS``.
    """
    try:
        image = Image.open(path)
    except Image.DecompressionBombError:
        with _LARGE:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(path)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
            with image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(
                        f"{image.width} x {image.height} pixels are too many, {MAX_PIXELS:,} the most"
                    ) from None
                yield image
    else:
        with image:
            yield image


def decode(files: Sequence[tuple[Path, int]], make: Callable[[Image.Image], tuple[np.ndarray, list[str]]]) -> Iterator:
    """A :class:`Row` or an :class:`Unreadable` for each (file, label), in order, decoded by all cores.

    ``make`` turns an RGB image into the pixels of the set.
    """

    def read(item):
        path, label = item
        try:
            with opened(path) as image:
                rgb, remarks = to_rgb(image)
            pixels, more = make(rgb)
        except Exception as error:  # a damaged file makes a decoder raise anything
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            return Unreadable(path, reason or type(error).__name__)
        return Row(pixels, label, remarks + more)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), CHUNK):
            yield from pool.map(read, files[start : start + CHUNK])
