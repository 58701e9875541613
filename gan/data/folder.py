"""folder: anyone's own images, one subfolder per class."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from PIL import Image

from .errors import DataError
from .pixels import EXTENSIONS, decode, is_image, square
from .store import Source

SPLITS = {"train": ("train",), "validation": ("validation", "val", "test")}


def source(root: Path, split: str, resolution: int | None) -> Source:
    """The images below ``root``, of any size and mode.

    Layouts: ``root/CLASS/...``, images directly in ``root`` (one class), or either of them in ``root/train`` and
    ``root/validation`` (or ``val``, ``test``). Without a validation folder both splits are the training images, as is
    usual for GANs.

    Args:
        resolution: every image's central square is resampled to it; None if all are squares of one size already.
    """
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder with one subfolder of images per class, found none")
    base, split = _split_folder(root, split)
    class_names, files, ignored = classes(base, within=root)
    if split == "validation" and class_names != (expected := classes(root / "train", within=root)[0]):
        raise DataError(
            f"{base}: expected the classes of training, {', '.join(expected)}; found {', '.join(class_names)}"
        )
    keep = resolution
    if resolution is None:
        keep = _common_size(files)
    notes = [f"{sum(ignored.values())} files of other kinds ignored ({_kinds(ignored)})"] if ignored else []
    return Source(
        name="folder",
        split=split,
        resolution=keep,
        root=root,
        files=[file for file, _ in files],
        recipe={"layout": str(base.relative_to(root)), "resize": "central square, lanczos"},
        class_names=class_names,
        shape=(keep, keep, 3),
        rows=lambda: decode(files, lambda image: square(image, keep)),
        count=len(files),
        notes=notes,
    )


def _split_folder(root: Path, split: str) -> tuple[Path, str]:
    """The folder of a split, if the subfolders are splits and not classes; else all images, as the training set."""
    subfolders = {path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
    known = {name for names in SPLITS.values() for name in names}
    if "train" not in subfolders or not subfolders <= known | {"prepared"}:
        return root, "train"
    for name in SPLITS[split]:
        if name in subfolders:
            return root / name, split
    return root / "train", "train"


def classes(base: Path, *, within: Path) -> tuple[list[str], list[tuple[Path, int]], Counter]:
    """Class names, (file, label) in sorted order, and the suffixes of files that are no images.

    ``within`` is the data set's folder: it names the class of images that are in no subfolder, and its own subfolder
    ``prepared`` is no class.
    """
    entries = sorted(path for path in base.iterdir() if not path.name.startswith("."))
    subfolders = [path for path in entries if path.is_dir()]
    direct = [path for path in entries if path.is_file() and is_image(path)]
    ignored = Counter(path.suffix for path in entries if path.is_file() and not is_image(path))
    listed = {}
    for subfolder in subfolders:
        found = [Path(folder) / name for folder, _, names in os.walk(subfolder, followlinks=True) for name in names]
        listed[subfolder.name] = sorted(path for path in found if is_image(path))
        if base == within and subfolder.name == "prepared" and not listed["prepared"]:
            del listed["prepared"]
            continue
        ignored.update(path.suffix for path in found if not is_image(path) and not path.name.startswith("."))
    if direct and listed:
        raise DataError(
            f"{base}: holds {len(direct)} images ({direct[0].name}, ...) and the subfolders {', '.join(listed)}; "
            "expected either images, which are one class, or one subfolder per class"
        )
    if direct:
        listed = {within.resolve().name: direct}
    if not any(listed.values()):
        raise DataError(f"{base}: no images; expected {', '.join(sorted(EXTENSIONS))} in one subfolder per class")
    empty = [name for name, found in listed.items() if not found]
    if empty:
        raise DataError(f"{base}: no image of the classes {', '.join(empty)}")
    return list(listed), [(path, label) for label, found in enumerate(listed.values()) for path in found], ignored


def _common_size(files: list[tuple[Path, int]]) -> int:
    """The side that all readable images have; the others are named when they are decoded."""
    sizes, unreadable = Counter(), None
    for path, _ in files:
        try:
            with Image.open(path) as image:
                sizes[image.size] += 1
        except Exception as error:  # a damaged file makes a decoder raise anything
            unreadable = error
    if not sizes:
        raise DataError(f"none of the {len(files)} images can be read; the last: {unreadable}") from unreadable
    (width, height), _ = sizes.most_common(1)[0]
    if len(sizes) > 1 or width != height:
        common = ", ".join(f"{width}x{height} ({count})" for (width, height), count in sizes.most_common(3))
        raise DataError(f"resolution: the images are not all squares of one size ({common}, ...); choose --resolution")
    return width


def _kinds(ignored: Counter) -> str:
    return ", ".join(suffix or "no suffix" for suffix in sorted(ignored))
