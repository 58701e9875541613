"""The kernel distance of a translator during training."""

from __future__ import annotations

from ..data import PairSet
from ..training.distributed import World
from .distances import kernel_distance
from .extractors import Extractor
from .features import features_of_images, features_of_translator


class TranslationEvaluation:
    """Compares translated maps with photographs (Dey et al. 2021, Table 4); as :class:`.evaluation.Evaluation`.

    Args:
        pairs: whose maps are translated and whose photographs are compared with.
        extractor: of the features.
        samples: number of maps.
        world: the ranks, each of which translates its share.
    """

    def __init__(self, pairs: PairSet, extractor: Extractor, *, samples: int, world: World, progress: bool = False):
        self.pairs, self.extractor, self.samples = pairs, extractor, samples
        self.world, self.progress = world, progress
        self.real = features_of_images(pairs.targets, extractor, world, progress=progress)

    @property
    def name(self) -> str:
        """Metric, number of samples and extractor, as in "kid-1098-inception"."""
        return f"kid-{self.samples}-{self.extractor.name}"

    def distance(self, translator) -> float:
        """Kernel distance of the translations to the photographs."""
        translated = features_of_translator(
            translator, self.pairs, self.samples, self.extractor, self.world, progress=self.progress
        )
        return kernel_distance(translated, self.real)[0]

    def distance_of_images(self, pairs: PairSet) -> float:
        """Kernel distance of another set's photographs to these."""
        return kernel_distance(features_of_images(pairs.targets, self.extractor, self.world), self.real)[0]
