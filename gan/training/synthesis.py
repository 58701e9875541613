"""Images from noise and a class."""

from __future__ import annotations

import torch
from PIL import Image

from ..data import to_uint8
from ..metrics.statistics import BATCHES, estimate_moments
from ..noise import draw_noise
from ..objectives import consistency_warning
from ..options import Options
from .distributed import World
from .pictures import sheet
from .players import Players
from .randomness import generator as random_generator
from .task import Task
from .updates import Batch, Updates

#: of a sheet of samples
COLUMNS, ROWS = 10, 10


class Synthesis(Task):
    """A GAN of ``gan.networks.PRESETS`` on an ``ImageSet``; every update sees images of its own."""

    def __init__(self, options: Options, train, players: Players, world: World):
        super().__init__(options, train, players, world)
        self.updates = Updates(options, players, world)
        self.batches_per_iteration = options.d_updates + 1
        self.moments = {"batches": BATCHES, "seed": options.seed}
        self.labels = torch.from_numpy(train.labels)

    def batch(self, number: int) -> Batch:
        seed, size, mine, device = self.options.seed, self.options.batch_size, self.share, self.world.device
        pixels, labels = self.images.batch(self.order[number][mine])
        noise = draw_noise(self.players.generator, size, random_generator(seed, "noise", number))
        shares = torch.rand(size, generator=random_generator(seed, "shares", number))
        order = self.updates.action.point_group.order
        moves = torch.randint(order, (2, size), generator=random_generator(seed, "moves", number))
        return Batch(
            pixels.to(device), labels.to(device), noise.part(mine, device), shares[mine].to(device),
            moves[:, mine].to(device),
        )  # fmt: skip

    @torch.no_grad()
    def samples(self) -> Image.Image:
        """One row per class, or as many as fit; every class from the same noise vectors."""
        generator = self.players.average.network
        classes = min(ROWS, len(self.train.class_names))
        each = COLUMNS * (ROWS // classes)
        noise = draw_noise(generator, each, random_generator(self.options.seed, "samples"))
        z, elements = noise.part(torch.arange(classes * each) % each, self.world.device)
        labels = torch.arange(classes, device=self.world.device).repeat_interleave(each)
        return sheet(to_uint8(generator(z, labels, elements=elements)), COLUMNS)

    def estimate_moments(self) -> None:
        average = self.players.average.network
        estimate_moments(average, self.labels, self.options.batch_size, self.options.seed, self.world)

    def warnings(self) -> list[str]:
        if self.options.augment != "bcr":
            return []
        warning = consistency_warning(self.players.discriminator, self.updates.action.point_group.name)
        return [warning] if warning else []
