"""anhir: patches of the lung-lesion slides of the ANHIR challenge, one class per stain; or of anyone's own slides.

The slides need registration (https://anhir.grand-challenge.org) and come from the user's folder.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..common.errors import DataError
from . import folder, slides
from .imageset import stratified_order
from .pixels import Row, is_image
from .store import Source

PATCH = 128
SEED = 0
TRAIN = 0.75
STAINS = {"cc10": "Cc10", "cd31": "CD31", "he": "H&E", "ki67": "Ki67", "prospc": "proSPC"}

log = logging.getLogger("gan.data")


def source(
    root: Path, split: str, resolution: int | None, patch_size: int = PATCH, stride: int | None = None
) -> Source:
    """128x128 foreground patches that do not overlap, three quarters for training (28,407 / 9,469 in Dey et al.).

    Layouts: ANHIR's, ``root/lung-lesion_N/scale-Spc/29-041-Izd2-w35-STAIN-*-lesN.jpg``, of which every scale that is
    there is used (the paper does not say which); or slides in ``root/CLASS/`` or directly in ``root``.

    Args:
        resolution: of the images; the patches are resampled to it if it is not ``patch_size``.
        patch_size, stride: in pixels of the slide. A stride below the size makes patches that overlap, also those of
            training and validation: for trying things out on few slides.
    """
    stride = stride or patch_size
    resolution = resolution or patch_size
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder of slides, found none; ANHIR's come from anhir.grand-challenge.org")
    class_names, files = _slides(root)
    signature = tuple((path, label, path.stat().st_mtime_ns) for path, label in files)

    def rows():
        corners, chosen = _corners(signature, patch_size, stride, split)
        for index, (path, label) in enumerate(files):
            wanted = [corner for corner, keep in zip(corners[index], chosen[index], strict=True) if keep]
            if wanted:
                slide = slides.open_slide(path)
                yield from (Row(pixels, label) for pixels in slides.patches(slide, wanted, patch_size, resolution))

    return Source(
        name="anhir",
        split=split,
        resolution=resolution,
        root=root,
        files=[path for path, _ in files],
        recipe={
            "patch_size": patch_size,
            "stride": stride,
            "foreground": [slides.REDUCTION, slides.DILATION, slides.FOREGROUND],
            "split": [TRAIN, SEED],
        },
        class_names=class_names,
        shape=(resolution, resolution, 3),
        rows=rows,
        notes=[f"{patch_size}x{patch_size} foreground patches of {len(files)} slides, {stride} pixels apart"],
    )


def _slides(root: Path) -> tuple[list[str], list[tuple[Path, int]]]:
    """Class names and (slide, label)."""
    lesions = sorted(path for path in root.glob("lung-lesion_*/scale-*pc/*") if is_image(path))
    if not lesions:
        class_names, files, _ = folder.classes(root, within=root)
        return class_names, files
    stains = {}
    for path in lesions:
        found = [stain for stain in re.split(r"[-_.]", path.stem.lower()) if stain in STAINS]
        if len(found) != 1:
            raise DataError(f"{path}: expected a file name with one of the stains {', '.join(STAINS)}")
        stains[path] = STAINS[found[0]]
    class_names = [name for name in STAINS.values() if name in stains.values()]
    return class_names, [(path, class_names.index(stain)) for path, stain in stains.items()]


@lru_cache(maxsize=1)
def _grids(signature, patch_size: int, stride: int) -> list[list[tuple[int, int]]]:
    """The patches of every slide; kept, since both splits need them."""
    grids = []
    for path, _, _ in tqdm(signature, desc="foreground of the slides", unit="slide", disable=None):
        grids.append(slides.grid(slides.open_slide(path), patch_size, stride))
        if not grids[-1]:
            log.warning(
                "%s: no %dx%d patch with %.0f%% foreground", path, patch_size, patch_size, 100 * slides.FOREGROUND
            )
    return grids


def _corners(signature, patch_size, stride, split) -> tuple[list, list[np.ndarray]]:
    """The patches of every slide, and which of them belong to the split: a stratified choice with a fixed seed."""
    grids = _grids(signature, patch_size, stride)
    lengths = [len(corners) for corners in grids]
    labels = np.repeat([label for _, label, _ in signature], lengths)
    order = stratified_order(labels, SEED)
    train = np.zeros(len(labels), bool)
    train[order[: round(TRAIN * len(labels))]] = True
    chosen = train if split == "train" else ~train
    return grids, np.split(chosen, np.cumsum(lengths)[:-1])
