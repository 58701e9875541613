"""Images from images: pix2pix (Isola et al. 2017) on pairs of maps and photographs."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image

from .. import data
from ..data import to_tensor, to_uint8
from ..networks import Translator
from ..objectives import build_loss
from ..options import Options
from .distributed import World
from .optimization import Optimization
from .pictures import sheet
from .players import Players
from .randomness import generator as random_generator
from .task import Task

#: validation pairs on a sheet of samples
ROWS = 8


class PairBatch(NamedTuple):
    """One rank's part of a batch: uint8 ``[B, H, W, C]`` each."""

    maps: torch.Tensor
    photographs: torch.Tensor

    @property
    def size(self) -> int:
        return len(self.maps)

    def part(self, which: slice) -> PairBatch:
        return PairBatch(self.maps[which], self.photographs[which])


class PairUpdates(Optimization):
    """How the translator and the discriminator, which sees the map too, learn from a batch of pairs."""

    def __init__(self, options: Options, players: Players, world: World):
        super().__init__(options, players, world)
        self.loss = build_loss(options.loss)

    def discriminator(self, batch: PairBatch, update: int) -> dict[str, torch.Tensor]:
        """Update the discriminator. Returns "loss_d", a detached scalar."""
        self._train("discriminator")
        losses = {}
        for part in self._parts(batch):
            maps, photographs = (to_tensor(pixels) for pixels in part)
            with self._autocast():
                with torch.no_grad():
                    translations = self.generate(maps).float()
                real, fake = (self.judge(maps, images).float() for images in (photographs, translations))
            loss = self.loss.discriminator(real, fake)
            self._backward("discriminator", loss)
            self._add(losses, loss_d=loss)
        self._step("discriminator")
        return losses

    def generator(self, batch: PairBatch) -> dict[str, torch.Tensor]:
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
                fake = self.judge(maps, translations).float()
            loss, l1 = self.loss.generator(None, fake), F.l1_loss(translations.float(), photographs)
            self._backward("generator", loss + self.options.l1 * l1)
            self._add(losses, loss_g=loss, l1=l1)
        self._step("generator")
        return losses


class Translation(Task):
    """pix2pix on a ``PairSet``; the last update of the discriminator and the translator's see the same pairs."""

    def __init__(self, options: Options, train, players: Players, world: World):
        super().__init__(options, train, players, world)
        self.updates = PairUpdates(options, players, world)
        self.batches_per_iteration = options.d_updates

    def batch(self, number: int) -> PairBatch:
        random = random_generator(self.options.seed, "places", number)
        places = self.train.draw_places(self.options.batch_size, random)
        pairs = self.images.batch(self.order[number][self.share], places[self.share])
        return PairBatch(*(pixels.to(self.world.device) for pixels in pairs))

    def samples(self) -> Image.Image:
        """One row per validation pair, as in :func:`sheet_of_translations`."""
        options = self.options
        pairs = data.load(options.dataset, options.data, split="validation", resolution=self.train.resolution)
        shown = pairs.batch(range(min(ROWS, len(pairs))))
        return sheet_of_translations(self.players.average.network, *shown, self.world.device)

    def estimate_moments(self) -> None:
        """Nothing: the translator's norms keep no moments."""


def sheet_of_translations(translator: Translator, maps, photographs, device) -> Image.Image:
    """Rows of map, translation and photograph, from uint8 ``[N, H, W, C]``; the translator is on ``device``."""
    translations = to_uint8(translator.translate(to_tensor(maps.to(device)))).cpu()
    return sheet(torch.stack([maps, translations, photographs], dim=1).flatten(0, 1), 3)
