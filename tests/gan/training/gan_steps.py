"""What tests of whole training steps share: one iteration of given weights, in float64 if wanted."""

from __future__ import annotations

import numpy as np
import torch

from gan import data
from gan.common import distributed
from gan.common.distributed import World
from gan.networks import ALL_PRESETS, PAIR_PRESETS
from gan.training.loop import Training
from gan.training.state import TrainingState


def one_iteration(options, images, world: World, **how) -> dict[str, torch.Tensor]:
    """Losses, gradients ``PLAYER.PARAMETER.UPDATE`` and buffers of one iteration that leaves the weights alone.

    Steps in between would amplify rounding. ``how`` are the arguments of :func:`prepared`.
    """
    training, gradients = prepared(options, images, world, **how)
    losses = training.iterate()
    return {"losses": distributed.mean_over_ranks(losses), **gradients, **_buffers(training.state)}


def discriminator_update(options, images, world: World, **how) -> dict[str, torch.Tensor]:
    """The same of one update of the discriminator."""
    training, gradients = prepared(options, images, world, **how)
    losses = training.updates.discriminator(training.task.batch(0), 0)
    return {"losses": torch.stack(list(losses.values())), **gradients, **_buffers(training.state)}


def prepared(options, images, world: World, *, float64=False, backend="auto") -> tuple[Training, dict]:
    """A run whose updates leave the weights alone, and the dictionary that their gradients go to."""
    training = Training(options, images, None, None, world)
    for network in training.state.networks.values():
        for module in network.modules():
            if hasattr(module, "backend"):
                module.backend = backend
        if float64:
            network.double()
            network.register_forward_pre_hook(_convert)
    return training, _freeze(training.state)


def random_images(options, count: int = 8) -> data.ImageSet:
    """Noise in the shape of the preset's images, of as many classes as it has."""
    preset, rng = ALL_PRESETS[options.preset], np.random.default_rng(0)
    if options.preset in PAIR_PRESETS:
        kind, shape, classes = data.PairSet, (286, 286, 6), 1
    else:
        size = preset.image_size
        kind, shape, classes = data.ImageSet, (size, size, preset.channels), preset.classes
    names = [str(label) for label in range(classes)]
    pixels, labels = rng.integers(0, 256, (count, *shape), np.uint8), np.arange(count) % classes
    return kind(options.dataset, "train", pixels, labels, names, "random")


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float) -> None:
    """Relative difference of the losses, and of everything of each player together."""
    assert one.keys() == other.keys()
    for part in ("losses", "generator", "discriminator"):
        names = [name for name in one if name.startswith(part)]
        if part == "generator" and not names:  # not updated here, and without state
            continue
        a, b = (torch.cat([values[name].flatten().double() for name in names]) for values in (one, other))
        assert b.norm() > 0
        assert (a - b).norm() <= tolerance * b.norm(), f"{part}: {(a - b).norm() / b.norm()}"


def _convert(network, arguments):
    return tuple(value.double() if value is not None and value.is_floating_point() else value for value in arguments)


class _Frozen(torch.optim.SGD):
    """Leaves the weights alone and keeps the gradients of every update."""

    def __init__(self, network, name, gradients):
        super().__init__(network.parameters(), 0.0)
        self.network, self.name, self.gradients, self.updates = network, name, gradients, 0

    def step(self, closure=None):
        for key, parameter in self.network.named_parameters():
            self.gradients[f"{self.name}.{key}.{self.updates}"] = parameter.grad.clone()
        self.updates += 1


def _freeze(state: TrainingState) -> dict[str, torch.Tensor]:
    gradients: dict[str, torch.Tensor] = {}
    for name in state.optimizers:
        state.optimizers[name] = _Frozen(state.networks[name], name, gradients)
    return gradients


def _buffers(state: TrainingState) -> dict[str, torch.Tensor]:
    """Batch norm's and spectral norm's state of both networks."""
    return {
        f"{name}.{key}": buffer
        for name in state.optimizers
        for key, buffer in state.networks[name].named_buffers()
        if buffer.is_floating_point()
    }
