"""Small picture files for the tests of the data sets."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

IHC = Path(__file__).parents[2] / "data" / "ihc.jpg"


def picture(seed: int, height: int = 40, width: int = 40) -> np.ndarray:
    """uint8 ``[height, width, 3]``: smooth random colours, which JPEG hardly changes."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def visible(folder: Path) -> list[str]:
    """Names in ``folder`` except of locks."""
    return sorted(path.name for path in folder.glob("*") if path.suffix != ".lock")


def pack(archive: Path, folder: Path) -> str:
    """Packs ``folder`` as the original's tarball and returns its MD5; the folder is gone afterwards."""
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
    return hashlib.md5(archive.read_bytes()).hexdigest()
