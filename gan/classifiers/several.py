"""What ``gan.classify`` trains: classifiers that differ in their seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import data
from . import fine_tuning, planar, training
from .build import named
from .from_scratch import train_new
from .inception import INCEPTION
from .store import Description, describe, store
from .sweep import Kind, find, name_of, put, summary

DATASETS = tuple(name for name in data.DATASETS if name != "maps")
MODELS = (*planar.MODELS, "se2cnn", INCEPTION)


def train_several(
    dataset: str, model: str, seeds: Sequence[int], *, orientations: int | None = None, epochs: int | None = None,
    fraction: float = 1.0, augment: bool = False, root: Path | None = None, resolution: int | None = None,
    folder: Path | None = None, inception_weights: Path | None = None, device, log,
) -> None:  # fmt: skip
    """Train one classifier after the other, each on the training images that its seed chooses.

    Args:
        dataset, root, resolution: the images, as :func:`gan.data.load` takes them.
        model: one of ``MODELS``. "inception" is fine-tuned and goes to the cache; it makes do with training images for
            validation, since the metrics can.
        seeds: of the weights, of the order of the images and of their choice.
        orientations: of "se2cnn", 8 unless given.
        epochs: passes over the training images; the model's own number unless given.
        fraction: share of the training images.
        augment: turn the images by random angles.
        folder: where the classifiers and their results are kept, and none is trained that is there; the cache unless
            given.
        inception_weights: what "inception" begins with, and no other model.
        log: called with lines of progress and with the results.

    Raises:
        ValueError: an argument is none of these or does not go with the model; the data set has fewer than two classes
            or no images for validation; the folder holds the results of other images.
    """
    if epochs is None:
        epochs = fine_tuning.EPOCHS if model == INCEPTION else training.EPOCHS
    kind = Kind(dataset, named(model, orientations), fraction, augment, epochs)
    _check(kind, seeds, folder, inception_weights)
    whole, validation = (
        data.load(dataset, root, split=split, resolution=resolution) for split in ("train", "validation")
    )
    if model == INCEPTION:
        _fine_tune_each(kind, seeds, whole, validation, inception_weights, device, log)
    else:
        _train_each(kind, seeds, whole, validation, folder, device, log)


def _check(kind: Kind, seeds: Sequence[int], folder: Path | None, inception_weights: Path | None) -> None:
    if kind.epochs < 1:
        raise ValueError(f"epochs: expected at least 1, got {kind.epochs}")
    if min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds: expected different numbers from 0 on, got {seeds}")
    if inception_weights and kind.model != INCEPTION:
        raise ValueError(f"inception_weights: {kind.model} begins with random ones")
    if kind.model == INCEPTION and (kind.augment or folder):
        raise ValueError("model: inception is fine-tuned as it is for the cache: it takes no augment and no outdir")


def _fine_tune_each(kind: Kind, seeds, whole, validation, weights: Path, device, log) -> None:
    log(f"{whole.summary()}\n{validation.summary()}")
    for seed in seeds:
        train = whole.subset(kind.fraction, seed)
        path = fine_tuning.fine_tune_and_store(
            train, validation, weights, epochs=kind.epochs, seed=seed, device=device, log=log
        )
        log(f"seed {seed}: {summary([describe(path)])}, stored as {path}")


def _train_each(kind: Kind, seeds, whole, validation, folder: Path | None, device, log) -> None:
    if validation.split != "validation":
        raise ValueError(f"data: {kind.dataset} has no validation images here; its training images would not do")
    if len(whole.class_names) < 2:
        raise ValueError(f"data: expected two classes or more, found {', '.join(whole.class_names)}")
    log(f"{whole.summary()}\n{validation.summary()}")
    results = [_trained(kind, seed, whole, validation, folder, device, log) for seed in seeds]
    log(f"{kind.model}: {results[0].parameters:,} parameters, {summary(results)} on {len(validation):,} images")


def _trained(kind: Kind, seed: int, whole, validation, folder: Path | None, device, log) -> Description:
    """The description of one classifier, trained now unless ``folder`` holds it."""
    train = whole.subset(kind.fraction, seed)
    if folder and (found := find(folder, kind, seed, train)):
        log(f"{name_of(kind, seed)} is there: {summary([found])}")
        return found
    trained = train_new(
        kind.model, train, validation, epochs=kind.epochs, seed=seed, augment=kind.augment, fraction=kind.fraction,
        device=device, log=log,
    )  # fmt: skip
    path = put(folder, trained) if folder else store(trained.model, trained.description, trained.history)
    log(f"seed {seed}: {summary([trained.description])}, stored as {path}")
    return trained.description
