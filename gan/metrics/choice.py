"""Which images and features a data set is evaluated with."""

from __future__ import annotations

from pathlib import Path

from .. import data
from ..classifiers import fine_tuning
from ..classifiers.inception import INCEPTION
from ..classifiers.store import describe, find_stored, put_into_cache, train_and_store
from ..options import Options
from ..training.distributed import World, broadcast_bytes
from .evaluation import Evaluation
from .extractors import Extractor, classifier_extractor, inception_extractor
from .weights import official_inception

#: data sets that are compared by the features of a classifier -> its model, the images that it is trained on, and its
#: epochs if it is trained only for that
CLASSIFIERS = {
    "digits": ("p4cnn", "digits", 5),
    "rotmnist": ("p4cnn", "rotmnist", 5),
    "rotmnist60k": ("p4cnn", "rotmnist", 5),
    "anhir": (INCEPTION, "anhir", fine_tuning.EPOCHS),
    "lysto": (INCEPTION, "lysto", fine_tuning.EPOCHS),
}


def choose_evaluation(options: Options, train, world: World, log) -> Evaluation | None:
    """The metrics as the papers take them for this data set, or None if the options ask for none."""
    if options.eval_every == 0:
        return None
    real = data.load(options.dataset, options.data, split="validation", resolution=train.resolution)
    extractor = choose_extractor(options, real.resolution, world, log)
    return Evaluation(
        real, extractor, samples=options.eval_samples or len(real), seed=options.seed, world=world,
        metrics=options.eval_metrics.split(","), log=log,
    )  # fmt: skip


def choose_extractor(options: Options, resolution: int, world: World, log) -> Extractor:
    """A classifier of the data set, from the cache or trained now on images of a resolution; or the official Inception.

    On several ranks, rank 0 trains and all of them use what it has.
    """
    if options.dataset not in CLASSIFIERS:
        return inception_extractor(_inception_weights(options), world.device)
    name, content = "", b""
    if world.is_main:
        path = _classifier(options, resolution, world, log)
        name, content = path.name, path.read_bytes()
    name, content = broadcast_bytes(name.encode()).decode(), broadcast_bytes(content)
    return classifier_extractor(path if world.is_main else put_into_cache(name, content), world.device)


def _classifier(options: Options, resolution: int, world: World, log) -> Path:
    model, dataset, epochs = CLASSIFIERS[options.dataset]
    train, validation = (
        data.load(dataset, options.data, split=split, resolution=resolution) for split in ("train", "validation")
    )
    path = find_stored(model, train)
    if path is None:
        log(
            f"training the {model} whose features are compared, {epochs} epochs; "
            f"python -m gan.classify --dataset {dataset} --model {model} trains it for longer"
        )
        how = {"epochs": epochs, "seed": 0, "device": world.device, "log": log}
        if model == INCEPTION:
            path = fine_tuning.fine_tune_and_store(train, validation, _inception_weights(options), **how)
        else:
            path = train_and_store(model, train, validation, **how)
    is_ = describe(path)
    log(f"features of {path} ({is_.epochs} epochs, validation error {100 * is_.error:.2f}%)")
    return path


def _inception_weights(options: Options) -> Path:
    return Path(options.inception_weights) if options.inception_weights else official_inception()
