"""folder: anyone's own images, one subfolder per class."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

from ..common.errors import DataError
from .pixels import EXTENSIONS, decode, is_image, opened, square
from .store import Source

#: Names of a split's folder, in lower case; of several that are there, the first one is taken.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "eval", "evaluation", "dev", "test", "testing"),
}
#: Folders of unpaired image translation, one per split and domain.
_DOMAIN = re.compile(r"(train|test|val)_?[ab]", re.IGNORECASE)
#: Folders that file managers, archives and file servers leave behind.
_SYSTEM_FOLDERS = frozenset({
    "@eadir", "__macosx", "#recycle", "$recycle.bin", "lost+found", "system volume information",
})  # fmt: skip


def source(root: Path, split: str, resolution: int | None) -> Source:
    """The images below ``root``, of any size and mode.

    Layouts: ``root/CLASS/...``, images directly in ``root`` (one class), or either of them in ``root/train`` and
    ``root/validation`` (or another of the names in ``SPLITS``, in any case). Without a validation folder both splits
    are the training images, as is usual for GANs. Every file of a class counts once, whatever links lead to it; hidden
    folders are left out.

    Args:
        resolution: every image's central square is resampled to it; None if all are squares of one size already.
    """
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder with one subfolder of images per class, found none")
    base, split = _split_folder(root, split)
    class_names, files, ignored = classes(base, within=root)
    training, _ = _split_folder(root, "train")
    if split == "validation" and class_names != (expected := classes(training, within=root)[0]):
        raise DataError(
            f"{base}: expected the classes of training, {', '.join(expected)}; found {', '.join(class_names)}"
        )
    keep = resolution
    if resolution is None:
        keep = _common_size(files)
    hidden = ignored.pop(_HIDDEN, 0)
    notes = [f"{sum(ignored.values())} files of other kinds ignored ({_kinds(ignored)})"] if ignored else []
    if hidden:
        notes.append(f"{hidden} images in hidden folders left out")
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
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and not _is_hidden(path.name))
    if domains := [name for name in names if _DOMAIN.fullmatch(name)]:
        raise DataError(
            f"{root}: expected classes or the splits train and validation, found {', '.join(domains)}: "
            "give the folder of one domain, holding its images"
        )
    known = {name for choices in SPLITS.values() for name in choices}
    splits = {}
    for name in names:
        if name.lower() in known and splits.setdefault(name.lower(), name) != name:
            raise DataError(f"{root}: expected one folder {name.lower()}, found {splits[name.lower()]} and {name}")
    training = [splits[name] for name in SPLITS["train"] if name in splits]
    if not training:
        if splits and set(splits.values()) >= set(names) - {"prepared"}:
            raise DataError(f"{root}: found {', '.join(splits.values())}, but no folder train next to it")
        return root, "train"
    if others := [name for name in names if name.lower() not in known and name != "prepared"]:
        raise DataError(
            f"{root}: {training[0]} is the folder of the training images, but {', '.join(others)} next to it "
            f"is none of {', '.join(sorted(known))}; move the classes into {training[0]}, or rename it if it is a class"
        )
    for name in SPLITS[split]:
        if name in splits:
            return root / splits[name], split
    return root / training[0], "train"


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM_FOLDERS


#: What ``classes`` counts images in hidden folders by, besides the suffixes of files that are no images.
_HIDDEN = "images in hidden folders"


def _walk(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files below ``folder``, each once although links are followed, and the images in hidden folders."""
    start = Path(os.path.realpath(folder))
    entered = {start, *start.parents}  # a link to one of these would lead round in a circle
    files, hidden = [], []
    for at, folders, names in os.walk(folder, followlinks=True):
        for name in sorted(folders):
            path = Path(at) / name
            real = Path(os.path.realpath(path))
            if _is_hidden(name):
                hidden += [inner for inner in path.rglob("*") if is_image(inner)]
                folders.remove(name)
            elif real in entered:
                folders.remove(name)
            else:
                entered.add(real)
        files += [Path(at) / name for name in names]
    once = {}
    for path in sorted(files, key=lambda path: (path.is_symlink(), path)):  # a file itself rather than a link to it
        once.setdefault(os.path.realpath(path), path)
    return sorted(once.values()), hidden


def classes(base: Path, *, within: Path) -> tuple[list[str], list[tuple[Path, int]], Counter]:
    """Class names, (file, label) in sorted order, and how many files of which suffix are no images.

    ``within`` is the data set's folder: it names the class of images that are in no subfolder, and its own subfolder
    ``prepared`` is no class.
    """
    entries = sorted(path for path in base.iterdir() if not _is_hidden(path.name))
    subfolders = [path for path in entries if path.is_dir()]
    direct = [path for path in entries if path.is_file() and is_image(path)]
    ignored = Counter(path.suffix for path in entries if path.is_file() and not is_image(path))
    listed = {}
    for subfolder in subfolders:
        found, hidden = _walk(subfolder)
        listed[subfolder.name] = [path for path in found if is_image(path)]
        if base == within and subfolder.name == "prepared" and not listed["prepared"]:
            del listed["prepared"]
            continue
        ignored.update(path.suffix for path in found if not is_image(path) and not path.name.startswith("."))
        if hidden:
            ignored[_HIDDEN] += len(hidden)
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
            with opened(path) as image:
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
