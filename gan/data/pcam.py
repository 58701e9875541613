"""pcam: PatchCamelyon (Veeling et al. 2018), patches of lymph nodes with and without metastases, by torchvision."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.datasets import PCAM

from ..common.errors import DataError
from ..common.locks import locked
from .hdf5 import open_hdf5, read_chunks
from .pixels import Row
from .store import Source

RESOLUTION = 96
CLASSES = ("normal", "tumour")
SPLITS = {"train": "train", "validation": "test"}


def source(root: Path, split: str, resolution: int) -> Source:
    """The official 262,144 training and, for validation, 32,768 test patches; the official validation set is not used.

    ``root/pcam/camelyonpatch_level_2_split_{train,test}_{x,y}.h5`` hold ``x``, uint8 ``[N, 96, 96, 3]``, and ``y``,
    uint8 ``[N, 1, 1, 1]``: whether the central 32x32 pixels hold tumour tissue. Needs h5py, and gdown for the download
    (both in the extra ``pcam``).
    """
    files = {kind: root / "pcam" / names[0] for kind, names in PCAM._FILES[SPLITS[split]].items()}
    if not all(path.exists() for path in files.values()):
        _download(root, split, files)
    labels = _labels(files["images"], files["targets"])
    return Source(
        name="pcam",
        split=split,
        resolution=resolution,
        root=root,
        files=list(files.values()),
        recipe={"resize": "lanczos"},
        class_names=CLASSES,
        shape=(resolution, resolution, 3),
        rows=lambda: _rows(files["images"], labels, resolution),
        count=len(labels),
        notes=["the official test set"] if split == "validation" else [],
    )


def _download(root: Path, split: str, files: dict[str, Path]) -> None:
    """By torchvision, which unpacks in place: in another folder, from which complete files are moved."""
    partial = root / "pcam.partial"
    try:
        with locked(root, "pcam"):
            if not all(path.exists() for path in files.values()):
                shutil.rmtree(partial, ignore_errors=True)
                PCAM(str(partial), split=SPLITS[split], download=True)
                (root / "pcam").mkdir(exist_ok=True)
                for path in files.values():
                    (partial / "pcam" / path.name).rename(path)
    except (OSError, RuntimeError, ImportError) as error:
        names = " and ".join(path.name for path in files.values())
        raise DataError(
            f"PatchCamelyon is not in {root}/pcam and cannot be downloaded: {error}\n"
            f"Put {names} there, unpacked from github.com/basveeling/pcam."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _labels(images: Path, targets: Path) -> np.ndarray:
    """int64 ``[N]``, after a look at the contents of both files."""
    with open_hdf5(images, "pcam") as x, open_hdf5(targets, "pcam") as y:
        for path, file, key in ((images, x, "x"), (targets, y, "y")):
            if key not in file:
                raise DataError(f"{path}: expected the key {key}, found {', '.join(file) or 'none'}")
        shape, dtype, labels = x["x"].shape, x["x"].dtype, y["y"][:].reshape(-1)
    if dtype != np.uint8 or len(shape) != 4 or shape[1:] != (RESOLUTION, RESOLUTION, 3):
        raise DataError(f"{images}: x: expected uint8 [N, {RESOLUTION}, {RESOLUTION}, 3], found {dtype} {list(shape)}")
    if len(labels) != shape[0]:
        raise DataError(f"{images} has {shape[0]} images, {targets.name} {len(labels)} labels")
    if not np.isin(labels, (0, 1)).all():
        raise DataError(f"{targets}: y: expected 0 and 1, found {', '.join(map(str, np.unique(labels)[:5]))}")
    return labels.astype(np.int64)


def _rows(path: Path, labels: np.ndarray, resolution: int):
    with open_hdf5(path, "pcam") as file:
        for pixels, label in zip(read_chunks(path, file["x"]), labels, strict=True):
            if resolution != RESOLUTION:
                pixels = np.asarray(Image.fromarray(pixels).resize((resolution,) * 2, Image.Resampling.LANCZOS))
            yield Row(pixels, int(label))
