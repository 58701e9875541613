"""Whole training steps of equivariant GANs against the same networks on naive layers and against the plain CNN GAN."""

from __future__ import annotations

from functools import cache, partial

import pytest
import torch

from gan.networks import PRESETS, build_discriminator, build_generator
from gan.noise import draw_noise
from gan.objectives import build_loss, r1
from gan.options import resolve
from gan.training.distributed import World
from gan.training.players import Players
from gan.training.updates import Batch, Updates

from . import layers, naive
from .cases import step_cases
from .measure import peak_memory, seconds

TOLERANCE = 1e-6  # in float64, where next to no activation lies within rounding of a kink
ROUNDS = 2


class Gan:
    """Both players of a data set over one group, and a batch to learn from."""

    def __init__(self, dataset, group, batch):
        options = resolve(
            {"dataset": dataset, "generator_group": group, "discriminator_group": group, "batch_size": batch}
        )
        preset = PRESETS[dataset]
        world = World(0, 1, torch.device("cpu"))
        players = Players(options, preset.classes, preset.channels, world)
        self.updates = Updates(options, players, world)
        size = players.generator.image_shape[1:]
        random = torch.Generator().manual_seed(0)
        self.batch = Batch(
            pixels=torch.randint(256, (batch, *size, preset.channels), generator=random).to(torch.uint8),
            labels=torch.randint(preset.classes, (batch,), generator=random),
            noise=draw_noise(players.generator, batch, random),
            shares=torch.rand(batch, generator=random),
            moves=torch.zeros(2, batch, dtype=torch.long),
        )

    def step(self, player):
        if player == "D":
            self.updates.discriminator(self.batch, 0)
        else:
            self.updates.generator(self.batch)

    def naive_step(self, player, memory_format):
        with naive.layers(memory_format):
            self.step(player)


@cache
def _gan(dataset, group, batch):
    return Gan(dataset, group, batch)


@cache
def _faster_format(gan):
    return min(layers.FORMATS, key=lambda memory_format: seconds(lambda: gan.naive_step("D", memory_format)))


@cache
def _error(dataset, group):
    """The largest relative error, in float64, of a player's gradients against those of the naive layers."""
    torch.manual_seed(0)
    generator, discriminator = (build(dataset, group).double() for build in (build_generator, build_discriminator))
    networks = (generator, discriminator)
    states = [{key: value.clone() for key, value in network.state_dict().items()} for network in networks]
    labels = torch.zeros(2, dtype=torch.long)
    z, real = torch.randn(2, generator.latent_dim).double(), torch.randn(2, *generator.image_shape).double()
    loss = build_loss("ragan")

    def gradients():
        for network, state in zip(networks, states, strict=True):
            network.load_state_dict(state)  # spectral norm's vectors and the running moments move on
        images, fake = real.clone().requires_grad_(), generator(z, labels)
        real_logits, fake_logits = discriminator(images, labels), discriminator(fake.detach(), labels)
        total = loss.discriminator(real_logits, fake_logits) + r1(real_logits, images, gamma=1.0)
        for_discriminator = torch.autograd.grad(total, list(discriminator.parameters()))
        total = loss.generator(real_logits.detach(), discriminator(fake, labels))
        for_generator = torch.autograd.grad(total, list(generator.parameters()))
        return [torch.cat([g.flatten() for g in player]) for player in (for_discriminator, for_generator)]

    ours = gradients()
    with naive.layers(torch.contiguous_format):
        reference = gradients()
    return layers.error(ours, reference)


@pytest.mark.parametrize("case", step_cases(), ids=lambda case: case.name)
def test_step(compare, case):
    assert _error(case.dataset, case.group) < TOLERANCE

    gan, plain = (_gan(case.dataset, group, case.batch) for group in (case.group, "p1"))
    ours = partial(gan.step, case.player)
    rivals = {
        "naive": partial(gan.naive_step, case.player, _faster_format(gan)),
        "plain CNN": partial(plain.naive_step, case.player, _faster_format(plain)),
    }
    memory = {"memory": peak_memory(ours), "naive_memory": peak_memory(rivals["naive"])}
    compare(case, "step", ours, rivals, ROUNDS, d_updates=gan.updates.options.d_updates, **memory)
