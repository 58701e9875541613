"""Prepared sets: decoded once into one memory-mapped file of bytes.

A prepared set is a folder ``NAME-RESOLUTION-SPLIT-KEY`` with ``images.npy`` (uint8 ``[N, H, W, C]``), ``labels.npy``
(int64 ``[N]``) and ``set.json``. KEY is a digest of the source files' names, sizes and times and of the recipe, so that
changed sources are prepared anew next to the old set. The folder is written under another name and renamed at the end:
one that has its name is complete. A lock keeps a second process waiting instead of preparing the same thing twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..common.errors import DataError
from ..common.files import TEXT, read_json
from ..common.locks import locked
from .imageset import ImageSet, content_fingerprint
from .pixels import Row, Unreadable

FORMAT = 1
LISTED = 20


@dataclass(frozen=True)
class Source:
    """What a prepared set is made from.

    Attributes:
        name, split, resolution: as in :func:`gan.data.load`.
        root: the data set's folder, which ``files`` are relative to.
        files: whose change calls for a new preparation.
        recipe: JSON-able; everything else that decides the pixels.
        class_names: one per label.
        shape: of one image, ``(H, W, C)``.
        rows: starts the decoding; yields a Row or an Unreadable per image.
        count: how many rows at most, for the progress bar; None if that is not known before.
        notes: what the log should say about the set.
    """

    name: str
    split: str
    resolution: int
    root: Path
    files: Sequence[Path]
    recipe: dict
    class_names: Sequence[str]
    shape: tuple[int, int, int]
    rows: Callable[[], Iterator[Row | Unreadable]]
    count: int | None = None
    notes: Sequence[str] = field(default=())

    @property
    def folder_name(self) -> str:
        try:
            stats = [(str(file.relative_to(self.root)), file.stat()) for file in self.files]
        except OSError as error:
            raise DataError(f"{error.filename}: {error.strerror}") from error
        signature = {
            "format": FORMAT,
            "recipe": self.recipe,
            "shape": self.shape,
            "classes": list(self.class_names),
            "files": [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats],
        }
        key = hashlib.blake2b(json.dumps(signature, sort_keys=True).encode(), digest_size=6).hexdigest()
        return f"{self.name}-{self.resolution}-{self.split}-{key}"


def find(folder: Path, name: str, split: str, resolution: int | None, *, or_train: bool = False) -> Path | None:
    """The prepared set of that description in ``folder``, if ``folder`` is one that ``gan.data prepare --out`` made.

    ``or_train``: the training set will do where there is no validation set.
    """
    there = sorted(path.parent for path in folder.glob("*/set.json"))
    if not there:
        return None
    found = [path for path in there if path.match(f"{name}-{resolution or '*'}-{split}-*")]
    if not found and or_train and split != "train":
        return find(folder, name, "train", resolution)
    if len(found) == 1:
        return found[0]
    size = f", {resolution}x{resolution}" if resolution else ""
    raise DataError(
        f"{folder}: expected one prepared set of {name} ({split}{size}), found {len(found)} in "
        f"{', '.join(path.name for path in there)}"
    )


def prepare(source: Source, folder: Path, *, skip_unreadable: bool = False) -> Path:
    """The prepared set of ``source`` in ``folder``, made now unless it is there.

    Raises:
        DataError: files cannot be decoded (they are named; ``skip_unreadable`` leaves them out instead), a class has no
            image, or the folder cannot be written. Nothing is left behind then.
    """
    target = folder / source.folder_name
    if target.is_dir():
        return target
    partial = folder / f".{target.name}.partial"
    try:
        with locked(folder, target.name):
            if target.is_dir():
                return target
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                _write(source, partial, skip_unreadable)
                partial.rename(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"cannot write the prepared images {target}: {error.strerror or error}. Nothing was left behind. To have "
            f"them elsewhere: python -m gan.data prepare --dataset {source.name} --data {source.root} --out DIR, "
            "and then --data DIR"
        ) from error
    return target


def _write(source: Source, folder: Path, skip_unreadable: bool) -> None:
    labels, remarks, unreadable = [], Counter(), []
    progress = tqdm(
        source.rows(), total=source.count, desc=f"preparing {source.name} ({source.split})", unit="img", disable=None
    )
    with (folder / "images.npy").open("wb") as file:
        _write_header(file, 0, source.shape)
        for row in progress:
            if isinstance(row, Unreadable):
                unreadable.append(row)
                continue
            if row.pixels.shape != source.shape or row.pixels.dtype != np.uint8:
                raise AssertionError(
                    f"{source.name}: a row is {row.pixels.dtype} {row.pixels.shape}, not {source.shape}"
                )
            file.write(np.ascontiguousarray(row.pixels))
            labels.append(row.label)
            remarks.update(row.remarks)
        file.seek(0)
        _write_header(file, len(labels), source.shape)
        _sync(file)
    if unreadable and not skip_unreadable:
        raise DataError(
            f"{_listing(unreadable)}\nRepair or remove them, or leave them out: python -m gan.data prepare --dataset "
            f"{source.name} --data {source.root} --skip-unreadable"
        )
    counts = np.bincount(np.array(labels, dtype=np.int64), minlength=len(source.class_names))
    if not counts.all():
        empty = ", ".join(str(source.class_names[label]) for label in np.flatnonzero(counts == 0))
        raise DataError(f"{source.root}: {source.name} ({source.split}) has no image of {empty}")
    with (folder / "labels.npy").open("wb") as file:
        np.save(file, np.array(labels, dtype=np.int64))
        _sync(file)
    images = np.load(folder / "images.npy", mmap_mode="r")
    description = {"name": source.name, "split": source.split, "classes": list(source.class_names)}
    record = {
        "format": FORMAT,
        **description,
        "class_counts": counts.tolist(),
        "resolution": source.resolution,
        "shape": list(images.shape),
        "fingerprint": content_fingerprint(images, np.array(labels), **description),
        "notes": [
            *source.notes,
            *(f"{count} images {remark}" for remark, count in sorted(remarks.items())),
            *([f"left out: {_listing(unreadable)}"] if unreadable else []),
        ],
        "recipe": source.recipe,
        "versions": {package: metadata.version(package) for package in ("numpy", "pillow", "torchvision")},
    }
    with (folder / "set.json").open("w", **TEXT) as file:
        json.dump(record, file, indent=1)
        _sync(file)


def _write_header(file, count: int, shape: tuple[int, ...]) -> None:
    """The header of a .npy file of ``count`` images; numpy leaves room in it for the count to grow."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
    np.lib.format.write_array_header_1_0(file, header)


def _sync(file) -> None:
    file.flush()
    os.fsync(file.fileno())


def _listing(unreadable: Sequence[Unreadable]) -> str:
    lines = [f"  {path}: {reason}" for path, reason in unreadable[:LISTED]]
    if len(unreadable) > LISTED:
        lines.append(f"  ... and {len(unreadable) - LISTED} more")
    return "\n".join([f"{len(unreadable)} files cannot be read as images:", *lines])


def open_prepared(folder: Path) -> ImageSet:
    """A prepared set, its images memory-mapped read-only."""
    try:
        record = read_json(folder / "set.json")
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        labels = np.load(folder / "labels.npy", allow_pickle=False)
        shape, classes = tuple(record["shape"]), record["classes"]
        size = (folder / "images.npy").stat().st_size
        if images.shape != shape or images.dtype != np.uint8 or size != images.offset + images.nbytes:
            raise ValueError(f"images.npy holds {images.dtype} {images.shape}, set.json says uint8 {shape}")
        if np.bincount(labels, minlength=len(classes)).tolist() != record["class_counts"]:
            raise ValueError("labels.npy does not have the class counts of set.json")
        return ImageSet(
            record["name"],
            record["split"],
            np.asarray(images),
            labels,
            tuple(classes),
            record["fingerprint"],
            tuple(record["notes"]),
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise DataError(f"{folder} is damaged ({error}); remove it and it is prepared again") from error
