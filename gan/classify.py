"""Train a classifier: ``python -m gan.classify --dataset rotmnist --model p4cnn``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import data
from .classifiers.planar import MODELS
from .classifiers.store import describe, load_classifier, train_and_store
from .classifiers.training import EPOCHS
from .training import distributed


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m gan.classify", description=__doc__)
    parser.add_argument("--dataset", default="digits", choices=("digits", "rotmnist"))
    parser.add_argument("--data", type=Path, help="the folder that the data set's own loader takes as its root")
    parser.add_argument("--model", default="p4cnn", choices=tuple(MODELS), help="Cohen & Welling (2016), section 8.1")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="passes over the training images (%(default)s)")
    parser.add_argument("--data-fraction", type=float, default=1.0, help="part of the training images")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the order of the images")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    options = parser.parse_args(arguments)
    if options.epochs < 1:
        parser.error(f"--epochs: expected at least 1, got {options.epochs}")
    try:
        device = distributed.join(options.device).device
        train = data.load(options.dataset, options.data, fraction=options.data_fraction, seed=options.seed)
        validation = data.load(options.dataset, options.data, split="validation")
    except (data.DataError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(train.summary(), validation.summary(), sep="\n", flush=True)
    path = train_and_store(
        options.model, train, validation, epochs=options.epochs, seed=options.seed, device=device,
        log=lambda line: print(line, flush=True),
    )  # fmt: skip
    numbers = sum(parameter.numel() for parameter in load_classifier(path).parameters())
    error = describe(path).error
    print(f"{options.model}: {numbers:,} parameters, error on {len(validation):,} validation images {100 * error:.2f}%")
    print(f"stored as {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
