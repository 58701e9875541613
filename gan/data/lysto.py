"""lysto: the training images of the LYSTO challenge, one class per organ.

The file needs registration (https://lysto.grand-challenge.org) and comes from the user's folder.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..common.errors import DataError
from .hdf5 import open_hdf5, read_chunks
from .pixels import Row
from .store import Source

RESOLUTION = 256
CROP = 256
FILE = "training.h5"
ORGANS = ("breast", "colon", "prostate")


def source(root: Path, split: str, resolution: int) -> Source:
    """The central 256x256 of all 20,000 images, for both splits: Dey et al. evaluate on the training set.

    ``root/training.h5`` holds ``x``, uint8 ``[20000, 299, 299, 3]``, and ``organ``, ``[20000]`` byte strings such as
    ``b"colon_3"`` (organ and slide); ``y``, the number of lymphocytes, is not used. Needs h5py (the extra ``lysto``).
    """
    path = root / FILE
    if not path.is_file():
        raise DataError(f"{path}: no such file. It comes from lysto.grand-challenge.org after registration")
    labels = _labels(path)
    return Source(
        name="lysto",
        split="train",
        resolution=resolution,
        root=root,
        files=[path],
        recipe={"crop": CROP, "resize": "lanczos"},
        class_names=ORGANS,
        shape=(resolution, resolution, 3),
        rows=lambda: _rows(path, labels, resolution),
        count=len(labels),
        notes=["training and validation are the same images"],
    )


def _labels(path: Path) -> np.ndarray:
    """int64 ``[N]``, after a look at the file's contents."""
    with open_hdf5(path, "lysto") as file:
        missing = {"x", "organ"} - set(file)
        if missing:
            raise DataError(f"{path}: expected the keys x and organ, found {', '.join(file) or 'none'}")
        shape, dtype = file["x"].shape, file["x"].dtype
        if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or min(shape[1:3]) < CROP:
            raise DataError(f"{path}: x: expected uint8 [N, 299, 299, 3], found {dtype} {list(shape)}")
        organs = [value.decode() if isinstance(value, bytes) else str(value) for value in file["organ"][:]]
    if len(organs) != shape[0]:
        raise DataError(f"{path}: x has {shape[0]} images, organ {len(organs)} entries")
    names = [organ.split("_")[0].lower() for organ in organs]
    unknown = sorted(set(names) - set(ORGANS))
    if unknown:
        raise DataError(f"{path}: organ: expected {', '.join(ORGANS)}, found {', '.join(unknown)}")
    return np.array([ORGANS.index(name) for name in names], dtype=np.int64)


def _rows(path: Path, labels: np.ndarray, resolution: int):
    with open_hdf5(path, "lysto") as file:
        top, left = ((side - CROP) // 2 for side in file["x"].shape[1:3])
        crops = read_chunks(path, file["x"], slice(top, top + CROP), slice(left, left + CROP))
        for crop, label in zip(crops, labels, strict=True):
            if resolution != CROP:
                crop = np.asarray(Image.fromarray(crop).resize((resolution, resolution), Image.Resampling.LANCZOS))
            yield Row(crop, int(label))
