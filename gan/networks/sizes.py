"""Numbers of parameters, without allocating the networks."""

from __future__ import annotations

import torch
from torch import nn

from .build import build_discriminator, build_generator, build_patch_discriminator, build_translator
from .tables import ALL_PRESETS, PAIR_PRESETS


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def parameter_counts(preset: str, generator_group: str, discriminator_group: str, **options) -> tuple[int, int]:
    """Parameters of a cell's generator and discriminator; ``options`` as for both ``build_*`` functions."""
    pairs = preset in PAIR_PRESETS
    with torch.device("meta"):
        generator = (build_translator if pairs else build_generator)(preset, generator_group, **options)
        discriminator = (build_patch_discriminator if pairs else build_discriminator)(
            preset, discriminator_group, **options
        )
    return count_parameters(generator), count_parameters(discriminator)


def ablation_table(**options) -> str:
    """The parameters of every preset's four cells, as a Markdown table."""
    lines = [
        "| preset | group | G: CNN | G: G-CNN | D: CNN | D: G-CNN | CNN/CNN | CNN/G-CNN | G-CNN/CNN | G-CNN/G-CNN |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, preset in ALL_PRESETS.items():
        g_cnn, d_cnn = parameter_counts(name, "p1", "p1", **options)
        g_gcnn, d_gcnn = parameter_counts(name, preset.group, preset.group, **options)
        counts = [g_cnn, g_gcnn, d_cnn, d_gcnn, *(g + d for g in (g_cnn, g_gcnn) for d in (d_cnn, d_gcnn))]
        lines.append(f"| {name} | {preset.group} | " + " | ".join(f"{n:,}" for n in counts) + " |")
    return "\n".join(lines)
