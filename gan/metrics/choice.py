"""Which images and features a data set is evaluated with."""

from __future__ import annotations

from pathlib import Path

from .. import data
from ..classifiers.store import describe, find_stored, put_into_cache, train_and_store
from ..options import Options
from ..training.distributed import World, broadcast_bytes
from .distances import FEW_IMAGES
from .evaluation import Evaluation
from .extractors import Extractor, inception_extractor, planar_extractor
from .translation import TranslationEvaluation
from .weights import official_inception

#: data sets that are compared by the features of a p4-CNN -> the images that it is trained on, and its epochs if it is
#: trained only for that
PLANAR = {"digits": ("digits", 5), "rotmnist": ("rotmnist", 5), "rotmnist60k": ("rotmnist", 5)}


def choose_evaluation(options: Options, train, world: World, log) -> Evaluation | TranslationEvaluation | None:
    """The distance that the papers take for this data set, Frechet or kernel, or None if the options ask for none."""
    if options.eval_every == 0:
        return None
    real = data.load(options.dataset, options.data, split="validation", resolution=train.resolution)
    extractor = choose_extractor(options, world, log)
    samples = options.eval_samples or len(real)
    if isinstance(real, data.PairSet):
        return TranslationEvaluation(real, extractor, samples=samples, world=world)
    if min(samples, len(real)) < FEW_IMAGES:
        log(f"warning: {samples} generated and {len(real)} real images are few for a Frechet distance")
    return Evaluation(real, extractor, samples=samples, seed=options.seed, world=world)


def choose_extractor(options: Options, world: World, log) -> Extractor:
    """The p4-CNN of digits or rotmnist, from the cache or trained now; Inception for everything else."""
    if options.dataset not in PLANAR:
        given = options.inception_weights
        return inception_extractor(Path(given) if given else official_inception(), world.device)
    name, content = "", b""
    if world.is_main:
        path = _planar_classifier(options, world, log)
        name, content = path.name, path.read_bytes()
    name, content = broadcast_bytes(name.encode()).decode(), broadcast_bytes(content)
    return planar_extractor(path if world.is_main else put_into_cache(name, content), world.device)


def _planar_classifier(options: Options, world: World, log) -> Path:
    dataset, epochs = PLANAR[options.dataset]
    train = data.load(dataset, options.data)
    path = find_stored("p4cnn", train)
    if path is None:
        log(
            f"training the p4-CNN whose features are compared, {epochs} epochs; "
            f"python -m gan.classify --dataset {dataset} trains a better one"
        )
        validation = data.load(dataset, options.data, split="validation")
        path = train_and_store("p4cnn", train, validation, epochs=epochs, seed=0, device=world.device, log=log)
    is_ = describe(path)
    log(f"features of {path} ({is_.epochs} epochs, validation error {100 * is_.error:.2f}%)")
    return path
