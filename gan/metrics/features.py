"""Features of real and of generated images, each rank computing its share."""

from __future__ import annotations

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from tqdm import tqdm

from ..caching import cache_folder
from ..data import to_tensor, to_uint8
from ..files import write_atomically
from ..noise import draw_noise
from ..training.distributed import World, any_rank, gather_rows
from ..training.randomness import generator as random_generator
from .extractors import Extractor

BATCH_SIZE = 256


def features_of_images(images, extractor: Extractor, world: World) -> torch.Tensor:
    """Features float64 ``[N, F]`` of all images of an ``ImageSet``, cached under its fingerprint and the extractor."""
    file = cache_folder("features") / f"{images.fingerprint}-{extractor.name}.safetensors"
    cached = _read(file, len(images))
    if not any_rank(cached is None):
        return cached

    def batch_features(start):
        pixels, _ = images.batch(range(start, min(start + BATCH_SIZE, len(images))))
        return extractor(pixels.to(world.device))

    features = _in_batches(batch_features, len(images), world, "real images")
    if world.is_main:
        write_atomically(file, save({"features": features}))
    return features


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


def _read(file, expected: int) -> torch.Tensor | None:
    """Cached features, or None if they are not there, cut off or of another number of images."""
    try:
        features = load(file.read_bytes())["features"]
    except (OSError, SafetensorError, KeyError):
        return None
    return features if len(features) == expected else None
