"""Images from images: pix2pix (Isola et al. 2017) on pairs of maps and photographs."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image

from .. import data
from ..common.distributed import World
from ..common.randomness import random_generator
from ..data import to_tensor
from ..objectives import build_loss
from ..options import Options
from ..runs.sampling import sheet_of_translations
from .state import TrainingState
from .task import Task
from .updates import Updates

#: validation pairs on a sheet of samples
ROWS = 8


class TranslationBatch(NamedTuple):
    """One rank's part of a batch: uint8 ``[B, H, W, C]`` each."""

    maps: torch.Tensor
    photographs: torch.Tensor

    @property
    def size(self) -> int:
        return len(self.maps)

    def part(self, which: slice) -> TranslationBatch:
        return TranslationBatch(self.maps[which], self.photographs[which])


class TranslationUpdates(Updates):
    """How the translator and the discriminator, which sees the map too, learn from a batch of pairs."""

    def __init__(self, options: Options, state: TrainingState, world: World):
        super().__init__(options, state, world)
        self.loss = build_loss(options.loss)

    def discriminator(self, batch: TranslationBatch, update: int) -> dict[str, torch.Tensor]:
        """Update the discriminator. Returns "loss_d", a detached scalar."""
        self._train("discriminator")
        losses = {}
        for part in self._parts(batch):
            maps, photographs = (to_tensor(pixels) for pixels in part)
            with self._autocast():
                with torch.no_grad():
                    translations = self.generate(maps).float()
                real, fake = (self.discriminate(maps, images).float() for images in (photographs, translations))
            loss = self.loss.discriminator(real, fake)
            self._backward("discriminator", loss)
            self._add(losses, loss_d=loss)
        self._step("discriminator")
        return losses

    def generator(self, batch: TranslationBatch) -> dict[str, torch.Tensor]:
        """Update the translator.

        Returns:
            "loss_g", the adversarial loss, and "l1", before it is weighted: detached scalars.
        """
        self._train("generator")
        losses = {}
        for part in self._parts(batch):
            maps, photographs = (to_tensor(pixels) for pixels in part)
            with self._autocast():
                translations = self.generate(maps)
                fake = self.discriminate(maps, translations).float()
            loss, l1 = self.loss.generator(None, fake), F.l1_loss(translations.float(), photographs)
            self._backward("generator", loss + self.options.l1 * l1)
            self._add(losses, loss_g=loss, l1=l1)
        self._step("generator")
        return losses


class Translation(Task):
    """pix2pix on a ``PairSet``; the last update of the discriminator and the translator's see the same pairs."""

    def __init__(self, options: Options, train_set, state: TrainingState, world: World):
        super().__init__(options, train_set, state, world)
        self.updates = TranslationUpdates(options, state, world)
        self.batches_per_iteration = options.d_updates

    def batch(self, number: int) -> TranslationBatch:
        random = random_generator(self.options.seed, "places", number)
        places = self.train_set.draw_places(self.options.batch_size, random)
        pairs = self.images.batch(self.order[number][self.share], places[self.share])
        return TranslationBatch(*(pixels.to(self.world.device) for pixels in pairs))

    def samples(self) -> Image.Image:
        """One row per validation pair, as in :func:`sheet_of_translations`."""
        options = self.options
        pairs = data.load(options.dataset, options.data, split="validation", resolution=self.train_set.resolution)
        shown = pairs.batch(range(min(ROWS, len(pairs))))
        return sheet_of_translations(self.state.average.network, *shown, self.world.device)

    def estimate_statistics(self) -> None:
        """Nothing: the translator's norms keep no statistics."""
