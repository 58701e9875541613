"""The classifiers of a folder side by side: a table, accuracy curves, and scores under a full turn."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from .. import data
from ..common.files import write_atomically
from . import plots, sweep
from .build import orientations_of
from .stability import mean_swing
from .store import load_classifier

#: validation images whose scores under a full turn are averaged
IMAGES = 100


def compare(runs: Path, root: Path | None, out: Path, image: int = 0) -> tuple[str, int]:
    """Write the table of the classifiers in ``runs`` and their pictures into ``out``.

    Args:
        root: the data set's.
        image: number of the validation image that is rotated.

    Returns:
        The table, Markdown, and the number of images of its column "swing".
    """
    results = sweep.read_all(runs)
    dataset, resolution = next(iter(results)).dataset, next(iter(results.values()))[0].resolution
    validation = data.load(dataset, root, split="validation", resolution=resolution)
    if not 0 <= image < len(validation):
        raise ValueError(f"image: expected a number from 0 to {len(validation) - 1}, got {image}")
    out.mkdir(parents=True, exist_ok=True)

    pixels, labels = validation.batch(range(min(IMAGES, len(validation))))
    models = {
        kind: [load_classifier(runs / f"{sweep.name_of(kind, each.seed)}.safetensors") for each in members]
        for kind, members in results.items()
    }
    swings = {
        kind: [mean_swing(model, pixels.permute(0, 3, 1, 2), labels) for model in members]
        for kind, members in models.items()
    }
    table = sweep.table(results, swings)
    write_atomically(out / "table.md", f"{table}\n".encode())

    by_orientations, by_share, longest = defaultdict(dict), defaultdict(dict), {}
    whole = max(kind.fraction for kind in results)
    for kind, members in results.items():  # the epochs ascend: the longest training of a kind is drawn
        errors = [each.error for each in members]
        by_share[kind.label][100 * kind.fraction] = errors
        if kind.model.startswith("se2cnn-"):
            line = kind.label.replace(kind.model, f"{kind.fraction:.0%} of the training images")
            by_orientations[line][orientations_of(kind.model)] = errors
        if kind.fraction == whole:
            longest[kind.label] = models[kind][0]
    shares = sorted({100 * kind.fraction for kind in results})
    plots.draw_accuracy(out / "data.png", by_share, xlabel="training images, %", ticks=shares)
    if by_orientations:
        ticks = sorted({n for points in by_orientations.values() for n in points})
        plots.draw_accuracy(out / "orientations.png", by_orientations, xlabel="orientations N", ticks=ticks)
    pixels_of_one, labels = validation.batch([image])
    name = str(validation.class_names[labels[0]])
    plots.draw_stability(out / "stability.png", longest, pixels_of_one[0].permute(2, 0, 1), int(labels[0]), name)
    return table, len(pixels)
