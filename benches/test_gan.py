"""Whole training steps of equivariant GANs against the same networks on naive layers and against the plain CNN GAN."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, lru_cache, partial

import pytest
import torch
from torch.utils._pytree import tree_map_only

from gan.common.distributed import World
from gan.common.noise import draw_noise
from gan.networks import PRESETS, build_discriminator, build_generator
from gan.objectives import build_loss, zero_centred
from gan.objectives.diffaugment import NUMBERS
from gan.options import resolve
from gan.training.graphs import WARM_UP, GraphedUpdates
from gan.training.state import TrainingState
from gan.training.synthesis import SynthesisBatch, SynthesisUpdates

from . import device, layers, naive
from .cases import step_cases
from .measure import seconds

TOLERANCE = 1e-6  # in float64, where next to no activation lies within rounding of a kink
ROUNDS = {"cpu": 2, "cuda": 10}


class Gan:
    """Both networks of a data set over one group, and a batch to learn from."""

    def __init__(self, case, group, precision, graphs):
        options = resolve({
            "dataset": case.dataset, "generator_group": group, "discriminator_group": group, "batch_size": case.batch,
            "amp": "bf16" if precision.name == "bf16" else "off", "cuda_graphs": graphs,
        })  # fmt: skip
        preset = PRESETS[case.dataset]
        world = World(0, 1, device.current().torch_device)
        state = TrainingState(options, preset.classes, preset.channels, world)
        self.d_updates = options.d_updates
        self.updates = SynthesisUpdates(options, state, world)
        if graphs:
            self.updates = GraphedUpdates(self.updates)
        size = state.generator.image_shape[1:]
        random = torch.Generator().manual_seed(0)
        batch = SynthesisBatch(
            pixels=torch.randint(256, (case.batch, *size, preset.channels), generator=random).to(torch.uint8),
            labels=torch.randint(preset.classes, (case.batch,), generator=random),
            noise=draw_noise(state.generator, case.batch, random),
            shares=torch.rand(case.batch, generator=random),
            moves=torch.zeros(2, case.batch, dtype=torch.long),
            numbers=torch.rand(2, case.batch, NUMBERS, generator=random),
        )
        self.batch = tree_map_only(torch.Tensor, lambda t: t.to(world.device), batch)

    def step(self, player):
        if player == "D":
            self.updates.discriminator(self.batch, 0)
        else:
            self.updates.generator(self.batch)

    def naive_step(self, player, memory_format):
        with naive.layers(memory_format):
            self.step(player)


@lru_cache(maxsize=6)  # both steps of a data set
def _gan(case, group, precision, graphs, role):
    """``role`` tells networks apart that run, and with graphs are captured, on different layers."""
    return Gan(case, group, precision, graphs)


@cache
def _faster_format(case, group, precision):
    gan = Gan(case, group, precision, graphs=False)
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
        total = loss.discriminator(real_logits, fake_logits) + zero_centred(real_logits, images, gamma=1.0)
        for_discriminator = torch.autograd.grad(total, list(discriminator.parameters()))
        total = loss.generator(real_logits.detach(), discriminator(fake, labels))
        for_generator = torch.autograd.grad(total, list(generator.parameters()))
        return [torch.cat([g.flatten() for g in player]) for player in (for_discriminator, for_generator)]

    ours = gradients()
    with naive.layers(torch.contiguous_format):
        reference = gradients()
    return layers.error(ours, reference)


@pytest.mark.parametrize("graphs", [False, True], ids=["eager", "graphs"])
@pytest.mark.parametrize("case", step_cases(), ids=lambda case: case.name)
def test_step(compare, case, precision, graphs):
    if graphs and device.current().name == "cpu":
        pytest.skip("CUDA graphs are a GPU's")
    assert _error(case.dataset, case.group) < TOLERANCE

    case = device.current().sized(case)
    of_both = replace(case, player="")
    ours, stack = (_gan(of_both, case.group, precision, graphs, role) for role in ("ours", "naive"))
    plain = _gan(of_both, "p1", precision, graphs, "plain")
    contestants = {
        "ours": partial(ours.step, case.player),
        "naive": partial(stack.naive_step, case.player, _faster_format(of_both, case.group, precision)),
        "plain CNN": partial(plain.naive_step, case.player, _faster_format(of_both, "p1", precision)),
    }
    if graphs:
        for step in contestants.values():
            for _ in range(WARM_UP + 1):
                step()
    memory = {} if graphs else {
        "memory": device.current().peak_memory(contestants["ours"]),
        "naive_memory": device.current().peak_memory(contestants["naive"]),
    }  # fmt: skip
    rounds = ROUNDS[device.current().name]
    timed = contestants.pop("ours")
    mode = "graphed step" if graphs else "step"
    compare(case, mode, timed, contestants, rounds, precision, d_updates=ours.d_updates, **memory)
