"""How far generated images are from real ones: the metrics of one evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch

from ..common.distributed import World
from ..common.randomness import random_generator
from ..data import PairSet
from .cache import cached
from .distances import (
    FEW_IMAGES,
    NEIGHBOURS,
    Gaussian,
    Manifold,
    frechet_distance,
    kernel_distance,
    neighbour_distances,
    precision_recall,
)
from .extractors import Extractor
from .features import features_of_generator, features_of_images, features_of_translator

#: Frechet distance, kernel distance, improved precision and recall
METRICS = ("fid", "kid", "pr")

#: how many images each needs on both sides: a covariance, pairs of different ones, as many neighbours
LEAST_IMAGES = {"fid": 2, "kid": 2, "pr": NEIGHBOURS + 1}

#: those that tell which generator is better
RANKING = ("fid", "kid")


def check_known(metrics: Sequence[str]) -> None:
    """Raises ValueError if one of the metrics is not among ``METRICS``."""
    if unknown := [metric for metric in metrics if metric not in METRICS]:
        raise ValueError(f"metrics: expected some of {', '.join(METRICS)}, got {', '.join(unknown)}")


def check_enough(metrics: Sequence[str], images: int, name: str) -> None:
    """Raises ValueError, with ``name``, if there are fewer images than one of the metrics needs."""
    for metric in metrics:
        if images < LEAST_IMAGES[metric]:
            raise ValueError(f"{name}: {metric} needs at least {LEAST_IMAGES[metric]} images, got {images}")


class Evaluation:
    """Compares a generator with real images, or a translator with the photographs of pairs.

    Args:
        real: the ``ImageSet`` or ``PairSet`` to compare with.
        extractor: of the features.
        samples: number of generated images; of pairs, the first so many maps are translated.
        seed: of the noise, and of the labels where there are fewer samples than real images.
        world: the ranks, each of which computes its share of the features.
        metrics: some of ``METRICS``.
        log: called with a warning if there are few images.

    Raises:
        ValueError: if there are fewer pairs than samples, or too few images for a metric.
    """

    def __init__(
        self, real, extractor: Extractor, *, samples: int, seed: int, world: World, metrics=("fid",), log=print
    ):
        self.images, self.extractor, self.samples, self.seed = real, extractor, samples, seed
        self.world, self.metrics = world, metrics
        check_enough(metrics, samples, "samples")
        check_enough(metrics, len(real), "real images")
        if min(samples, len(real)) < FEW_IMAGES:
            log(
                f"warning: {samples:,} generated and {len(real):,} real images are fewer than {FEW_IMAGES:,}: "
                "the distances are rough"
            )
        self.real = features_of_images(real.targets, extractor, world)

    def of_generator(self, generator) -> dict[str, float]:
        """The metrics of a generator or translator on ``world.device``, in evaluation mode, by their names."""
        features = self._generated(generator)
        results = {}
        if "fid" in self.metrics:
            results["fid"] = frechet_distance(Gaussian.of(features), self._gaussian)
        if "kid" in self.metrics:
            results["kid"], results["kid-std"] = kernel_distance(features, self.real)
        if "pr" in self.metrics:
            generated = Manifold.of(features.to(self.world.device))
            results["precision"], results["recall"] = precision_recall(generated, self._manifold)
        return {self.name(metric, len(features)): value for metric, value in results.items()}

    def of_images(self, images, metric: str = "fid") -> dict[str, float]:
        """The Frechet or kernel distance of an ``ImageSet``, or of a ``PairSet``'s photographs, by its name."""
        features = features_of_images(images.targets, self.extractor, self.world)
        if metric == "kid":
            return {self.name("kid", len(images)): kernel_distance(features, self.real)[0]}
        return {self.name("fid", len(images)): frechet_distance(Gaussian.of(features), self._gaussian)}

    @property
    def ranking(self) -> str:
        """The metric that tells which generator is better: the first of those asked for."""
        return self.metrics[0]

    def name(self, metric: str | None = None, samples: int | None = None) -> str:
        """Metric, number of samples and extractor, as in "fid-50000-p4cnn-1a2b3c4d"; of the ranking metric."""
        return f"{metric or self.ranking}-{samples or self.samples}-{self.extractor.name}"

    @cached_property
    def _gaussian(self) -> Gaussian:
        return Gaussian.of(self.real)

    @cached_property
    def _manifold(self) -> Manifold:
        def compute():
            return neighbour_distances(self.real.to(self.world.device)).cpu()

        name = f"{self.images.targets.fingerprint}-{self.extractor.name}-radii{NEIGHBOURS}"
        radii = cached(name, len(self.real), compute, self.world)
        return Manifold(self.real.to(self.world.device), radii.to(self.world.device))

    def _generated(self, generator) -> torch.Tensor:
        if isinstance(self.images, PairSet):
            return features_of_translator(generator, self.images, self.samples, self.extractor, self.world)
        labels = labels_like(self.images, self.samples, self.seed)
        return features_of_generator(generator, labels, self.extractor, self.world, seed=self.seed)


def labels_like(images, count: int, seed: int) -> torch.Tensor:
    """int64 ``[count]`` from the labels of an ``ImageSet``: each once per round through a seeded permutation."""
    order = torch.randperm(len(images), generator=random_generator(seed, "evaluation labels"))
    return torch.from_numpy(np.asarray(images.labels))[order[torch.arange(count) % len(images)]]
