"""Compare the classifiers that ``gan.classify --outdir DIR`` trained: ``python -m gan.compare --runs DIR``.

Prints a table of mean and standard deviation over the seeds, and draws into DIR: accuracy against the number of
orientations and against the share of the training images, and the score of one image under a full turn.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

from . import data
from .classifiers import plots, sweep
from .classifiers.build import orientations_of
from .classifiers.stability import mean_swing
from .classifiers.store import load_classifier
from .files import print_any_name, write_atomically

IMAGES = 100


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m gan.compare", description=__doc__)
    result.add_argument("--runs", type=Path, required=True, help="the --outdir of gan.classify")
    result.add_argument("--data", type=Path, help="as for gan.classify")
    result.add_argument("--image", type=int, default=0, help="the validation image that is turned (%(default)s)")
    result.add_argument("--out", type=Path, help="folder of the table and the pictures (default: DIR)")
    return result


def main(arguments: list[str] | None = None) -> int:
    print_any_name()
    options = parser().parse_args(arguments)
    try:
        _run(options)
    except (data.DataError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options) -> None:
    results, out = sweep.read_all(options.runs), options.out or options.runs
    dataset, resolution = next(iter(results)).dataset, next(iter(results.values()))[0].resolution
    validation = data.load(dataset, options.data, split="validation", resolution=resolution)
    if not 0 <= options.image < len(validation):
        raise ValueError(f"image: expected a number from 0 to {len(validation) - 1}, got {options.image}")
    out.mkdir(parents=True, exist_ok=True)

    pixels, labels = validation.batch(range(min(IMAGES, len(validation))))
    models = {
        kind: [load_classifier(options.runs / f"{sweep.name_of(kind, is_.seed)}.safetensors") for is_ in members]
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
        errors = [is_.error for is_ in members]
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
    images, labels = validation.batch([options.image])
    name = str(validation.class_names[labels[0]])
    plots.draw_stability(out / "stability.png", longest, images[0].permute(2, 0, 1), int(labels[0]), name)
    print(f"{table}\n\nswing: highest minus lowest probability of the right class under a full turn,")
    print(f"mean over the first {len(pixels)} validation images. The table and the pictures are in {out}")


if __name__ == "__main__":
    sys.exit(main())
