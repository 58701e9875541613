"""What a run will cost, before it begins: the operations of an iteration, counted without computing any."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ..common.distributed import ALONE_ON_CPU
from ..common.noise import draw_noise
from ..networks import ALL_PRESETS, PAIR_PRESETS
from ..objectives.diffaugment import NUMBERS
from ..options import Options
from ..runs.networks import new_discriminator, new_generator
from .synthesis import SynthesisBatch, SynthesisUpdates
from .translation import TranslationBatch, TranslationUpdates


def operations(options: Options) -> float:
    """Floating-point operations of one iteration, over all ranks, for images and classes as the preset has them.

    Those of convolutions and matrix products, forward and backward and through penalties, two for a product and its
    addition, whatever algorithm runs. A lazy penalty counts by its share. Call it before ranks are joined.
    """
    options = replace(options, compile=False, cuda_graphs=False, amp="off", accumulate=1)
    with FakeTensorMode(allow_non_fake_inputs=True):
        batch, updates = _fakes(options)
        generator = _count(lambda: updates.generator(batch))
        discriminator = _count(lambda: updates.discriminator(batch, 0))
        if updates.penalised(0) and not updates.penalised(1):
            plain = _count(lambda: updates.discriminator(batch, 1))
            discriminator = plain + (discriminator - plain) / options.r1_every
    return generator + options.d_updates * discriminator


class _State:
    """What updates need of a ``TrainingState``, which fake parameters cannot have: they neither move nor fuse Adam."""

    def __init__(self, options: Options, classes: int, channels: int):
        self.generator = new_generator(options, classes, channels)
        self.discriminator = new_discriminator(options, classes, channels)
        self.networks = {"generator": self.generator, "discriminator": self.discriminator}
        self.optimizers = {name: torch.optim.SGD(network.parameters()) for name, network in self.networks.items()}
        self.scalers = {name: torch.amp.GradScaler("cpu", enabled=False) for name in self.networks}


class _Counter(TorchDispatchMode):
    """torch's formulas and this library's. (``FlopCounterMode`` itself hooks modules, which breaks penalties.)"""

    total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        formula = flop_registry.get(function.overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


def _count(function) -> int:
    with _Counter() as counter:
        function()
    return counter.total


def _fakes(options: Options):
    """A batch and the updates it is for, of tensors that have a shape but no values."""
    preset, size = ALL_PRESETS[options.preset], options.batch_size
    pixels = torch.empty(size, preset.image_size, preset.image_size, preset.channels, dtype=torch.uint8)
    if options.preset in PAIR_PRESETS:
        state = _State(options, 1, preset.channels)
        return TranslationBatch(pixels, pixels), TranslationUpdates(options, state, ALONE_ON_CPU)
    state = _State(options, preset.classes, preset.channels)
    labels, moves = torch.zeros(size, dtype=torch.long), torch.zeros(2, size, dtype=torch.long)
    noise = draw_noise(state.generator, size, torch.Generator())
    batch = SynthesisBatch(pixels, labels, noise, torch.empty(size), moves, torch.empty(2, size, NUMBERS))
    return batch, SynthesisUpdates(options, state, ALONE_ON_CPU)
