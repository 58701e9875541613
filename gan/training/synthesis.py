"""GANs that make images from noise and a class: their batches, updates and sample sheets."""

from __future__ import annotations

from typing import NamedTuple

import torch
from PIL import Image

from ..common.distributed import World
from ..common.noise import Noise, draw_noise
from ..common.pictures import sheet
from ..common.randomness import random_generator
from ..common.symmetry import GroupAction
from ..data import to_tensor, to_uint8
from ..metrics.batch_norm import BATCHES, estimate_statistics
from ..networks import PRESETS
from ..networks.spectral import singular_vectors_kept
from ..objectives import (
    auxiliary_rotations,
    build_loss,
    consistency,
    consistency_warning,
    diffaugment,
    lipschitz,
    wgan_gp,
    zero_centred,
)
from ..objectives.diffaugment import NUMBERS
from ..options import Options
from .schedules import values_at
from .state import TrainingState
from .task import Task
from .updates import Updates

INTERPOLATE_PENALTIES = {"wgan": wgan_gp, "alpha": lipschitz}
#: of the guess by how many quarter turns an image was moved, in each network's loss (Chen et al. 2019)
ROTATION_WEIGHTS = {"discriminator": 1.0, "generator": 0.2}
#: positions in what is drawn for both kinds of images
REAL, FAKE = 0, 1
#: of a sheet of samples
COLUMNS, ROWS = 10, 10


class SynthesisBatch(NamedTuple):
    """One rank's part of what an update is made from.

    Attributes:
        pixels, labels: real images uint8 ``[B, H, W, C]`` and classes int64 ``[B]``, which the generated ones share.
        noise: for B samples.
        shares: float ``[B]`` in [0, 1]: where between real and generated the penalty at interpolates is taken.
        moves: int64 ``[2, B]``: the group elements that augmentation moves real and generated images by.
        numbers: float ``[2, B, NUMBERS]`` in [0, 1]: what DiffAugment transforms real and generated images by.
    """

    pixels: torch.Tensor
    labels: torch.Tensor
    noise: Noise
    shares: torch.Tensor
    moves: torch.Tensor
    numbers: torch.Tensor

    @property
    def size(self) -> int:
        return len(self.labels)

    def part(self, which: slice) -> SynthesisBatch:
        noise = self.noise.part(which, self.labels.device)
        return SynthesisBatch(
            self.pixels[which], self.labels[which], noise, self.shares[which], self.moves[:, which],
            self.numbers[:, which],
        )  # fmt: skip


class SynthesisUpdates(Updates):
    """How generator and discriminator learn from a batch."""

    def __init__(self, options: Options, state: TrainingState, world: World):
        super().__init__(options, state, world)
        self.loss = build_loss(options.loss, options.alpha)
        group = "p4" if options.augment == "rotations" else PRESETS[options.preset].group
        self.action = GroupAction(group, state.generator.image_shape[1]).to(world.device)

    def penalised(self, update: int) -> bool:
        return max(self.options.r1, self.options.r2) > 0 and update % self.options.r1_every == 0

    def discriminator(self, batch: SynthesisBatch, update: int) -> dict[str, torch.Tensor]:
        """Update the discriminator, of which ``update`` updates were done before.

        Returns:
            "loss_d" and "penalty", detached scalars.
        """
        self._train("discriminator")
        losses = {}
        values = values_at(self.options, update // self.options.d_updates)
        gammas = (values.r1, values.r2) if self.penalised(update) else (0.0, 0.0)
        for part in self._parts(batch):
            real, y = self._real(part), part.labels
            with torch.no_grad(), self._autocast():
                fake = self._fake(part).float()
            penalty = torch.zeros((), device=real.device)
            seen, logits = [], []  # of real and of generated images
            for images, kind in ((real, REAL), (fake, FAKE)):
                if gammas[kind] > 0 and not self._penalty_shares_forward:
                    penalty = penalty + self._penalty_before(images, part, kind, gammas[kind])
                seen.append(images.detach().requires_grad_(gammas[kind] > 0 and self._penalty_shares_forward))
                with self._autocast():
                    logits.append(self._logits(self.discriminate, seen[kind], part, kind))
            with self._autocast():
                loss = self.loss.discriminator(*logits)
                if self.options.augment == "bcr":
                    moved = [
                        self.discriminate(self.action(images, moves), y).float()
                        for images, moves in zip((real, fake), part.moves, strict=True)
                    ]
                    weights = self.options.bcr_real, self.options.bcr_fake
                    loss = loss + consistency(logits[REAL], moved[0], logits[FAKE], moved[1], *weights)
                loss = loss + self._rotations("discriminator", real)
            for kind, gamma in enumerate(gammas):
                if gamma > 0 and self._penalty_shares_forward:
                    penalty = penalty + zero_centred(logits[kind], seen[kind], gamma)
            penalty = self.options.r1_every * penalty
            if self.options.gradient_penalty > 0:
                penalty = penalty + self._interpolate_penalty(real, fake, y, part.shares)
            self._backward("discriminator", loss + penalty)
            self._add(losses, loss_d=loss, penalty=penalty)
        self._step("discriminator")
        return losses

    def generator(self, batch: SynthesisBatch) -> dict[str, torch.Tensor]:
        """Update the generator. Returns "loss_g", a detached scalar."""
        self._train("generator")
        losses = {}
        for part in self._parts(batch):
            with self._autocast():
                real_logits = None
                if self.loss.relativistic:
                    with torch.no_grad():
                        real_logits = self._logits(self.discriminate, self._real(part), part, REAL)
                fake = self._fake(part)
                loss = self.loss.generator(real_logits, self._logits(self.discriminate, fake, part, FAKE))
                loss = loss + self._rotations("generator", fake)
            self._backward("generator", loss)
            self._add(losses, loss_g=loss)
        self._step("generator")
        return losses

    def _real(self, part: SynthesisBatch) -> torch.Tensor:
        images = to_tensor(part.pixels)
        return self.action(images, part.moves[0]) if self.options.augment == "standard" else images

    def _fake(self, part: SynthesisBatch) -> torch.Tensor:
        return self.generate(part.noise.z, part.labels, elements=part.noise.elements)

    def _rotations(self, network: str, images: torch.Tensor) -> torch.Tensor | float:
        if self.options.augment != "rotations":
            return 0.0
        return ROTATION_WEIGHTS[network] * auxiliary_rotations(self.state.discriminator, images, self.action)

    def _logits(self, discriminator, images, part: SynthesisBatch, kind: int) -> torch.Tensor:
        """Of images of a kind, REAL or FAKE, as the augmentation shows them to the discriminator."""
        if self.options.augment == "diffaugment":
            images = diffaugment(images, part.numbers[kind])
        return discriminator(images, part.labels).float()

    def _penalty_before(self, images, part: SynthesisBatch, kind: int, gamma: float) -> torch.Tensor:
        """The penalty by a forward pass of its own, of the same function that the logits come from next."""
        inputs = images.detach().requires_grad_()
        with singular_vectors_kept(self.state.discriminator), self._autocast(penalty=True):
            return zero_centred(self._logits(self.state.discriminator, inputs, part, kind), inputs, gamma)

    @property
    def _penalty_shares_forward(self) -> bool:
        """Compiled code cannot be differentiated twice, and fp16 gradients of the images would underflow."""
        return not self.options.compile and self.options.amp != "fp16"

    def _interpolate_penalty(self, real, fake, labels, shares):
        penalty = INTERPOLATE_PENALTIES[self.options.loss]
        with self._autocast(penalty=True):
            return penalty(self.state.discriminator, real, fake, labels, self.options.gradient_penalty, shares)


class Synthesis(Task):
    """A GAN of ``gan.networks.PRESETS`` on an ``ImageSet``; every update sees images of its own."""

    def __init__(self, options: Options, train_set, state: TrainingState, world: World):
        super().__init__(options, train_set, state, world)
        self.updates = SynthesisUpdates(options, state, world)
        self.batches_per_iteration = options.d_updates + 1
        self.statistics = {"batches": BATCHES, "seed": options.seed}
        self.labels = torch.from_numpy(train_set.labels)

    def batch(self, number: int) -> SynthesisBatch:
        seed, size, mine, device = self.options.seed, self.options.batch_size, self.share, self.world.device
        pixels, labels = self.images.batch(self.order[number][mine])
        noise = draw_noise(self.state.generator, size, random_generator(seed, "noise", number))
        shares = torch.rand(size, generator=random_generator(seed, "shares", number))
        order = self.updates.action.point_group.order
        moves = torch.randint(order, (2, size), generator=random_generator(seed, "moves", number))
        numbers = torch.rand(2, size, NUMBERS, generator=random_generator(seed, "diffaugment", number))
        return SynthesisBatch(
            pixels.to(device), labels.to(device), noise.part(mine, device), shares[mine].to(device),
            moves[:, mine].to(device), numbers[:, mine].to(device),
        )  # fmt: skip

    @torch.no_grad()
    def samples(self) -> Image.Image:
        """One row per class, or as many as fit; every class from the same noise vectors."""
        generator = self.state.average.network
        classes = min(ROWS, len(self.train_set.class_names))
        each = COLUMNS * (ROWS // classes)
        noise = draw_noise(generator, each, random_generator(self.options.seed, "samples"))
        z, elements = noise.part(torch.arange(classes * each) % each, self.world.device)
        labels = torch.arange(classes, device=self.world.device).repeat_interleave(each)
        return sheet(to_uint8(generator(z, labels, elements=elements)), COLUMNS)

    def estimate_statistics(self) -> None:
        average = self.state.average.network
        estimate_statistics(average, self.labels, self.options.batch_size, self.options.seed, self.world)

    def warnings(self) -> list[str]:
        if self.options.augment != "bcr":
            return []
        warning = consistency_warning(self.state.discriminator, self.updates.action.point_group.name)
        return [warning] if warning else []
