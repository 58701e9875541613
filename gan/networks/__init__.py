"""The networks of Dey et al. 2021 and Birrell et al. 2022: tables over a few blocks."""

from .build import build_discriminator, build_generator, build_patch_discriminator, build_translator
from .discriminator import Discriminator
from .generator import SYMMETRIES, Generator
from .pix2pix import PatchDiscriminator, Translator
from .sizes import count_parameters, parameter_counts
from .tables import ALL_PRESETS, PAIR_PRESETS, PRESETS

__all__ = [
    "ALL_PRESETS",
    "PAIR_PRESETS",
    "PRESETS",
    "SYMMETRIES",
    "Discriminator",
    "Generator",
    "PatchDiscriminator",
    "Translator",
    "build_discriminator",
    "build_generator",
    "build_patch_discriminator",
    "build_translator",
    "count_parameters",
    "parameter_counts",
]
