"""HDF5 files of images, for the data sets that come as such."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..common.errors import DataError

CHUNK = 64


def open_hdf5(path: Path, dataset: str):
    """The open ``h5py.File``. DataError if the file is damaged, or h5py missing, which ``dataset`` needs."""
    try:
        import h5py
    except ImportError as error:
        raise DataError(f"{dataset} needs h5py: pip install h5py") from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path}: cannot be read as HDF5, it is cut off or damaged: {error}") from error


def read_chunks(path: Path, images, rows: slice = slice(None), columns: slice = slice(None)) -> Iterator[np.ndarray]:
    """The same cut of one image after another, from ``images`` ``[N, H, W, C]`` in the file at ``path``."""
    for start in range(0, len(images), CHUNK):
        try:
            chunk = images[start : start + CHUNK, rows, columns]
        except OSError as error:
            raise DataError(f"{path}: x[{start}:{start + CHUNK}] cannot be read: {error}") from error
        yield from chunk
