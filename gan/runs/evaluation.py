"""Which images and features a data set is evaluated with."""

from __future__ import annotations

from pathlib import Path

from .. import data
from ..classifiers import fine_tuning
from ..classifiers.from_scratch import train_and_store
from ..classifiers.inception import INCEPTION
from ..classifiers.store import describe, find_stored, put_into_cache
from ..common.distributed import World, broadcast_bytes
from ..metrics.evaluation import Evaluation
from ..metrics.extractors import Extractor, classifier_extractor, inception_extractor
from ..metrics.own_features import own_extractor
from ..metrics.weights import official_inception
from ..options import Options

#: data sets that are compared by the features of a classifier -> its model, the images that it is trained on, and its
#: epochs if it is trained only for that
CLASSIFIERS = {
    "digits": ("p4cnn", "digits", 5),
    "rotmnist": ("p4cnn", "rotmnist", 5),
    "rotmnist60k": ("p4cnn", "rotmnist", 5),
    "anhir": (INCEPTION, "anhir", fine_tuning.EPOCHS),
    "lysto": (INCEPTION, "lysto", fine_tuning.EPOCHS),
}


def choose_evaluation(options: Options, train_set, world: World, log) -> Evaluation | None:
    """The evaluation of a run in training, or None if its options ask for none."""
    if options.eval_every == 0:
        return None
    metrics, samples = options.eval_metrics.split(","), options.eval_samples
    return evaluation_of(options, train_set.resolution, world, log, metrics=metrics, samples=samples)


def evaluation_of(
    options: Options,
    resolution: int | None,
    world: World,
    log,
    *,
    metrics: list[str],
    samples: int = 0,
    features: str | None = None,
) -> Evaluation:
    """The metrics as the papers take them for a data set.

    Args:
        options: of a run: data set, its root, seed, Inception's weights.
        resolution: of the images; the data set's unless given.
        metrics: some of ``gan.metrics.evaluation.METRICS``.
        samples: generated images; 0: as many as there are real ones.
        features: a module of the user's in place of the data set's, as :func:`own_extractor` takes it.
    """
    real = data.load(options.dataset, options.data, split="validation", resolution=resolution)
    if features:
        extractor = own_extractor(features, world.device)
    else:
        extractor = choose_extractor(options, real.resolution, world, log)
    return Evaluation(
        real, extractor, samples=samples or len(real), seed=options.seed, world=world, metrics=metrics, log=log
    )


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
    description = describe(path)
    log(f"features of {path} ({description.epochs} epochs, validation error {100 * description.error:.2f}%)")
    return path


def _inception_weights(options: Options) -> Path:
    return Path(options.inception_weights) if options.inception_weights else official_inception()
