"""Train classifiers: ``python -m gan.classify --dataset rotmnist --model p4cnn --seeds 0 1 2``.

With --outdir the classifiers and their results are kept there: the same command again trains only what is missing, and
``python -m gan.compare`` draws what the folder holds. Without it they go to the cache, where the evaluation of GANs
looks for the p4cnn of its data.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gan import data
from gan.classifiers import fine_tuning, planar, se2, sweep
from gan.classifiers.inception import INCEPTION
from gan.classifiers.store import describe
from gan.classifiers.training import EPOCHS
from gan.commands._errors import reported
from gan.common import distributed
from gan.metrics.weights import official_inception

DATASETS = tuple(name for name in data.DATASETS if name != "maps")


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m gan.classify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--dataset", default="digits", choices=DATASETS)
    result.add_argument("--data", type=Path, help="the folder that the data set's own loader takes as its root")
    result.add_argument("--resolution", type=int, help="height and width of the images (default: the data set's)")
    result.add_argument(
        "--model", default="p4cnn", choices=(*planar.MODELS, "se2cnn", INCEPTION),
        help="Cohen & Welling (2016), section 8.1; se2cnn: in the shape of Bekkers, Lafarge et al. (2018); "
        "inception: fine-tuned for the metrics of anhir and lysto",
    )  # fmt: skip
    result.add_argument(
        "--orientations", type=int, choices=tuple(se2.ORIENTATIONS), help="number of rotations (--model se2cnn; 8)"
    )
    result.add_argument(
        "--inception-weights", type=Path, help="what inception begins with (default: the official ones)"
    )
    result.add_argument(
        "--epochs", type=int, help=f"passes over the training images ({EPOCHS}; inception: {fine_tuning.EPOCHS})"
    )
    result.add_argument(
        "--data-fraction",
        type=float,
        default=1.0,
        help="share of the training images, chosen by the seed (%(default)s)",
    )
    result.add_argument("--augment", action="store_true", help="rotate the training images by uniform random angles")
    result.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[0],
        help="one classifier each: seeds of the weights, of the order of the images and of their choice",
    )
    result.add_argument("--outdir", type=Path, help="folder of the classifiers to compare; the cache unless given")
    result.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    return result


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    return reported(lambda: run(options))


def run(options: argparse.Namespace) -> None:
    if options.epochs is None:
        options.epochs = fine_tuning.EPOCHS if options.model == INCEPTION else EPOCHS
    if options.epochs < 1:
        raise ValueError(f"epochs: expected at least 1, got {options.epochs}")
    if min(options.seeds) < 0 or len(set(options.seeds)) < len(options.seeds):
        raise ValueError(f"seeds: expected different numbers from 0 on, got {options.seeds}")
    if options.orientations and options.model != "se2cnn":
        raise ValueError(f"orientations: only se2cnn has them, not {options.model}")
    if options.inception_weights and options.model != INCEPTION:
        raise ValueError(f"inception_weights: {options.model} begins with random ones")
    model = f"se2cnn-{options.orientations or 8}" if options.model == "se2cnn" else options.model
    device = distributed.join(options.device).device
    whole, validation = (
        data.load(options.dataset, options.data, split=split, resolution=options.resolution)
        for split in ("train", "validation")
    )
    if options.model == INCEPTION:
        fine_tune(options, whole, validation, device)
        return
    if validation.split != "validation":
        raise ValueError(f"data: {options.dataset} has no validation images here; its training images would not do")
    if len(whole.class_names) < 2:
        raise ValueError(f"data: expected two classes or more, found {', '.join(whole.class_names)}")
    print(whole.summary(), validation.summary(), sep="\n", flush=True)
    kind = sweep.Kind(options.dataset, model, options.data_fraction, options.augment, options.epochs)
    results = [sweep.train(options.outdir, kind, seed, whole, validation, device, log) for seed in options.seeds]
    print(f"{model}: {results[0].parameters:,} parameters, {sweep.summary(results)} on {len(validation):,} images")


def fine_tune(options: argparse.Namespace, whole, validation, device) -> None:
    """Inception for the metrics, which may compare with the training images if the data set has no others."""
    if options.augment or options.outdir:
        raise ValueError("model: inception is fine-tuned as it is for the cache: it takes no augment and no outdir")
    weights = options.inception_weights or official_inception()
    print(whole.summary(), validation.summary(), sep="\n", flush=True)
    for seed in options.seeds:
        path = fine_tuning.fine_tune_and_store(
            whole.subset(options.data_fraction, seed), validation, weights, epochs=options.epochs, seed=seed,
            device=device, log=log,
        )  # fmt: skip
        print(f"seed {seed}: {sweep.summary([describe(path)])}, stored as {path}", flush=True)


def log(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
