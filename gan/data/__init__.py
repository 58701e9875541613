"""Data sets as arrays of bytes: ``load(name, root)`` gives an :class:`ImageSet` (``maps``: a :class:`PairSet`).

digits, rotmnist and cifar10 are kept in memory. The others are decoded once, into ``ROOT/prepared``, and memory-mapped.
``python -m gan.data prepare`` does that before training, and ``--out DIR`` elsewhere; DIR is then the root.
``python -m gan.data show`` prints class counts and draws a sheet of reals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..common.errors import DataError
from . import anhir, cifar10, digits, folder, food101, lysto, maps, mnist, pcam, store
from .imageset import ImageSet, ResidentImages, to_tensor, to_uint8
from .pairs import PairSet

__all__ = [
    "DATASETS",
    "DEFAULT_ROOT",
    "DataError",
    "ImageSet",
    "PairSet",
    "ResidentImages",
    "load",
    "prepare",
    "prepare_both",
    "to_tensor",
    "to_uint8",
]

DEFAULT_ROOT = Path("data")
PREPARED = "prepared"


class InMemory(NamedTuple):
    """A data set that is read in seconds.

    Attributes:
        load: ``(root, split) -> ImageSet``.
        resolution: its height and width.
    """

    load: Callable[[Path, str], ImageSet]
    resolution: int


class OnDisk(NamedTuple):
    """A data set that is decoded once and memory-mapped.

    Attributes:
        source: ``(root, split, resolution) -> store.Source``.
        resolution: height and width unless another is asked for; None: the source knows.
        wrap: what is made of the prepared set.
        validation: False where the training set may serve for validation.
    """

    source: Callable[..., store.Source]
    resolution: int | None
    wrap: Callable[[ImageSet], ImageSet] = lambda images: images
    validation: bool = True


DATASETS = {
    "digits": InMemory(lambda root, split: digits.load_digits(split), digits.RESOLUTION),
    "rotmnist": InMemory(mnist.load_rotmnist, mnist.RESOLUTION),
    "rotmnist60k": InMemory(mnist.load_rotmnist60k, mnist.RESOLUTION),
    "cifar10": InMemory(cifar10.load_cifar10, cifar10.RESOLUTION),
    "food101": OnDisk(food101.source, food101.RESOLUTION),
    "anhir": OnDisk(anhir.source, None),
    "lysto": OnDisk(lysto.source, lysto.RESOLUTION, validation=False),
    "maps": OnDisk(maps.source, maps.RESOLUTION, wrap=PairSet.of),
    "pcam": OnDisk(pcam.source, pcam.RESOLUTION),
    "folder": OnDisk(folder.source, None, validation=False),
}


def load(
    name: str,
    root: str | Path | None = None,
    *,
    split: str = "train",
    fraction: float = 1.0,
    seed: int = 0,
    resolution: int | None = None,
) -> ImageSet:
    """The images of one split, ready to be indexed; downloaded and prepared first where that is needed and possible.

    Args:
        name: one of ``DATASETS``.
        root: the folder that the data set's own loader takes as its root, or one that ``prepare --out`` made;
            ``./data`` unless given.
        split: "train" or "validation". lysto, and a folder without validation images, give the same for both.
        fraction: share of the training images to keep, chosen by ``seed``; see :meth:`ImageSet.subset`.
        seed: of that choice only. Splits and rotations have seeds of their own that never change.
        resolution: height and width; digits, rotmnist and cifar10 have one, the others are resampled.

    Raises:
        ValueError: an argument is none of these.
        DataError: the files are missing, damaged or of another kind, or the prepared images cannot be written.
    """
    root, loader = _checked(name, root, split, resolution)
    if split != "train" and fraction != 1:
        raise ValueError(f"fraction: only the training images are thinned out, got {fraction!r} for split {split!r}")
    if isinstance(loader, InMemory):
        return loader.load(root, split).subset(fraction, seed)
    found = store.find(root, name, split, resolution, or_train=not loader.validation)
    if found is None:
        found = store.prepare(loader.source(root, split, resolution or loader.resolution), root / PREPARED)
    return loader.wrap(store.open_prepared(found)).subset(fraction, seed)


def prepare(
    name: str,
    root: str | Path | None = None,
    out: str | Path | None = None,
    *,
    split: str = "train",
    resolution: int | None = None,
    skip_unreadable: bool = False,
    patch_size: int | None = None,
    stride: int | None = None,
) -> ImageSet:
    """Downloads and decodes one split into ``out`` (``ROOT/prepared`` unless given), a root for :func:`load`.

    Args:
        name, root, split, resolution: as in :func:`load`.
        skip_unreadable: leave out files that cannot be decoded instead of refusing all.
        patch_size, stride: of anhir (:func:`gan.data.anhir.source`).

    Raises:
        ValueError, DataError: as :func:`load`; patches of another data set than anhir.
    """
    root, loader = _checked(name, root, split, resolution)
    recipe = {"patch_size": patch_size, "stride": stride}
    recipe = {part: value for part, value in recipe.items() if value is not None}
    if recipe and name != "anhir":
        raise ValueError(f"{next(iter(recipe))}: only anhir is cut into patches, not {name}")
    if isinstance(loader, InMemory):
        if out is not None:
            raise ValueError(f"out: {name} is kept in memory and has no prepared images")
        return loader.load(root, split)
    source = loader.source(root, split, resolution or loader.resolution, **recipe)
    folder = root / PREPARED if out is None else Path(out)
    return loader.wrap(store.open_prepared(store.prepare(source, folder, skip_unreadable=skip_unreadable)))


def prepare_both(name: str, root: str | Path | None = None, out: str | Path | None = None, **how) -> Iterator[ImageSet]:
    """:func:`prepare` for training and for validation; one set where the training images serve for both."""
    for split in ("train", "validation"):
        images = prepare(name, root, out, split=split, **how)
        if images.split == split:
            yield images


def _checked(name, root, split, resolution) -> tuple[Path, InMemory | OnDisk]:
    if name not in DATASETS:
        raise ValueError(f"name: expected one of {', '.join(DATASETS)}, got {name!r}")
    if split not in ("train", "validation"):
        raise ValueError(f"split: expected 'train' or 'validation', got {split!r}")
    loader = DATASETS[name]
    if isinstance(loader, InMemory) and resolution not in (None, loader.resolution):
        raise ValueError(f"resolution: {name} has {loader.resolution}, got {resolution}")
    if resolution is not None and resolution < 1:
        raise ValueError(f"resolution: expected a positive number of pixels, got {resolution}")
    return DEFAULT_ROOT if root is None else Path(root), loader
