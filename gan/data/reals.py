"""What a data set looks like."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..common.pictures import sheet, write_picture
from .imageset import ImageSet

ROWS, COLUMNS = 10, 12


def write_reals(path: Path, images: ImageSet) -> None:
    """A sheet of images drawn at random, a row per class, as a PNG."""
    chosen = some_of_each_class(images.labels, len(images.class_names), ROWS, COLUMNS)
    write_picture(path, sheet(images.pictures(chosen), COLUMNS, border=0))


def some_of_each_class(labels: np.ndarray, classes: int, rows: int, columns: int) -> np.ndarray:
    """Indices int64 ``[rows * columns]`` drawn at random, one class per row; the classes repeat if the rows go on."""
    rng = np.random.default_rng(0)
    picked = []
    for row in range(rows):
        members = np.flatnonzero(labels == row % classes)
        picked.append(rng.choice(members, columns, replace=len(members) < columns))
    return np.concatenate(picked)
