"""The Frechet distance of a generator during training."""

from __future__ import annotations

import numpy as np
import torch

from ..training.distributed import World
from ..training.randomness import generator as random_generator
from .distances import frechet_distance
from .extractors import Extractor
from .features import features_of_generator, features_of_images


class Evaluation:
    """Compares a generator with real images.

    Args:
        real: the ``ImageSet`` to compare with.
        extractor: of the features.
        samples: number of generated images.
        seed: of the noise, and of the labels where there are fewer samples than real images.
        world: the ranks, each of which generates its share.
    """

    def __init__(self, real, extractor: Extractor, *, samples: int, seed: int, world: World, progress: bool = False):
        self.extractor, self.seed, self.world, self.progress = extractor, seed, world, progress
        self.real = features_of_images(real, extractor, world, progress=progress)
        self.labels = labels_like(real, samples, seed)

    @property
    def name(self) -> str:
        """Metric, number of samples and extractor, as in "fid-50000-p4cnn-1a2b3c4d"."""
        return f"fid-{len(self.labels)}-{self.extractor.name}"

    def distance(self, generator) -> float:
        """Frechet distance of a generator, in evaluation mode, to the real images."""
        generated = features_of_generator(
            generator, self.labels, self.extractor, self.world, seed=self.seed, progress=self.progress
        )
        return frechet_distance(generated, self.real)

    def distance_of_images(self, images) -> float:
        """Frechet distance of an ``ImageSet`` to the real images."""
        return frechet_distance(features_of_images(images, self.extractor, self.world), self.real)


def labels_like(images, count: int, seed: int) -> torch.Tensor:
    """int64 ``[count]`` from the labels of an ``ImageSet``: each once per round through a seeded permutation."""
    order = torch.randperm(len(images), generator=random_generator(seed, "evaluation labels"))
    return torch.from_numpy(np.asarray(images.labels))[order[torch.arange(count) % len(images)]]
