"""Rotation of grey images by arbitrary angles, one resampling from the original grid to the final one."""

from __future__ import annotations

import math

import numpy as np

CHUNK = 64  # images at a time; larger ones leave the cache


def rotate(images: np.ndarray, angles: np.ndarray, *, size: int, step: float = 1.0) -> np.ndarray:
    """Each image rotated counter-clockwise about its centre by its own angle, bilinear, zero outside.

    Args:
        images: ``[N, H, W]``, any real dtype.
        angles: ``[N]``, radians. A quarter turn is ``np.rot90``.
        size: height and width of the output.
        step: distance of two output pixels, in input pixels; below 1 enlarges.

    Returns:
        float32 ``[N, size, size]``.

    Plain float32 arithmetic on numpy arrays, so that a seed gives the same bytes on every machine; an interpolation
    kernel that fuses multiplications and additions would not.
    """
    padded = np.pad(np.asarray(images, dtype=np.float32), ((0, 0), (1, 1), (1, 1)))
    height, width = padded.shape[1:]
    offsets = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * np.float32(step)
    rows, columns = (grid.ravel() for grid in np.meshgrid(offsets, offsets, indexing="ij"))
    cos = np.array([[math.cos(angle)] for angle in angles], np.float32)
    sin = np.array([[math.sin(angle)] for angle in angles], np.float32)
    out = np.empty((len(padded), size * size), np.float32)
    for start in range(0, len(padded), CHUNK):
        part = slice(start, start + CHUNK)
        pixels = padded[part].ravel()
        row = np.clip(cos[part] * rows + sin[part] * columns + np.float32((height - 1) / 2), 0, height - 1)
        column = np.clip(cos[part] * columns - sin[part] * rows + np.float32((width - 1) / 2), 0, width - 1)
        top = np.minimum(row.astype(np.intp), height - 2)
        left = np.minimum(column.astype(np.intp), width - 2)
        down, right = row - top.astype(np.float32), column - left.astype(np.float32)
        corner = (top + np.arange(len(top))[:, None] * height) * width + left
        above = pixels[corner] * (1 - right) + pixels[corner + 1] * right
        corner += width
        below = pixels[corner] * (1 - right) + pixels[corner + 1] * right
        out[part] = above * (1 - down) + below * down
    return out.reshape(-1, size, size)
