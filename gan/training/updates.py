"""One update of each player of a GAN that makes images from noise and a class."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..data import to_tensor
from ..networks import PRESETS
from ..networks.spectral import singular_vectors_kept
from ..noise import Noise
from ..objectives import auxiliary_rotations, build_loss, consistency, lipschitz, r1, wgan_gp
from ..options import Options
from ..symmetry import GroupAction
from .distributed import World
from .optimization import Optimization
from .players import Players

#: losses of the generator that look at the logits of real images
RELATIVISTIC = {"ragan"}
INTERPOLATE_PENALTIES = {"wgan": wgan_gp, "alpha": lipschitz}
#: of the guess by how many quarter turns an image was moved, in each player's loss (Chen et al. 2019)
ROTATION_WEIGHTS = {"discriminator": 1.0, "generator": 0.2}


class Batch(NamedTuple):
    """One rank's part of what an update is made from.

    Attributes:
        pixels, labels: real images uint8 ``[B, H, W, C]`` and classes int64 ``[B]``, which the generated ones share.
        noise: for B samples.
        shares: float ``[B]`` in [0, 1]: where between real and generated the penalty at interpolates is taken.
        moves: int64 ``[2, B]``: the group elements that augmentation moves real and generated images by.
    """

    pixels: torch.Tensor
    labels: torch.Tensor
    noise: Noise
    shares: torch.Tensor
    moves: torch.Tensor

    @property
    def size(self) -> int:
        return len(self.labels)

    def part(self, which: slice) -> Batch:
        noise = self.noise.part(which, self.labels.device)
        return Batch(self.pixels[which], self.labels[which], noise, self.shares[which], self.moves[:, which])


class Updates(Optimization):
    """How the players learn from a batch."""

    def __init__(self, options: Options, players: Players, world: World):
        super().__init__(options, players, world)
        self.loss = build_loss(options.loss, options.alpha)
        group = "p4" if options.augment == "rotations" else PRESETS[options.preset].group
        self.action = GroupAction(group, players.generator.image_shape[1]).to(world.device)

    def discriminator(self, batch: Batch, update: int) -> dict[str, torch.Tensor]:
        """Update the discriminator, of which ``update`` updates were done before.

        Returns:
            "loss_d" and "penalty", detached scalars.
        """
        self._train("discriminator")
        losses = {}
        for part in self._parts(batch):
            real, y = self._real(part), part.labels
            with torch.no_grad(), self._autocast():
                fake = self._fake(part).float()
            penalised = self.options.r1 > 0 and update % self.options.r1_every == 0
            shared = penalised and self._penalty_shares_forward
            penalty = torch.zeros((), device=real.device)
            if penalised and not shared:
                with singular_vectors_kept(
                    self.players.discriminator
                ):  # so that it is of the function that real_logits come from
                    penalty = self.options.r1_every * self._r1(real, y)
            with self._autocast():
                real_logits = self.judge(real.requires_grad_(shared), y).float()
                fake_logits = self.judge(fake, y).float()
                loss = self.loss.discriminator(real_logits, fake_logits)
                if self.options.augment == "bcr":
                    moved = [
                        self.judge(self.action(images.detach(), moves), y).float()
                        for images, moves in zip((real, fake), part.moves, strict=True)
                    ]
                    weights = self.options.bcr_real, self.options.bcr_fake
                    loss = loss + consistency(real_logits, moved[0], fake_logits, moved[1], *weights)
                loss = loss + self._rotations("discriminator", real.detach())
            if shared:
                penalty = self.options.r1_every * r1(real_logits, real, self.options.r1)
            if self.options.gradient_penalty > 0:
                penalty = penalty + self._interpolate_penalty(real, fake, y, part.shares)
            self._backward("discriminator", loss + penalty)
            self._add(losses, loss_d=loss, penalty=penalty)
        self._step("discriminator")
        return losses

    def generator(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Update the generator. Returns "loss_g", a detached scalar."""
        self._train("generator")
        losses = {}
        for part in self._parts(batch):
            with self._autocast():
                real_logits = None
                if self.options.loss in RELATIVISTIC:
                    with torch.no_grad():
                        real_logits = self.judge(self._real(part), part.labels).float()
                fake = self._fake(part)
                loss = self.loss.generator(real_logits, self.judge(fake, part.labels).float())
                loss = loss + self._rotations("generator", fake)
            self._backward("generator", loss)
            self._add(losses, loss_g=loss)
        self._step("generator")
        return losses

    def _real(self, part: Batch) -> torch.Tensor:
        images = to_tensor(part.pixels)
        return self.action(images, part.moves[0]) if self.options.augment == "standard" else images

    def _fake(self, part: Batch) -> torch.Tensor:
        return self.generate(part.noise.z, part.labels, elements=part.noise.elements)

    def _rotations(self, player: str, images: torch.Tensor) -> torch.Tensor | float:
        if self.options.augment != "rotations":
            return 0.0
        return ROTATION_WEIGHTS[player] * auxiliary_rotations(self.players.discriminator, images, self.action)

    @property
    def _penalty_shares_forward(self) -> bool:
        """Compiled code cannot be differentiated twice, and fp16 gradients of the images would underflow."""
        return not self.options.compile and self.options.amp != "fp16"

    def _r1(self, real, labels):
        real = real.detach().requires_grad_()
        with self._autocast(penalty=True):
            return r1(self.players.discriminator(real, labels), real, self.options.r1)

    def _interpolate_penalty(self, real, fake, labels, shares):
        penalty = INTERPOLATE_PENALTIES[self.options.loss]
        with self._autocast(penalty=True):
            return penalty(self.players.discriminator, real, fake, labels, self.options.gradient_penalty, shares)
