"""Train classifiers: ``python -m gan.classify --dataset rotmnist --model p4cnn --seeds 0 1 2``.

With --outdir the classifiers and their results are kept there: the same command again trains only what is missing, and
``python -m gan.compare`` draws what the folder holds. Without it they go to the cache, where the evaluation of GANs
looks for the p4cnn of its data.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from gan.classifiers import fine_tuning, se2, training
from gan.classifiers.inception import INCEPTION
from gan.classifiers.several import DATASETS, MODELS, train_several
from gan.commands._arguments import of_a_device, of_images, parser_of
from gan.commands._errors import reported
from gan.common import distributed
from gan.metrics.weights import official_inception


def parser() -> argparse.ArgumentParser:
    result = parser_of("classify", __doc__, of_images(), of_a_device())
    add = result.add_argument
    add("--dataset", default="digits", choices=DATASETS, help="(%(default)s)")
    add(
        "--model", default="p4cnn", choices=MODELS,
        help="Cohen & Welling (2016), section 8.1; se2cnn: in the shape of Bekkers, Lafarge et al. (2018); "
        "inception: fine-tuned for the metrics of anhir and lysto",
    )  # fmt: skip
    add("--orientations", type=int, choices=tuple(se2.ORIENTATIONS), help="rotations (--model se2cnn; default: 8)")
    add("--inception-weights", type=Path, help="what inception starts from (default: the official ones)")
    add("--epochs", type=int, help=f"passes over the images ({training.EPOCHS}; inception: {fine_tuning.EPOCHS})")
    add("--data-fraction", type=float, default=1.0, help="share of the images, chosen by the seed (%(default)s)")
    add("--augment", action="store_true", help="rotate the training images by uniform random angles")
    add("--seeds", type=int, nargs="+", default=[0], help="a classifier each: of weights, order, choice of images (0)")
    add("--outdir", type=Path, help="folder of classifiers to compare (default: the cache)")
    return result


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)

    def run() -> None:
        weights = options.inception_weights or (official_inception() if options.model == INCEPTION else None)
        train_several(
            options.dataset, options.model, options.seeds, orientations=options.orientations, epochs=options.epochs,
            fraction=options.data_fraction, augment=options.augment, root=options.data, resolution=options.resolution,
            folder=options.outdir, inception_weights=weights, device=distributed.join(options.device).device,
            log=partial(print, flush=True),
        )  # fmt: skip

    return reported(run)


if __name__ == "__main__":
    sys.exit(main())
