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
from gan.classifiers.training import EPOCHS
from gan.commands._errors import reported
from gan.common import distributed
from gan.metrics.weights import official_inception

DATASETS = tuple(name for name in data.DATASETS if name != "maps")


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m gan.classify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--dataset", default="digits", choices=DATASETS, help="(%(default)s)")
    result.add_argument("--data", type=Path, help="the data set's folder (default: ./data)")
    result.add_argument("--resolution", type=int, help="height and width of the images (default: the data set's)")
    result.add_argument(
        "--model", default="p4cnn", choices=(*planar.MODELS, "se2cnn", INCEPTION),
        help="Cohen & Welling (2016), section 8.1; se2cnn: in the shape of Bekkers, Lafarge et al. (2018); "
        "inception: fine-tuned for the metrics of anhir and lysto",
    )  # fmt: skip
    result.add_argument(
        "--orientations", type=int, choices=tuple(se2.ORIENTATIONS), help="rotations (--model se2cnn; default: 8)"
    )
    result.add_argument(
        "--inception-weights", type=Path, help="what inception starts from (default: the official ones)"
    )
    result.add_argument(
        "--epochs", type=int, help=f"passes over the training images ({EPOCHS}; inception: {fine_tuning.EPOCHS})"
    )
    result.add_argument(
        "--data-fraction", type=float, default=1.0,
        help="share of the training images, chosen by the seed (%(default)s)",
    )  # fmt: skip
    result.add_argument("--augment", action="store_true", help="rotate the training images by uniform random angles")
    result.add_argument(
        "--seeds", type=int, nargs="+", default=[0],
        help="one classifier each: of its weights, of the order of the images and of their choice (0)",
    )  # fmt: skip
    result.add_argument("--outdir", type=Path, help="folder of classifiers to compare (default: the cache)")
    result.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="auto: cuda if there is one")
    return result


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    return reported(lambda: run(options))


def run(options: argparse.Namespace) -> None:
    inception, fraction = options.model == INCEPTION, options.data_fraction
    epochs = options.epochs if options.epochs is not None else fine_tuning.EPOCHS if inception else EPOCHS
    check(options, epochs)
    device = distributed.join(options.device).device
    whole, validation = (
        data.load(options.dataset, options.data, split=split, resolution=options.resolution)
        for split in ("train", "validation")
    )
    if inception:
        weights = options.inception_weights or official_inception()
        fine_tuning.fine_tune_each(
            whole, validation, weights, fraction=fraction, epochs=epochs, seeds=options.seeds, device=device, log=log
        )
        return
    model = f"se2cnn-{options.orientations or 8}" if options.model == "se2cnn" else options.model
    kind = sweep.Kind(options.dataset, model, fraction, options.augment, epochs)
    results = sweep.train_each(options.outdir, kind, options.seeds, whole, validation, device, log)
    print(f"{model}: {results[0].parameters:,} parameters, {sweep.summary(results)} on {len(validation):,} images")


def check(options: argparse.Namespace, epochs: int) -> None:
    """Raises ValueError for arguments that argparse lets pass."""
    if epochs < 1:
        raise ValueError(f"epochs: expected at least 1, got {epochs}")
    if min(options.seeds) < 0 or len(set(options.seeds)) < len(options.seeds):
        raise ValueError(f"seeds: expected different numbers from 0 on, got {options.seeds}")
    if options.orientations and options.model != "se2cnn":
        raise ValueError(f"orientations: only se2cnn has them, not {options.model}")
    if options.inception_weights and options.model != INCEPTION:
        raise ValueError(f"inception_weights: {options.model} begins with random ones")
    if options.model == INCEPTION and (options.augment or options.outdir):
        raise ValueError("model: inception is fine-tuned as it is for the cache: it takes no augment and no outdir")


def log(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
