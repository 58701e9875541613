"""The networks that a run's options ask for."""

from __future__ import annotations

from torch import nn

from ..networks import (
    PAIR_PRESETS,
    build_discriminator,
    build_generator,
    build_patch_discriminator,
    build_translator,
)
from ..options import Options


def new_generator(options: Options, classes: int, image_channels: int, sync: bool = False) -> nn.Module:
    """The generator of a run, or its translator if the run is of pairs of images; weights are random."""
    shape = {"width": options.width, "image_channels": image_channels, "sync": sync}
    if options.preset in PAIR_PRESETS:
        return build_translator(options.preset, options.generator_group, **shape)
    return build_generator(
        options.preset, options.generator_group, classes=classes, symmetry=options.generator_symmetry, **shape
    )


def new_discriminator(options: Options, classes: int, image_channels: int, sync: bool = False) -> nn.Module:
    """The discriminator of a run; weights are random."""
    shape = {"width": options.width, "image_channels": image_channels, "sync": sync}
    if options.preset in PAIR_PRESETS:
        return build_patch_discriminator(options.preset, options.discriminator_group, **shape)
    return build_discriminator(
        options.preset, options.discriminator_group, classes=classes,
        auxiliary_rotations=options.augment == "rotations", **shape,
    )  # fmt: skip
