"""Features of real and of generated images, each rank computing its share."""

from __future__ import annotations

import torch
from tqdm import tqdm

from ..common.distributed import World, gather_rows
from ..common.noise import draw_noise
from ..common.randomness import random_generator
from ..data import to_tensor, to_uint8
from .cache import cached
from .extractors import Extractor

BATCH_SIZE = 256


def features_of_images(images, extractor: Extractor, world: World) -> torch.Tensor:
    """Features float64 ``[N, F]`` of all images of an ``ImageSet``, cached under its fingerprint and the extractor."""

    def batch_features(start):
        pixels, _ = images.batch(range(start, min(start + BATCH_SIZE, len(images))))
        return extractor(pixels.to(world.device))

    def compute():
        return _in_batches(batch_features, len(images), world, "real images")

    return cached(f"{images.fingerprint}-{extractor.name}", len(images), compute, world)


@torch.no_grad()
def features_of_generator(
    generator, labels: torch.Tensor, extractor: Extractor, world: World, *, seed: int
) -> torch.Tensor:
    """Features float64 ``[N, F]`` of one generated image per label, quantised to bytes as image files are.

    Args:
        generator: in evaluation mode, on ``world.device``.
        labels: int64 ``[N]``.
        seed: of the noise, which does not depend on the number of ranks.
    """

    def batch_features(start):
        some = labels[start : start + BATCH_SIZE].to(world.device)
        noise = draw_noise(generator, len(some), random_generator(seed, "evaluation", start))
        z, elements = noise.part(slice(None), world.device)
        return extractor(to_uint8(generator(z, some, elements=elements)))

    return _in_batches(batch_features, len(labels), world, "generated images")


def features_of_translator(translator, pairs, samples: int, extractor: Extractor, world: World) -> torch.Tensor:
    """Features float64 ``[samples, F]`` of the translations of the first maps of a ``PairSet``, quantised to bytes.

    Args:
        translator: on ``world.device``.

    Raises:
        ValueError: if there are fewer pairs than samples.
    """
    if samples > len(pairs):
        raise ValueError(f"samples: expected at most the {len(pairs)} pairs, got {samples}")

    def batch_features(start):
        maps, _ = pairs.batch(range(start, min(start + BATCH_SIZE, samples)))
        return extractor(to_uint8(translator.translate(to_tensor(maps.to(world.device)))))

    return _in_batches(batch_features, samples, world, "translations")


def _in_batches(batch_features, total: int, world: World, title: str) -> torch.Tensor:
    """``batch_features`` of every batch's first index, the batches shared among the ranks, joined on all of them.

    Rank 0 shows a progress bar if its standard error is a terminal.
    """
    starts = range(0, total, BATCH_SIZE)
    mine = starts[world.rank * len(starts) // world.size : (world.rank + 1) * len(starts) // world.size]
    bar = tqdm(mine, title, leave=False, disable=None if world.is_main else True)
    parts = [batch_features(start) for start in bar]
    return gather_rows(torch.cat(parts) if parts else torch.empty(0, 0, dtype=torch.float64))
