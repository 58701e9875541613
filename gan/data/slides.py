"""Foreground patches of histology slides (Dey et al., appendix C.1.2)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.ndimage
from PIL import Image
from sklearn.cluster import KMeans

from ..common.errors import DataError
from .pixels import to_rgb

REDUCTION = 8  # pixels of the slide per pixel of the foreground mask
DILATION = 2  # mask pixels
FOREGROUND = 0.1  # least share of a patch that is kept


def open_slide(path: Path) -> Image.Image:
    """A slide as RGB. Slides are larger than what Pillow takes for a decompression bomb."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path) as image:
            return to_rgb(image)[0]
    except Exception as error:  # a damaged file makes a decoder raise anything
        raise DataError(f"{path}: cannot be read as a slide: {error}") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def foreground(slide: Image.Image) -> np.ndarray:
    """bool ``[ceil(H/8), ceil(W/8)]``: the darker of two k-means clusters in RGB, dilated by a disk of 16 slide pixels.

    The paper names k-means and dilation, but neither the colour space, the scale nor the radius; these are ours.
    """
    colours = np.asarray(slide.reduce(REDUCTION), dtype=np.float32)
    y, x = np.ogrid[-DILATION : DILATION + 1, -DILATION : DILATION + 1]
    tissue = darker_cluster(colours.reshape(-1, 3)).reshape(colours.shape[:2])
    return scipy.ndimage.binary_dilation(tissue, y * y + x * x <= DILATION * DILATION)


def darker_cluster(colours: np.ndarray) -> np.ndarray:
    """bool ``[N]`` of colours ``[N, 3]``: k-means for two clusters, started at the darkest and the brightest colour."""
    brightness = colours.sum(axis=1)
    ends = colours[[brightness.argmin(), brightness.argmax()]].astype(np.float64)
    if (ends[0] == ends[1]).all():
        return np.zeros(len(colours), bool)
    return KMeans(2, init=ends, n_init=1, tol=0).fit_predict(colours.astype(np.float64)) == 0


def grid(slide: Image.Image, size: int, stride: int) -> list[tuple[int, int]]:
    """(top, left) of the ``size`` x ``size`` patches, ``stride`` apart, with at least 10% foreground.

    Without overlap (``stride == size``) this crops the slide to multiples of ``size``.
    """
    mask = foreground(slide)
    corners = []
    for top in range(0, slide.height - size + 1, stride):
        for left in range(0, slide.width - size + 1, stride):
            rows = slice(top // REDUCTION, -(-(top + size) // REDUCTION))
            columns = slice(left // REDUCTION, -(-(left + size) // REDUCTION))
            if mask[rows, columns].mean() >= FOREGROUND:
                corners.append((top, left))
    return corners


def patches(slide: Image.Image, corners: list[tuple[int, int]], size: int, resolution: int) -> Iterator[np.ndarray]:
    """uint8 ``[resolution, resolution, 3]`` for each corner, resampled (Lanczos) unless ``resolution`` is ``size``."""
    for top, left in corners:
        patch = slide.crop((left, top, left + size, top + size))
        yield np.asarray(patch.resize((resolution, resolution), Image.Resampling.LANCZOS))
